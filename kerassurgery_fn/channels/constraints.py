"""Where a walk through a model writes down what it learns about channel ids."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from kerassurgery_fn.channels.axes import FIXED, Axis, merge, size
from kerassurgery_fn.channels.solution import Pin, Solution, Tie
from kerassurgery_fn.channels.solver import Equalities, solve
from kerassurgery_fn.errors import BadValue


class Constraints:
    """What a walk through a model learns about its ids."""

    def __init__(self) -> None:
        self.count = 0
        self.pins: list[Pin] = []
        self.ties: list[Tie] = []
        self._said = Equalities([], [], [])
        self._stands: dict[int, tuple[int, ...]] = {}

    def fresh(self, n: int) -> np.ndarray:
        """A map of n new ids.

        Raises:
            BadValue: n is no number of channels.
        """
        if type(n) is not int or n < 0:
            raise BadValue(f"{n!r} is no number of channels")
        self.count += n
        return np.arange(self.count - n, self.count)[None]

    def pin(self, axis: Axis, reason: str, output: bool = False) -> None:
        """None of an axis' ids can be cut."""
        if isinstance(axis, np.ndarray):
            self.pins.append(Pin(axis, reason, output))

    def tie(self, a: Axis, b: Axis, reason: str) -> None:
        """Position by position the same fate; where one side has no ids, or another size, the other side is pinned."""
        if a is b:
            return
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.shape[1] != b.shape[1]:
            self.pin(a, reason)
            self.pin(b, reason)
            return
        self.ties.append(Tie(a, b, reason))
        (self._said.pairs if len(a) == len(b) == 1 else self._said.composite).append((a, b))

    def grid(self, axis: Axis, sizes: Sequence[int], reason: str) -> list[Axis]:
        """An axis seen as a grid: one axis for each of `sizes`, whose product is the axis' size.

        A row of the map that varies along one axis of the grid only belongs to that axis. A row that varies along
        several gets fresh ids for each of them, for which its own ids now stand. Ids that stand for the lines of an
        earlier grid are seen as these where they fit, so that both grids become one that is finer.
        """
        if not isinstance(axis, np.ndarray):
            return list(sizes)
        rows: list[list[np.ndarray]] = [[] for _ in sizes]
        taken: set[int] = set()
        for row in {line.tobytes(): line for each in axis for line in self._lines(each, sizes)}.values():
            if (row == FIXED).all():
                continue
            varies = _varies(row, sizes)
            if len(varies) == 1:
                cells = np.moveaxis(row.reshape(sizes), varies[0], -1)
                rows[varies[0]].append(cells.reshape(-1, sizes[varies[0]])[:1])
            elif taken & set(varies):
                self.pin(row[None], reason)
            else:
                taken |= set(varies)
                lines = {i: self.fresh(sizes[i]) for i in varies}
                parts = merge([lines.get(i, n) for i, n in enumerate(sizes)])
                assert isinstance(parts, np.ndarray)
                self._said.grids.append((row, parts))
                self._stands.update(zip(row.tolist(), map(tuple, parts.T.tolist()), strict=True))
                self.ties.append(Tie(row[None], parts, reason))
                for i, line in lines.items():
                    rows[i].append(line)
        return [np.concatenate(maps) if maps else n for maps, n in zip(rows, sizes, strict=True)]

    def _lines(self, row: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """A row as the rows of the lines that its ids stand for already, if none of these crosses another in a grid."""
        parts = [self._stands.get(one, ()) for one in row.tolist()]
        if not parts[0] or len(set(map(len, parts))) > 1:
            return [row]
        lines = [line for part in np.array(parts).T for line in self._lines(part, sizes)]
        across = [axis for line in lines if len(varies := _varies(line, sizes)) > 1 for axis in varies]
        return lines if len(across) == len(set(across)) else [row]

    def reshape(self, axes: Sequence[Axis], sizes: Sequence[int | None], reason: str) -> list[Axis]:
        """The axes of a reshaped tensor. Runs of axes with equal products are merged and split; where unknown sizes
        make that impossible, every id is pinned."""
        runs = _matching_runs([size(axis) for axis in axes], sizes)
        if runs is None:
            return self._reshape_around_unknown(axes, sizes, reason)
        made: list[Axis] = []
        for old, new in runs:
            if len(wanted := sizes[new]) == len(axes[old]) == 1:
                made += axes[old]
            elif wanted and axes[old]:
                made += self.grid(merge(axes[old]), wanted, reason)  # type: ignore[arg-type]
            else:
                self.pin(merge(axes[old]) if axes[old] else None, reason)
                made += wanted
        return made

    def _reshape_around_unknown(self, axes: Sequence[Axis], sizes: Sequence[int | None], reason: str) -> list[Axis]:
        """The longest ends of known and equal products are reshaped; what stands before them is pinned."""
        olds = [size(axis) for axis in axes]
        ends = [
            (i, j) for i in range(len(olds)) for j in range(len(sizes)) if _product(olds[i:]) == _product(sizes[j:])
        ]
        i, j = next(((i, j) for i, j in ends if None not in olds[i:]), (len(olds), len(sizes)))
        for axis in axes[:i]:
            self.pin(axis, reason)
        return [*sizes[:j], *(self.reshape(axes[i:], sizes[j:], reason) if i < len(olds) else ())]

    def solve(self) -> Solution:
        """The fate of every id: components of the ties, grids resolved, pins spread to all they reach."""
        return solve(self.count, self.pins, self.ties, self._said)


def _matching_runs(olds: Sequence[int | None], news: Sequence[int | None]) -> list[tuple[slice, slice]] | None:
    """The shortest runs of old and new sizes with equal products; None where an unknown size is in the way.

    >>> _matching_runs([4, 4, 8], [16, 2, 4])
    [(slice(0, 2, None), slice(0, 1, None)), (slice(2, 3, None), slice(1, 3, None))]
    """
    runs: list[tuple[slice, slice]] = []
    i = j = 0
    while i < len(olds) or j < len(news):
        end_i, end_j = min(i + 1, len(olds)), min(j + 1, len(news))
        while (a := _product(olds[i:end_i])) != (b := _product(news[j:end_j])):
            if a is None or b is None or (a < b and end_i == len(olds)) or (a > b and end_j == len(news)):
                return None
            end_i, end_j = end_i + (a < b), end_j + (a > b)
        runs.append((slice(i, end_i), slice(j, end_j)))
        i, j = end_i, end_j
    return runs


def _varies(row: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """The axes of a grid along which a row varies; the longest one if it is constant.

    >>> _varies(np.array([0, 0, 1, 1]), [2, 2]), _varies(np.array([0, 1, 2, 3]), [2, 2])
    ([0], [0, 1])
    """
    cells = row.reshape(sizes)
    varies = [i for i, n in enumerate(sizes) if n > 1 and not (cells == cells.take([0], axis=i)).all()]
    return varies or [max(range(len(sizes)), key=lambda i: (sizes[i], i))]


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else prod(sizes)  # type: ignore[arg-type]
