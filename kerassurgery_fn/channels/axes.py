"""Axes of tensors and weights: what numpy does to positions, done to the ids that they carry.

An **axis** is one of three things:

- its *channel map*, an integer array of shape (k, n): position p dies when any of the ids in column p dies.
  k is 1 nearly always; more where a position belongs to a head *and* to a place within the head. The id
  `FIXED` never dies;
- its size, an int, where there is nothing to cut (time, space, a model's input);
- None, where not even the size is known (the batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

Axis = np.ndarray | int | None
FIXED = -1


def size(axis: Axis) -> int | None:
    """The number of positions of an axis, None where it is not known.

    >>> size(np.array([[7, 8, 9]])), size(4), size(None)
    (3, 4, None)
    """
    return axis.shape[1] if isinstance(axis, np.ndarray) else axis


def has_ids(axis: Axis) -> bool:
    """Whether anything of an axis can be cut or is tied to something."""
    return isinstance(axis, np.ndarray)


def same_axis(a: Axis, b: Axis) -> bool:
    """Whether two axes are the same map or the same size."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a is b or np.array_equal(a, b)
    return type(a) is type(b) and a == b


def column(axis: Axis) -> np.ndarray:
    """The map of an axis of known size; positions without ids are fixed.

    >>> column(2)
    array([[-1, -1]])
    """
    return axis if isinstance(axis, np.ndarray) else np.full((1, axis or 0), FIXED)


def select(axis: Axis, index: slice | Sequence[int] | np.ndarray) -> Axis:
    """The axis of some positions of an axis, as numpy would index it.

    >>> select(np.array([[7, 8, 9]]), slice(1, None))
    array([[8, 9]])
    >>> select(5, slice(1, None)), select(None, [0, 1])
    (4, 2)
    """
    if isinstance(axis, np.ndarray):
        return axis[:, index]
    if axis is None:
        return None if isinstance(index, slice) else len(index)
    return len(np.arange(axis)[index])


def join(axes: Sequence[Axis]) -> Axis:
    """Axes one after the other, as a concatenation has them; None if a size is unknown.

    >>> join([np.array([[7, 8]]), 2, np.array([[9], [5]])])
    array([[ 7,  8, -1, -1,  9],
           [-1, -1, -1, -1,  5]])
    >>> join([2, 3])
    5
    """
    if any(axis is None for axis in axes):
        return None
    if not any(map(has_ids, axes)):
        return sum(size(axis) or 0 for axis in axes)
    maps = [column(axis) for axis in axes]
    rows = max(len(m) for m in maps)
    return np.concatenate([_with_rows(m, rows) for m in maps], axis=1)


def repeat(axis: Axis, times: int) -> Axis:
    """Every position `times` times in a row.

    >>> repeat(np.array([[7, 8]]), 2)
    array([[7, 7, 8, 8]])
    """
    return np.repeat(axis, times, axis=1) if isinstance(axis, np.ndarray) else axis and axis * times


def tile(axis: Axis, times: int) -> Axis:
    """The whole axis `times` times in a row.

    >>> tile(np.array([[7, 8]]), 2)
    array([[7, 8, 7, 8]])
    """
    return np.tile(axis, times) if isinstance(axis, np.ndarray) else axis and axis * times


def merge(axes: Sequence[Axis]) -> Axis:
    """Several axes laid flat, the last one fastest: each position carries the ids of all its coordinates.

    >>> merge([2, np.array([[7, 8]])])
    array([[7, 8, 7, 8]])
    >>> merge([np.array([[5, 6]]), np.array([[7, 8]])])
    array([[5, 5, 6, 6],
           [7, 8, 7, 8]])
    """
    if len(axes) == 1:
        return axes[0]
    sizes = [size(axis) for axis in axes]
    if None in sizes:
        return None
    rows = [
        tile(repeat(axis, prod(sizes[i + 1 :])), prod(sizes[:i]))  # type: ignore[arg-type]
        for i, axis in enumerate(axes)
        if has_ids(axis)
    ]
    return np.concatenate(rows) if rows else prod(sizes)  # type: ignore[arg-type]


def _with_rows(axis: np.ndarray, rows: int) -> np.ndarray:
    """The same map in more rows, which hold no ids."""
    return np.pad(axis, ((0, rows - len(axis)), (0, 0)), constant_values=FIXED)
