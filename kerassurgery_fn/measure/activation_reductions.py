"""Reductions of a tensor to statistics of its channels, in operations of Keras that run on any backend."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kerassurgery_fn.measure.backend_functions import matrix_ranks

# Statistics by name: of shape (channels,) or (samples, channels), or one number for all channels. "has NaN" says
# whether the tensor has NaN, where the statistics do not show it.
Reduced = dict[str, Any]
HAS_NAN = "has NaN"


def is_float(tensor: Any) -> bool:
    """Whether a tensor has floats."""
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def has_nan(tensor: Any) -> Any:
    """Whether a tensor has NaN."""
    return ops.any(ops.isnan(ops.cast(tensor, "float32"))) if is_float(tensor) else False


def count_of_zeros(tensor: Any, axis: int) -> Reduced:
    """The fields of `ZeroCounts`: zeros of each channel, and the number of values per channel."""
    zeros = ops.sum(ops.cast(ops.equal(tensor, 0), "int32"), axis=_other_axes(tensor, axis))
    return {"zeros": zeros, "values": _values(tensor, axis), HAS_NAN: has_nan(tensor)}


def moments(tensor: Any, axis: int) -> Reduced:
    """The fields of `Moments`. The mean of the batch is subtracted before squares are taken, so no digits cancel."""
    values, axes = ops.cast(tensor, "float32"), _other_axes(tensor, axis)
    mean = ops.mean(values, axis=axes, keepdims=True)
    return {
        "values": _values(tensor, axis),
        "mean": ops.reshape(mean, (-1,)),
        "deviations": ops.sum(ops.square(values - mean), axis=axes),
        "magnitudes": ops.sum(ops.abs(values), axis=axes),
    }


def map_ranks(tensor: Any, axis: int) -> Reduced:
    """The rank of each map, shape (samples, channels). All axes of a map but its last are its rows; without such axes,
    a map is a number."""
    values = ops.moveaxis(ops.cast(tensor, "float32"), axis, 1)  # batch, channels, axes of the map
    samples, channels, *sizes = ops.shape(values)
    if len(sizes) != 2:  # otherwise the number of rows stays known
        values = ops.reshape(values, (samples, channels, -1, sizes[-1] if len(sizes) > 1 else 1))
    return {"ranks": rank(values), HAS_NAN: has_nan(tensor)}


def rank(maps: Any) -> Any:
    """The rank of each matrix, int32, shape (..., rows, columns) -> (...), see `matrix_ranks`."""
    if maps.shape[-1] == 1:
        return ops.cast(ops.any(ops.not_equal(maps, 0), axis=(-2, -1)), "int32")
    return matrix_ranks(maps)


def _other_axes(tensor: Any, axis: int) -> list[int]:
    return [i for i in range(tensor.ndim) if i != axis]


def _values(tensor: Any, axis: int) -> Any:
    """The number of values per channel."""
    return ops.size(tensor) // tensor.shape[axis]
