"""Config fields that count positions of space or time, and that change when the size of an input changes.

The field `counts_positions` of a record is a function (config, old, new, grid) -> the new values of these config
fields. `old` and `new` are the shape of the tensor that the layer reads, before and after the change, with the same
number of axes. `grid` returns the grids that were flattened to the positions of an axis of this tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

from kerassurgery_fn.channels.constraints import matching_runs
from kerassurgery_fn.graph import Shape


class Run(NamedTuple):
    """Consecutive positions of an axis: the sizes of the grid that was flattened to them, before and after a change.

    Along equal sizes, values stay the same. A run of one size is interpolated as a sequence, a run of two sizes as an
    image.
    """

    old: tuple[int, ...]
    new: tuple[int, ...]


Grid = Callable[[int], list[Run]]  # an axis of the tensor that a layer reads -> the grids that were flattened to it


def inferred(target: list[int | None], sizes: list[int | None]) -> list[int | None]:
    """A target shape with the size for its -1; None if that size depends on an unknown size.

    >>> inferred([-1, 4], [2, 8]), inferred([-1, 4], [None, 8])
    ([4, 4], [None, 4])
    """
    known = None if None in sizes else prod(sizes) // prod(n for n in target if n not in (-1, None))  # type: ignore[arg-type]
    return [known if n in (-1, None) else n for n in target]


def target_of(target: Sequence[int | None], old: Shape, new: Shape, grid: Grid) -> list[int | None]:
    """The target shape of a reshape, updated for a new input shape.

    The axes are compared in the shortest runs with equal products. So (6, 6), 12 -> 36, 12 becomes
    (8, 8), 12 -> 64, 12.

    >>> target_of([36, 12], (6, 6, 12), (8, 8, 12), lambda axis: [])
    [64, 12]
    >>> target_of([6, 6, 12], (36, 12), (64, 12), lambda axis: [Run((6, 6), (8, 8))])
    [8, 8, 12]
    """
    sizes = list(target)
    for read, reshaped in matching_runs(old, inferred(list(target), list(old))) or ():
        if old[read] == new[read] or -1 in target[reshaped]:
            continue
        if len(sizes[reshaped]) == 1:
            sizes[reshaped] = [-1 if None in new[read] else prod(new[read])]  # type: ignore[arg-type]
        elif [(run.old, len(run.new)) for run in grid(read.start)] == [(tuple(target[reshaped]), len(sizes[reshaped]))]:
            sizes[reshaped] = grid(read.start)[0].new
    return sizes
