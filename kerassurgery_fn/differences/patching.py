"""`patch`: a model made of another one and a difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import as_flag, as_snapshot, takes
from kerassurgery_fn.differences.changes import Changes, Piece, Stored, as_diff
from kerassurgery_fn.differences.layer_records import Sheets, layers_of, layers_place, record_of, sheets_of
from kerassurgery_fn.differences.matching import default_source, paired
from kerassurgery_fn.differences.slices import from_nowhere, taken
from kerassurgery_fn.differences.trees import apply
from kerassurgery_fn.documents.preconditions import digest_of_arrays
from kerassurgery_fn.errors import OtherModel
from kerassurgery_fn.graph import Record, check_record
from kerassurgery_fn.values.frozen import freeze, set_in
from kerassurgery_fn.values.snapshot import Snapshot, Training


@takes(a=as_snapshot, difference=as_diff, check=as_flag)
def patch(a: Snapshot, difference: Changes, *, check: bool = True) -> Snapshot:
    """The model that a difference makes of `a`. What does not change is shared with `a`.

    Args:
        a: the model that the difference was taken from.
        difference: what `diff(a, b)` gave.
        check: whether `a` must be that very model, and the result the one that the difference was made for. If not,
            the difference is tried on any model that has the layers, places and sizes it speaks of: that of a pruned
            model on a fine-tuned copy, say.

    Raises:
        OtherModel: it is another model, or the difference has been changed since.
    """
    if check:
        _check(a, difference)
    try:
        made = _Patch(a, difference).snapshot()
        check_record(made.record, "the record of the result")
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, OtherModel):
            raise
        raise OtherModel(f"the difference does not fit {a.name!r}: {type(error).__name__}: {error}") from error
    if check and difference.result is not None and digests(made) != difference.result:
        raise OtherModel("the difference does not give the model that it was made for: it has been changed since")
    return made


def digests(snapshot: Snapshot) -> tuple[str, str]:
    """Digests of a snapshot's record and of its arrays, the optimizer's among them."""
    state = blake2b(json.dumps(snapshot.record, sort_keys=True).encode(), digest_size=8)
    arrays = [f"{path} {digest_of_arrays(snapshot.weights[path])}" for path in sorted(snapshot.weights)]
    if snapshot.training is not None:
        arrays.append(digest_of_arrays(snapshot.training.values))
    return state.hexdigest(), blake2b("\n".join(arrays).encode(), digest_size=8).hexdigest()


def _check(a: Snapshot, difference: Changes) -> None:
    found = zip(("config", "weights"), difference.base, digests(a), strict=True)
    if other := [what for what, there, here in found if there != here]:
        raise OtherModel(
            f"the difference was taken from another model: {a.name!r} has another {' and other '.join(other)}. "
            "To try it all the same: patch(a, difference, check=False)"
        )


class _Patch:
    def __init__(self, a: Snapshot, difference: Changes) -> None:
        self.a, self.difference = a, difference
        self.old: Sheets = sheets_of(a.record)
        self.sources: dict[str, str] = {}
        self.new: dict[str, Record] = {}

    def snapshot(self) -> Snapshot:
        record = record_of("", self.sheet)
        weights = {path: arrays for path in self.new if (arrays := self.weights(path)) is not None}
        return Snapshot(record, weights, self.training())

    def sheet(self, path: str) -> Record:
        """The sheet of a layer of the new model."""
        if path in self.difference.added:
            self.new[path] = self.difference.added[path]
            return self.new[path]
        source = self.difference.sources.get(path, default_source(path, self.sources))
        if source not in self.old:
            raise OtherModel(f"the difference speaks of a layer {source!r}, which {self.a.name!r} does not have")
        self.sources[path] = source
        self.new[path] = self.changed(path, self.old[source])
        return self.new[path]

    def changed(self, path: str, sheet: Record) -> Record:
        changed = self.difference.changed.get(path, {})
        set_to = {where: now for where, (_, now) in changed.items()} | dict(self.difference.appeared.get(path, {}))
        if path in self.difference.order:
            names = expanded(layers_of(sheet) or [], self.difference.order[path])
            sheet = set_in(sheet, layers_place(sheet) or (), names)
        return apply(sheet, set_to, [*self.difference.dropped.get(path, {})], f"layer {path!r}")

    def weights(self, path: str) -> tuple[np.ndarray, ...] | None:
        old = self.a.weights.get(self.sources[path]) if path in self.sources else None
        if path not in self.difference.weights:
            return old
        pieces = self.difference.weights[path]
        if pieces is None:
            return None
        padded = [*(old or ()), *[None] * len(pieces)]
        return tuple(self.made(array, piece) for array, piece in zip(padded, pieces, strict=False))

    def made(self, old: np.ndarray | None, piece: Piece) -> np.ndarray:
        """The array that becomes of another one."""
        if isinstance(piece, Stored) and piece.mask is None:
            return piece.values
        if old is None:
            raise OtherModel("the difference speaks of slices of an array that is not there")
        picks = piece.picks if isinstance(piece, Stored) else piece
        axes = [np.arange(size) for size in old.shape] if picks is None else self.axes(old, picks)
        made, new = taken(old, axes), from_nowhere(axes)
        if isinstance(piece, Stored) and piece.mask is not None:
            mask = unpacked(piece.mask, made.shape)
            made, new = with_elements(made, mask, piece.values), new & ~mask
        if new.any():
            raise OtherModel("the difference has no values for positions that it says are new")
        return made

    def axes(self, old: np.ndarray, picks: Sequence[int | None]) -> list[np.ndarray]:
        made = []
        for size, index in zip(old.shape, picks, strict=True):
            picked = None if index is None else self.difference.pick(index)
            if picked is not None and picked.of != size:
                raise OtherModel(f"the difference speaks of an axis of {picked.of} positions, here it has {size}")
            made.append(np.arange(size) if picked is None else picked.positions)
        return made

    def training(self) -> Training | None:
        state = self.difference.training
        if isinstance(state, str):
            return self.a.training if state == "same" else None
        olds = paired(self.a.training, state.slots, self.sources)
        return Training(state.slots, tuple(self.made(old, one) for old, one in zip(olds, state.values, strict=True)))


def expanded(before: Sequence[str], order: Sequence[Any]) -> list[str]:
    """The names that runs of those of before, and new ones, stand for.

    >>> expanded(["a", "b", "c", "d"], ((0, 2), "x", (3, 4)))
    ['a', 'b', 'x', 'd']
    """
    made: list[str] = []
    for run in order:
        made += [run] if isinstance(run, str) else before[run[0] : run[1]]
    return freeze(made)


def unpacked(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask over an array, a bit for each of its elements.

    Raises:
        OtherModel: there are more bits, or fewer.
    """
    size = prod(shape)
    if bits.dtype != np.uint8 or bits.shape != (-(-size // 8),):
        raise OtherModel(f"the difference has a mask of {bits.size} bytes for an array of shape {shape}")
    return np.unpackbits(bits, count=size).astype(bool).reshape(shape)


def with_elements(array: np.ndarray, mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """An array with other values where a mask is true.

    Raises:
        OtherModel: there are more values, or fewer, or they are of another dtype.
    """
    if values.shape != (np.count_nonzero(mask),) or values.dtype != array.dtype:
        raise OtherModel(
            f"the difference has {values.size} elements of {values.dtype} for {np.count_nonzero(mask)} of {array.dtype}"
        )
    made = array.copy()
    made[mask] = values
    return made
