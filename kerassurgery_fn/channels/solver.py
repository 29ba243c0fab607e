"""How the solution of ids are worked out: components of ties, grids resolved, pins spread to all they reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from kerassurgery_fn.channels.axes import FIXED
from kerassurgery_fn.channels.solution import Pin, Solution, Tie

Pair = tuple[np.ndarray, np.ndarray]


class Equalities(NamedTuple):
    """What was said to die together: `pairs` of maps of one row, `composite` maps of several rows, and `grids`, rows
    that stand for lines."""

    pairs: list[Pair]
    composite: list[Pair]
    grids: list[Pair]


def solve(count: int, pins: list[Pin], ties: list[Tie], said: Equalities) -> Solution:
    """The fate of each of so many ids."""
    return _Solver(count, pins, ties, said).solution()


class Equality(NamedTuple):
    """Two lists of ids that die together: one list does when any of its ids does. The reason is that of a pin, where
    they cannot be made to."""

    a: tuple[int, ...]
    b: tuple[int, ...]
    reason: str


class _Solver:
    """The work of `solve`, in rounds: tie, look which lists of ids do not die together though they should."""

    def __init__(self, count: int, pins: list[Pin], ties: list[Tie], said: Equalities) -> None:
        self.root = np.arange(count + 1)
        self.pins, self.ties = list(pins), ties
        self.parts: dict[int, list[int]] = {}
        self._unite(said.pairs)
        facts: list[Equality] = []
        for row, parts in said.grids:
            live = row != FIXED
            facts += _facts(row[None, live], parts[:, live], "it is seen as two grids that do not fit each other")
            if not live.all():
                self.pins.append(Pin(parts[:, ~live], "it shares lines of a grid with positions that are no channels"))
        for a, b in said.composite:
            facts += _facts(a, b, "it is joined with positions of another grid")
        self.facts = list(dict.fromkeys(facts))
        while more := self._disagreements():
            self._unite([(np.array(more).T[:1], np.array(more).T[1:])])

    def _unite(self, ties: Sequence[Pair]) -> None:
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
        meetings: list[tuple[list[int], list[int], Equality]] = []
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

    def solution(self) -> Solution:
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
        return Solution(table, dict(reasons), self.ties)

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


def _facts(a: np.ndarray, b: np.ndarray, reason: str) -> list[Equality]:
    """Position by position what dies together in two maps."""
    return [Equality(tuple(x), tuple(y), reason) for x, y in zip(a.T.tolist(), b.T.tolist(), strict=True)]


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
