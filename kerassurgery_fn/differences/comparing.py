"""`diff`: what changed between two models, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.channels import same_axis, size
from kerassurgery_fn.differences.changes import Picks, Piece, Pieces, Stored, Trained
from kerassurgery_fn.differences.channel_tracking import ChannelTracking, ProducerKey
from kerassurgery_fn.differences.difference import Diff
from kerassurgery_fn.differences.layer_records import LayerRecords, layers_of, layers_place, split_record
from kerassurgery_fn.differences.matching import default_source, match_layers, old_values
from kerassurgery_fn.differences.patching import digests
from kerassurgery_fn.differences.slices import (
    KnownPositions,
    Positions,
    bits,
    find_slices,
    is_whole,
    new_elements,
    take_slices,
)
from kerassurgery_fn.differences.trees import ABSENT, changes, pointer
from kerassurgery_fn.documents.plan_algebra import address_of
from kerassurgery_fn.graph import Record
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.snapshot import Snapshot, Training

TrainingChange = Trained | Literal["same", "none"]
MAX_DIFFERING = 0.5  # slices in which more than this share of the elements differ are a coincidence
MAX_SPARSE = 0.8  # elements are stored one by one if that takes at most this share of the whole array


@takes(a=as_snapshot, b=as_snapshot)
def diff(a: Snapshot, b: Snapshot) -> Diff:
    """What changed from `a` to `b`: layers, config, channels, values. `patch(a, diff(a, b)) == b` holds exactly.

    Layers are matched by name, weights, config or place, and channels by the elements of the arrays, so that it does
    not matter how `b` was made. Whatever `b` has in common with `a` is noted as slices; only new values are stored.
    """
    old, new = split_record(a.record), split_record(b.record)
    sources = match_layers(old, new, a.weights, b.weights)
    arrays = _ArrayChanges()
    changed = {path: arrays.of_layer(a, b, path, sources.get(path)) for path in new}
    pieces = {path: change for path, change in changed.items() if change is not SAME}
    channels = _KeptChannels(a, b, sources, pieces, arrays)
    pieces = {path: channels.with_distances(change, path) for path, change in pieces.items()}
    training = arrays.of_training(a.training, b.training, sources)
    configs = {path: _config_changes(old[source], new[path]) for path, source in sources.items()}
    return Diff(
        base=digests(a),
        removed=tuple(path for path in old if path not in {*sources.values()}),
        sources=FrozenDict({path: src for path, src in sources.items() if src != default_source(path, sources)}),
        added=FrozenDict({path: new[path] for path in new if path not in sources}),
        order=FrozenDict(_orders(old, new, sources)),
        changed=_nonempty({path: config.changed for path, config in configs.items()}),
        appeared=_nonempty({path: config.appeared for path, config in configs.items()}),
        dropped=_nonempty({path: config.dropped for path, config in configs.items()}),
        picks=tuple(arrays.table),
        weights=FrozenDict(pieces),
        channels=FrozenDict(channels.kept),
        training=training,
        result=digests(b),
    )


SAME = object()


# --- config


@dataclass(frozen=True)
class _ConfigChanges:
    """The places at which a layer's record changed, as JSON pointers."""

    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    appeared: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, Any] = field(default_factory=dict)


def _config_changes(old: Record, new: Record) -> _ConfigChanges:
    """How a layer's record differs from the record that it comes from, without the list of a model's layers."""
    found = _ConfigChanges()
    layers = layers_place(new)
    for place, before, after in changes(old, new):
        if layers and place[: len(layers)] == layers:
            continue
        if before is ABSENT:
            found.appeared[pointer(place)] = after
        elif after is ABSENT:
            found.dropped[pointer(place)] = before
        else:
            found.changed[pointer(place)] = (before, after)
    return found


def _nonempty(by_layer: Mapping[str, dict[str, Any]]) -> FrozenDict:
    return FrozenDict({path: FrozenDict(places) for path, places in by_layer.items() if places})


def _orders(old: LayerRecords, new: LayerRecords, sources: Mapping[str, str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The layers of each model that has other layers than before, or in another order."""
    for path, source in sources.items():
        names, before = layers_of(new[path]), layers_of(old[source])
        if names is not None and before is not None and list(names) != list(before):
            yield path, runs(before, names)


def runs(before: Sequence[str], names: Sequence[str]) -> tuple[str | tuple[int, int], ...]:
    """Names as runs (from, to) of the names before, and new names.

    >>> runs(["a", "b", "c", "d"], ["a", "b", "x", "d"])
    ((0, 2), 'x', (3, 4))
    """
    index = {name: i for i, name in enumerate(before)}
    found: list[str | tuple[int, int]] = []
    for name in names:
        at = index.get(name)
        last = found[-1] if found else None
        if at is None:
            found.append(name)
        elif isinstance(last, tuple) and last[1] == at:
            found[-1] = (last[0], at + 1)
        else:
            found.append((at, at + 1))
    return tuple(found)


# --- arrays


class _ArrayChanges:
    """The changes of arrays, with one table of the positions picked from their axes.

    Many arrays share their positions: the kernel, the bias and the consumers of a pruned layer all refer to one entry.
    """

    def __init__(self) -> None:
        self.table: list[Picks] = []
        self._index: dict[Picks, int] = {}
        self._known = KnownPositions()

    def of_layer(self, a: Snapshot, b: Snapshot, path: str, source: str | None) -> Any:
        """The change of a layer's weights: `SAME`, None if the layer has no weights any more, or a piece for each."""
        before = a.weights.get(source) if source is not None else None
        after = b.weights.get(path)
        if after is None:
            return SAME if before is None else None
        if before is not None and same_bits(before, after):
            return SAME
        padded = [*(before or ()), *[None] * len(after)][: len(after)]
        return tuple(map(self.piece, padded, after))

    def of_training(
        self, before: Training | None, after: Training | None, sources: Mapping[str, str]
    ) -> TrainingChange:
        """The change of the optimizer's state."""
        if after is None:
            return "same" if before is None else "none"
        if before is not None and before.slots == after.slots and same_bits(before.values, after.values):
            return "same"
        olds = list(old_values(before, after.slots, sources))
        return Trained(after.slots, tuple(map(self.piece, olds, after.values)))

    def piece(self, old: np.ndarray | None, new: np.ndarray) -> Piece:
        """The change of an array: None, slices of the old array, or new values.

        Elements that differ from the slices are stored one by one where that is smaller than the whole array.
        """
        if old is not None and same_bits((old,), (new,)):
            return None
        slices = None if old is None else self._slices(old, new)
        if old is None or slices is None:
            return Stored(new)
        axes, differing = slices
        picks = tuple(map(self.pick, old.shape, axes))
        if not differing.any():
            return picks
        moved = None if new_elements(axes).any() else _relative_change(take_slices(old, axes), new)
        sparse_bytes = int(np.count_nonzero(differing)) * new.itemsize + differing.size / 8
        if sparse_bytes > MAX_SPARSE * new.nbytes:
            return Stored(new, moved)
        return Stored(new[differing], moved, picks, np.packbits(differing))

    def _slices(self, old: np.ndarray, new: np.ndarray) -> tuple[list[Positions], np.ndarray] | None:
        """The slices of `old` that are nearest to `new`, and a mask of the elements that differ from them."""
        old_bits, new_bits = bits(old), bits(new)
        if old_bits is None or new_bits is None or old.dtype != new.dtype:
            return None
        axes = find_slices(old_bits, new_bits, self._known)
        if axes is not None:
            differing = _differing(old_bits, new_bits, axes)
            if differing.mean() <= MAX_DIFFERING:
                return axes, differing
        if old.shape != new.shape:
            return None
        return [np.arange(n) for n in old.shape], old_bits != new_bits

    def pick(self, before: int, positions: Positions) -> int | None:
        """The index of positions in the table, None for a whole axis."""
        if is_whole(positions, before):
            return None
        picks = Picks.of_positions(before, positions)
        if picks not in self._index:
            self._index[picks] = len(self.table)
            self.table.append(picks)
        return self._index[picks]


def same_bits(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    """Whether arrays are equal to the last bit, -0.0 and NaN included. Shared arrays are not compared."""
    if len(a) != len(b):
        return False
    return all(
        x is y or (x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes())
        for x, y in zip(a, b, strict=True)
    )


def _differing(old: np.ndarray, new: np.ndarray, axes: Sequence[Positions]) -> np.ndarray:
    """The mask of the elements that differ from slices of the old array."""
    return (take_slices(old, axes) != new) | new_elements(axes)


def _relative_change(old: np.ndarray, new: np.ndarray) -> float | None:
    """The norm of a change divided by the norm of the old values; None if that is not a number."""
    if old.dtype.kind not in "fiu" and old.dtype.name != "bfloat16":
        return None
    before, after = old.astype(np.float64), new.astype(np.float64)
    norm = np.linalg.norm(before)
    change = float(np.linalg.norm(after - before) / norm) if norm else None
    return round(change, 6) if change is not None and np.isfinite(change) else None


# --- channels


class _KeptChannels:
    """The channels of each layer that the new model still has.

    Two sources: the positions picked from an axis of a weight that has one position for each channel; and, for layers
    with all values changed, the nearest channels (`ChannelTracking`).
    """

    def __init__(
        self,
        a: Snapshot,
        b: Snapshot,
        sources: Mapping[str, str],
        pieces: Mapping[str, Pieces | None],
        arrays: _ArrayChanges,
    ) -> None:
        self.a, self.sources = a, sources
        self.kept: dict[str, int] = {}
        self._tracking: ChannelTracking | None = None
        try:
            self._find(b, pieces, arrays)
        except Exception:
            # Channels are shown to people and not needed to patch. `diff` also compares records that only look like
            # models, of which the analysis may fail in any way.
            self.kept, self._tracking = {}, None

    def _find(self, b: Snapshot, pieces: Mapping[str, Pieces | None], arrays: _ArrayChanges) -> None:
        old, new = analyse(self.a), analyse(b)
        positions: dict[ProducerKey, Positions] = {}
        for path, kind in new.producers:
            pick = _picked_channels(old, self.sources.get(path, ""), kind, pieces.get(path) or ())
            if pick is not None:
                positions[path, kind] = arrays.table[pick].positions
        if any(_is_stored_whole(piece) for change in pieces.values() for piece in change or ()):
            self._tracking = ChannelTracking(self.a, b, (old, new), self.sources, positions)
            positions = self._tracking.found | positions
        for (path, kind), kept in positions.items():
            index = arrays.pick(size(old.producers[self.sources[path], kind].axis) or 0, kept)
            if index is not None:
                self.kept[address_of(new, new.producers[path, kind])] = index

    def with_distances(self, pieces: Pieces | None, path: str) -> Pieces | None:
        """The pieces of a layer; whole arrays of new values with their distance from the old channels."""
        if pieces is None or self._tracking is None:
            return pieces
        return tuple(self._with_distance(piece, path, slot) for slot, piece in enumerate(pieces))

    def _with_distance(self, piece: Piece, path: str, slot: int) -> Piece:
        if self._tracking is None or not isinstance(piece, Stored) or piece.mask is not None or piece.moved is not None:
            return piece
        axes = self._tracking.axes(path, slot)
        if axes is None:
            return piece
        old = take_slices(self.a.weights[self.sources[path]][slot], axes)
        return replace(piece, moved=_relative_change(old, piece.values))


def _is_stored_whole(piece: Piece) -> bool:
    return isinstance(piece, Stored) and piece.mask is None


def _picked_channels(flow: Flow, path: str, kind: str, pieces: Pieces) -> int | None:
    """The positions picked from the channels of a layer in a weight of its own, as an index; None if there are none."""
    if (path, kind) not in flow.producers:
        return None
    channels = flow.producers[path, kind].axis
    for weight, piece in zip(flow.weights.get(path, ()), pieces, strict=False):
        picks = piece.picks if isinstance(piece, Stored) else piece
        for axis, pick in zip(weight.axes, picks or (), strict=False):
            # A bias often is all zeros, so that its positions are a guess.
            if pick is not None and len(weight.axes) > 1 and same_axis(axis, channels):
                return pick
    return None
