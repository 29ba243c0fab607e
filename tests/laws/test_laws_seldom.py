"""The laws on operations that are seldom met."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law
from helpers.needs import marked
from helpers.operation_models import apply, combine, positive, whole

pytestmark = pytest.mark.keras


def images(operation, channels=6):
    x = keras.Input((6, 6, 3))
    y = operation(L.Conv2D(channels, 1)(x))
    return keras.Model(x, L.Dense(3)(L.Dense(4)(ops.max(y, axis=[1, 2]))))


def seen_from_the_side():
    x = keras.Input((6, 6, 3))
    points = np.array([[0, 0], [5, 0], [0, 5], [5, 5]], "float32")
    corners = ops.zeros_like(x[:, :4, 0, :2]) + points
    y = ops.image.perspective_transform(L.Conv2D(6, 1)(x), corners, corners + points[::-1] / 9)
    return keras.Model(x, L.Dense(3)(L.Dense(4)(ops.max(y, axis=[1, 2]))))


def segments(operation):
    """Steps of a sequence, each of which is in a segment of its own; channels are the inner axis."""
    return lambda x: ops.transpose(operation(ops.transpose(x, (1, 0, 2)), np.arange(7) % 3, 3), (1, 0, 2))


EXACT = {
    "fabs": lambda: apply(ops.fabs),
    "erfc": lambda: apply(ops.erfc),
    "empty_like": lambda: apply(lambda x: x + 0 * ops.nan_to_num(ops.empty_like(x))),
    "relu with a slope": lambda: apply(lambda x: keras.activations.relu(x, negative_slope=0.1)),
    "fmax": lambda: combine(ops.fmax),
    "fmin": lambda: combine(ops.fmin),
    "fmod": lambda: combine(lambda x, y: ops.fmod(x, positive(y))),
    "polar": lambda: combine(lambda x, y: ops.real(ops.polar(x, y))),
    "bitwise_left_shift": lambda: combine(lambda x, y: ops.cast(ops.bitwise_left_shift(whole(x), 1), "float32") + y),
    "bitwise_right_shift": lambda: combine(lambda x, y: ops.cast(ops.bitwise_right_shift(whole(x), 1), "float32") + y),
    "nanargmax over steps": lambda: apply(lambda x: x + ops.cast(ops.nanargmax(x, axis=1, keepdims=True), "float32")),
    "nanargmin over steps": lambda: apply(lambda x: x + ops.cast(ops.nanargmin(x, axis=1, keepdims=True), "float32")),
    "nancumprod over steps": lambda: apply(lambda x: ops.nancumprod(x, axis=1)),
    "nancumsum over steps": lambda: apply(lambda x: ops.nancumsum(x, axis=1)),
    "vsplit": lambda: apply(lambda x: ops.transpose(ops.vsplit(ops.transpose(x, (1, 0, 2)), [3])[1], (1, 0, 2))),
    "vstack": lambda: combine(
        lambda x, y: ops.transpose(ops.vstack([ops.transpose(z, (1, 0, 2)) for z in (x, y)]), (1, 0, 2))
    ),
    "flipud": lambda: apply(lambda x: ops.transpose(ops.flipud(ops.transpose(x, (1, 0, 2))), (1, 0, 2))),
    "triu of other axes": lambda: apply(lambda x: ops.swapaxes(ops.triu(x[:, :, None] * ops.ones((1, 1, 1, 8))), 1, 2)),
    "elastic_transform": lambda: images(lambda x: ops.image.elastic_transform(x, 2.0, 2.0, seed=3)),
    "perspective_transform": lambda: seen_from_the_side(),
    "segment_sum": lambda: apply(segments(ops.segment_sum)),
    "segment_max": lambda: apply(segments(ops.segment_max)),
    "segment_min": lambda: apply(segments(ops.segment_min)),
    "segment_prod": lambda: apply(segments(ops.segment_prod)),
}


@pytest.mark.parametrize("name", EXACT)
def test_rare_operations(name):
    check_law(EXACT[name]())


REDUCTIONS = (
    "amax", "amin", "nanmax", "nanmin", "nanmean", "nanmedian", "nanprod", "nanstd", "nanvar", "ptp", "all"
)  # fmt: skip
INEXACT = {
    **{name: lambda x, axis, name=name: getattr(ops, name)(x, axis=axis) for name in REDUCTIONS},
    **{
        name: lambda x, axis, name=name: getattr(ops, name)(x, 0.3, axis=axis)
        for name in ("percentile", "nanpercentile", "nanquantile")
    },
}


SLOW = dict.fromkeys(("nanpercentile", "nanquantile"), pytest.mark.slow)  # seconds to trace; nanmedian is like them


@pytest.mark.parametrize("name", marked(list(INEXACT), SLOW))
def test_rare_reductions_over_channels_are_inexact(name):
    reduce = INEXACT[name]
    check_law(apply(lambda x: x * ops.cast(reduce(x, axis=-1), "float32")[:, :, None]), inexact=True)
    check_law(apply(lambda x: x * ops.cast(reduce(x, axis=1), "float32")[:, None]))


def test_colour_channels_are_pinned():
    model = images(ops.image.hsv_to_rgb, 3)
    check_law(model)
