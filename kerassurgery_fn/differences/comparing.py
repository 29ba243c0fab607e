"""`diff`: what makes one model of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.channels import same_axis, size
from kerassurgery_fn.differences.changes import Picks, Piece, Pieces, Stored, Trained
from kerassurgery_fn.differences.channel_tracking import ChannelTracking
from kerassurgery_fn.differences.difference import Diff
from kerassurgery_fn.differences.layer_records import Sheets, layers_of, layers_place, sheets_of
from kerassurgery_fn.differences.matching import default_source, paired, sources_of
from kerassurgery_fn.differences.patching import digests
from kerassurgery_fn.differences.slices import Known, bits, found, from_nowhere, is_whole, taken
from kerassurgery_fn.differences.trees import ABSENT, changes, pointer
from kerassurgery_fn.documents.plan_algebra import address_of
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.snapshot import Snapshot, Training

Fate = Trained | Literal["same", "none"]  # of the optimizer's state
FOREIGN = 0.5  # slices are no slices if more than this of their elements are others
SPARSE = 0.8  # elements are stored one by one if that takes less than this of the whole array


@takes(a=as_snapshot, b=as_snapshot)
def diff(a: Snapshot, b: Snapshot) -> Diff:
    """What makes `b` of `a`: layers, config, channels, values. `patch(a, diff(a, b)) == b`, exactly.

    Layers are found again by their names, weights or places, and channels by the elements of the arrays, so nothing
    need be known of how `b` came about. What `b` has from `a` is noted as slices; only what is new is stored.
    """
    old, new = sheets_of(a.record), sheets_of(b.record)
    sources = sources_of(old, new, a.weights, b.weights)
    weights = _Weights()
    pieces = {path: made for path in new if (made := weights.of_layer(a, b, path, sources.get(path))) is not SAME}
    channels = _Channels(a, b, sources, pieces, weights)
    pieces = {path: channels.told(made, a, path, sources.get(path, "")) for path, made in pieces.items()}
    training = weights.of_training(a.training, b.training, sources)
    moves = {path: source for path, source in sources.items() if source != default_source(path, sources)}
    comparisons = {path: _Comparison(old[source], new[path]) for path, source in sources.items()}
    return Diff(
        base=digests(a),
        removed=tuple(path for path in old if path not in {*sources.values()}),
        sources=FrozenDict(moves),
        added=FrozenDict({path: new[path] for path in new if path not in sources}),
        order=FrozenDict(_orders(old, new, sources)),
        changed=FrozenDict({path: FrozenDict(one.changed) for path, one in comparisons.items() if one.changed}),
        appeared=FrozenDict({path: FrozenDict(one.appeared) for path, one in comparisons.items() if one.appeared}),
        dropped=FrozenDict({path: FrozenDict(one.dropped) for path, one in comparisons.items() if one.dropped}),
        picks=tuple(weights.table),
        weights=FrozenDict(pieces),
        channels=FrozenDict(channels.left),
        training=training,
        result=digests(b),
    )


SAME = object()


class _Comparison:
    """How a sheet differs from the one that it comes from; the list of a model's layers is left out."""

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.changed: dict[str, tuple[Any, Any]] = {}
        self.appeared: dict[str, Any] = {}
        self.dropped: dict[str, Any] = {}
        for place, before, after in changes(old, new):
            if (layers := layers_place(new)) and place[: len(layers)] == layers:
                continue
            if before is ABSENT:
                self.appeared[pointer(place)] = after
            elif after is ABSENT:
                self.dropped[pointer(place)] = before
            else:
                self.changed[pointer(place)] = (before, after)


def _orders(old: Sheets, new: Sheets, sources: Mapping[str, str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The layers of each model where they are not those of before in the same order."""
    for path, source in sources.items():
        names, before = layers_of(new[path]), layers_of(old[source])
        if names is not None and before is not None and list(names) != list(before):
            yield path, runs(before, names)


def runs(before: Sequence[str], names: Sequence[str]) -> tuple[str | tuple[int, int], ...]:
    """Names as runs of those of before, and new ones.

    >>> runs(["a", "b", "c", "d"], ["a", "b", "x", "d"])
    ((0, 2), 'x', (3, 4))
    """
    index = {name: i for i, name in enumerate(before)}
    made: list[str | tuple[int, int]] = []
    for name in names:
        at = index.get(name)
        if at is None:
            made.append(name)
        elif made and isinstance(made[-1], tuple) and made[-1][1] == at:
            made[-1] = (made[-1][0], at + 1)
        else:
            made.append((at, at + 1))
    return tuple(made)


class _Weights:
    """What becomes of arrays, with one table of the positions picked from their axes."""

    def __init__(self) -> None:
        self.table: list[Picks] = []
        self._index: dict[Picks, int] = {}
        self._known = Known()

    def of_layer(self, a: Snapshot, b: Snapshot, path: str, source: str | None) -> Any:
        """What becomes of the weights of a layer; `SAME` if nothing does."""
        before = a.weights.get(source) if source is not None else None
        after = b.weights.get(path)
        if after is None:
            return SAME if before is None else None
        if before is not None and same_bits(before, after):
            return SAME
        return self.pieces(before or (), after)

    def of_training(self, before: Training | None, after: Training | None, sources: Mapping[str, str]) -> Fate:
        """What becomes of the optimizer's state."""
        if after is None:
            return "same" if before is None else "none"
        if before is not None and before.slots == after.slots and same_bits(before.values, after.values):
            return "same"
        olds = list(paired(before, after.slots, sources))
        return Trained(after.slots, tuple(map(self.piece, olds, after.values)))

    def pieces(self, before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Pieces:
        padded = [*before, *[None] * len(after)][: len(after)]
        return tuple(map(self.piece, padded, after))

    def piece(self, old: np.ndarray | None, new: np.ndarray) -> Piece:
        """What becomes of an array."""
        if old is not None and same_bits((old,), (new,)):
            return None
        a, b = (None if array is None else bits(array) for array in (old, new))
        if old is None or a is None or b is None or old.dtype != new.dtype:
            return Stored(new)
        axes = found(a, b, self._known)
        if axes is not None and _others(a, b, axes).mean() > FOREIGN:
            axes = None
        if axes is None and a.shape == b.shape:
            axes = [np.arange(n) for n in a.shape]
        if axes is None:
            return Stored(new)
        other = _others(a, b, axes)
        picks = tuple(map(self.pick, a.shape, axes))
        if not other.any():
            return picks
        moved = _moved(taken(old, axes), new) if not from_nowhere(axes).any() else None
        count = int(np.count_nonzero(other))
        if count * new.itemsize + other.size / 8 > SPARSE * new.nbytes:
            return Stored(new, moved)
        return Stored(new[other], moved, picks, np.packbits(other))

    def pick(self, before: int, positions: np.ndarray) -> int | None:
        """The index of positions in the table, None for a whole axis."""
        if is_whole(positions, before):
            return None
        picks = Picks.of_positions(before, positions)
        if picks not in self._index:
            self._index[picks] = len(self.table)
            self.table.append(picks)
        return self._index[picks]


def same_bits(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    """Whether arrays are the same to the last bit, -0.0 and all; arrays that are shared are not looked at."""
    if len(a) != len(b):
        return False
    return all(
        x is y or (x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes())
        for x, y in zip(a, b, strict=True)
    )


def _others(old: np.ndarray, new: np.ndarray, axes: Sequence[np.ndarray]) -> np.ndarray:
    """Which elements of an array are others than in slices of the old one."""
    return (taken(old, axes) != new) | from_nowhere(axes)


def _moved(old: np.ndarray, new: np.ndarray) -> float | None:
    """The norm of a change over that of what there was; None where that is no number."""
    if old.dtype.kind not in "fiu" and old.dtype.name != "bfloat16":
        return None
    before, after = old.astype(np.float64), new.astype(np.float64)
    size = np.linalg.norm(before)
    moved = float(np.linalg.norm(after - before) / size) if size else None
    return round(moved, 6) if moved is not None and np.isfinite(moved) else None


class _Channels:
    """Which channels of each layer are left: by what was picked of an axis of a weight that has a position for each of
    them, else by what they are most like."""

    def __init__(
        self, a: Snapshot, b: Snapshot, sources: Mapping[str, str], pieces: Mapping[str, Pieces | None], table: _Weights
    ) -> None:
        self.left: dict[str, int] = {}
        self._following: ChannelTracking | None = None
        try:
            self._follow(a, b, sources, pieces, table)
        except Exception:  # what is told to people must not be in the way where a record is of no model at all
            self.left, self._following = {}, None

    def _follow(
        self, a: Snapshot, b: Snapshot, sources: Mapping[str, str], pieces: Mapping[str, Pieces | None], table: _Weights
    ) -> None:
        old, new = analyse(a), analyse(b)
        sure = {
            key: table.table[pick].positions
            for key in new.producers
            if (pick := _picked(old, sources.get(key[0], ""), key[1], pieces.get(key[0]) or ())) is not None
        }
        if any(_is_whole(piece) for made in pieces.values() for piece in made or ()):
            self._following = ChannelTracking(a, b, (old, new), sources, sure)
            sure = self._following.found | sure
        for key, positions in sure.items():
            index = table.pick(size(old.producers[sources[key[0]], key[1]].axis) or 0, positions)
            if index is not None:
                self.left[address_of(new, new.producers[key])] = index

    def told(self, pieces: Pieces | None, a: Snapshot, path: str, source: str) -> Pieces | None:
        """What becomes of a layer's weights, with how far those have moved that are other in size and values."""
        if pieces is None or self._following is None or not any(map(_is_whole, pieces)):
            return pieces
        return tuple(self._told(piece, a, path, source, slot) for slot, piece in enumerate(pieces))

    def _told(self, piece: Piece, a: Snapshot, path: str, source: str, slot: int) -> Piece:
        if not isinstance(piece, Stored) or not _is_whole(piece) or piece.moved is not None or self._following is None:
            return piece
        axes = self._following.axes(path, slot)
        return (
            piece if axes is None else replace(piece, moved=_moved(taken(a.weights[source][slot], axes), piece.values))
        )


def _is_whole(piece: Piece) -> bool:
    return isinstance(piece, Stored) and piece.mask is None


def _picked(flow: Flow, path: str, kind: str, pieces: Pieces) -> int | None:
    if (path, kind) not in flow.producers:
        return None
    axis = flow.producers[path, kind].axis
    for weight, piece in zip(flow.weights.get(path, ()), pieces, strict=False):
        picks = piece.picks if isinstance(piece, Stored) else piece
        for own, pick in zip(weight.axes, picks or (), strict=False):
            if pick is not None and len(weight.axes) > 1 and same_axis(own, axis):  # a bias of zeros tells nothing
                return pick
    return None
