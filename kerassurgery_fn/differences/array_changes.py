"""Describes a new array by slices of the old array, and by the elements that differ from these slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from kerassurgery_fn.differences.changes import Picks, Piece, Stored, Trained
from kerassurgery_fn.differences.matching import old_values
from kerassurgery_fn.differences.slices import (
    KnownPositions,
    Positions,
    bits,
    find_slices,
    is_whole,
    new_elements,
    take_slices,
)
from kerassurgery_fn.values.snapshot import Snapshot, Training

TrainingChange = Trained | Literal["same", "none"]
MAX_DIFFERING = 0.5  # slices in which more than this share of the elements differ are a coincidence
MAX_SPARSE = 0.8  # elements are stored one by one if they take at most this share of the bytes of the whole array
SAME = object()


class ArrayChanges:
    """The changes of arrays, with one table of the positions that are picked from axes.

    Many arrays share an entry of the table: the kernel, the bias and the consumers of a pruned layer have the same
    positions.
    """

    def __init__(self) -> None:
        self.table: list[Picks] = []
        self._index: dict[Picks, int] = {}
        self._known = KnownPositions()

    def of_layer(self, a: Snapshot, b: Snapshot, path: str, source: str | None) -> Any:
        """The change of a layer's weights: `SAME`; None if the layer no longer has weights; or a change for each
        weight."""
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

        Elements that differ from the slices are stored one by one if they need less space than the whole array.
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
        moved = None if new_elements(axes).any() else relative_change(take_slices(old, axes), new)
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
    """Whether arrays are equal to the last bit, including -0.0 and NaN. Shared arrays are not compared."""
    if len(a) != len(b):
        return False
    return all(
        x is y or (x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes())
        for x, y in zip(a, b, strict=True)
    )


def _differing(old: np.ndarray, new: np.ndarray, axes: Sequence[Positions]) -> np.ndarray:
    """The mask of the elements that differ from slices of the old array."""
    return (take_slices(old, axes) != new) | new_elements(axes)


def relative_change(old: np.ndarray, new: np.ndarray) -> float | None:
    """The norm of a change divided by the norm of the old values; None if the result is not a finite number."""
    if old.dtype.kind not in "fiu" and old.dtype.name != "bfloat16":
        return None
    before, after = old.astype(np.float64), new.astype(np.float64)
    norm = np.linalg.norm(before)
    change = float(np.linalg.norm(after - before) / norm) if norm else None
    return round(change, 6) if change is not None and np.isfinite(change) else None
