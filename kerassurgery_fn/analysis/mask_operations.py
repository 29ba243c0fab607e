"""Inserts the operations that compute masks into a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from toolz import concat, keyfilter, unique

from kerassurgery_fn.graph import Arguments, Graph, Node, Port, Record, Spec, Use, leaves, map_leaves, unused
from kerassurgery_fn.rules.mask_rules import Computed, Mask
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.rules.weight_groups import snake_case
from kerassurgery_fn.values.frozen import freeze


def is_operation(record: Record, mask: Computed) -> bool:
    """Whether a record is that of the operation of a computed mask."""
    config = keyfilter(mask.config.__contains__, record["config"])
    return key_of(record) == f"ops.{mask.operation}" and config == mask.config


class Placing:
    """Finds or creates the operations that compute masks in a model.

    - `placed`: computed tensor -> the port that has it;
    - `specs`: the specs of these ports.

    An operation that computes the same tensor is used first. Next comes an operation of a mask that is no longer
    needed, so that its name stays in use. Otherwise a new operation is created.
    """

    def __init__(self, graph: Graph, specs: Mapping[Port, Spec], live: Iterable[Node]) -> None:
        self.known, self.live = specs, set(live)
        self.layers, self.calls = dict(graph.layers), dict(graph.calls)
        self.placed: dict[Computed, Port] = {}
        self.specs: dict[Port, Spec] = {}

    def place(self, masks: Iterable[Mask]) -> None:
        parts = list(unique(concat(map(all_parts, masks))))
        for part in parts:
            if node := self.exact(part):
                self.put(part, node)
        for part in parts:
            if part not in self.placed:
                self.put(part, self.orphaned(part) or self.added(part))

    def use(self, mask: Mask) -> Use | None:
        if mask is None:
            return None
        port = self.placed[mask] if isinstance(mask, Computed) else mask
        return Use(port, self.specs.get(port) or self.known.get(port))

    def exact(self, part: Computed) -> Node | None:
        if not all(arg in self.placed for arg in parts_of(part)):
            return None
        wanted = self.bare(part.args)
        return next((node for node in self.candidates(part) if self.bare(self.calls[node].args) == wanted), None)

    def orphaned(self, part: Computed) -> Node | None:
        return next((node for node in self.candidates(part) if node not in self.live), None)

    def candidates(self, part: Computed) -> list[Node]:
        taken = {port.node for port in self.placed.values()}
        return [node for node in self.calls if node not in taken and is_operation(self.layers[node[0]], part)]

    def bare(self, args: Any) -> list[Any]:
        """The arguments of an operation with a port for every tensor."""

        def port(leaf: Any) -> Any:
            return leaf.port if isinstance(leaf, Use) else self.placed[leaf] if isinstance(leaf, Computed) else leaf

        return [map_leaves(port, arg) for arg in args]

    def put(self, part: Computed, node: Node) -> None:
        def use(leaf: Any) -> Any:
            return self.use(leaf) if isinstance(leaf, (Port, Computed)) else leaf

        self.placed[part], self.specs[Port(*node)] = Port(*node), part.spec
        if node not in self.live:
            self.calls[node] = Arguments([map_leaves(use, arg) for arg in part.args], {})

    def added(self, part: Computed) -> Node:
        names = {*self.layers, *(layer["config"].get("name") for layer in self.layers.values())}
        name = unused(snake_case(part.operation), names)
        record = {"module": part.module, "class_name": part.operation}
        config = {"name": name, **part.config}
        self.layers[name] = freeze({**record, "config": config, "registered_name": part.operation})
        return name, 0


def all_parts(mask: Any) -> list[Computed]:
    """The computed tensors of which a mask consists, in topological order; the mask is the last one."""
    if not isinstance(mask, Computed):
        return []
    return [*(part for arg in parts_of(mask) for part in all_parts(arg)), mask]


def parts_of(mask: Computed) -> list[Computed]:
    return [arg for arg in leaves(list(mask.args)) if isinstance(arg, Computed)]
