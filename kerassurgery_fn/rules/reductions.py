"""Operations that reduce an axis to one position, or look at its order."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.registry import rule

EXACT = ("Sum", "Nansum", "CountNonzero")  # a channel that is gone counts as zero
INEXACT = (
    "Mean", "Nanmean", "Max", "Min", "Amax", "Amin", "Nanmax", "Nanmin", "Prod", "Nanprod", "Var", "Nanvar", "Std",
    "Nanstd", "Median", "Nanmedian", "Logsumexp", "All", "Any", "Ptp", "Norm", "Average",
)  # fmt: skip
INDICES = ("Argmax", "Argmin", "Nanargmax", "Nanargmin")
IN_ORDER = ("Sort", "Argsort", "Cumsum", "Cumprod", "Nancumsum", "Nancumprod")


@rule(*(f"ops.{name}" for name in EXACT))
def summed(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    return reduced(layer, x)


@rule(*(f"ops.{name}" for name in INEXACT))
def reduced_inexactly(layer: Layer, x: Tensor, *_: Any, **__: Any) -> Tensor:
    for axis in reduced_axes(layer, x):
        layer.inexact(x[axis], "reduces over the channels")
    return reduced(layer, x)


@rule(*(f"ops.{name}" for name in INDICES))
def index_of(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    layer.pin([x[axis] for axis in reduced_axes(layer, x)], "makes indices of its positions")
    return reduced(layer, x)


@rule(*(f"ops.{name}" for name in IN_ORDER))
def in_order(layer: Layer, x: Tensor, **_: Any) -> Any:
    if layer.get("axis", -1) is None:
        raise NoRule("lays it flat")
    layer.pin(x[layer.get("axis", -1)], "looks at the order of its positions")
    return x


@rule("ops.TopK")
def top_k(layer: Layer, x: Tensor, **_: Any) -> list[Tensor]:
    layer.pin(x[-1], "makes indices of its positions")
    return [(*x[:-1], layer["k"])] * 2


@rule("ops.Moments")
def moments(layer: Layer, x: Tensor, **_: Any) -> list[Tensor]:
    return [reduced_inexactly(layer, x), reduced(layer, x)]


def reduced_axes(layer: Layer, x: Tensor) -> list[int]:
    """The axes that the field `axis` (or `axes`) names, all of them if it names none."""
    axes = layer.get("axis", layer.get("axes"))
    if axes is None:
        return list(range(len(x)))
    return [axis % len(x) for axis in (axes if isinstance(axes, list) else [axes])]


def reduced(layer: Layer, x: Tensor) -> Tensor:
    gone = reduced_axes(layer, x)
    left: list[tuple[int, Axis]] = [(i, 1 if i in gone else axis) for i, axis in enumerate(x)]
    return tuple(axis for i, axis in left if layer.get("keepdims") or i not in gone)
