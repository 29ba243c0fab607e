"""Operations that move, merge, split, pick, repeat and join axes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis, has_ids, join, merge, repeat, select, size, tile
from kerassurgery_fn.rules.counts import Among, Before, Bounds
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor, joined, parts, plain
from kerassurgery_fn.rules.merging import broadcast, concatenated, without
from kerassurgery_fn.rules.pooling import pooling
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.shaping import inferred

# --- the same positions in other axes


@rule("ops.Reshape")
def reshape(layer: Layer, x: Tensor) -> Tensor:
    target = layer["newshape"] if isinstance(layer["newshape"], list) else [layer["newshape"]]
    made = layer.reshape(x, with_batch(inferred(target, [size(axis) for axis in x]), target, x))
    for i, axis in enumerate(made):
        if target[i] not in (-1, None):
            layer.size(("newshape", i), axis)
    return tuple(made)


def with_batch(sizes: list[int | None], target: list[int | None], x: Tensor) -> list[int | None]:
    """A target shape in which one unknown size is worked out where all that is unknown of the tensor is its batch, and
    the target keeps the batch apart."""
    known = prod(size(axis) or 1 for axis in x[1:])
    rest = [n for n in target[1:] if n not in (-1, None)]
    if x[0] is None and target[0] in (-1, None) and len(rest) == len(target) - 2 and all(map(size, x[1:])):
        return [None, *(known // prod(rest) if n in (-1, None) else n for n in target[1:])]
    return sizes


@rule("ops.Ravel")
def ravel(layer: Layer, x: Tensor) -> Tensor:
    return tuple(layer.reshape(x, [None if None in map(size, x) else prod(size(axis) or 0 for axis in x)]))


@rule("ops.Transpose")
def transpose(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axes"]
    return tuple(reversed(x)) if axes is None else tuple(x[i] for i in axes)


@rule("ops.Swapaxes")
def swapaxes(layer: Layer, x: Tensor) -> Tensor:
    made = list(x)
    i, j = layer["axis1"], layer["axis2"]
    made[i], made[j] = made[j], made[i]
    return tuple(made)


@rule("ops.Moveaxis")
def moveaxis(layer: Layer, x: Tensor) -> Tensor:
    sources, targets = (
        [i % len(x) for i in (value if isinstance(value, list) else [value])]
        for value in (layer["source"], layer["destination"])
    )
    rest = iter([i for i in range(len(x)) if i not in sources])
    moved = dict(zip(targets, sources, strict=True))
    return tuple(x[moved[i] if i in moved else next(rest)] for i in range(len(x)))


@rule("ops.ExpandDims")
def expand_dims(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"] if isinstance(layer["axis"], list) else [layer["axis"]]
    rank = len(x) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(x)
    return tuple(1 if i in new else next(rest) for i in range(rank))


@rule("ops.Squeeze")
def squeeze(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"]
    gone = {i % len(x) for i in (axes if isinstance(axes, list) else [axes])} if axes is not None else None
    gone = {i for i, axis in enumerate(x) if size(axis) == 1} if gone is None else gone
    layer.pin([x[i] for i in gone], "squeezes it away")
    return without(x, *gone)


@rule("ops.DepthToSpace")
def depth_to_space(layer: Layer, x: Tensor) -> Tensor:
    batch, (high, wide), channel = parts(layer, x)
    block = layer["block_size"]
    high, wide = plain(layer, [high, wide], "moves channels")
    rows, columns, depth = layer.grid(channel, [block, block, (size(channel) or 0) // block**2])
    layer.pin([rows, columns], "moves channels along it to space")
    return joined(layer, batch, [high and high * block, wide and wide * block], depth)


@rule("ops.SpaceToDepth")
def space_to_depth(layer: Layer, x: Tensor) -> Tensor:
    batch, (high, wide), channel = parts(layer, x)
    block = layer["block_size"]
    high, wide = plain(layer, [high, wide], "moves space to channels")
    return joined(layer, batch, [high and high // block, wide and wide // block], merge([block, block, channel]))


# --- some of the positions


@rule("ops.GetItem")
def get_item(layer: Layer, x: Tensor, key: Any) -> Tensor:
    items = key if isinstance(key, list) else [key]
    given = sum(item is not None and not is_special(item, "__ellipsis__") for item in items)
    single = not isinstance(key, list)
    made: list[Axis] = []
    at = 0
    for i, item in enumerate(items):
        place = ("args", 1) if single else ("args", 1, i)
        if item is None:
            made.append(1)
        elif is_special(item, "__ellipsis__"):
            made += x[at : at + len(x) - given]
            at += len(x) - given
        else:
            made += picked(layer, x[at], item, place)
            at += 1
    return (*made, *x[at:])


def is_special(item: Any, name: str) -> bool:
    return isinstance(item, dict) and item.get("class_name") == name


def picked(layer: Layer, axis: Axis, item: Any, place: tuple[str | int, ...]) -> list[Axis]:
    """What an index leaves of an axis: a slice some of it, a number nothing."""
    n = size(axis)
    if isinstance(item, int):
        if has_ids(axis):
            layer.pin(select(axis, [item]), "reads this position by its index")
            layer.argues(place, Before(axis, item % (n or 1)))
        return []
    if not is_special(item, "__slice__"):
        raise NoRule("is indexed by something that is neither a slice nor a number")
    start, stop, step = (item["config"][name] for name in ("start", "stop", "step"))
    if not all(value is None or isinstance(value, int) for value in (start, stop, step)):
        raise NoRule("is sliced by tensors")
    if has_ids(axis):
        if step not in (None, 1):
            layer.pin(axis, "reads it in steps")
        for name, value in (("start", start), ("stop", stop)):
            if value is not None:
                layer.argues((*place, "config", name), Before(axis, slice(value, None).indices(n or 0)[0]))
    return [
        None if axis is None and (start, stop, step) != (None, None, None) else select(axis, slice(start, stop, step))
    ]


@rule("ops.Take")
def take(layer: Layer, x: Tensor, indices: Any) -> Tensor:
    axis = layer["axis"]
    if axis is None:
        raise NoRule("takes from it laid flat")
    axis %= len(x)
    if isinstance(indices, int):
        return (*x[:axis], *picked(layer, x[axis], indices, ("args", 1)), *x[axis + 1 :])
    if isinstance(indices, list) and np.ndim(indices) == 1:
        n = size(x[axis]) or 1
        positions = tuple(int(i) % n for i in indices)
        layer.argues(("args", 1), Among(x[axis], positions))
        return (*x[:axis], select(x[axis], positions), *x[axis + 1 :])
    layer.pin(x[axis], "takes positions of it by indices")
    shape = indices if isinstance(indices, tuple) else tuple(np.shape(indices))
    return (*x[:axis], *shape, *x[axis + 1 :])


@rule("ops.Split")
def split(layer: Layer, x: Tensor) -> list[Tensor]:
    axis, sections = layer["axis"] % len(x), layer["indices_or_sections"]
    n = size(x[axis])
    if n is None:
        raise NoRule("splits an axis of unknown size")
    starts = [n // sections * i for i in range(1, sections)] if isinstance(sections, int) else list(sections)
    if isinstance(sections, int):
        layer.states("indices_or_sections", Bounds(x[axis], tuple(starts)))
    for i, start in enumerate(starts if isinstance(sections, list) else ()):
        layer.states(("indices_or_sections", i), Before(x[axis], start))
    pieces = [select(x[axis], slice(a, b)) for a, b in zip([0, *starts], [*starts, n], strict=True)]
    return [(*x[:axis], piece, *x[axis + 1 :]) for piece in pieces]


@rule("ops.Unstack")
def unstack(layer: Layer, x: Tensor) -> list[Tensor]:
    axis = layer["axis"] % len(x)
    layer.pin(x[axis], "takes it apart position by position")
    return [without(x, axis)] * (size(x[axis]) or 0)


@rule("ops.Slice")
def slice_(layer: Layer, x: Tensor, start_indices: Any, *_: Any) -> Tensor:
    starts = start_indices if isinstance(start_indices, list) else [None] * len(x)
    made: list[Axis] = []
    for axis, start, length in zip(x, starts, layer["shape"], strict=True):
        whole = length == size(axis) and start == 0
        if not whole:
            layer.pin(axis, "slices it")
        made.append(axis if whole else length)
    return tuple(made)


# --- positions again and again


@rule("ops.Repeat")
def repeat_(layer: Layer, x: Tensor) -> Tensor:
    times, axis = layer["repeats"], layer["axis"]
    if axis is None or not isinstance(times, int):
        raise NoRule("repeats positions by different numbers, or lays them flat")
    axis %= len(x)
    return (*x[:axis], repeat(x[axis], times), *x[axis + 1 :])


@rule("ops.Tile")
def tile_(layer: Layer, x: Tensor) -> Tensor:
    times = layer["repeats"] if isinstance(layer["repeats"], list) else [layer["repeats"]]
    rank = max(len(times), len(x))
    times, axes = [1] * (rank - len(times)) + list(times), (1,) * (rank - len(x)) + x
    return tuple(tile(axis, t) if t != 1 else axis for axis, t in zip(axes, times, strict=True))


@rule("ops.BroadcastTo")
def broadcast_to(layer: Layer, x: Tensor) -> Tensor:
    shape = layer["shape"]
    axes = (1,) * (len(shape) - len(x)) + x
    for i, (axis, n) in enumerate(zip(axes, shape, strict=True)):
        if size(axis) == n:
            layer.size(("shape", i), axis)
    return tuple(axis if size(axis) == n or size(axis) != 1 else n for axis, n in zip(axes, shape, strict=True))


@rule("ops.Flip")
def flip(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"]
    turned = set(range(len(x))) if axes is None else {a % len(x) for a in (axes if isinstance(axes, list) else [axes])}
    return tuple(select(axis, slice(None, None, -1)) if i in turned else axis for i, axis in enumerate(x))


@rule("ops.Roll")
def roll(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"]
    moved = range(len(x)) if axes is None else [a % len(x) for a in (axes if isinstance(axes, list) else [axes])]
    layer.pin([x[i] for i in moved], "rolls it")
    return x


@rule("ops.Pad")
def pad(layer: Layer, x: Tensor, *_: Any, **__: Any) -> Tensor:
    widths = layer["pad_width"]
    pairs = [widths] * len(x) if isinstance(widths, int) or not isinstance(widths[0], list) else widths
    pairs = [[p, p] if isinstance(p, int) else p for p in pairs]
    pairs = pairs * len(x) if len(pairs) == 1 else pairs
    made: list[Axis] = []
    for axis, (before, after) in zip(x, pairs, strict=True):
        if layer["mode"] != "constant" and (before or after):
            layer.pin(axis, "pads it with copies of positions")
        made.append(join([before, axis, after]) if before or after else axis)
    return tuple(made)


# --- several tensors


@rule("ops.Concatenate")
def concatenate(layer: Layer, inputs: list[Tensor]) -> Tensor:
    return concatenated(layer, inputs, layer["axis"])


@rule("ops.Append")
def append(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if layer["axis"] is None:
        raise NoRule("lays its operands flat")
    return concatenated(layer, [x1, x2], layer["axis"])


@rule("ops.Hstack", "ops.Vstack", "ops.Dstack")
def stack_along(layer: Layer, inputs: list[Tensor]) -> Tensor:
    axis = {"Hstack": 1, "Vstack": 0, "Dstack": 2}[layer.record["class_name"]]
    if min(map(len, inputs)) <= axis:
        raise NoRule("stacks tensors of too few axes")
    return concatenated(layer, inputs, axis)


@rule("ops.Stack")
def stack(layer: Layer, inputs: list[Tensor]) -> Tensor:
    axis = layer["axis"] % (len(inputs[0]) + 1)
    made = broadcast(layer, inputs)
    return (*made[:axis], len(inputs), *made[axis:])


@rule("ops.Resize")
def resize(layer: Layer, x: Tensor) -> Tensor:
    if len(x) != 4:
        raise NoRule("resizes a single image")
    batch, space, channel = parts(layer, x)
    plain(layer, space, "resizes")
    return joined(layer, batch, list(layer["size"]), channel)


@rule("ops.MaxPool", "ops.AveragePool")
def pool(layer: Layer, x: Tensor) -> Tensor:
    return pooling(layer, x)


@rule("ops.Glu")
def glu(layer: Layer, x: Tensor) -> Tensor:
    axis = layer.get("axis", -1) % len(x)
    half = (size(x[axis]) or 0) // 2
    values, gates = select(x[axis], slice(half)), select(x[axis], slice(half, None))
    layer.tie(values, gates)
    return (*x[:axis], values, *x[axis + 1 :])


@rule("ops.OneHot")
def one_hot(layer: Layer, x: Tensor) -> Tensor:
    axis = layer["axis"] % (len(x) + 1)
    return (*x[:axis], layer["num_classes"], *x[axis:])


@rule("ops.FullLike")
def full_like(layer: Layer, x: Tensor, *_: Any) -> Tensor:
    return x
