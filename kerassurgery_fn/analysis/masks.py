"""Removes the masks from the calls of a model before an edit, and determines them again after the edit.

Keras writes the mask that it passes automatically into each call that takes a mask, often far behind the layer that
created the mask. With these arguments, an edit could not remove that layer, and a new layer with a mask would have no
effect. Therefore

- `without_masks` replaces each automatic mask by `AUTOMATIC`, so that the operations that compute masks have no
  readers. A mask that a person passed stays;
- `with_masks` replaces `AUTOMATIC` by the mask that Keras would pass now, or None. Existing operations that compute the
  mask are used again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kerassurgery_fn.analysis.call_keywords import added_kwargs
from kerassurgery_fn.analysis.mask_operations import Placing, is_operation
from kerassurgery_fn.graph import (
    AUTOMATIC,
    Arguments,
    Graph,
    Node,
    Port,
    Record,
    Spec,
    Use,
    is_functional,
    is_model,
    leaves,
    map_leaves,
    name_of,
)
from kerassurgery_fn.keras_io.mask_methods import passes_masks_on
from kerassurgery_fn.rules.dtypes import compute_dtype, is_float
from kerassurgery_fn.rules.mask_rules import Computed, Mask, Masked, is_source, only, output_masks
from kerassurgery_fn.rules.registry import is_foreign


def without_masks(graph: Graph) -> Graph:
    """The model with `AUTOMATIC` in place of each mask that Keras passes automatically, including None."""
    masks = _Masks(graph, {use.port: use.spec for call in graph.calls.values() for use in call.uses if use.spec})
    calls = dict(graph.calls)
    for node in masks.automatic_calls:
        calls[node] = with_mask(graph.calls[node], AUTOMATIC)
    return replace(graph, calls=calls, passing=frozenset(masks.passing)) if masks.automatic_calls else graph


def with_masks(graph: Graph, specs: Mapping[Port, Spec]) -> tuple[Graph, dict[Port, Spec]]:
    """The model with the masks that Keras passes automatically, and the specs of the tensors that compute them.

    Args:
        graph: the model.
        specs: tensor -> its shape and dtype.
    """
    nodes = [node for node in graph.live if node in graph.calls]
    graph = with_added_kwargs(graph, nodes, specs)
    waiting = [node for node in nodes if is_automatic(graph.calls[node])]
    if not waiting:
        return graph, {}
    masks = _Masks(graph, specs)
    trees = {node: masks.automatic(node) for node in waiting}
    placing = Placing(graph, specs, nodes)
    placing.place([mask for tree in trees.values() for mask in leaves(tree)])
    calls = dict(placing.calls)
    for node, tree in trees.items():
        calls[node] = with_mask(calls[node], map_leaves(placing.use, tree))
    return replace(graph, calls=calls, layers=placing.layers, stated={**graph.stated, **placing.specs}), placing.specs


def is_automatic(call: Arguments) -> bool:
    return call.kwargs.get("mask") is AUTOMATIC


def with_mask(call: Arguments, mask: Any) -> Arguments:
    return Arguments(call.args, {**call.kwargs, "mask": mask})


def automatic_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a new call, with `AUTOMATIC` as the mask if the layer takes a mask.

    >>> automatic_kwargs({"training": False})
    {'training': False}
    """
    return {name: AUTOMATIC if name == "mask" and value is None else value for name, value in kwargs.items()}


def with_added_kwargs(graph: Graph, nodes: Iterable[Node], specs: Mapping[Port, Spec]) -> Graph:
    """The model with the keyword arguments that Keras adds to calls, for layers that no longer cast their input.

    Keras adds none if the layer casts its input to its own dtype. Sequential models state no arguments at all.
    """
    if not is_functional(graph.record):
        return graph
    before = {name_of(layer): layer for layer in graph.record["config"]["layers"]}
    calls = dict(graph.calls)
    for node in nodes:
        args, kwargs = graph.calls[node]
        if kwargs or len(args) != 1 or not isinstance(args[0], Use) or node[0] not in before:
            continue
        spec = specs.get(args[0].port)
        if casts(before[node[0]], args[0].spec) and not casts(graph.layers[node[0]], spec):
            calls[node] = Arguments(args, automatic_kwargs(added_kwargs(graph.layers[node[0]])))
    return replace(graph, calls=calls)


def casts(record: Record, read: Spec | None) -> bool:
    """Whether a layer casts its input to its compute dtype. A Sequential model casts to the dtype of its input."""
    policy = record["config"].get("dtype")
    if is_model(record):
        policy = None if is_functional(record) else record["config"]["layers"][0]["config"]["dtype"]
    return bool(policy and read and read.dtype and is_float(read.dtype) and read.dtype != compute_dtype(policy))


class _Masks:
    """The masks of all tensors of a model.

    It is not known whether a custom layer passes on its mask. At first, it is assumed; a call after the layer that
    states this mask proves it.

    - `by_port`: tensor -> its mask, for tensors with a mask;
    - `via`: tensor -> the custom layers that are assumed to have passed on its mask;
    - `automatic_calls`: calls whose mask is the one that Keras would pass automatically;
    - `passing`: custom layers that are proved to pass on masks.
    """

    def __init__(self, graph: Graph, specs: Mapping[Port, Spec | None]) -> None:
        self.graph, self.specs = graph, specs
        self.by_port: dict[Port, Mask] = {}
        self.via: dict[Port, frozenset[str]] = {}
        self.automatic_calls: list[Node] = []
        self.passing: set[str] = set(graph.passing)
        nodes = [node for node in graph.live if node in graph.calls]
        masked = any(is_source(graph.layers[key]) for key, _ in nodes) or any(map(has_mask, graph.calls.values()))
        for node in nodes:
            previous = self.previous(node)
            if masked:
                self.visit(node, previous)

    def previous(self, node: Node) -> Any:
        """The mask that is passed to a call, or the masks of its first argument if it takes no mask."""
        automatic = self.automatic(node)
        recorded = self.graph.calls[node].kwargs.get("mask")
        if "mask" not in self.graph.calls[node].kwargs:
            return self.masks(first_argument(self.graph.calls[node]))
        if recorded is AUTOMATIC or self.is_same(recorded, automatic):
            self.automatic_calls.append(node)
            if any(leaves(automatic)):
                self.passing |= self.passed(first_argument(self.graph.calls[node]))
            return automatic
        if recorded is None:
            return automatic
        return map_leaves(lambda leaf: leaf.port if isinstance(leaf, Use) else None, recorded)

    def automatic(self, node: Node) -> Any:
        """The mask that Keras passes to a call automatically: None if several arguments have tensors."""
        call = self.graph.calls[node]
        arguments = [*call.args, *(value for name, value in call.kwargs.items() if not name.endswith("mask"))]
        if sum(any(isinstance(leaf, Use) for leaf in leaves(argument)) for argument in arguments) != 1:
            return None
        return self.masks(first_argument(call))

    def masks(self, tree: Any) -> Any:
        return map_leaves(lambda leaf: self.by_port.get(leaf.port) if isinstance(leaf, Use) else None, tree)

    def passed(self, tree: Any) -> frozenset[str]:
        ports = [leaf.port for leaf in leaves(tree) if isinstance(leaf, Use)]
        return frozenset().union(*(self.via.get(port, frozenset()) for port in ports))

    def visit(self, node: Node, previous: Any) -> None:
        record, first = self.graph.layers[node[0]], first_argument(self.graph.calls[node])
        if is_model(record):
            return
        via = self.passed(first)
        if is_foreign(record):
            masks = [only(previous)] if any(leaves(previous)) and self.passes(node[0]) else []
            via |= {node[0]}
        else:
            masks = output_masks(Masked(record, first, previous, self.spec))
        for output, mask in enumerate(masks):
            if mask is not None:
                self.by_port[Port(*node, output)], self.via[Port(*node, output)] = mask, via

    def passes(self, key: str) -> bool:
        """Whether a custom layer passes on masks. It is assumed as long as no mask must be determined again."""
        return key in self.passing or self.is_original or passes_masks_on(self.graph.layers[key])

    @property
    def is_original(self) -> bool:
        """Whether all calls state their masks, so that no mask must be determined again."""
        return not any(map(is_automatic, self.graph.calls.values()))

    def spec(self, port: Port) -> Spec:
        return self.specs.get(port) or Spec(())

    def is_same(self, recorded: Any, mask: Any) -> bool:
        """Whether the mask that a call states is a certain mask."""
        if isinstance(recorded, list) or isinstance(mask, list):
            stated, masks = leaves(recorded), leaves(mask)
            if recorded is None:
                return not any(masks)
            return len(stated) == len(masks) and all(map(self.is_same, stated, masks))
        if mask is None or recorded is None:
            return mask is recorded
        port = recorded.port if isinstance(recorded, Use) else recorded
        if isinstance(mask, Computed) and isinstance(port, Port):
            return self.computes(port, mask)
        return bool(port == mask)

    def computes(self, port: Port, mask: Computed) -> bool:
        """Whether a tensor is the output of the operations of a computed mask."""
        if port.node not in self.graph.calls or not is_operation(self.graph.layers[port.layer], mask):
            return False
        args = self.graph.calls[port.node].args
        return len(args) == len(mask.args) and all(map(self.is_same_argument, args, mask.args))

    def is_same_argument(self, stated: Any, expected: Any) -> bool:
        if isinstance(expected, (Port, Computed, list)):
            return self.is_same(stated, expected)
        return bool(stated == expected)


def has_mask(call: Arguments) -> bool:
    """Whether a call states a mask that is a tensor."""
    return any(isinstance(leaf, Use) for leaf in leaves(call.kwargs.get("mask")))


def first_argument(call: Arguments) -> Any:
    """The first argument of a call, by position or by name."""
    named = [value for name, value in call.kwargs.items() if not name.endswith("mask")]
    return next(iter([*call.args, *named]), None)
