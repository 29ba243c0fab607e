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
from math import prod

import numpy as np

from kerassurgery_fn.values.allocation import LEAST, allocated
from kerassurgery_fn.values.mapped_arrays import is_read_lazily, take

Positions = Sequence[np.ndarray | None]  # for each axis, the positions that are copied; None for all of them

BLOCK = 1 << 18  # bytes
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
    if len(axes) == 1:
        np.take(array, positions[axes[0]], axis=axes[0], out=output, mode="clip")  # type: ignore[call-overload]
    else:
        _in_blocks(output, array, positions, axes[-1])


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


def _in_blocks(output: np.ndarray, array: np.ndarray, positions: Positions, last: int) -> None:
    """Writes the positions of an array, `last` being the last axis of which not all are taken."""
    columns = np.asarray(positions[last])
    table = array.reshape(-1, array.shape[last], prod(array.shape[last + 1 :]))
    rows = _flat(array.shape[:last], positions[:last])
    copy = output.reshape(len(rows), len(columns), table.shape[2])
    height = max(1, BLOCK // max(1, table[:1].nbytes))
    buffer = np.empty((min(height, len(rows)), *table.shape[1:]), array.dtype)
    for start in range(0, len(rows), height):
        block = rows[start : start + height]
        wide = np.take(table, block, axis=0, out=buffer[: len(block)], mode="clip")
        np.take(wide, columns, axis=1, out=copy[start : start + height], mode="clip")


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
