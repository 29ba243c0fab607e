"""A model's config as calls on tensors: reading, selecting layers, rewiring, writing back.

`read_graph` reads a snapshot as one flat list of calls: Sequential and Functional models, shared layers and operations
all become calls in an order in which every tensor is made before it is used. A nested model leaves no trace but its
layers' paths (`backbone/conv_1`): its inputs *are* the tensors it is called on, its outputs those that its layers make.

`unfold` reads the config of one model without what Keras derives from its calls (call numbers, order and shapes),
functions like `redirected` connect its tensors differently, and `fold` writes a config exactly as Keras would.
"""

from kerassurgery_fn.graph.calls import Call, Constant, Graph, Inner, ModelCall, Ref, find_layer, refs
from kerassurgery_fn.graph.model_graph import (
    AUTOMATIC,
    Arguments,
    Net,
    Node,
    Port,
    Shape,
    Spec,
    Unfound,
    Use,
    moved,
    own_record,
    redirected,
    renamed,
    reread,
    shortened,
    unfold,
    unused,
    with_call,
    with_layer,
)
from kerassurgery_fn.graph.reading import read_graph
from kerassurgery_fn.graph.record_schema import FORMS, check_record
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
from kerassurgery_fn.graph.rewiring import Rewiring, rewire
from kerassurgery_fn.graph.selectors import (
    Selector,
    as_selector,
    class_names,
    find_layers,
    find_one,
    is_pattern,
    of_class,
    selectors,
)
from kerassurgery_fn.graph.writing import arranged, fold, in_order, is_chain, readers

__all__ = [
    "AUTOMATIC", "FORMS", "TRAINED", "Arguments", "Call", "Constant", "Graph", "Inner", "ModelCall", "Net", "Node",
    "Port", "Record", "Ref", "Rewiring", "Selector", "Shape", "Spec", "Unfound", "Use", "arranged", "as_selector",
    "check_record", "class_names", "find_layer", "find_layers", "find_one", "fold", "in_order", "is_chain",
    "is_functional", "is_input", "is_model", "is_pattern", "join_path", "leaves", "map_leaves", "model_in", "moved",
    "name_of", "of_class", "own_record", "read_graph", "readers", "redirected", "refs", "renamed", "reread", "rewire",
    "selectors", "shortened", "triples", "unfold", "unused", "with_call", "with_layer", "with_name", "wrapped_model",
]  # fmt: skip
