"""A model's config read as a flat list of calls.

Sequential and Functional models, shared layers and operations all become the same thing: calls in an order in
which every tensor is made before it is used. A nested model leaves no trace but its layers' paths
(`backbone/conv_1`): its inputs *are* the tensors it is called on, its outputs those that its layers make.
"""

from kerassurgery_fn.graph.calls import Call, Constant, Graph, Inner, ModelCall, Ref, find_layer, refs
from kerassurgery_fn.graph.forms import FORMS, check_record
from kerassurgery_fn.graph.reading import read_graph
from kerassurgery_fn.graph.records import (
    TRAINED,
    Record,
    is_functional,
    is_input,
    is_model,
    join_path,
    leaves,
    map_leaves,
    model_in,
    name_of,
    triples,
    with_name,
    wrapped_model,
)

__all__ = [
    "FORMS", "TRAINED", "Call", "Constant", "Graph", "Inner", "ModelCall", "Record", "Ref", "check_record",
    "find_layer", "is_functional", "is_input", "is_model", "join_path", "leaves", "map_leaves", "model_in", "name_of",
    "read_graph", "refs", "triples", "with_name", "wrapped_model",
]  # fmt: skip
