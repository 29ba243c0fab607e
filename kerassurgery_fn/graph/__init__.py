"""The config of a model as a graph of calls on tensors: to read, select layers, rewire and write back.

`read_graph` reads the config of a snapshot as a `Graph`: the layers of the model, and their calls on tensors. What
Keras derives from the calls (their numbers, order and shapes) is not part of it. A nested model, or a model that a
layer wraps, is a graph inside the graph of its parent: `nested(graph, key)`.

- Functions like `redirected` connect the tensors of a graph in another way, and `record_of` writes the config exactly
  as Keras would.
- `trace` lists the calls of all layers, each call after the calls whose outputs it reads. A call of a nested model is
  replaced by the calls of its layers, whose paths start with its name (`backbone/conv_1`). The inputs of the nested
  model are the tensors on which it is called, and its outputs are the outputs of its layers.
"""

from kerassurgery_fn.graph.calls import Call, Constant, Inner, ModelCall, Ref, Trace, refs
from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.reading import graph_at, graph_of, nested, own_record, read_graph
from kerassurgery_fn.graph.record_schema import FORMS, check_record
from kerassurgery_fn.graph.records import (
    MEASURED,
    STATE_WEIGHTS,
    TRAINED,
    WEIGHT_GROUPS,
    WEIGHTS_BY_NAME,
    Record,
    is_functional,
    is_input,
    is_model,
    join_path,
    layers_in,
    leaves,
    map_leaves,
    model_in,
    name_of,
    triples,
    with_name,
    wrapped_model,
)
from kerassurgery_fn.graph.removal import Rewiring, rewire
from kerassurgery_fn.graph.rewiring import (
    FreeNames,
    moved,
    redirected,
    renamed,
    reread,
    shortened,
    unused,
    with_call,
    with_calls,
    with_layer,
    with_layers,
)
from kerassurgery_fn.graph.selectors import (
    Selector,
    as_selector,
    class_names,
    find_layer,
    find_layers,
    find_one,
    is_pattern,
    matches,
    of_class,
    selectors,
)
from kerassurgery_fn.graph.tensors import (
    AUTOMATIC,
    Arguments,
    Node,
    Port,
    Shape,
    Spec,
    Unfound,
    Use,
    bound,
    given_to_model,
)
from kerassurgery_fn.graph.tracing import trace
from kerassurgery_fn.graph.writing import is_chain, record_of

__all__ = [
    "AUTOMATIC", "FORMS", "MEASURED", "STATE_WEIGHTS", "TRAINED", "WEIGHTS_BY_NAME", "WEIGHT_GROUPS", "Arguments",
    "Call", "Constant", "FreeNames", "Graph", "Inner", "ModelCall", "Node", "Port", "Record", "Ref", "Rewiring",
    "Selector", "Shape", "Spec", "Trace", "Unfound", "Use", "as_selector", "bound", "check_record", "class_names",
    "find_layer", "find_layers", "find_one", "given_to_model", "graph_at", "graph_of", "is_chain", "is_functional",
    "is_input", "is_model", "is_pattern", "join_path", "layers_in", "leaves", "map_leaves", "matches", "model_in",
    "moved", "name_of", "nested", "of_class", "own_record", "read_graph", "record_of", "redirected", "refs",
    "renamed", "reread", "rewire", "selectors", "shortened", "trace", "triples", "unused", "with_call", "with_calls",
    "with_layer", "with_layers", "with_name", "wrapped_model",
]  # fmt: skip
