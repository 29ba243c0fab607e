"""Which channels are left of a model whose values have all moved, as when it was pruned and trained on.

Channels are followed through the graph. What a layer reads is known from the layers before it; then each of its own
slices is held against all of the old model's, and the nearest is the one that it comes from. Nothing is restored from
what is found: it only tells people which channels are left, and by how much values have moved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis, same_axis, size
from kerassurgery_fn.differences.slices import NEW, Positions
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.snapshot import Snapshot

CLOSE = 0.7  # the norm of the change over that of the values, at the most
FEATURES = 512  # elements of a slice that are compared, at the most
ENOUGH = 4  # at the least


class ChannelTracking:
    """Positions in the old model of what is in the new one, axis by axis.

    Args:
        a, b: the models, old and new.
        flows: their channels.
        sources: layers of `b` -> the layers of `a` that they come from.
        sure: (layer of `b`, kind) -> positions that are known already.
    """

    def __init__(
        self, a: Snapshot, b: Snapshot, flows: tuple[Flow, Flow], sources: Mapping[str, str],
        sure: Mapping[tuple[str, str], Positions],
    ) -> None:  # fmt: skip
        self.a, self.b, self.sources = a, b, sources
        self.old, self.new = flows
        self.came_from = np.full(self.new.solution.table.shape[1], NEW, np.int64)  # final id -> old final id
        self.found: dict[tuple[str, str], Positions] = {}
        for (path, kind), producer in self.new.producers.items():
            before = self.old.producers.get((sources.get(path, ""), kind))
            if before is None:
                continue
            positions = sure.get((path, kind))
            if positions is None:
                positions = self.positions(before.axis, producer.axis)
            if positions is None or (positions == NEW).any():
                positions = self._nearest(before, producer)
            if positions is not None:
                self._note(before.axis, producer.axis, positions)
                self.found[path, kind] = positions

    def positions(self, before: Axis, after: Axis) -> Positions | None:
        """The old positions of an axis, `NEW` where nothing is known; None if nothing at all is."""
        if not isinstance(after, np.ndarray) or not isinstance(before, np.ndarray):
            count = size(after)
            return np.arange(count) if count is not None and count == size(before) else None
        olds, news = (flow.solution.resolve(axis) for flow, axis in ((self.old, before), (self.new, after)))
        if len(olds) > 1 or len(news) > 1:
            return None
        return _matched(olds[0], self.came_from[news[0]])

    def axes(self, path: str, slot: int) -> list[Positions] | None:
        """The old positions of every axis of a weight; None if some are not known."""
        olds, news = self.old.weights.get(self.sources.get(path, "")), self.new.weights.get(path)
        if olds is None or news is None or min(len(olds), len(news)) <= slot:
            return None
        made = [self.positions(one, other) for one, other in zip(olds[slot].axes, news[slot].axes, strict=False)]
        known = [one for one in made if one is not None and (one != NEW).all()]
        return known if len(known) == len(made) else None

    def _note(self, before: Axis, after: Axis, positions: Positions) -> None:
        olds, news = (flow.solution.resolve(axis) for flow, axis in ((self.old, before), (self.new, after)))  # type: ignore[arg-type]
        if len(olds) == len(news) == 1:
            sure = positions != NEW
            self.came_from[news[0][sure]] = olds[0][positions[sure]]
            self.came_from[-1] = NEW

    def _nearest(self, before: Producer, after: Producer) -> Positions | None:
        """The positions of a layer's own channels, by the weight of it that tells most."""
        for slot, axis in self._own_axes(before, after):
            old, new = self.a.weights[before.path][slot], self.b.weights[after.path][slot]
            others = [
                None if i == axis else self.positions(one, other)
                for i, (one, other) in enumerate(
                    zip(self.old.weights[before.path][slot].axes, self.new.weights[after.path][slot].axes, strict=True)
                )
            ]
            if all(one is not None for i, one in enumerate(others) if i != axis):
                return nearest(old, new, others, axis)
        return None

    def _own_axes(self, before: Producer, after: Producer) -> Iterator[tuple[int, int]]:
        """Weights and their axes that have a position for each channel, the largest weights first."""
        olds, news = self.old.weights.get(before.path, []), self.new.weights.get(after.path, [])
        arrays = self.b.weights.get(after.path, ())
        for slot in sorted(range(len(arrays)), key=lambda slot: -arrays[slot].size):
            if slot < min(len(olds), len(news)) and len(olds[slot].axes) == len(news[slot].axes) > 1:
                for axis, (one, other) in enumerate(zip(olds[slot].axes, news[slot].axes, strict=True)):
                    if same_axis(one, before.axis) and same_axis(other, after.axis):
                        yield slot, axis


def nearest(old: np.ndarray, new: np.ndarray, others: Sequence[Positions | None], axis: int) -> Positions | None:
    """The slices of `old` along an axis that those of `new` are nearest to; None if it is not clear.

    `others` has the old positions of the other axes, `NEW` where they are not known.

    >>> a = np.random.default_rng(0).standard_normal((9, 6))
    >>> nearest(a, a[:, [1, 2, 5]] * 1.01, [np.arange(9), None], 1)
    array([1, 2, 5])
    """
    rng = np.random.default_rng(0)
    usable = [np.zeros(1, int) if one is None else np.flatnonzero(one != NEW) for one in others]
    there = [rng.choice(one, FEATURES) if len(one) else one for i, one in enumerate(usable) if i != axis]
    if not all(map(len, there)) or np.prod([len(one) for i, one in enumerate(usable) if i != axis]) < ENOUGH:
        return None
    given = [one for i, one in enumerate(others) if i != axis and one is not None]
    where = [one[index] for one, index in zip(given, there, strict=True)]
    rows_old = np.asarray(np.moveaxis(old, axis, 0)[:, *where], np.float32)
    rows_new = np.asarray(np.moveaxis(new, axis, 0)[:, *there], np.float32)
    units = [rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12) for rows in (rows_old, rows_new)]
    positions = (units[1] @ units[0].T).argmax(axis=1)
    moved = np.linalg.norm(rows_new - rows_old[positions]) / (np.linalg.norm(rows_old[positions]) + 1e-12)
    clear = len(np.unique(positions)) == len(positions) and moved < CLOSE
    return positions if clear else None


def _matched(olds: np.ndarray, wanted: np.ndarray) -> Positions:
    """Where each value stands in `olds`, the k-th time it is wanted at its k-th place; `NEW` where it does not.

    >>> _matched(np.array([7, 8, 7, 8]), np.array([8, 8, 9, -1]))
    array([ 1,  3, -1, -1])
    """
    places: dict[int, list[int]] = defaultdict(list)
    for position, value in enumerate(olds.tolist()):
        places[value].append(position)
    used: dict[int, int] = defaultdict(int)
    made = []
    for value in wanted.tolist():
        at = used[value]
        used[value] += 1
        made.append(places[value][at] if value != NEW and at < len(places.get(value, ())) else NEW)
    return np.array(made, np.int64)
