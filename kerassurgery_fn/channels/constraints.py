"""Collects the constraints on channel ids on a walk through a model: ties, pins and grids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from kerassurgery_fn.channels.axes import FIXED, Axis, bounded, merge, size
from kerassurgery_fn.channels.solution import Pin, Reason, Solution, Tie
from kerassurgery_fn.channels.solver import Equalities, solve
from kerassurgery_fn.errors import BadValue


class Constraints:
    """Channel ids and what the rules of the layers say about them.

    >>> constraints = Constraints()
    >>> a, b = constraints.fresh(3), constraints.fresh(3)
    >>> constraints.tie(a, b, Reason("adds them", "sum_1", "Add"))
    >>> constraints.solve().resolve(b)
    array([[0, 1, 2]])
    """

    def __init__(self) -> None:
        self.count = 0
        self.pins: list[Pin] = []
        self.ties: list[Tie] = []
        self._equalities = Equalities([], [], [], [])
        self._whole: dict[int, np.ndarray] = {}  # Python's id of each map of consecutive new ids -> the map
        self._parts: dict[int, tuple[int, ...]] = {}  # an id that a grid split -> its ids on the grid axes

    def fresh(self, n: int) -> np.ndarray:
        """A map of n new ids.

        Raises:
            BadValue: n is not a number of channels, or too large.
        """
        if type(n) is not int or n < 0:
            raise BadValue(f"{n!r} is not a number of channels")
        self.count = bounded(self.count + n)
        ids = np.arange(self.count - n, self.count)[None]
        if n:
            self._whole[id(ids)] = ids
        return ids

    def pin(self, axis: Axis, reason: Reason, output: bool = False, input: bool = False) -> None:
        """Forbids the deletion of all ids of an axis."""
        if isinstance(axis, np.ndarray):
            self.pins.append(Pin(axis, reason, output, input))

    def tie(self, a: Axis, b: Axis, reason: Reason) -> None:
        """Ties the positions of two axes, one by one: both positions of a pair are deleted together. If one axis has no
        ids, or the sizes differ, the ids are pinned instead."""
        if a is b:
            return
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.shape[1] != b.shape[1]:
            self.pin(a, reason)
            self.pin(b, reason)
            return
        self.ties.append(Tie(a, b, reason))
        if id(a) in self._whole and id(b) in self._whole:
            self._equalities.whole.append((a, b))
        elif len(a) == len(b) == 1:
            self._equalities.pairs.append((a, b))
        else:
            self._equalities.composite.append((a, b))

    def grid(self, axis: Axis, sizes: Sequence[int], reason: Reason) -> list[Axis]:
        """The axes of an axis that is reshaped to a grid, one for each of `sizes`. The product of `sizes` is the size
        of the axis.

        In the example, four channels become a grid of two heads with two places each. From now on, a channel has the
        ids of its head and of its place, and is deleted if either of them is deleted:

        >>> constraints = Constraints()
        >>> channels = constraints.fresh(4)
        >>> constraints.grid(channels, [2, 2], Reason("reshapes it to heads"))
        [array([[4, 5]]), array([[6, 7]])]
        >>> constraints.solve().resolve(channels)
        array([[4, 4, 5, 5],
               [6, 7, 6, 7]])

        Each row of the map falls under one of three cases:

        - the row varies along one grid axis only. It already is a row of that axis, as of heads that were merged
          before;
        - the row varies along several grid axes, and is the first such row for each of them. These axes get fresh ids,
          which become the parts of the ids of the row;
        - the row crosses the grid of an earlier row. No ids of the grid axes can describe both rows, so it is pinned.
        """
        if not isinstance(axis, np.ndarray):
            return list(sizes)
        if _is_line(axis, sizes) and not self._parts:
            return [axis if n > 1 else n for n in sizes]
        maps: list[list[np.ndarray]] = [[] for _ in sizes]  # for each grid axis, the rows of its map
        split_axes: set[int] = set()
        for row in self._rows(axis, sizes):
            varying = _varying_axes(row, sizes)
            if len(varying) == 1:
                maps[varying[0]].append(_row_along(row, sizes, varying[0]))
            elif split_axes.isdisjoint(varying):
                split_axes.update(varying)
                for i, grid_ids in self._split(row, sizes, varying, reason).items():
                    maps[i].append(grid_ids)
            else:
                self.pin(row[None], reason)
        return [np.concatenate(rows) if rows else n for rows, n in zip(maps, sizes, strict=True)]

    def _rows(self, axis: np.ndarray, sizes: Sequence[int]) -> Iterator[np.ndarray]:
        """The different rows of a map that have ids. Ids that an earlier grid has split are replaced by their parts, if
        the parts fit these sizes."""
        rows = {row.tobytes(): row for whole in axis for row in self._rows_of_parts(whole, sizes)}
        return (row for row in rows.values() if (row != FIXED).any())

    def _rows_of_parts(self, row: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """The rows of the parts of the ids of a row, if they fit a grid of these sizes; otherwise the row itself.

        If a grid of (2, 4) is then reshaped to (2, 2, 2), the ids of its first axis are used again, and only its second
        axis is split. Parts are created after the ids that they replace, so the recursion ends.
        """
        parts = [self._parts.get(channel_id, ()) for channel_id in row.tolist()]
        # Only a row in which every id has the same number of parts can be replaced by rows of parts.
        if not parts[0] or len(set(map(len, parts))) > 1:
            return [row]
        rows = [last for part in np.array(parts).T for last in self._rows_of_parts(part, sizes)]
        # Two rows that have to be split along the same axis would need two sets of ids for it.
        split_axes = [axis for last in rows if len(varying := _varying_axes(last, sizes)) > 1 for axis in varying]
        return rows if len(split_axes) == len(set(split_axes)) else [row]

    def _split(
        self, row: np.ndarray, sizes: Sequence[int], axes: Sequence[int], reason: Reason
    ) -> dict[int, np.ndarray]:
        """Fresh ids for some axes of a grid, which become the parts of the ids of a row."""
        grid_ids = {i: self.fresh(sizes[i]) for i in axes}
        # The row is constant along the other axes, so they get no ids, only their size.
        parts = merge([grid_ids.get(i, n) for i, n in enumerate(sizes)])
        assert isinstance(parts, np.ndarray)
        self._equalities.grids.append((row, parts))
        self._parts.update(zip(row.tolist(), map(tuple, parts.T.tolist()), strict=True))
        self.ties.append(Tie(row[None], parts, reason))
        return grid_ids

    def reshape(self, axes: Sequence[Axis], sizes: Sequence[int | None], reason: Reason) -> list[Axis]:
        """The axes of a reshaped tensor.

        The shortest runs of old and new axes with equal products are reshaped on their own: the old axes are merged,
        and the result becomes a grid. If unknown sizes make this impossible, the ids are pinned.
        """
        runs = matching_runs([size(axis) for axis in axes], sizes)
        if runs is None:
            return self._reshape_around_unknown(axes, sizes, reason)
        reshaped: list[Axis] = []
        for old, new in runs:
            new_sizes = sizes[new]
            if len(new_sizes) == len(axes[old]) == 1:
                reshaped += axes[old]
            elif new_sizes and axes[old]:
                reshaped += self.grid(merge(axes[old]), new_sizes, reason)  # type: ignore[arg-type]
            else:  # axes of size 1 that appear or disappear
                self.pin(merge(axes[old]) if axes[old] else None, reason)
                reshaped += new_sizes
        return reshaped

    def _reshape_around_unknown(self, axes: Sequence[Axis], sizes: Sequence[int | None], reason: Reason) -> list[Axis]:
        """Reshapes the longest trailing axes with known and equal products; pins the axes before them."""
        old_sizes = [size(axis) for axis in axes]
        tails = [
            (i, j)
            for i in range(len(old_sizes))
            for j in range(len(sizes))
            if _product(old_sizes[i:]) == _product(sizes[j:])
        ]
        # The first pair is the longest tail. Nearly always, only the batch axis before it is unknown.
        i, j = next(((i, j) for i, j in tails if None not in old_sizes[i:]), (len(old_sizes), len(sizes)))
        for axis in axes[:i]:
            self.pin(axis, reason)
        tail = self.reshape(axes[i:], sizes[j:], reason) if i < len(old_sizes) else ()
        return [*sizes[:j], *tail]

    def solve(self) -> Solution:
        """The final ids of every id, and the pins of every final id."""
        return solve(self.count, self.pins, self.ties, self._equalities)


def matching_runs(olds: Sequence[int | None], news: Sequence[int | None]) -> list[tuple[slice, slice]] | None:
    """The shortest runs of old and new sizes with equal products; None if an unknown size prevents it.

        old   4  4 | 8
        new    16  | 2  4

    >>> matching_runs([4, 4, 8], [16, 2, 4])
    [(slice(0, 2, None), slice(0, 1, None)), (slice(2, 3, None), slice(1, 3, None))]
    """
    runs: list[tuple[slice, slice]] = []
    i = j = 0
    # Every run takes at least one size from either side, and every step of the inner loop takes one more.
    while i < len(olds) or j < len(news):
        end_i, end_j = min(i + 1, len(olds)), min(j + 1, len(news))
        while (a := _product(olds[i:end_i])) != (b := _product(news[j:end_j])):
            if a is None or b is None or (a < b and end_i == len(olds)) or (a > b and end_j == len(news)):
                return None
            end_i, end_j = end_i + (a < b), end_j + (a > b)
        runs.append((slice(i, end_i), slice(j, end_j)))
        i, j = end_i, end_j
    return runs


def _is_line(axis: np.ndarray, sizes: Sequence[int]) -> bool:
    """Whether a map of one row becomes a grid with a single axis that is longer than 1."""
    if len(axis) > 1 or axis.shape[1] not in sizes or axis.shape[1] < 2:
        return False
    return bool(axis[0, 0] != FIXED or (axis != FIXED).any())


def _varying_axes(row: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """The axes of a grid along which a row varies; the longest axis if the row is constant.

    >>> _varying_axes(np.array([0, 0, 1, 1]), [2, 2]), _varying_axes(np.array([0, 1, 2, 3]), [2, 2])
    ([0], [0, 1])
    """
    cells = row.reshape(sizes)
    varying = [i for i, n in enumerate(sizes) if n > 1 and not (cells == cells.take([0], axis=i)).all()]
    return varying or [max(range(len(sizes)), key=lambda i: (sizes[i], i))]


def _row_along(row: np.ndarray, sizes: Sequence[int], axis: int) -> np.ndarray:
    """The ids along one axis of a grid, of a row that varies along no other axis. Shape (1, size of the axis).

    >>> _row_along(np.array([4, 4, 5, 5]), [2, 2], 0)
    array([[4, 5]])
    """
    return np.moveaxis(row.reshape(sizes), axis, -1).reshape(-1, sizes[axis])[:1]


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else prod(sizes)  # type: ignore[arg-type]
