"""`diff`: compares two models and returns the changes as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from toolz import valfilter

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.channels import same_axis, size
from kerassurgery_fn.differences.array_changes import SAME, ArrayChanges, relative_change
from kerassurgery_fn.differences.changes import Piece, Pieces, Stored
from kerassurgery_fn.differences.channel_tracking import ChannelTracking, ProducerKey
from kerassurgery_fn.differences.difference import Diff
from kerassurgery_fn.differences.layer_records import LayerRecords, layers_of, layers_place, split_record
from kerassurgery_fn.differences.matching import default_source, match_layers
from kerassurgery_fn.differences.patching import digests
from kerassurgery_fn.differences.slices import Positions, take_slices
from kerassurgery_fn.differences.trees import ABSENT, changes, pointer
from kerassurgery_fn.documents.plan_algebra import address_of
from kerassurgery_fn.graph import Record
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.snapshot import Snapshot


@takes(a=as_snapshot, b=as_snapshot)
def diff(a: Snapshot, b: Snapshot) -> Diff:
    """The changes from `a` to `b`: layers, config, channels, values. `patch(a, diff(a, b)) == b` holds exactly.

    Layers are matched by name, weights, config or place, and channels by the elements of the arrays, so it does not
    matter how `b` was created from `a`. Arrays are described by slices of arrays of `a`; only new values are stored.
    """
    old, new = split_record(a.record), split_record(b.record)
    sources = match_layers(old, new, a.weights, b.weights)
    arrays = ArrayChanges()
    changed = {path: arrays.of_layer(a, b, path, sources.get(path)) for path in new}
    pieces = valfilter(lambda change: change is not SAME, changed)
    channels = _KeptChannels(a, b, sources, pieces, arrays)
    pieces = {path: channels.with_distances(change, path) for path, change in pieces.items()}
    training = arrays.of_training(a.training, b.training, sources)
    matched = {*sources.values()}
    configs = {path: _config_changes(old[source], new[path]) for path, source in sources.items()}
    return Diff(
        base=digests(a),
        removed=tuple(path for path in old if path not in matched),
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


# --- config


@dataclass(frozen=True)
class _ConfigChanges:
    """The places at which a layer's record changed, as JSON pointers."""

    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    appeared: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, Any] = field(default_factory=dict)


def _config_changes(old: Record, new: Record) -> _ConfigChanges:
    """The changes of a layer's record, without the list of layers of a model."""
    config = _ConfigChanges()
    layers = layers_place(new)
    for place, before, after in changes(old, new):
        if layers and place[: len(layers)] == layers:
            continue
        if before is ABSENT:
            config.appeared[pointer(place)] = after
        elif after is ABSENT:
            config.dropped[pointer(place)] = before
        else:
            config.changed[pointer(place)] = (before, after)
    return config


def _nonempty(by_layer: Mapping[str, dict[str, Any]]) -> FrozenDict:
    return FrozenDict({path: FrozenDict(places) for path, places in by_layer.items() if places})


def _orders(old: LayerRecords, new: LayerRecords, sources: Mapping[str, str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Path and layers of each model that has other layers than before, or the same layers in another order."""
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
    order: list[str | tuple[int, int]] = []
    for name in names:
        at = index.get(name)
        last = order[-1] if order else None
        if at is None:
            order.append(name)
        elif isinstance(last, tuple) and last[1] == at:
            order[-1] = (last[0], at + 1)
        else:
            order.append((at, at + 1))
    return tuple(order)


# --- channels


class _KeptChannels:
    """The channels of each layer that the new model still has.

    They come from the positions that are picked from an axis of a weight with one position for each channel. For layers
    whose values have all changed, they are the nearest channels (`ChannelTracking`).
    """

    def __init__(
        self,
        a: Snapshot,
        b: Snapshot,
        sources: Mapping[str, str],
        pieces: Mapping[str, Pieces | None],
        arrays: ArrayChanges,
    ) -> None:
        self.a, self.sources = a, sources
        self.kept: dict[str, int] = {}
        self._tracking: ChannelTracking | None = None
        try:
            self._find(b, pieces, arrays)
        except Exception:
            # Channels are only shown to users; `patch` does not need them. `diff` also compares records that only look
            # like models, and the analysis of such a record can raise any exception.
            self.kept, self._tracking = {}, None

    def _find(self, b: Snapshot, pieces: Mapping[str, Pieces | None], arrays: ArrayChanges) -> None:
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
        """The changes of a layer's arrays. Arrays that are stored whole get their distance from the old channels."""
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
        return replace(piece, moved=relative_change(old, piece.values))


def _is_stored_whole(piece: Piece) -> bool:
    return isinstance(piece, Stored) and piece.mask is None


def _picked_channels(flow: Flow, path: str, kind: str, pieces: Pieces) -> int | None:
    """The positions picked from the channels of a layer in one of its weights, as an index; None if there are none."""
    if (path, kind) not in flow.producers:
        return None
    channels = flow.producers[path, kind].axis
    for weight, piece in zip(flow.weights.get(path, ()), pieces, strict=False):
        picks = piece.picks if isinstance(piece, Stored) else piece
        for axis, pick in zip(weight.axes, picks or (), strict=False):
            # A bias is not used, because it is often all zeros, so its positions are a guess.
            if pick is not None and len(weight.axes) > 1 and same_axis(axis, channels):
                return pick
    return None
