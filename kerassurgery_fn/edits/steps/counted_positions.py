"""Fields of configs that count positions of space or time, and follow when their number changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from kerassurgery_fn.channels.constraints import matching_runs
from kerassurgery_fn.edits.steps.interpolation import Run
from kerassurgery_fn.graph import Record, Shape
from kerassurgery_fn.rules.attention import output_place
from kerassurgery_fn.rules.equations import letters_of
from kerassurgery_fn.rules.layer import listed
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.rules.shaping import inferred
from kerassurgery_fn.values.frozen import freeze, set_in

Grid = Callable[[int], list[Run]]  # an axis of the tensor that a layer reads -> the grids that its positions are of


def recounted(record: Record, old: Shape, new: Shape, grid: Grid) -> Record:
    """A layer's record whose config counts the positions of what the layer reads now.

    Args:
        record: the layer.
        old, new: the shape of the tensor that it read, and of the one that it reads.
        grid: the grids that the positions of an axis of that tensor are of.
    """
    count = COUNTS.get(key_of(record))
    if count is None or not old:  # tensors of other ranks cannot be compared axis by axis
        return record
    fields = count(record["config"], old, new, grid)
    return freeze(set_in(record, ("config",), {**record["config"], **fields}))


def target_of(target: Sequence[int | None], old: Shape, new: Shape, grid: Grid) -> list[int | None]:
    """The target of a reshape, with other sizes where positions that it counts are more or fewer.

    Each shortest run of axes with equal products is looked at alone: (6, 6), 12 -> 36, 12 becomes (8, 8), 12 -> 64, 12.

    >>> target_of([36, 12], (6, 6, 12), (8, 8, 12), lambda axis: [])
    [64, 12]
    >>> target_of([6, 6, 12], (36, 12), (64, 12), lambda axis: [Run((6, 6), (8, 8))])
    [8, 8, 12]
    """
    made = list(target)
    for read, laid in matching_runs(old, inferred(list(target), list(old))) or ():
        if old[read] == new[read] or -1 in target[laid]:
            continue
        if len(made[laid]) == 1:
            made[laid] = [-1 if None in new[read] else prod(new[read])]  # type: ignore[arg-type]
        elif [(run.old, len(run.new)) for run in grid(read.start)] == [(tuple(target[laid]), len(made[laid]))]:
            made[laid] = grid(read.start)[0].new
    return made


def _reshape(config: Mapping[str, Any], old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    return {"target_shape": target_of(config["target_shape"], old[1:], new[1:], lambda axis: grid(axis + 1))}


def _reshape_whole(config: Mapping[str, Any], old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    """`ops.reshape` names the batch, too: as unknown, or as a number."""
    batch, *rest = listed(config["newshape"])
    if old[0] != new[0] or batch not in (-1, None, old[0]) or not isinstance(config["newshape"], list):
        return {}
    return {"newshape": [batch, *target_of(rest, old[1:], new[1:], lambda axis: grid(axis + 1))]}


def _einsum_dense(config: Mapping[str, Any], old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    ins, _, out = letters_of(config["equation"], [len(new), None])
    shape = listed(config["output_shape"])
    for i, letter in enumerate(out):
        place = output_place(config, i, len(out))
        if place and letter in ins:
            shape[int(place[1])] = new[ins.index(letter)]
    return {"output_shape": shape if isinstance(config["output_shape"], list) else shape[0]}


def _broadcast_to(config: Mapping[str, Any], old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    shape = list(config["shape"])
    for i in range(-len(new), 0):
        if shape[i] == old[i]:
            shape[i] = new[i]
    return {"shape": shape}


# Class -> the fields of its config that count positions, given the shapes of what it read and reads.
COUNTS: dict[str, Callable[[Mapping[str, Any], Shape, Shape, Grid], dict[str, Any]]] = {
    "Reshape": _reshape, "ops.Reshape": _reshape_whole, "EinsumDense": _einsum_dense, "ops.BroadcastTo": _broadcast_to,
}  # fmt: skip
