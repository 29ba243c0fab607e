"""Calls of new layers on one or several tensors."""

from __future__ import annotations

from collections.abc import Sequence

from kerassurgery_fn.analysis.call_keywords import added_kwargs
from kerassurgery_fn.analysis.masks import automatic_kwargs
from kerassurgery_fn.edits.extraction import located
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.graph import Arguments, Graph, Node, Port, Record, Use, is_functional, is_model
from kerassurgery_fn.rules.registry import rule_for


def operands_at(draft: Draft, scope: str, names: Sequence[str]) -> list[Port]:
    """The tensors with some names. All of them must belong to one model.

    Raises:
        UnknownLayer, AmbiguousLayer, UnknownCall: there is no such tensor.
        BadValue: a tensor belongs to another model.
    """
    ports = []
    for name in names:
        other, port = located(draft, name)
        if other != scope:
            raise BadValue(
                f"the new layer is in {_titled(scope)} and cannot read {name!r}, which is in {_titled(other)}; name a "
                "tensor of the same model"
            )
        ports.append(port)
    return ports


def _titled(scope: str) -> str:
    return f"the nested model {scope!r}" if scope else "the outer model"


def new_call(graph: Graph, key: str, ports: Sequence[Port]) -> Arguments:
    """The arguments of a call of a new layer on some tensors, as a list if the layer takes a list."""
    kwargs = automatic_kwargs(added_kwargs(graph.layers[key])) if is_functional(graph.record) else {}
    uses = [*map(Use, ports)]
    return Arguments([uses] if len(uses) > 1 and takes_list(graph.layers[key]) else uses, kwargs)


def takes_list(record: Record) -> bool:
    """Whether a layer takes several tensors as a list, and not as separate arguments.

    >>> [takes_list({"module": "keras.layers", "class_name": name}) for name in ("Add", "MultiHeadAttention")]
    [True, False]
    """
    rule = rule_for(record)
    return is_model(record) or rule.takes != "tensor" or rule.arguments is None


def refuse_cycle(graph: Graph, path: str, node: Node, ports: Sequence[Port]) -> None:
    """Raises BadValue if a new layer before a call would read a tensor that depends on this call."""
    for port in ports:
        if depends_on(graph, port.node, node):
            raise BadValue(
                f"the new layer at {path!r} would read the output of {port.layer!r}, which depends on the output of "
                f"the new layer; insert it after {port.layer!r}, and name the tensor of the earlier layer in also="
            )


def depends_on(graph: Graph, node: Node, other: Node) -> bool:
    """Whether a call is the other call, or depends on its outputs, directly or through further calls."""
    waiting, seen = [node], {node}
    while waiting:
        if (current := waiting.pop()) == other:
            return True
        producers = {port.node for port in graph.reads(current)} - seen
        seen |= producers
        waiting += producers
    return False
