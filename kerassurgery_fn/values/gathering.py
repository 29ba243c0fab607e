"""Positions of an array along several axes, copied in one pass.

One axis after the other, a kernel of which half of the inputs and half of the outputs are kept would be copied twice,
and the first copy would be twice as large as the result. Here the first copy is a block that stays in the cache:

    rows of the kernel ---- rows that are kept, a block at a time ---- their columns that are kept, in the result
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from math import prod

import numpy as np

from kerassurgery_fn.values.allocation import LEAST, allocated
from kerassurgery_fn.values.mapped_arrays import is_read_lazily, take

Positions = Sequence[np.ndarray | None]  # for each axis, the positions that are copied; None for all of them

BLOCK = 1 << 18  # bytes
LINE = 64  # bytes; larger elements are copied as fast one by one
NEIGHBOURS = 64  # so many are copied faster at once than one by one
# Large arrays are copied in threads: NumPy copies without the lock of the interpreter, and one core alone does not use
# all of the bandwidth of the memory.
LARGE = 1 << 20  # bytes
ENOUGH = 1 << 24  # bytes of all large arrays, so that the copy takes longer than the start of the threads
THREADS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def gather_all(arrays: Sequence[np.ndarray], positions: Sequence[Positions]) -> list[np.ndarray]:
    """`gather` of many arrays, large ones in threads.

    >>> gather_all([np.arange(3), np.arange(2)], [[np.array([2, 0])], [None]])
    [array([2, 0]), array([0, 1])]
    """
    results = list(arrays)
    cut = [i for i, kept in enumerate(positions) if any(p is not None for p in kept)]
    in_memory = [i for i in cut if arrays[i].nbytes >= LEAST and _is_in_memory(arrays[i])]
    shapes = [_shape(arrays[i], positions[i]) for i in in_memory]
    outputs = dict(zip(in_memory, allocated(shapes, [arrays[i].dtype for i in in_memory]), strict=True))
    large = [i for i in in_memory if outputs[i].nbytes >= LARGE]
    if THREADS == 1 or sum(outputs[i].nbytes for i in large) < ENOUGH:
        large = []
    if large:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda i: gather_into(outputs[i], arrays[i], positions[i]), large))
    for i in {*in_memory}.difference(large):
        gather_into(outputs[i], arrays[i], positions[i])
    for i in cut:
        results[i] = outputs[i] if i in outputs else gather(arrays[i], positions[i])
    return results


def _is_in_memory(array: np.ndarray) -> bool:
    """Whether an array is one contiguous piece of memory."""
    return array.flags.c_contiguous and not is_read_lazily(array)


def _shape(array: np.ndarray, positions: Positions) -> list[int]:
    return [n if p is None else len(p) for n, p in zip(array.shape, positions, strict=True)]


def gather_into(output: np.ndarray, array: np.ndarray, positions: Positions) -> None:
    """Writes the positions of a contiguous array in memory along each axis into an array of their shape."""
    axes = [axis for axis, kept in enumerate(positions) if kept is not None]
    last, columns = axes[-1], np.asarray(positions[axes[-1]])
    table, copy = _table(array, last), _table(output, last)
    bounds = _bounds_of_neighbours(columns)
    if len(axes) == 1:
        _copy_columns(copy, table, columns, bounds)
    else:
        _in_blocks(copy, table, _flat(array.shape[:last], positions[:last]), columns, bounds)


def gather(array: np.ndarray, positions: Positions) -> np.ndarray:
    """The positions of an array along each axis, None for all of them; the array itself if all are None.

    A large mapped array is read when it is used.

    >>> gather(np.arange(12).reshape(3, 4), [np.array([2, 0]), np.array([1, 3])])
    array([[ 9, 11],
           [ 1,  3]])
    """
    axes = [axis for axis, kept in enumerate(positions) if kept is not None]
    if not axes:
        return array
    if len(axes) < 2 or array.nbytes < LEAST or not _is_in_memory(array):
        return reduce(lambda part, axis: take(part, positions[axis], axis), axes, array)  # type: ignore[arg-type]
    output = np.empty(_shape(array, positions), array.dtype)
    gather_into(output, array, positions)
    return output


def _table(array: np.ndarray, columns: int) -> np.ndarray:
    """A contiguous array as rows of columns of elements, `columns` being the axis of the columns."""
    shape = array.shape
    return array.reshape(prod(shape[:columns]), shape[columns], prod(shape[columns + 1 :]))


def _bounds_of_neighbours(columns: np.ndarray) -> list[int]:
    """Where the runs of neighbouring columns start, and where the last one ends.

    >>> _bounds_of_neighbours(np.array([0, 1, 2, 4, 5]))
    [0, 3, 5]
    """
    gaps = (columns[1:] != columns[:-1] + 1).nonzero()[0]
    return [0, *(gaps + 1).tolist(), len(columns)]


def _in_blocks(
    copy: np.ndarray, table: np.ndarray, rows: np.ndarray, columns: np.ndarray, bounds: Sequence[int]
) -> None:
    """Writes rows and columns of a table, whose elements are arrays, into its copy."""
    # No position is out of range. Of the modes that need no buffer, "wrap" is the fastest.
    height = max(1, BLOCK // max(1, table[:1].nbytes))
    buffer = np.empty((min(height, len(rows)), *table.shape[1:]), table.dtype)
    for start in range(0, len(rows), height):
        block = rows[start : start + height]
        wide = np.take(table, block, axis=0, out=buffer[: len(block)], mode="wrap")
        _copy_columns(copy[start : start + height], wide, columns, bounds)


def _copy_columns(copy: np.ndarray, table: np.ndarray, columns: np.ndarray, bounds: Sequence[int]) -> None:
    """Writes columns of a table into its copy: neighbours at once, if there are many of them and they are small."""
    if table[:1, :1].nbytes > LINE or len(columns) < NEIGHBOURS * (len(bounds) - 1):
        np.take(table, columns, axis=1, out=copy, mode="wrap")
    else:
        for start, stop in pairwise(bounds):
            copy[:, start:stop] = table[:, columns[start] : columns[start] + stop - start]


def _flat(shape: Sequence[int], positions: Positions) -> np.ndarray:
    """The places of all combinations of positions in an array that is laid flat.

    >>> _flat((2, 3), [np.array([1]), np.array([0, 2])]), _flat((2, 3), [None, np.array([1])])
    (array([3, 5]), array([1, 4]))
    """
    flat = np.zeros(1, np.intp)
    for n, kept in zip(shape, positions, strict=True):
        if n > 1 or kept is not None:
            flat = (flat[:, None] * n + (np.arange(n) if kept is None else kept)).ravel()
    return flat
