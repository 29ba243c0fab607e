"""Finds the kept channels of a model whose values have all changed, because it was pruned and then fine-tuned.

Channels are tracked through the graph, starting at the inputs. The channels that a layer reads are known from the
layers before it. Then every slice of its kernel is compared with all slices of the old kernel, and matched with the
nearest:

    old kernel   (9 inputs, 6 channels)
    new kernel   (7 inputs, 3 channels)     inputs known to be 0, 1, 2, 4, 5, 7, 8 of the old model
    compare each of the 3 columns with the 6 old columns, at these 7 inputs -> channels 1, 2, 5

The result is only shown to users (which channels are kept, how much the values have changed). `patch` does not use it,
so a wrong guess does no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from toolz import groupby

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis, same_axis, size
from kerassurgery_fn.differences.slices import NEW, Positions
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.snapshot import Snapshot

MAX_CHANGE = 0.7  # the norm of the change divided by the norm of the values
MAX_FEATURES = 512  # elements of a slice to compare, drawn at random
MIN_FEATURES = 4  # elements of a slice to compare; fewer would match by chance

ProducerKey = tuple[str, str]


class ChannelTracking:
    """The old positions of the channels of a new model.

    Args:
        a, b: the old and the new model.
        flows: their channel flows.
        sources: path of a layer of `b` -> path of the layer of `a` that it comes from.
        known: (layer of `b`, kind of channels) -> the old positions, if they are already known.
    """

    def __init__(
        self, a: Snapshot, b: Snapshot, flows: tuple[Flow, Flow], sources: Mapping[str, str],
        known: Mapping[ProducerKey, Positions],
    ) -> None:  # fmt: skip
        self.a, self.b, self.sources = a, b, sources
        self.old, self.new = flows
        self.old_ids = np.full(self.new.solution.table.shape[1], NEW, np.int64)  # new final id -> old final id
        self.found: dict[ProducerKey, Positions] = {}
        # Producers are in the order of the graph, so the channels that a layer reads are known before its own channels.
        for (path, kind), after in self.new.producers.items():
            before = self.old.producers.get((sources.get(path, ""), kind))
            positions = None if before is None else self._track(before, after, known.get((path, kind)))
            if before is not None and positions is not None:
                self._note(before.axis, after.axis, positions)
                self.found[path, kind] = positions

    def _track(self, before: Producer, after: Producer, known: Positions | None) -> Positions | None:
        """The old positions of a layer's channels: the known positions, or by shared ids, or by the nearest values."""
        positions = self.positions(before.axis, after.axis) if known is None else known
        if positions is None or (positions == NEW).any():
            return self._by_nearest_values(before, after)
        return positions

    def positions(self, before: Axis, after: Axis) -> Positions | None:
        """The old positions of an axis by its ids, `NEW` for unknown ids; None if the axes cannot be compared."""
        if not isinstance(after, np.ndarray) or not isinstance(before, np.ndarray):
            count = size(after)
            return np.arange(count) if count is not None and count == size(before) else None
        old_ids, new_ids = self.old.solution.resolve(before), self.new.solution.resolve(after)
        if len(old_ids) > 1 or len(new_ids) > 1:
            return None
        return _positions_of(old_ids[0], self.old_ids[new_ids[0]])

    def axes(self, path: str, slot: int) -> list[Positions] | None:
        """The old positions of every axis of a weight; None if some are unknown."""
        old_weights, new_weights = self.old.weights.get(self.sources.get(path, "")), self.new.weights.get(path)
        if old_weights is None or new_weights is None or min(len(old_weights), len(new_weights)) <= slot:
            return None
        pairs = list(zip(old_weights[slot].axes, new_weights[slot].axes, strict=False))
        positions = [self.positions(before, after) for before, after in pairs]
        known = [matched for matched in positions if matched is not None and (matched != NEW).all()]
        return known if len(known) == len(pairs) else None

    def _note(self, before: Axis, after: Axis, positions: Positions) -> None:
        """Keeps the old ids of the channels of a layer, for the layers that read them."""
        old_ids, new_ids = self.old.solution.resolve(before), self.new.solution.resolve(after)  # type: ignore[arg-type]
        if len(old_ids) == len(new_ids) == 1:
            known = positions != NEW
            self.old_ids[new_ids[0][known]] = old_ids[0][positions[known]]
            self.old_ids[-1] = NEW  # FIXED indexes the last element

    def _by_nearest_values(self, before: Producer, after: Producer) -> Positions | None:
        """The old positions of a layer's channels, from its largest weight whose other axes are known."""
        for slot, axis in self._channel_axes(before, after):
            old_axes, new_axes = self.old.weights[before.path][slot].axes, self.new.weights[after.path][slot].axes
            others = [
                None if i == axis else self.positions(*pair)
                for i, pair in enumerate(zip(old_axes, new_axes, strict=True))
            ]
            if all(positions is not None for i, positions in enumerate(others) if i != axis):
                return nearest(self.a.weights[before.path][slot], self.b.weights[after.path][slot], others, axis)
        return None

    def _channel_axes(self, before: Producer, after: Producer) -> Iterator[tuple[int, int]]:
        """The weights with one position for each channel, and the axis, the largest weights first."""
        old_weights, new_weights = self.old.weights.get(before.path, []), self.new.weights.get(after.path, [])
        arrays = self.b.weights.get(after.path, ())
        for slot in sorted(range(len(arrays)), key=lambda slot: -arrays[slot].size):
            if slot >= min(len(old_weights), len(new_weights)):
                continue
            old_axes, new_axes = old_weights[slot].axes, new_weights[slot].axes
            if len(old_axes) == len(new_axes) > 1:
                for axis, (old_axis, new_axis) in enumerate(zip(old_axes, new_axes, strict=True)):
                    if same_axis(old_axis, before.axis) and same_axis(new_axis, after.axis):
                        yield slot, axis


def nearest(old: np.ndarray, new: np.ndarray, others: Sequence[Positions | None], axis: int) -> Positions | None:
    """For each slice of `new` along an axis, the nearest slice of `old`; None if the result is ambiguous.

    It is ambiguous if two slices have the same nearest slice, or if the values have changed by more than `MAX_CHANGE`.

    Args:
        others: the old positions of the other axes, with `NEW` for unknown positions.

    >>> a = np.random.default_rng(0).standard_normal((9, 6))
    >>> nearest(a, a[:, [1, 2, 5]] * 1.01, [np.arange(9), None], 1)
    array([1, 2, 5])
    """
    rng = np.random.default_rng(0)
    other_axes = [positions for i, positions in enumerate(others) if i != axis and positions is not None]
    known = [np.flatnonzero(positions != NEW) for positions in other_axes]
    sample = [rng.choice(positions, MAX_FEATURES) if len(positions) else positions for positions in known]
    if not all(map(len, sample)) or np.prod([len(positions) for positions in known]) < MIN_FEATURES:
        return None
    old_sample = [positions[index] for positions, index in zip(other_axes, sample, strict=True)]
    old_rows = np.asarray(np.moveaxis(old, axis, 0)[:, *old_sample], np.float32)
    new_rows = np.asarray(np.moveaxis(new, axis, 0)[:, *sample], np.float32)
    # The nearest slice has the largest cosine. The scale does not matter, because fine-tuning can scale a whole
    # channel.
    old_units, new_units = _unit_rows(old_rows), _unit_rows(new_rows)
    positions = (new_units @ old_units.T).argmax(axis=1)
    matched = old_rows[positions]
    change = np.linalg.norm(new_rows - matched) / (np.linalg.norm(matched) + 1e-12)
    all_differ = len(np.unique(positions)) == len(positions)
    return positions if all_differ and change < MAX_CHANGE else None


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1; rows of zeros stay zeros."""
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12)


def _positions_of(olds: np.ndarray, values: np.ndarray) -> Positions:
    """The position in `olds` of each value; `NEW` for values that `olds` does not have. The k-th occurrence of a value
    is matched with its k-th occurrence in `olds`.

    >>> _positions_of(np.array([7, 8, 7, 8]), np.array([8, 8, 9, -1]))
    array([ 1,  3, -1, -1])
    """
    places = groupby(olds.tolist().__getitem__, range(len(olds)))
    occurrences: dict[int, int] = defaultdict(int)
    positions = []
    for value in values.tolist():
        k = occurrences[value]
        occurrences[value] += 1
        positions.append(places[value][k] if value != NEW and k < len(places.get(value, ())) else NEW)
    return np.array(positions, np.int64)
