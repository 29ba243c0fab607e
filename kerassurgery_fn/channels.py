"""Channel ids: who lives and dies together, and cutting one axis.

An **axis** of a tensor or weight is one of three things:

- its *channel map*, an integer array of shape (k, n): position p dies when any of the ids in column p dies.
  k is 1 nearly always; more where a position belongs to a head *and* to a place within the head. The id
  `FIXED` never dies;
- its size, an int, where there is nothing to cut (time, space, a model's input);
- None, where not even the size is known (the batch).

The functions of this module are pure; `Ledger` is where a walk through a model writes down what it learns about
ids, and `Ledger.settle` works out the fate of each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

Axis = np.ndarray | int | None
FIXED = -1


def size(axis: Axis) -> int | None:
    """The number of positions of an axis, None where it is not known.

    >>> size(np.array([[7, 8, 9]])), size(4), size(None)
    (3, 4, None)
    """
    return axis.shape[1] if isinstance(axis, np.ndarray) else axis


def has_ids(axis: Axis) -> bool:
    """Whether anything of an axis can be cut or is tied to something."""
    return isinstance(axis, np.ndarray)


def same_axis(a: Axis, b: Axis) -> bool:
    """Whether two axes are the same map or the same size."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a is b or np.array_equal(a, b)
    return type(a) is type(b) and a == b


def column(axis: Axis) -> np.ndarray:
    """The map of an axis of known size; positions without ids are fixed.

    >>> column(2)
    array([[-1, -1]])
    """
    return axis if isinstance(axis, np.ndarray) else np.full((1, axis or 0), FIXED)


def select(axis: Axis, index: slice | Sequence[int] | np.ndarray) -> Axis:
    """The axis of some positions of an axis, as numpy would index it.

    >>> select(np.array([[7, 8, 9]]), slice(1, None))
    array([[8, 9]])
    >>> select(5, slice(1, None)), select(None, [0, 1])
    (4, 2)
    """
    if isinstance(axis, np.ndarray):
        return axis[:, index]
    if axis is None:
        return None if isinstance(index, slice) else len(index)
    return len(np.arange(axis)[index])


def join(axes: Sequence[Axis]) -> Axis:
    """Axes one after the other, as a concatenation has them; None if a size is unknown.

    >>> join([np.array([[7, 8]]), 2, np.array([[9], [5]])])
    array([[ 7,  8, -1, -1,  9],
           [-1, -1, -1, -1,  5]])
    >>> join([2, 3])
    5
    """
    if any(axis is None for axis in axes):
        return None
    if not any(map(has_ids, axes)):
        return sum(size(axis) or 0 for axis in axes)
    maps = [column(axis) for axis in axes]
    rows = max(len(m) for m in maps)
    return np.concatenate([_with_rows(m, rows) for m in maps], axis=1)


def repeat(axis: Axis, times: int) -> Axis:
    """Every position `times` times in a row.

    >>> repeat(np.array([[7, 8]]), 2)
    array([[7, 7, 8, 8]])
    """
    return np.repeat(axis, times, axis=1) if isinstance(axis, np.ndarray) else axis and axis * times


def tile(axis: Axis, times: int) -> Axis:
    """The whole axis `times` times in a row.

    >>> tile(np.array([[7, 8]]), 2)
    array([[7, 8, 7, 8]])
    """
    return np.tile(axis, times) if isinstance(axis, np.ndarray) else axis and axis * times


def merge(axes: Sequence[Axis]) -> Axis:
    """Several axes laid flat, the last one fastest: each position carries the ids of all its coordinates.

    >>> merge([2, np.array([[7, 8]])])
    array([[7, 8, 7, 8]])
    >>> merge([np.array([[5, 6]]), np.array([[7, 8]])])
    array([[5, 5, 6, 6],
           [7, 8, 7, 8]])
    """
    if len(axes) == 1:
        return axes[0]
    sizes = [size(axis) for axis in axes]
    if None in sizes:
        return None
    rows = [
        tile(repeat(axis, prod(sizes[i + 1 :])), prod(sizes[:i]))  # type: ignore[arg-type]
        for i, axis in enumerate(axes)
        if has_ids(axis)
    ]
    return np.concatenate(rows) if rows else prod(sizes)  # type: ignore[arg-type]


def _with_rows(axis: np.ndarray, rows: int) -> np.ndarray:
    """The same map in more rows, which hold no ids."""
    return np.pad(axis, ((0, rows - len(axis)), (0, 0)), constant_values=FIXED)


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


class Pin(NamedTuple):
    """Ids that cannot be cut and the reason in words; `output` if it is only that the model's output would change."""

    ids: np.ndarray
    reason: str
    output: bool = False


class Tie(NamedTuple):
    """Maps that live and die together position by position, and what ties them in words."""

    a: np.ndarray
    b: np.ndarray
    reason: str


class Ledger:
    """What a walk through a model learns about its ids."""

    def __init__(self) -> None:
        self.count = 0
        self.pins: list[Pin] = []
        self.ties: list[Tie] = []
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []
        self._composite: list[tuple[np.ndarray, np.ndarray]] = []
        self._grids: list[tuple[np.ndarray, np.ndarray]] = []
        self._stands: dict[int, tuple[int, ...]] = {}

    def fresh(self, n: int) -> np.ndarray:
        """A map of n new ids."""
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
        (self._ties if len(a) == len(b) == 1 else self._composite).append((a, b))

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
                self._grids.append((row, parts))
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

    def settle(self) -> Fates:
        """The fate of every id: components of the ties, grids resolved, pins spread to all they reach."""
        return _Settling(self).fates()


@dataclass(frozen=True)
class Fates:
    """What has become of each id after all ties, grids and pins.

    `table` has, for each id, the final ids it stands for: shape (k, ids + 1), the last column for `FIXED`. `reasons`
    has the pins of each final id that has any. `ties` has all that was said to live and die together.
    """

    table: np.ndarray
    reasons: dict[int, list[Pin]]
    ties: list[Tie] = field(default_factory=list, repr=False)

    @property
    def ids(self) -> int:
        """How many ids there are; final ids are among them."""
        return self.table.shape[1] - 1

    def resolve(self, axis: np.ndarray) -> np.ndarray:
        """A map in final ids, shape (k, n)."""
        return self.table[:, axis].reshape(len(self.table) * len(axis), axis.shape[1])

    def kept(self, axis: np.ndarray, dead: np.ndarray) -> np.ndarray:
        """The positions of an axis that survive, given which final ids are dead (bool, one an id and a last False)."""
        return np.flatnonzero(~dead[self.resolve(axis)].any(axis=0))

    def nobody(self) -> np.ndarray:
        """The `dead` of a world in which every id lives."""
        return np.zeros(self.table.shape[1], bool)

    def pinned(self, *, output: bool = True) -> np.ndarray:
        """Which final ids are pinned, like `nobody`; if not `output`, without those that only an output holds."""
        mask = self.nobody()
        mask[[final for final, pins in self.reasons.items() if output or not all(pin.output for pin in pins)]] = True
        return mask


class Fact(NamedTuple):
    """Two lists of ids that die together: one list does when any of its ids does. The reason is that of a pin, where
    they cannot be made to."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    reason: str


class _Settling:
    """The work of `Ledger.settle`, in rounds: tie, look which lists of ids do not die together though they should."""

    def __init__(self, ledger: Ledger) -> None:
        self.root = np.arange(ledger.count + 1)
        self.pins, self.ties = list(ledger.pins), ledger.ties
        self.parts: dict[int, list[int]] = {}
        self._unite(ledger._ties)
        facts: list[Fact] = []
        for row, parts in ledger._grids:
            live = row != FIXED
            facts += _facts(row[None, live], parts[:, live], "it is seen as two grids that do not fit each other")
            if not live.all():
                self.pins.append(Pin(parts[:, ~live], "it shares lines of a grid with positions that are no channels"))
        for a, b in ledger._composite:
            facts += _facts(a, b, "it is joined with positions of another grid")
        self.facts = list(dict.fromkeys(facts))
        while ties := self._disagreements():
            self._unite([(np.array(ties).T[:1], np.array(ties).T[1:])])

    def _unite(self, ties: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Components by hooking the larger root to the smaller and jumping pointers, all pairs at once."""
        if not ties:
            return
        a, b = (np.concatenate([tie[side][0] for tie in ties]) for side in (0, 1))
        fixed = (a == FIXED) | (b == FIXED)
        if fixed.any():
            both = np.concatenate([a[fixed], b[fixed]])
            self._pin(both[both != FIXED], "it is joined with positions that are no channels")
            a, b = a[~fixed], b[~fixed]
        root = self.root
        while len(a):
            ends = np.sort(root[np.stack([a, b])], axis=0)
            apart = ends[0] != ends[1]
            a, b, (low, high) = a[apart], b[apart], ends[:, apart]
            root[high] = low
            while not np.array_equal(root, jumped := root[root]):
                root = jumped
        self.root = root

    def _disagreements(self) -> list[tuple[int, int]]:
        """The ties that make lists of ids die together; where there are none, what cannot be made to is pinned.

        An id that should die with several stands for them from then on.
        """
        self.parts = {}
        meetings: list[tuple[list[int], list[int], Fact]] = []
        for fact in self.facts:
            one, many = sorted((self._roots(fact.a), self._roots(fact.b)), key=len)
            if len(one) == 1 and one[0] not in many:
                if self.parts.setdefault(one[0], many) != many:
                    meetings.append((many, self.parts[one[0]], fact))
            elif set(one) != set(many):
                meetings.append((one, many, fact))
        ties: dict[tuple[int, int], None] = {}
        misfits = [fact for one, many, fact in meetings if not self._agreed(one, many, ties)]
        if not ties:
            for fact in misfits:
                self._pin(self._roots(fact.a + fact.b), fact.reason)
        return list(ties)

    def _agreed(self, one: list[int], many: list[int], ties: dict[tuple[int, int], None]) -> bool:
        """Whether two lists of ids can be made to die together: by ties, or by one id that stands for the others."""
        a, b = self._deep(one), self._deep(many)
        same = _equated(a, b)
        if same is None:
            short, long = sorted(([i for i in a if i not in b], [i for i in b if i not in a]), key=len)
            if len(short) == 1 and short[0] not in self.parts:
                self.parts[short[0]] = long
                return True
            same = _equated(one, many)
        ties.update(dict.fromkeys(same or ()))
        return same is not None

    def _deep(self, ids: Iterable[int], above: frozenset[int] = frozenset()) -> list[int]:
        """What ids stand for in the end, as far as it is known."""
        made: list[int] = []
        for one in ids:
            below = None if one in above else self.parts.get(one)
            made += self._deep(below, above | {one}) if below else [one]
        return list(dict.fromkeys(made))

    def _roots(self, ids: Iterable[int]) -> list[int]:
        """Different roots in the order given, fixed ones left out."""
        return list(dict.fromkeys(int(self.root[i]) for i in ids if i != FIXED))

    def _pin(self, ids: Iterable[int], reason: str) -> None:
        self.pins.append(Pin(np.array([list(ids)], int), reason))

    def fates(self) -> Fates:
        """Every id followed to the last ids it stands for, and every pin with it."""
        final: dict[int, tuple[int, ...]] = {}
        for root in self.parts:
            self._follow(root, final, frozenset())
        table = np.repeat(self.root[None], max(map(len, final.values()), default=1), axis=0)
        if final:
            of_root = table.copy()
            for root, parts in final.items():
                of_root[:, root] = [*parts, *parts[:1] * (len(table) - len(parts))]
            table = of_root[:, self.root]
        table[:, FIXED] = FIXED
        reasons: dict[int, list[Pin]] = defaultdict(list)
        for pin in self.pins:
            for one in np.unique(table[:, pin.ids[pin.ids != FIXED]]).tolist():
                reasons[one].append(pin)
        return Fates(table, dict(reasons), self.ties)

    def _follow(self, root: int, final: dict[int, tuple[int, ...]], above: frozenset[int]) -> tuple[int, ...]:
        """The last ids that a root stands for; one that stands for itself is pinned."""
        if root in final:
            return final[root]
        if root in above:
            self._pin([root], "its grid is joined with itself")
        if root in above or root not in self.parts:
            return (root,)
        parts = [last for part in self.parts[root] for last in self._follow(part, final, above | {root})]
        final[root] = tuple(dict.fromkeys(parts))
        return final[root]


def _facts(a: np.ndarray, b: np.ndarray, reason: str) -> list[Fact]:
    """Position by position what dies together in two maps."""
    return [Fact(tuple(x), tuple(y), reason) for x, y in zip(a.T.tolist(), b.T.tolist(), strict=True)]


def _equated(a: list[int], b: list[int]) -> list[tuple[int, int]] | None:
    """Ties that make two lists of ids die together: what they share counts for both, the rest is tied in order.

    >>> _equated([1, 2], [3, 2]), _equated([1], [1, 2]), _equated([1], [2, 3])
    ([(1, 3)], [(1, 2)], None)
    """
    common = [i for i in a if i in b]
    a, b = [i for i in a if i not in common], [i for i in b if i not in common]
    if len(a) == len(b):
        return list(zip(a, b, strict=True))
    if common and not (a and b):
        return [(common[0], i) for i in a + b]
    return None
