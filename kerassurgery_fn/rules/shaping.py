"""Layers that move, merge, split, crop or repeat axes."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis, merge, size
from kerassurgery_fn.graph import Shape
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.counted_positions import Grid, inferred, target_of
from kerassurgery_fn.rules.data_formats import joined, parts, plain
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.rule_fields import Config
from kerassurgery_fn.values.frozen import Location


@rule("Flatten", equal_channels=True, reshapes=True, dtype="input")
def flatten(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    if len(inputs) == 1:
        return (batch, 1)
    flat = merge([*space, channel])
    if flat is None:
        layer.pin(inputs, "flattens it with axes of unknown size")
    return (batch, flat)


def sizes_of_target(config: Config, old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    return {"target_shape": target_of(config["target_shape"], old[1:], new[1:], lambda axis: grid(axis + 1))}


@rule("Reshape", equal_channels=True, reshapes=True, dtype="input", built=False, counts_positions=sizes_of_target)
def reshape(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    reshaped = layer.reshape(inputs[1:], inferred(layer["target_shape"], [size(axis) for axis in inputs[1:]]))
    for i, axis in enumerate(reshaped):
        if layer["target_shape"][i] != -1:
            layer.size(("target_shape", i), axis)
    return (inputs[0], *reshaped)


@rule("Permute", equal_channels=True, dtype="input", rank=lambda config: len(config["dims"]) + 1)
def permute(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return (inputs[0], *(inputs[i] for i in layer["dims"]))


def fields_for_steps(config: Config, axis: int, size: int | None, steps: int) -> dict[str, Any]:
    """The config fields of a RepeatVector whose output has another number of steps."""
    return {"n": steps} if axis == 1 else {}


@rule("RepeatVector", equal_channels=True, rank=2, makes_positions=fields_for_steps)
def repeat_vector(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return (inputs[0], repeated(layer, 1, layer["n"], ("n",)), *inputs[1:])


def copies(layer: Layer, n: int, place: Location) -> Axis:
    """An axis of equal positions. Their number is at a place in the config, and each of them can be deleted."""
    known, key = layer.findings.copies, (*layer.where, *place)
    if key not in known:
        known[key] = layer.findings.constraints.fresh(n) if n else 0
    layer.size(place, known[key])
    return known[key]


def repeated(layer: Layer, axis: Axis, n: int, place: Location) -> Axis:
    """The only position of an axis, repeated `n` times. The position itself is pinned; the copies can be deleted."""
    if n == 1:
        return axis
    layer.pin(axis, "repeats its only position")
    return copies(layer, n, place)


@rule("ZeroPadding1D", equal_channels=True, rank=3)
@rule("ZeroPadding2D", equal_channels=True, rank=4)
@rule("ZeroPadding3D", equal_channels=True, rank=5)
def zero_padding(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    sizes = plain(layer, space, "pads")
    padded = [n if n is None else n + sum(pad) for n, pad in zip(sizes, _pairs(layer["padding"]), strict=True)]
    return joined(layer, batch, padded, channel)


@rule("Cropping1D", equal_channels=True, rank=3)
@rule("Cropping2D", equal_channels=True, rank=4)
@rule("Cropping3D", equal_channels=True, rank=5)
def cropping(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    sizes = plain(layer, space, "crops")
    cropped = [n if n is None else n - sum(crop) for n, crop in zip(sizes, _pairs(layer["cropping"]), strict=True)]
    return joined(layer, batch, cropped, channel)


def _pairs(value: list[Any]) -> list[list[int]]:
    """Pairs of (before, after), one for each dimension. For one dimension the config has the pair itself."""
    return [value] if isinstance(value[0], int) else value


def fields_for_size(config: Config, axis: int, size: int | None, new_size: int) -> dict[str, Any]:
    """The config fields of an upsampling whose output has another size along an axis; empty if no factor gives it.

    >>> fields_for_size({"size": [6, 6], "data_format": "channels_last"}, 1, 1, 8)
    {'size': [8, 6]}
    """
    times = listed(config["size"])
    place = axis - 1 - (config.get("data_format") == "channels_first")
    if not size or new_size % size or not 0 <= place < len(times):
        return {}
    times[place] = new_size // size
    return {"size": times if isinstance(config["size"], list) else times[0]}


@rule("UpSampling1D", equal_channels=True, rank=3, makes_positions=fields_for_size)
@rule("UpSampling2D", equal_channels=True, rank=4, makes_positions=fields_for_size)
@rule("UpSampling3D", equal_channels=True, rank=5, makes_positions=fields_for_size)
def up_sampling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    sizes = plain(layer, space, "repeats steps")
    times = layer["size"] if isinstance(layer["size"], list) else [layer["size"]] * len(sizes)
    repeated_sizes: list[Axis] = [n if n is None else n * t for n, t in zip(sizes, times, strict=True)]
    return joined(layer, batch, repeated_sizes, channel)
