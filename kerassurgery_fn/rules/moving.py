"""Operations that keep all positions, and move, merge or split axes."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis, has_ids, join, merge, select, size
from kerassurgery_fn.graph import Shape
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.counted_positions import Grid, inferred, target_of
from kerassurgery_fn.rules.counts import Size, Squeezed
from kerassurgery_fn.rules.data_formats import joined, parts, plain
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.merging import without
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.rule_fields import Config
from kerassurgery_fn.rules.size_checks import check_one_open, check_order


def sizes_of_whole_target(config: Config, old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    """The new target shape of `ops.reshape`, which also contains the batch size, as -1 or as a number."""
    batch, *rest = listed(config["newshape"])
    if old[0] != new[0] or batch not in (-1, None, old[0]) or not isinstance(config["newshape"], list):
        return {}
    return {"newshape": [batch, *target_of(rest, old[1:], new[1:], lambda axis: grid(axis + 1))]}


@rule(
    "ops.Reshape", equal_channels=True, reshapes=True, dtype="moved", counts_positions=sizes_of_whole_target,
    requires=(check_one_open,),
)  # fmt: skip
def reshape(layer: Layer, x: Tensor) -> Tensor:
    target = listed(layer["newshape"])
    reshaped = layer.reshape(x, with_batch(inferred(target, [size(axis) for axis in x]), target, x))
    for i, axis in enumerate(reshaped):
        if target[i] not in (-1, None):
            layer.size(("newshape", i) if isinstance(layer["newshape"], list) else "newshape", axis)
    return tuple(reshaped)


def with_batch(sizes: list[int | None], target: list[int | None], x: Tensor) -> list[int | None]:
    """A target shape with the size for its -1, if only the batch size of the tensor is unknown and the target keeps the
    batch axis. Otherwise the sizes are returned unchanged."""
    known = prod(size(axis) or 1 for axis in x[1:])
    rest = [n for n in target[1:] if n not in (-1, None)]
    if x[0] is None and target[0] in (-1, None) and len(rest) == len(target) - 2 and all(map(size, x[1:])):
        return [None, *(known // prod(rest) if n in (-1, None) else n for n in target[1:])]
    return sizes


@rule("ops.Ravel", reshapes=True, dtype="moved")
def ravel(layer: Layer, x: Tensor) -> Tensor:
    return tuple(layer.reshape(x, [None if None in map(size, x) else prod(size(axis) or 0 for axis in x)]))


@rule("ops.Transpose", equal_channels=True, dtype="moved", requires=(check_order,))
def transpose(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axes"]
    return tuple(reversed(x)) if axes is None else tuple(x[i] for i in axes)


@rule("ops.Swapaxes", dtype="moved")
def swapaxes(layer: Layer, x: Tensor) -> Tensor:
    return swapped(x, layer["axis1"], layer["axis2"])


def swapped(x: Tensor, i: int, j: int) -> Tensor:
    """The tensor with two axes exchanged.

    >>> swapped((5, 6, 7), 0, -1)
    (7, 6, 5)
    """
    axes = list(x)
    axes[i], axes[j] = axes[j], axes[i]
    return tuple(axes)


@rule("ops.Moveaxis", dtype="moved")
def moveaxis(layer: Layer, x: Tensor) -> Tensor:
    sources, targets = ([i % len(x) for i in listed(layer[name])] for name in ("source", "destination"))
    rest = iter([i for i in range(len(x)) if i not in sources])
    moved = dict(zip(targets, sources, strict=True))
    return tuple(x[moved[i] if i in moved else next(rest)] for i in range(len(x)))


@rule("ops.ExpandDims", equal_channels=True, dtype="moved", new_axis=True)
def expand_dims(layer: Layer, x: Tensor) -> Tensor:
    axes = listed(layer["axis"])
    rank = len(x) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(x)
    return tuple(1 if i in new else next(rest) for i in range(rank))


@rule("ops.Squeeze", equal_channels=True, dtype="moved")
def squeeze(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"]
    gone = [i for i, axis in enumerate(x) if size(axis) == 1] if axes is None else [i % len(x) for i in listed(axes)]
    layer.pin([x[i] for i in gone], "squeezes it away")
    kept = without(x, *gone)
    if axes is None:
        name_squeezed(layer, kept, gone)
    return kept


def name_squeezed(layer: Layer, kept: Tensor, gone: list[int]) -> None:
    """States the axes of a squeeze whose config does not name them. The config must name them as soon as another axis
    is cut to one position."""
    carriers = [axis for axis in kept if has_ids(axis)]
    if carriers and not gone:
        raise NoRule("squeezes no axis now, but would squeeze an axis that is cut to one position")
    ends = np.cumsum([size(axis) for axis in carriers]).tolist()
    layer.states("axis", Squeezed(join(carriers), tuple(ends), tuple(gone)))


@rule("ops.Rearrange", reshapes=True, dtype="moved")
def rearrange(layer: Layer, tensor: Tensor, pattern: str, **lengths: int) -> Tensor:
    left, right = map(words, pattern.split("->"))
    named: dict[str, Axis] = {}
    for word, axis in zip(left, tensor, strict=True):
        names = word.strip("()").split()
        sizes = inferred([lengths.get(name, -1) for name in names], [size(axis)])
        axes = [axis] if len(names) == 1 else layer.reshape([axis], sizes)
        for name, part in zip(names, axes, strict=True):
            named[name] = part
            if name in lengths:
                layer.argues(("kwargs", name), Size(part))
    return tuple(merge([named[name] for name in word.strip("()").split()]) for word in right)


def words(side: str) -> list[str]:
    """The axes of one side of a pattern; axes in parentheses count as one.

    >>> words("b (h d) t")
    ['b', '(h d)', 't']
    """
    return re.findall(r"\w+|\(.*?\)", side)


# --- positions in another order


@rule("ops.Flip", dtype="moved")
def flip(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"]
    return flipped(x, *(range(len(x)) if axes is None else listed(axes)))


@rule("ops.Fliplr", dtype="moved")
def fliplr(layer: Layer, x: Tensor) -> Tensor:
    return flipped(x, 1)


@rule("ops.Flipud", dtype="moved")
def flipud(layer: Layer, x: Tensor) -> Tensor:
    return flipped(x, 0)


def flipped(x: Tensor, *axes: int) -> Tensor:
    """The tensor in reverse order along some axes."""
    turned = {axis % len(x) for axis in axes}
    return tuple(select(axis, slice(None, None, -1)) if i in turned else axis for i, axis in enumerate(x))


@rule("ops.Rot90", dtype="moved")
def rot90(layer: Layer, array: Tensor) -> Tensor:
    i, j = layer["axes"]
    match layer["k"] % 4:
        case 1:
            return swapped(flipped(array, j), i, j)
        case 2:
            return flipped(array, i, j)
        case 3:
            return flipped(swapped(array, i, j), j)
    return array


@rule("ops.Roll", dtype="moved")
def roll(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"]
    layer.pin([x[i] for i in (range(len(x)) if axes is None else listed(axes))], "rolls it")
    return x


@rule("ops.Tril", "ops.Triu", dtype="moved")
def triangle(layer: Layer, x: Tensor) -> Tensor:
    layer.pin(x[-2:], "sets one side of its diagonal to zero")
    return x


# --- channels and space


@rule("ops.DepthToSpace", dtype="moved")
def depth_to_space(layer: Layer, x: Tensor) -> Tensor:
    batch, space, channel = parts(layer, x)
    high, wide = plain(layer, space, "moves channels")
    block = layer["block_size"]
    rows, columns, depth = layer.grid(channel, [block, block, (size(channel) or 0) // block**2])
    layer.pin([rows, columns], "moves channels along it to space")
    return joined(layer, batch, [high and high * block, wide and wide * block], depth)


@rule("ops.SpaceToDepth", dtype="moved")
def space_to_depth(layer: Layer, x: Tensor) -> Tensor:
    batch, space, channel = parts(layer, x)
    high, wide = plain(layer, space, "moves space to channels")
    block = layer["block_size"]
    return joined(layer, batch, [high and high // block, wide and wide // block], merge([block, block, channel]))


@rule("ops.Unfold")
def unfold(layer: Layer, x: Tensor) -> Tensor:
    batch, channel, *space = x
    sizes = plain(layer, space, "slides a window")
    windows, holes, pads, strides = (pair(layer[name]) for name in ("kernel_size", "dilation", "padding", "stride"))
    steps = [
        n and (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(sizes, windows, holes, pads, strides, strict=True)
    ]
    return (batch, merge([channel, prod(windows)]), None if None in steps else prod(steps))  # type: ignore[arg-type]


@rule("ops.Fold")
def fold(layer: Layer, x: Tensor) -> Tensor:
    batch, channel, steps = x
    layer.pin(steps, "arranges windows in space")
    window = prod(pair(layer["kernel_size"]))
    depth, places = layer.grid(channel, [(size(channel) or 0) // window, window])
    layer.pin(places, "arranges windows in space")
    return (batch, depth, *pair(layer["output_size"]))


def pair(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value] * 2
