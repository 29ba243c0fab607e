"""Axes of tensors and weights, and the numpy operations on them: select, join, repeat, tile, merge.

An **axis** is one of three things:

- a *channel map*, an integer array of shape (k, n): column p has the ids of position p, and the position is deleted
  when any of these ids is deleted. k is nearly always 1. It is larger if a position belongs to a head *and* to a
  place within the head. The id `FIXED` is never deleted;
- a size, an int, for an axis without channels (time, space, a model's input);
- None, for an axis without channels whose size is unknown (the batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from kerassurgery_fn.errors import BadValue

Axis = np.ndarray | int | None
FIXED = -1
# The largest number of positions of a map. The config of a file can state any size, and each position takes 8 bytes.
MAX_POSITIONS = 1 << 26


def bounded(count: int) -> int:
    """The number of positions of a new map.

    Raises:
        BadValue: the number is larger than in any model.

    >>> bounded(8)
    8
    """
    if count > MAX_POSITIONS:
        raise BadValue(f"{count:,} channels are more than the {MAX_POSITIONS:,} that one model can have")
    return count


def size(axis: Axis) -> int | None:
    """The number of positions of an axis; None if it is unknown.

    >>> size(np.array([[7, 8, 9]])), size(4), size(None)
    (3, 4, None)
    """
    return axis.shape[1] if isinstance(axis, np.ndarray) else axis


def sizes_of(axes: Sequence[Axis]) -> tuple[int | None, ...]:
    """The sizes of axes: the shape of a tensor.

    >>> sizes_of((None, 4, np.array([[7, 8, 9]])))
    (None, 4, 3)
    """
    return tuple([axis.shape[1] if isinstance(axis, np.ndarray) else axis for axis in axes])


def has_ids(axis: Axis) -> bool:
    """Whether the axis is a channel map."""
    return isinstance(axis, np.ndarray)


def same_axis(a: Axis, b: Axis) -> bool:
    """Whether two axes are the same map or the same size."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a is b or np.array_equal(a, b)
    return type(a) is type(b) and a == b


def as_map(axis: Axis) -> np.ndarray:
    """The channel map of an axis of known size; an axis without ids becomes a map of `FIXED`.

    >>> as_map(2)
    array([[-1, -1]])
    """
    return axis if isinstance(axis, np.ndarray) else np.full((1, bounded(axis or 0)), FIXED)


def select(axis: Axis, index: slice | Sequence[int] | np.ndarray) -> Axis:
    """The axis indexed as in numpy.

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
    """The concatenation of axes; None if a size is unknown. Maps with fewer rows are padded with `FIXED`.

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
    maps = [as_map(axis) for axis in axes]
    rows = max(map(len, maps))
    return np.concatenate([_with_rows(channel_map, rows) for channel_map in maps], axis=1)


def repeat(axis: Axis, times: int) -> Axis:
    """The axis with every position repeated, like `np.repeat`.

    >>> repeat(np.array([[7, 8]]), 2)
    array([[7, 7, 8, 8]])
    """
    if not isinstance(axis, np.ndarray):
        return axis and axis * times
    bounded(axis.size * times)
    return np.repeat(axis, times, axis=1)


def tile(axis: Axis, times: int) -> Axis:
    """The whole axis repeated, like `np.tile`.

    >>> tile(np.array([[7, 8]]), 2)
    array([[7, 8, 7, 8]])
    """
    if not isinstance(axis, np.ndarray):
        return axis and axis * times
    bounded(axis.size * times)
    return np.tile(axis, times)


def merge(axes: Sequence[Axis]) -> Axis:
    """Several axes flattened into one, the last axis fastest: each position has the ids of all its coordinates.

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
    # Along the flat axis, a coordinate changes once per block of all later axes and starts again for each earlier one.
    maps = [
        tile(repeat(axis, prod(sizes[i + 1 :])), prod(sizes[:i]))  # type: ignore[arg-type]
        for i, axis in enumerate(axes)
        if has_ids(axis)
    ]
    return np.concatenate(maps) if maps else prod(sizes)  # type: ignore[arg-type]


def _with_rows(axis: np.ndarray, rows: int) -> np.ndarray:
    """The same map padded to a number of rows with `FIXED`."""
    if len(axis) == rows:
        return axis
    return np.pad(axis, ((0, rows - len(axis)), (0, 0)), constant_values=FIXED)
