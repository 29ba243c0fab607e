"""The sizes of a model's tensors before and after an edit of its inputs, and the layer from which a new size comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

from kerassurgery_fn.graph import Graph, Node, Port, Shape, Spec
from kerassurgery_fn.rules.counted_positions import Run
from kerassurgery_fn.rules.registry import rule_for

Change = tuple[int | None, int | None]  # the size of an axis before and after


class SizeChanges(NamedTuple):
    """A model, and the specs of its tensors before and after an edit."""

    graph: Graph
    before: Mapping[Port, Spec]
    after: Mapping[Port, Spec]

    def shapes(self, port: Port) -> tuple[Shape, Shape]:
        """The shapes of a tensor before and after; two empty shapes if the number of axes differs."""
        old, new = self.before.get(port, Spec(())).shape, self.after.get(port, Spec(())).shape
        return (old, new) if len(old) == len(new) else ((), ())

    def changes(self, port: Port) -> list[Change]:
        """The size of each axis of a tensor before and after; empty if the number of axes differs."""
        return [*zip(*self.shapes(port), strict=True)]

    def with_change(self, node: Node, change: Change, axis: int = -1) -> tuple[Port, int] | None:
        """A tensor that a call reads and that has an axis with some change of size, and this axis; None if there is no
        such tensor. If several axes have this change, `axis` is preferred, then the last axis of the first tensor."""
        places = [
            (port, i)
            for port in self.graph.reads(node)
            for i, sizes in reversed([*enumerate(self.changes(port))])
            if sizes == change
        ]
        return next((place for place in places if place[1] == axis), next(iter(places), None))

    def origin(self, node: Node, change: Change) -> Node:
        """The first call that computes an axis with some change of size. From there, other calls pass the axis on to
        a call without a further change."""
        place = self.with_change(node, change)
        while place and self.with_change(place[0].node, change):
            place = self.with_change(place[0].node, change)
        return place[0].node if place else node

    def runs(self, port: Port, axis: int) -> list[Run]:
        """The grids that were flattened to the positions of an axis of a tensor, in order.

        A class token followed by a flattened image: [Run((1,), (1,)), Run((6, 6), (8, 8))].
        """
        old, new = change = self.changes(port)[axis]
        alone = [Run((old or 1,), (new or 1,))]
        if old == new or port.node not in self.graph.calls:
            return alone
        layer = self.graph.layers[port.layer]
        rule = rule_for(layer)
        reads = self.graph.reads(port.node)
        if rule.merges == "joins" and layer["config"]["axis"] % len(self.shapes(port)[0]) == axis:
            return [run for read in reads if self.shapes(read)[0] for run in self.runs(read, axis)]
        if rule.reshapes and (grid := next(self._grids(reads[0], change), None)):
            return [grid]
        place = self.with_change(port.node, change, axis)
        return self.runs(*place) if place else alone

    def _grids(self, port: Port, change: Change) -> Iterator[Run]:
        """The runs of several axes of a tensor whose products of sizes are those of a change, so that a reshape can
        flatten them to an axis with this change."""
        old, new = self.shapes(port)
        for start in range(1, len(old)):
            for end in range(start + 2, len(old) + 1):
                run = Run(old[start:end], new[start:end])  # type: ignore[arg-type]
                if None not in (*run.old, *run.new) and (prod(run.old), prod(run.new)) == change:
                    yield run
