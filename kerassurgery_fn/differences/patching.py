"""`patch`: applies a difference to a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import as_flag, as_snapshot, counted, takes
from kerassurgery_fn.differences.changes import Changes, Piece, Stored, as_diff
from kerassurgery_fn.differences.layer_records import LayerRecords, join_records, layers_of, layers_place, split_record
from kerassurgery_fn.differences.matching import default_source, old_values
from kerassurgery_fn.differences.slices import new_elements, take_slices
from kerassurgery_fn.differences.trees import apply
from kerassurgery_fn.documents.preconditions import digest_of_arrays
from kerassurgery_fn.errors import OtherModel
from kerassurgery_fn.graph import Record, check_record
from kerassurgery_fn.values.frozen import freeze, set_in
from kerassurgery_fn.values.snapshot import Snapshot, Training


@takes(a=as_snapshot, difference=as_diff, check=as_flag)
def patch(a: Snapshot, difference: Changes, *, check: bool = True) -> Snapshot:
    """The new model of a difference. Everything that does not change is shared with `a`.

    Args:
        a: the old model.
        difference: the result of `diff(a, b)`.
        check: whether to check that `a` is exactly the old model, and the result exactly the new model. Without the
            check, the difference can be applied to any model with the layers, places and sizes in the difference, such
            as a fine-tuned copy of the old model.

    Raises:
        OtherModel: `a` is another model, or the difference was modified.
    """
    if check:
        _check(a, difference)
    try:
        patched = _Patch(a, difference).snapshot()
        check_record(patched.record, "the record of the result")
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, OtherModel):
            raise
        raise OtherModel(f"the difference does not fit {a.name!r}: {type(error).__name__}: {error}") from error
    if check and difference.result is not None and digests(patched) != difference.result:
        raise OtherModel("the result is not the new model of the difference, so the difference was modified")
    return patched


def digests(snapshot: Snapshot) -> tuple[str, str]:
    """Digests of the record and of the arrays of a snapshot, including the optimizer's arrays."""
    state = blake2b(json.dumps(snapshot.record, sort_keys=True).encode(), digest_size=8)
    arrays = [f"{path} {digest_of_arrays(snapshot.weights[path])}" for path in sorted(snapshot.weights)]
    if snapshot.training is not None:
        arrays.append(digest_of_arrays(snapshot.training.values))
    return state.hexdigest(), blake2b("\n".join(arrays).encode(), digest_size=8).hexdigest()


def _check(a: Snapshot, difference: Changes) -> None:
    parts = zip(("config", "weights"), difference.base, digests(a), strict=True)
    if differing := [part for part, expected, actual in parts if expected != actual]:
        verb = "differs" if differing == ["config"] else "differ"
        raise OtherModel(
            f"the difference was made for another model: the {' and the '.join(differing)} of {a.name!r} {verb}. "
            "To apply it anyway: patch(a, difference, check=False)"
        )


class _Patch:
    """One application of a difference. `sources` and `new` get an entry for each layer while the record is joined;
    models come before their layers."""

    def __init__(self, a: Snapshot, difference: Changes) -> None:
        self.a, self.difference = a, difference
        self.old: LayerRecords = split_record(a.record)
        self.sources: dict[str, str] = {}
        self.new: dict[str, Record] = {}

    def snapshot(self) -> Snapshot:
        record = join_records("", self.layer_record)
        weights = {path: arrays for path in self.new if (arrays := self.weights(path)) is not None}
        return Snapshot(record, weights, self.training())

    def layer_record(self, path: str) -> Record:
        """The record of a layer of the new model, with names in place of the layers of a model."""
        if path in self.difference.added:
            self.new[path] = self.difference.added[path]
            return self.new[path]
        source = self.difference.sources.get(path, default_source(path, self.sources))
        if source not in self.old:
            raise OtherModel(f"the difference refers to a layer {source!r}, which {self.a.name!r} does not have")
        self.sources[path] = source
        self.new[path] = self.changed(path, self.old[source])
        return self.new[path]

    def changed(self, path: str, record: Record) -> Record:
        """The record of a layer with the changes of its fields, and of the order of its layers."""
        changed = self.difference.changed.get(path, {})
        values = {place: now for place, (_, now) in changed.items()} | dict(self.difference.appeared.get(path, {}))
        if path in self.difference.order:
            names = expanded(layers_of(record) or [], self.difference.order[path])
            record = set_in(record, layers_place(record) or (), names)
        return apply(record, values, [*self.difference.dropped.get(path, {})], f"layer {path!r}")

    def weights(self, path: str) -> tuple[np.ndarray, ...] | None:
        """The weights of a layer of the new model; None if it has none."""
        old = self.a.weights.get(self.sources[path]) if path in self.sources else None
        if path not in self.difference.weights:
            return old
        pieces = self.difference.weights[path]
        if pieces is None:
            return None
        padded = [*(old or ()), *[None] * len(pieces)]
        return tuple(self.array(old_array, piece) for old_array, piece in zip(padded, pieces, strict=False))

    def array(self, old: np.ndarray | None, piece: Piece) -> np.ndarray:
        """The new array: slices of the old array, and stored elements."""
        if isinstance(piece, Stored) and piece.mask is None:
            return piece.values
        if old is None:
            raise OtherModel("the difference has slices of an array that the model does not have")
        picks = piece.picks if isinstance(piece, Stored) else piece
        axes = [np.arange(size) for size in old.shape] if picks is None else self.axes(old, picks)
        array, missing = take_slices(old, axes), new_elements(axes)
        if isinstance(piece, Stored) and piece.mask is not None:
            mask = unpacked(piece.mask, array.shape)
            array, missing = with_elements(array, mask, piece.values), missing & ~mask
        if missing.any():
            raise OtherModel("the difference has new positions without values")
        return array

    def axes(self, old: np.ndarray, picks: Sequence[int | None]) -> list[np.ndarray]:
        """For each axis of the new array, the positions of the old array that it consists of."""
        axes = []
        for size, index in zip(old.shape, picks, strict=True):
            picked = None if index is None else self.difference.pick(index)
            if picked is not None and picked.of != size:
                raise OtherModel(f"the difference is for an axis with {picked.of} positions; this model has {size}")
            axes.append(np.arange(size) if picked is None else picked.positions)
        return axes

    def training(self) -> Training | None:
        """The optimizer's state of the new model."""
        state = self.difference.training
        if isinstance(state, str):
            return self.a.training if state == "same" else None
        olds = old_values(self.a.training, state.slots, self.sources)
        values = (self.array(old, piece) for old, piece in zip(olds, state.values, strict=True))
        return Training(state.slots, tuple(values))


def expanded(before: Sequence[str], order: Sequence[Any]) -> list[str]:
    """The layer names of an order, which consists of names of new layers and of runs (from, to) of the old names.

    >>> expanded(["a", "b", "c", "d"], ((0, 2), "x", (3, 4)))
    ['a', 'b', 'x', 'd']
    """
    names: list[str] = []
    for run in order:
        names += [run] if isinstance(run, str) else before[run[0] : run[1]]
    return freeze(names)


def unpacked(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The boolean mask over an array, from one bit for each element.

    Raises:
        OtherModel: the number of bits does not match the array.
    """
    size = prod(shape)
    if bits.dtype != np.uint8 or bits.shape != (-(-size // 8),):
        raise OtherModel(f"the difference has a mask of {bits.size} bytes for an array of shape {shape}")
    return np.unpackbits(bits, count=size).astype(bool).reshape(shape)


def with_elements(array: np.ndarray, mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The array with new values where the mask is true.

    Raises:
        OtherModel: the number of values or their dtype does not match.
    """
    if values.shape != (np.count_nonzero(mask),) or values.dtype != array.dtype:
        raise OtherModel(
            f"the difference has {counted(values.size, 'element')} of dtype {values.dtype} for "
            f"{counted(int(np.count_nonzero(mask)), 'element')} of dtype {array.dtype}"
        )
    replaced = array.copy()
    replaced[mask] = values
    return replaced
