"""The tensor before a call and the tensor after it, for edits that delete a call or insert another one beside it."""

from __future__ import annotations

from toolz import keyfilter

from kerassurgery_fn.errors import UnknownCall
from kerassurgery_fn.graph import Arguments, Graph, Node, Port, is_input

PRECEDED = "preceded by another"


def refuse_input(graph: Graph, path: str, key: str, verb: str) -> None:
    """Raises UnknownCall for an input of the model."""
    if is_input(graph.layers[key]):
        raise UnknownCall(f"{path!r} is an input of the model and cannot be {verb}; extract a model with other inputs")


def tensor_before(graph: Graph, path: str, node: Node, verb: str, operand: int | None = None) -> Port:
    """The only input of a call, or the input with a number.

    Raises:
        UnknownCall: the call has no such input, or it has several inputs and no number is given.
    """
    refuse_input(graph, path, node[0], verb)
    reads = graph.reads(node)
    if operand is not None and 0 <= operand < len(reads):
        return reads[operand]
    tensors = {use.port for use in unmasked(graph.calls[node]).uses}
    if operand is None and len(tensors) == 1:
        return tensors.pop()
    kind, producers = graph.layers[node[0]]["class_name"], ", ".join(port.layer for port in reads)
    raise UnknownCall(
        f"layer {path!r} ({kind}) has {len(reads)} inputs, those of {producers}, so it cannot be {verb}; "
        + ("give the number of one input as operand=" if verb == PRECEDED else "use ReplaceLayer")
    )


def unmasked(call: Arguments) -> Arguments:
    """A call without the masks among its arguments, which Keras passes on beside the tensors."""
    return Arguments(call.args, keyfilter(lambda name: not name.endswith("mask"), call.kwargs))


def tensor_after(graph: Graph, path: str, node: Node, verb: str) -> Port:
    """The first output of a call.

    Raises:
        UnknownCall: other outputs of the call are read, too.
    """
    if node in graph.read_further:
        raise UnknownCall(
            f"layer {path!r} ({graph.layers[node[0]]['class_name']}) has several outputs, so it cannot be {verb}"
        )
    return Port(*node)
