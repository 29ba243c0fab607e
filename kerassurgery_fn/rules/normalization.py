"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kerassurgery_fn.channels import Axis, size
from kerassurgery_fn.rules.config_ranges import is_count
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.macs import no_macs
from kerassurgery_fn.rules.mask_rules import passed
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.size_checks import check_normalised_groups


@rule(
    "BatchNormalization", equal_channels=True, foldable=True, masks=passed, keywords=("mask",), added={"mask": None},
    fixed_rank=True,
)  # fmt: skip
def batch_normalization(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    c = inputs[layer["axis"]]
    layer.weights(gamma="c", beta="c", moving_mean="c", moving_variance="c", c=c)
    if layer.get("renorm"):
        layer.weights(moving_stddev="c", renorm_mean="c", renorm_stddev="c", c=c)
    return inputs


def listed_axes(config: Mapping[str, Any], _: Tensor) -> dict[str, Any]:
    return {"axis": listed(config["axis"])}


@rule("LayerNormalization", approximate="over channels", macs=no_macs, masks=passed, derived_config=listed_axes)
def layer_normalization(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    axes = normalised_over(layer, inputs, layer["axis"])
    if layer["scale"] or layer.get("rms_scaling"):
        layer.weight("gamma", axes)
    if layer["center"] and not layer.get("rms_scaling"):
        layer.weight("beta", axes)
    return inputs


@rule("RMSNormalization", approximate="over channels", keywords=("x",), derived_config=listed_axes)
def rms_normalization(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    layer.weight("scale", normalised_over(layer, x, layer["axis"]))
    return x


@rule("UnitNormalization", approximate="over channels", masks=passed, needs_floats=True, built=False)
def unit_normalization(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    normalised_over(layer, inputs, layer["axis"])
    return inputs


def is_group_count(value: Any) -> bool:
    """Whether a value is a number of groups; -1 means a group for each channel."""
    return value == -1 or is_count(value)


@rule(
    "GroupNormalization", approximate="unless whole groups are deleted", masks=passed, fixed_rank=True,
    equal_channels=True, requires=(check_normalised_groups,), ranges={"groups": is_group_count},
)  # fmt: skip
def group_normalization(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    channel, groups = inputs[layer["axis"]], layer["groups"]
    n = size(channel)
    layer.weights(gamma="c", beta="c", c=channel)
    for i, axis in enumerate(inputs):
        if i != layer["axis"] % len(inputs):
            layer.inexact(axis, "normalises over space")
    if n is None:
        raise NoRule("normalises an axis of unknown size")
    if groups in (-1, n):
        if groups != -1:
            layer.size("groups", channel)
        return inputs
    group, place = layer.grid(channel, [groups, n // groups])
    layer.size("groups", group)
    layer.inexact(place, "normalises over the channels of a group")
    return inputs


@rule("Normalization", equal_channels=True, macs=no_macs, masks=passed)
def normalization(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    axes = layer["axis"] if isinstance(layer["axis"], list) else [layer["axis"]]
    kept = tuple(inputs[axis] for axis in sorted(a % len(inputs) for a in axes if a is not None))
    if layer["mean"] is None:
        for name in ("mean", "variance"):
            layer.weight(name, kept, summed=())
        layer.weight("count", ())
        return inputs
    for name in ("mean", "variance"):
        if isinstance(layer[name], list):
            layer.constant((name,), kept)
    return inputs


def normalised_over(layer: Layer, x: Tensor, axes: int | list[int]) -> tuple[Axis, ...]:
    """The axes that a layer normalises over. A cut is not exact: the remaining positions have other statistics."""
    normalised = tuple(x[axis] for axis in (axes if isinstance(axes, list) else [axes]))
    for axis in normalised:
        layer.inexact(axis, "normalises over the channels")
    return normalised
