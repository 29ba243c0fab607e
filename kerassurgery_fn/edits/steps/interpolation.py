"""Interpolates the values of an array for more or fewer positions along an axis.

Positions are the centres of cells of equal size, as in `keras.ops.image.resize` and in
`torch.nn.functional.interpolate(align_corners=False)`, without antialiasing:

    4 positions   |   o   |   o   |   o   |   o   |
    2 positions   |       o       |       o       |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod

import numpy as np

from kerassurgery_fn.rules.counted_positions import Run


def _near(distance: np.ndarray) -> np.ndarray:
    """1 within half a cell, otherwise 0; if two positions are at the same distance, the later one counts."""
    return ((distance > -0.5) & (distance <= 0.5)).astype(float)


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(distance))


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -0.5."""
    x = np.abs(distance)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


# Method -> function from distances to weights. A distance is that of an old position from the new one, in old cells.
METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"nearest": _near, "bilinear": _linear, "bicubic": _cubic}


def weights_between(old: int, new: int, method: str) -> np.ndarray:
    """The share of each old position in each new position, shape (new, old). Each row sums to 1.

    >>> weights_between(2, 4, "bilinear")
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]])
    """
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    shares = METHODS[method](centres[:, None] - np.arange(old))
    return shares / shares.sum(axis=1, keepdims=True)


def interpolated(array: np.ndarray, axis: int, runs: list[Run], method: str) -> np.ndarray:
    """An array with interpolated values along one axis, each run on its own. The dtype stays.

    >>> interpolated(np.array([9.0, 0.0, 4.0]), 0, [Run((1,), (1,)), Run((2,), (4,))], "bilinear")
    array([9., 0., 1., 3., 4.])
    """
    ends = np.cumsum([prod(run.old) for run in runs])[:-1]
    parts = np.split(array, ends, axis)
    resized = [_interpolated(part, axis, run, method) for part, run in zip(parts, runs, strict=True)]
    return np.concatenate(resized, axis)


def _interpolated(array: np.ndarray, axis: int, run: Run, method: str) -> np.ndarray:
    if run.old == run.new:
        return array
    before, after = array.shape[:axis], array.shape[axis + 1 :]
    grid = array.astype(np.float64).reshape(*before, *run.old, *after)

    def along(values: np.ndarray, number: int) -> np.ndarray:
        shares = weights_between(run.old[number], run.new[number], method)
        return np.moveaxis(np.tensordot(shares, values, (1, axis + number)), 0, axis + number)

    wide = reduce(along, range(len(run.old)), grid)
    return wide.reshape(*before, prod(run.new), *after).astype(array.dtype)
