"""Operations that select some positions of an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis, has_ids, select, size
from kerassurgery_fn.rules.constants import Given
from kerassurgery_fn.rules.counts import Among, Before, BlockStart, Bounds, Size
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.merging import broadcast, meet, without
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.size_checks import equal_parts_along
from kerassurgery_fn.values.frozen import Location


@rule("ops.GetItem", equal_channels=True, dtype="moved")
def get_item(layer: Layer, x: Tensor, key: Any) -> Tensor:
    items, place = (key, ("args", 1)) if isinstance(key, list) else ([key], ("args",))
    indexed = sum(item is not None and not is_special(item, "__ellipsis__") for item in items)
    selected: list[Axis] = []
    at = 0
    for i, item in enumerate(items):
        if item is None:
            selected.append(1)
        elif is_special(item, "__ellipsis__"):
            selected += x[at : at + len(x) - indexed]
            at += len(x) - indexed
        else:
            selected += picked(layer, x[at], item, (*place, i if isinstance(key, list) else 1))
            at += 1
    return (*selected, *x[at:])


def is_special(item: Any, name: str) -> bool:
    return isinstance(item, dict) and item.get("class_name") == name


def picked(layer: Layer, axis: Axis, item: Any, place: Location) -> list[Axis]:
    """The axes that an index leaves of an axis: one for a slice, none for a number."""
    if isinstance(item, int):
        return at_index(layer, axis, item, place)
    if not is_special(item, "__slice__"):
        raise NoRule("is indexed by something that is neither a slice nor a number")
    start, stop, step = (item["config"][name] for name in ("start", "stop", "step"))
    if not all(value is None or isinstance(value, int) for value in (start, stop, step)):
        raise NoRule("is sliced by tensors")
    if axis is None:
        return [axis if (start, stop, step) == (None, None, None) else None]
    if has_ids(axis):
        bounded(layer, axis, slice(start, stop, step), place)
    return [select(axis, slice(start, stop, step))]


def at_index(layer: Layer, axis: Axis, index: int, place: Location) -> list[Axis]:
    """No axes. Pins the position that is read by its index, and states that the index depends on the axis."""
    if has_ids(axis):
        index %= size(axis) or 1
        layer.pin(select(axis, [index]), "reads this position by its index")
        layer.argues(place, Before(axis, index))
    return []


def bounded(layer: Layer, axis: Axis, part: slice, place: Location) -> None:
    """States the bounds of a slice. A slice with a step divides the axis into blocks, which are deleted as a whole."""
    n, step = size(axis) or 0, part.step or 1
    start, stop, _ = part.indices(n)
    if step < 0:
        if (part.start, part.stop, step) != (None, None, -1):
            layer.pin(axis, "reads it backwards between bounds")
        return
    if step > 1:
        whole = n - n % step
        places = layer.grid(select(axis, slice(whole)), [whole // step, step])[1] if whole else None
        layer.pin([places, select(axis, slice(whole, None))], "reads it in steps")
    if part.start is not None:
        layer.argues((*place, "config", "start"), BlockStart(axis, start, step))
    if part.stop is not None:
        layer.argues((*place, "config", "stop"), Before(axis, stop))


@rule("ops.Take")
def take(layer: Layer, x: Tensor, indices: Any) -> Tensor:
    if layer["axis"] is None:
        raise NoRule("flattens it and takes positions by indices")
    axis = layer["axis"] % len(x)
    if isinstance(indices, int):
        return (*x[:axis], *at_index(layer, x[axis], indices, ("args", 1)), *x[axis + 1 :])
    values = indices.array if isinstance(indices, Given) else indices
    if not isinstance(values, tuple) and np.ndim(values) == 1 and size(x[axis]):
        positions = tuple(int(i) % size(x[axis]) for i in values)  # type: ignore[operator]
        place = ("args", 1, "config", "value") if isinstance(indices, Given) else ("args", 1)
        layer.argues(place, Among(x[axis], positions))
        return (*x[:axis], select(x[axis], list(positions)), *x[axis + 1 :])
    layer.pin(x[axis], "takes positions of it by indices")
    shape = indices if isinstance(indices, tuple) else np.shape(indices)
    return (*x[:axis], *shape, *x[axis + 1 :])


@rule("ops.TakeAlongAxis")
def take_along_axis(layer: Layer, x: Tensor, indices: Any) -> Tensor:
    if layer["axis"] is None or not isinstance(indices, tuple):
        raise NoRule("flattens it, or takes positions by indices that are not a tensor")
    axis = layer["axis"] % len(x)
    layer.pin([x[axis], indices[axis]], "takes positions of it by indices")
    others = broadcast(layer, [without(x, axis), without(indices, axis)])
    return (*others[:axis], indices[axis], *others[axis:])


@rule("ops.Split", equal_channels=True, dtype="moved", requires=(equal_parts_along(),))
def split(layer: Layer, x: Tensor) -> list[Tensor]:
    return pieces(layer, x, layer["axis"] % len(x))


def register(name: str, axis: int) -> None:
    """The rule for an operation that splits a certain axis."""

    @rule(name, dtype="moved", requires=(equal_parts_along(axis),))
    def split_along(layer: Layer, x: Tensor) -> list[Tensor]:
        return pieces(layer, x, min(axis, len(x) - 1))


register("ops.Vsplit", 0)
register("ops.Hsplit", 1)
register("ops.Dsplit", 2)


def pieces(layer: Layer, x: Tensor, axis: int) -> list[Tensor]:
    """A tensor that is split into equal sections, or before some positions."""
    n, sections = size(x[axis]), layer["indices_or_sections"]
    if n is None:
        return [x] * (sections if isinstance(sections, int) else len(sections) + 1)
    starts = [n // sections * i for i in range(1, sections)] if isinstance(sections, int) else list(sections)
    if isinstance(sections, int):
        layer.states("indices_or_sections", Bounds(x[axis], tuple(starts)))
    else:
        starts = [slice(start, None).indices(n)[0] for start in starts]
        for i, start in enumerate(starts):
            layer.states(("indices_or_sections", i), Before(x[axis], start))
    return cut_at(x, axis, starts)


def cut_at(x: Tensor, axis: int, starts: list[int]) -> list[Tensor]:
    bounds = zip([0, *starts], [*starts, size(x[axis])], strict=True)
    return [(*x[:axis], select(x[axis], slice(a, b)), *x[axis + 1 :]) for a, b in bounds]


@rule("ops.ArraySplit", dtype="moved")
def array_split(layer: Layer, x: Tensor) -> list[Tensor]:
    axis, sections = layer["axis"] % len(x), layer["indices_or_sections"]
    n = size(x[axis])
    if n is None:
        raise NoRule("splits an axis of unknown size")
    layer.pin(x[axis], "splits it into sections of its own sizes")
    ends = np.cumsum([n // sections + (i < n % sections) for i in range(sections)])
    return cut_at(x, axis, ends[:-1].tolist())


@rule("ops.Unstack", dtype="moved")
def unstack(layer: Layer, x: Tensor) -> list[Tensor]:
    axis = layer["axis"] % len(x)
    layer.pin(x[axis], "splits it into single positions")
    return [without(x, axis)] * (size(x[axis]) or 0)


@rule("ops.Slice", dtype="moved")
def slice_(layer: Layer, inputs: Tensor, start_indices: Any, shape: Any = None) -> Tensor:
    starts = start_indices if isinstance(start_indices, list) else [None] * len(inputs)
    sliced: list[Axis] = []
    for i, (axis, start, length) in enumerate(zip(inputs, starts, shape or layer["shape"], strict=True)):
        if start is None:
            layer.pin(axis, "slices it from a computed position")
            sliced.append(length)
            continue
        part = select(axis, slice(start, start + length))
        layer.argues(("args", 1, i), Before(axis, start))
        if shape:  # an argument of the call before Keras 3.11
            layer.argues(("args", 2, i), Size(part))
        else:
            layer.size(("shape", i), part)
        sliced.append(length if axis is None else part)
    return tuple(sliced)


@rule("ops.SliceUpdate")
def slice_update(layer: Layer, inputs: Tensor, start_indices: Any, updates: Tensor) -> Tensor:
    starts = start_indices if isinstance(start_indices, list) else [None] * len(inputs)
    updated: list[Axis] = []
    for axis, start, new in zip(inputs, starts, updates, strict=True):
        whole = start == 0 and size(axis) == size(new)
        if not whole:
            layer.pin([axis, new], "overwrites some of its positions")
        updated.append(meet(layer, [axis, new]) if whole else axis)
    return tuple(updated)
