"""The tensor before a call and the tensor after it, for edits that remove a call or put another one beside it."""

from __future__ import annotations

from toolz import keyfilter

from kerassurgery_fn.errors import MisfitTensor, UnknownCall
from kerassurgery_fn.graph import Arguments, Graph, Node, Port, Record, Spec, is_input

PRECEDED = "preceded by another"


def refuse_input(graph: Graph, path: str, key: str, verb: str) -> None:
    """Raises UnknownCall for an input of the model."""
    if is_input(graph.layers[key]):
        raise UnknownCall(f"{path!r} is an input of the model and cannot be {verb}; extract a model with other inputs")


def tensor_before(graph: Graph, path: str, node: Node, verb: str, operand: int | None = None) -> Port:
    """The only tensor that a call reads, or one of several by its number.

    Args:
        graph: the model that has the call.
        path: the path of the layer, for errors.
        node: the call.
        verb: what the edit does to the layer, for errors.
        operand: the index among the tensors that the call reads.

    Raises:
        UnknownCall: the layer is an input, there is no such tensor, or it is not clear which one is meant.
    """
    refuse_input(graph, path, node[0], verb)
    reads = graph.reads(node)
    if operand is not None and 0 <= operand < len(reads):
        return reads[operand]
    unmasked = {use.port for use in without_masks(graph.calls[node]).uses}
    if operand is None and len(unmasked) == 1:
        return unmasked.pop()
    kind, producers = graph.layers[node[0]]["class_name"], ", ".join(port.layer for port in reads)
    raise UnknownCall(
        f"layer {path!r} ({kind}) reads {len(reads)} tensors, those of {producers}, so it cannot just be {verb}; "
        + ("give the number of the one that is meant as operand=" if verb == PRECEDED else "it may be replaced")
    )


def without_masks(call: Arguments) -> Arguments:
    """A call without the masks among its arguments, which Keras passes on beside the tensors."""
    return Arguments(call.args, keyfilter(lambda name: not name.endswith("mask"), call.kwargs))


def tensor_after(graph: Graph, path: str, node: Node, verb: str) -> Port:
    """The only tensor that a call computes; arguments as for `tensor_before`.

    Raises:
        UnknownCall: other outputs of the call are read, too.
    """
    if node in graph.read_further:
        raise UnknownCall(
            f"layer {path!r} ({graph.layers[node[0]]['class_name']}) makes several tensors, so it cannot just be {verb}"
        )
    return Port(*node)


def refuse_change(path: str, record: Record, read: Spec | None, made: Spec | None) -> None:
    """Raises MisfitTensor for a layer that changes the shape of what it reads, or may do so."""
    before, after = (spec.shape if spec else "unknown" for spec in (read, made))
    if read is None or before != after:
        raise MisfitTensor(
            f"layer {path!r} ({record['class_name']}) makes a tensor of shape {after} of one of shape {before}, so it "
            "cannot be deleted just so; replace it, or pass allow_shape_change=True if all that reads it can take the "
            "other shape"
        )
