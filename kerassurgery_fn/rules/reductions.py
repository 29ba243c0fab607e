"""Operations that reduce an axis to one position, or depend on the order of its positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis, size
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.merging import broadcast, without
from kerassurgery_fn.rules.registry import rule

EXACT = ("Sum", "Nansum", "CountNonzero", "Any")  # a deleted channel has the effect of a channel that is zero
INEXACT = (
    "Nanmean", "Amax", "Amin", "Nanmax", "Nanmin", "Prod", "Nanprod", "Var", "Nanvar", "Std", "Nanstd", "Median",
    "Nanmedian", "All", "Ptp",
)  # fmt: skip
QUANTILES = ("Quantile", "Percentile", "Nanquantile", "Nanpercentile")
INDICES = ("Argmax", "Argmin", "Nanargmax", "Nanargmin")
RUNNING_SUMS = ("Cumsum", "Nancumsum")
IN_ORDER = ("Argsort", "Cumprod", "Nancumprod")


@rule(*(f"ops.{name}" for name in EXACT))
def summed(layer: Layer, x: Tensor) -> Tensor:
    return reduced(layer, x)


@rule(*(f"ops.{name}" for name in INEXACT), approximate="over channels")
@rule("ops.Mean", approximate="over channels", equal_channels=True)
@rule("ops.Max", "ops.Min", approximate="over channels", equal_channels=True, dtype="promoted")
@rule("ops.Logsumexp", approximate="over channels", needs_floats=True)
def reduced_inexactly(layer: Layer, x: Tensor) -> Tensor:
    for axis in reduced_axes(layer, x):
        layer.inexact(x[axis], "reduces over the channels")
    return reduced(layer, x)


@rule("ops.Norm", approximate="over channels, if the order is negative", needs_floats=True)
def norm(layer: Layer, x: Tensor) -> Tensor:
    """A norm is exact, because zeros do not change it, unless the order is negative: then the smallest elements count
    most."""
    least = isinstance(layer["ord"], (int, float)) and layer["ord"] < 0
    return reduced_inexactly(layer, x) if least else reduced(layer, x)


@rule("ops.Average", approximate="over channels")
def average(layer: Layer, x: Tensor, weights: Any = None) -> Tensor:
    if isinstance(weights, tuple):
        broadcast(layer, [x if len(weights) == len(x) else (x[layer["axis"]],), weights])
    elif weights is not None:
        layer.pin(x, "averages it by weights of its call")
    return reduced_inexactly(layer, x)


@rule(*(f"ops.{name}" for name in QUANTILES), approximate="over channels")
def quantile(layer: Layer, x: Tensor, q: Any) -> Tensor:
    remaining = reduced_inexactly(layer, x)
    layer.pin(q if isinstance(q, tuple) else (), "reads quantiles from it")
    quantiles = q if isinstance(q, tuple) else np.shape(q)
    return (*map(size, quantiles), *remaining)


@rule(*(f"ops.{name}" for name in INDICES))
def index_of(layer: Layer, x: Tensor) -> Tensor:
    layer.pin([x[axis] for axis in reduced_axes(layer, x)], "computes indices of its positions")
    return reduced(layer, x)


@rule(*(f"ops.{name}" for name in RUNNING_SUMS))
def running_sum(layer: Layer, x: Tensor) -> Tensor:
    if layer["axis"] is None:
        raise NoRule("flattens it")
    return x


@rule(*(f"ops.{name}" for name in IN_ORDER))
@rule("ops.Sort", dtype="moved")
def in_order(layer: Layer, x: Tensor) -> Tensor:
    if layer["axis"] is None:
        raise NoRule("flattens it")
    layer.pin(x[layer["axis"]], "looks at the order of its positions")
    return x


@rule("ops.Diff")
def difference(layer: Layer, a: Tensor) -> Tensor:
    axis = layer["axis"] % len(a)
    n = size(a[axis])
    layer.pin(a[axis], "subtracts neighbours on it")
    return (*a[:axis], n if n is None else max(n - layer["n"], 0), *a[axis + 1 :])


@rule("ops.Trapezoid")
def trapezoid(layer: Layer, y: Tensor) -> Tensor:
    layer.pin(y[layer["axis"]], "integrates between neighbours on it")
    return without(y, layer["axis"] % len(y))


@rule("ops.TopK")
def top_k(layer: Layer, x: Tensor) -> list[Tensor]:
    layer.pin(x[-1], "computes indices of its positions")
    return [(*x[:-1], layer["k"])] * 2


@rule("ops.Moments", approximate="over channels")
def moments(layer: Layer, x: Tensor) -> list[Tensor]:
    return [reduced_inexactly(layer, x), reduced(layer, x)]


@rule("ops.SegmentSum", "ops.SegmentMax", "ops.SegmentMin", "ops.SegmentProd")
def segments(layer: Layer, data: Tensor, segment_ids: Any) -> Tensor:
    layer.pin([data[0], segment_ids if isinstance(segment_ids, tuple) else ()], "puts its positions into segments")
    return (layer["num_segments"], *data[1:])


def reduced_axes(layer: Layer, x: Tensor) -> list[int]:
    """The axes in the field `axis` (or `axes`); all axes if it names none."""
    axes = layer.get("axis", layer.get("axes"))
    if axes is None:
        return list(range(len(x)))
    return [axis % len(x) for axis in (axes if isinstance(axes, list) else [axes])]


def reduced(layer: Layer, x: Tensor) -> Tensor:
    reduced_to_one = reduced_axes(layer, x)
    axes: list[tuple[int, Axis]] = [(i, 1 if i in reduced_to_one else axis) for i, axis in enumerate(x)]
    return tuple(axis for i, axis in axes if layer.get("keepdims") or i not in reduced_to_one)
