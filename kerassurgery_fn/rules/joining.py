"""Operations that repeat or pad axes, or join several tensors."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis, has_ids, join, repeat, size, tile
from kerassurgery_fn.graph import Shape
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.counted_positions import Grid
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.merging import agreeing, concatenated
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.rule_fields import Config
from kerassurgery_fn.rules.shaping import copies, repeated
from kerassurgery_fn.rules.size_checks import check_joined


@rule("ops.Repeat", dtype="moved")
def repeat_(layer: Layer, x: Tensor) -> Tensor:
    times, axis = layer["repeats"], layer["axis"]
    if axis is None or not isinstance(times, int):
        raise NoRule("repeats positions by different numbers, or flattens them")
    axis %= len(x)
    longer = repeated(layer, x[axis], times, ("repeats",)) if size(x[axis]) == 1 else repeat(x[axis], times)
    return (*x[:axis], longer, *x[axis + 1 :])


@rule("ops.Tile", dtype="moved")
def tile_(layer: Layer, x: Tensor) -> Tensor:
    times = listed(layer["repeats"])
    first, axes = max(0, len(x) - len(times)), (1,) * (len(times) - len(x)) + x
    return (*axes[:first], *(tiled(layer, axis, times[i], i) for i, axis in enumerate(axes[first:])))


def tiled(layer: Layer, axis: Axis, times: int, index: int) -> Axis:
    """An axis that is repeated `times` times. `index` is the place of this number in `repeats`."""
    if size(axis) == 1:
        return repeated(layer, axis, times, ("repeats", index) if isinstance(layer["repeats"], list) else ("repeats",))
    return tile(axis, times) if times != 1 else axis


def sizes_of_broadcast(config: Config, old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    shape = list(config["shape"])
    for i in range(-len(new), 0):
        if shape[i] == old[i]:
            shape[i] = new[i]
    return {"shape": shape}


@rule("ops.BroadcastTo", dtype="moved", counts_positions=sizes_of_broadcast)
def broadcast_to(layer: Layer, x: Tensor) -> Tensor:
    shape = layer["shape"]
    axes = (1,) * (len(shape) - len(x)) + x
    for i, axis in enumerate(axes):
        if size(axis) == shape[i]:
            layer.size(("shape", i), axis)
    return tuple(
        axis if size(axis) in (n, None) else repeated(layer, axis, n, ("shape", i))
        for i, (axis, n) in enumerate(zip(axes, shape, strict=True))
    )


@rule("ops.Pad", equal_channels=True, dtype="moved")
def pad(layer: Layer, x: Tensor, constant_values: Any = None) -> Tensor:
    widths = layer["pad_width"]
    pairs = [widths] * len(x) if isinstance(widths, int) or not isinstance(widths[0], list) else widths
    pairs = [[p, p] if isinstance(p, int) else p for p in pairs]
    pairs = pairs * len(x) if len(pairs) == 1 else pairs
    padded: list[Axis] = []
    for i, (axis, (before, after)) in enumerate(zip(x, pairs, strict=True)):
        if layer["mode"] != "constant" and (before or after):
            layer.pin(axis, "pads it with copies of positions")
        elif has_ids(axis) and pairs == widths:
            before, after = (copies(layer, n, ("pad_width", i, side)) for side, n in enumerate((before, after)))
        padded.append(join([before, axis, after]) if size(before) or size(after) else axis)
    return tuple(padded)


@rule("ops.Concatenate", merges="joins", equal_channels=True, dtype="promoted", requires=(check_joined,))
def concatenate(layer: Layer, xs: list[Tensor]) -> Tensor:
    return concatenated(layer, xs, layer["axis"])


@rule("ops.Append", dtype="promoted")
def append(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if layer["axis"] is None:
        raise NoRule("flattens its operands")
    return concatenated(layer, [x1, x2], layer["axis"])


@rule("ops.Hstack", "ops.Vstack", "ops.Dstack", dtype="promoted")
def stack_along(layer: Layer, xs: list[Tensor]) -> Tensor:
    axis = {"Hstack": 1, "Vstack": 0, "Dstack": 2}[layer.record["class_name"]]
    if min(map(len, xs)) <= axis:
        raise NoRule("stacks tensors of too few axes")
    return concatenated(layer, xs, axis)


@rule("ops.Stack", dtype="promoted", new_axis=True)
def stack(layer: Layer, x: list[Tensor]) -> Tensor:
    axis = layer["axis"] % (len(x[0]) + 1)
    if len(set(map(len, x))) > 1:
        raise NoRule("stacks tensors of different ranks")
    shared = agreeing(layer, x)
    return (*shared[:axis], len(x), *shared[axis:])


@rule("ops.OneHot", new_axis=True, rows="num_classes")
def one_hot(layer: Layer, x: Tensor) -> Tensor:
    axis = layer["axis"] % (len(x) + 1)
    return (*x[:axis], layer.rows("num_classes"), *x[axis:])
