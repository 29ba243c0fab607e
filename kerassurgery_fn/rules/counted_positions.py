"""Fields of configs that count positions of space or time, and follow when the number of positions changes.

The field `counts_positions` of a record is a function of the config of a layer, the shapes of the tensor that the layer
read before and reads now (with the same number of axes), and the grids whose positions an axis of that tensor has. It
returns the config fields that count positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

from kerassurgery_fn.channels.constraints import matching_runs
from kerassurgery_fn.graph import Shape


class Run(NamedTuple):
    """Consecutive positions of an axis before and after: the sizes of the grid that was laid flat to make them.

    Sizes that are equal keep their values; a run of one size is interpolated along it, a run of two as an image.
    """

    old: tuple[int, ...]
    new: tuple[int, ...]


Grid = Callable[[int], list[Run]]  # an axis of the tensor that a layer reads -> the grids that its positions are of


def inferred(target: list[int | None], sizes: list[int | None]) -> list[int | None]:
    """A target shape with its -1 worked out, None where a size that is needed is unknown.

    >>> inferred([-1, 4], [2, 8]), inferred([-1, 4], [None, 8])
    ([4, 4], [None, 4])
    """
    known = None if None in sizes else prod(sizes) // prod(n for n in target if n not in (-1, None))  # type: ignore[arg-type]
    return [known if n in (-1, None) else n for n in target]


def target_of(target: Sequence[int | None], old: Shape, new: Shape, grid: Grid) -> list[int | None]:
    """The target of a reshape, with other sizes where positions that it counts are more or fewer.

    Each shortest run of axes with equal products is looked at alone: (6, 6), 12 -> 36, 12 becomes (8, 8), 12 -> 64, 12.

    >>> target_of([36, 12], (6, 6, 12), (8, 8, 12), lambda axis: [])
    [64, 12]
    >>> target_of([6, 6, 12], (36, 12), (64, 12), lambda axis: [Run((6, 6), (8, 8))])
    [8, 8, 12]
    """
    sizes = list(target)
    for read, laid in matching_runs(old, inferred(list(target), list(old))) or ():
        if old[read] == new[read] or -1 in target[laid]:
            continue
        if len(sizes[laid]) == 1:
            sizes[laid] = [-1 if None in new[read] else prod(new[read])]  # type: ignore[arg-type]
        elif [(run.old, len(run.new)) for run in grid(read.start)] == [(tuple(target[laid]), len(sizes[laid]))]:
            sizes[laid] = grid(read.start)[0].new
    return sizes
