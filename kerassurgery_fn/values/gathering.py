"""Positions of an array along several axes, copied in one pass.

One axis after the other, a kernel of which half of the inputs and half of the outputs are kept would be copied twice,
and the first copy would be twice as large as the result. Here the first copy is a block that stays in the cache:

    rows of the kernel ---- rows that are kept, a block at a time ---- their columns that are kept, in the result
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np

from kerassurgery_fn.values.mapped_arrays import is_read_lazily, take

BLOCK = 1 << 18  # bytes


def gather(array: np.ndarray, positions: Sequence[np.ndarray | None]) -> np.ndarray:
    """The positions of an array along each axis, None for all of them; the array itself if all are None.

    A large mapped array is read when it is used.

    >>> gather(np.arange(12).reshape(3, 4), [np.array([2, 0]), np.array([1, 3])])
    array([[ 9, 11],
           [ 1,  3]])
    """
    axes = [axis for axis, kept in enumerate(positions) if kept is not None]
    if len(axes) < 2 or is_read_lazily(array) or not array.flags.c_contiguous:
        return reduce(lambda part, axis: take(part, positions[axis], axis), axes, array)  # type: ignore[arg-type]
    return _in_blocks(array, positions, axes[-1])


def _in_blocks(array: np.ndarray, positions: Sequence[np.ndarray | None], last: int) -> np.ndarray:
    """The positions of a contiguous array in memory, `last` being the last axis of which not all are taken."""
    kept = [np.arange(n) if p is None else p for n, p in zip(array.shape, positions, strict=True)]
    table = array.reshape(-1, array.shape[last], prod(array.shape[last + 1 :]))
    rows = _flat(array.shape[:last], kept[:last])
    copy = np.empty((len(rows), len(kept[last]), table.shape[2]), array.dtype)
    height = max(1, BLOCK // max(1, table[:1].nbytes))
    buffer = np.empty((min(height, len(rows)), *table.shape[1:]), array.dtype)
    for start in range(0, len(rows), height):
        block = rows[start : start + height]
        wide = np.take(table, block, axis=0, out=buffer[: len(block)], mode="clip")
        np.take(wide, kept[last], axis=1, out=copy[start : start + height], mode="clip")
    return copy.reshape([len(p) for p in kept])


def _flat(shape: Sequence[int], positions: Sequence[np.ndarray]) -> np.ndarray:
    """The places of all combinations of positions in an array that is laid flat.

    >>> _flat((2, 3), [np.array([1]), np.array([0, 2])])
    array([3, 5])
    """
    flat = np.zeros(1, np.intp)
    for n, kept in zip(shape, positions, strict=True):
        flat = (flat[:, None] * n + kept).ravel()
    return flat
