"""Solves the constraints: finds the ids that are deleted together, the parts of grids, and the pins of every id.

The solver keeps two tables:

- `root`: ids with the same root are deleted together;
- `parts`: a root that a grid splits has parts, one id for each grid axis. Its channels are deleted when any of the
  parts is deleted.

Four channels (ids 0 to 3) that are reshaped to two heads (ids 4 and 5) of two places (ids 6 and 7):

    channel   0   1   2   3
    head      4   4   5   5        parts = {0: [4, 6], 1: [4, 7], 2: [5, 6], 3: [5, 7]}
    place     6   7   6   7

If an Add ties channel 0 to channel 2, then [4, 6] and [5, 6] have to be deleted together. The solver therefore ties
head 4 to head 5. A place can then still be deleted alone, but no longer a head.

>>> channels, parts = np.array([0, 1, 2, 3]), np.array([[4, 4, 5, 5], [6, 7, 6, 7]])
>>> add = (np.array([[0]]), np.array([[2]]))
>>> solve(8, [], [], Equalities([], [add], [], [(channels, parts)])).table
array([[ 4,  4,  4,  4,  4,  4,  6,  7, -1],
       [ 6,  7,  6,  7,  4,  4,  6,  7, -1]])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from kerassurgery_fn.channels.axes import FIXED
from kerassurgery_fn.channels.solution import Pin, Reason, Solution, Tie

Pair = tuple[np.ndarray, np.ndarray]


class Equalities(NamedTuple):
    """The maps that are deleted together, position by position.

    - `whole`: two maps, each with all ids of a kind that one layer creates, which are consecutive;
    - `pairs`: two other maps of one row each;
    - `composite`: two maps, one of them at least with several rows;
    - `grids`: a row of ids, shape (n,), and the map of their parts.
    """

    whole: list[Pair]
    pairs: list[Pair]
    composite: list[Pair]
    grids: list[Pair]


class Equality(NamedTuple):
    """Two positions that are deleted together. A position is deleted when any of its ids is deleted. If the solver
    cannot satisfy the equality in another way, it pins the ids for the `reason`."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    reason: Reason


Mismatch = tuple[list[int], list[int], Equality]


def solve(count: int, pins: list[Pin], ties: list[Tie], equalities: Equalities) -> Solution:
    """The solution of the constraints on the ids 0 to count - 1."""
    return _Solver(count, pins, ties, equalities).solution()


class _Solver:
    """Works in rounds of two steps: first assign `parts`, then tie ids if the parts of equal positions differ.

    In the example of the module, the first round assigns the parts of channels 0 to 3. The tie of channels 0 and 2 then
    requires [4, 6] = [5, 6], so head 4 is tied to head 5. In the second round, all equalities hold, so it is the last.

    Every tie unites two different roots, so there are at most as many rounds as ids. After the last round, every
    equality holds by `root` and `parts`, or its ids are pinned.
    """

    def __init__(self, count: int, pins: list[Pin], ties: list[Tie], equalities: Equalities) -> None:
        # There is one element more than ids: FIXED is -1, so it indexes the last element.
        self.root = np.arange(count + 1)
        self.pins, self.ties = list(pins), ties
        self.parts: dict[int, list[int]] = {}
        self._unite_whole(equalities.whole)
        self._unite(equalities.pairs)
        # Many positions repeat the same equality (a flattened image has one for each pixel), so duplicates are removed.
        self.equalities = list(dict.fromkeys(self._by_position(equalities)))
        while missing := self._missing_ties():
            left, right = np.array(missing).T
            self._unite([(left[None], right[None])])

    def _by_position(self, equalities: Equalities) -> list[Equality]:
        """The equalities of grids and composite maps, one for each position."""
        positions: list[Equality] = []
        for row, parts in equalities.grids:
            has_id = row != FIXED
            reason = Reason("it is split into two grids that do not fit each other")
            positions += _equalities(row[None, has_id], parts[:, has_id], reason)
            if not has_id.all():
                # A position without an id is never deleted, and neither are the head and the place that it has.
                reason = Reason("its head or group also has positions that are not channels")
                self.pins.append(Pin(parts[:, ~has_id], reason))
        for a, b in equalities.composite:
            positions += _equalities(a, b, Reason("it is tied to positions of another grid"))
        return positions

    def _unite_whole(self, pairs: Sequence[Pair]) -> None:
        """Gives the ids of each pair the same root. No other pair is united yet, and the ids of a map are consecutive,
        so the first ids of the maps stand for all their ids:

            pairs ([2 3], [0 1]), ([4 5], [2 3])        earlier = {2: 0, 4: 0}, so 2 and 4 -> 0, 3 and 5 -> 1
        """
        earlier: dict[int, int] = {}  # the first id of a map -> the first id of an earlier map that is tied to it
        sizes: dict[int, int] = {}
        for pair in pairs:
            low, high = sorted(_end(earlier, int(channel_map[0, 0])) for channel_map in pair)
            if low < high:
                earlier[high], sizes[high] = low, pair[0].shape[1]
        for first, size in sizes.items():
            low = _end(earlier, first)
            self.root[first : first + size] = np.arange(low, low + size)

    def _unite(self, pairs: Sequence[Pair]) -> None:
        """Gives the ids of each pair the same root. In each pass, the larger root of every pair points to the smaller
        root, and then every id follows the pointers to their end:

            pairs (0, 2), (2, 3)        root before the pass    0 1 2 3
                                        pointers                0 1 0 2      2 -> 0 and 3 -> 2
                                        root after the pass     0 1 0 0

        A root is never larger than its ids, so the pointers form no cycle. Each pass removes at least one root, so the
        passes end.
        """
        if not pairs:
            return
        a, b = (np.concatenate([pair[side][0] for pair in pairs]) for side in (0, 1))
        a, b = self._without_fixed(a, b)
        root = self.root
        while len(a):
            left, right = root[a], root[b]
            apart = left != right
            a, b, left, right = a[apart], b[apart], left[apart], right[apart]
            # If several pairs have the same larger root, one pair wins; the others need another pass.
            root[np.maximum(left, right)] = np.minimum(left, right)
            while not np.array_equal(root, shorter := root[root]):
                root = shorter
        self.root = root

    def _without_fixed(self, a: np.ndarray, b: np.ndarray) -> Pair:
        """The pairs without `FIXED`. An id that is paired with `FIXED` is pinned."""
        fixed = (a == FIXED) | (b == FIXED)
        if not fixed.any():  # nearly always
            return a, b
        ids = np.concatenate([a[fixed], b[fixed]])
        self._pin(ids[ids != FIXED], Reason("it is tied to positions that are not channels"))
        return a[~fixed], b[~fixed]

    def _missing_ties(self) -> list[tuple[int, int]]:
        """The ties that are needed so that all equalities hold. If there are none, the ids of the equalities that do
        not hold are pinned."""
        ties: dict[tuple[int, int], None] = {}
        impossible: list[Equality] = []
        for left, right, equality in self._assign_parts():
            pairs = self._equate(left, right)
            if pairs is None:
                impossible.append(equality)
            else:
                ties.update(dict.fromkeys(pairs))
        # A new tie can make an impossible equality possible, so ids are only pinned when there are no more ties.
        if not ties:
            for equality in impossible:
                self._pin(self._roots(equality.left + equality.right), equality.reason)
        return list(ties)

    def _assign_parts(self) -> list[Mismatch]:
        """Assigns `parts` by the equalities, and returns the equalities that do not hold after that.

        A root that equals several ids gets these ids as its parts. A root has only one list of parts: if another
        equality has a different list for it, the two lists must become equal.
        """
        # Starts with empty parts, because a new tie can have united roots, or made parts of a root equal.
        self.parts = {}
        mismatches: list[Mismatch] = []
        for equality in self.equalities:
            short, long = sorted((self._roots(equality.left), self._roots(equality.right)), key=len)
            # Example: short = [0], long = [4, 6]. Channel 0 is deleted with head 4 and with place 6.
            if len(short) == 1 and short[0] not in long:
                parts = self.parts.setdefault(short[0], long)
                if parts != long:
                    mismatches.append((long, parts, equality))
            # Two lists of several ids, such as [4, 6] and [5, 6]: neither side can be the parts of the other.
            elif set(short) != set(long):
                mismatches.append((short, long, equality))
        return mismatches

    def _equate(self, left: list[int], right: list[int]) -> list[tuple[int, int]] | None:
        """Makes two lists of ids equal.

        Returns:
            The ties that make them equal. They are empty if `parts` makes them equal: a single id on one side gets the
            ids of the other side as its parts. None if neither is possible.
        """
        # Parts can have parts themselves. Lists that differ are often equal after ids are replaced by their last parts.
        a, b = self._last_parts(left), self._last_parts(right)
        pairs = _pairs_to_tie(a, b)
        if pairs is not None:
            return pairs
        short, long = sorted((_without(a, b), _without(b, a)), key=len)
        if len(short) == 1 and short[0] not in self.parts:
            self.parts[short[0]] = long
            return []
        # The numbers of last parts differ, but the original lists can still match one by one.
        return _pairs_to_tie(left, right)

    def _last_parts(self, ids: Iterable[int], above: frozenset[int] = frozenset()) -> list[int]:
        """The ids after each id is replaced by its parts, and these by their parts. An id inside its own parts
        stays."""
        last: list[int] = []
        for channel_id in ids:
            parts = None if channel_id in above else self.parts.get(channel_id)
            last += self._last_parts(parts, above | {channel_id}) if parts else [channel_id]
        return list(dict.fromkeys(last))

    def _roots(self, ids: Iterable[int]) -> list[int]:
        """The roots of ids, each once, in order; without `FIXED`."""
        return list(dict.fromkeys(int(self.root[i]) for i in ids if i != FIXED))

    def _pin(self, ids: Iterable[int], reason: Reason) -> None:
        self.pins.append(Pin(np.array([list(ids)], int), reason))

    def solution(self) -> Solution:
        """The final ids of every id, and the pins of every final id."""
        final_parts: dict[int, tuple[int, ...]] = {}
        for root in self.parts:
            self._follow(root, final_parts, frozenset())
        table = self._table(final_parts)
        return Solution(table, self.pins, self.ties)

    def _follow(self, root: int, final_parts: dict[int, tuple[int, ...]], above: frozenset[int]) -> tuple[int, ...]:
        """The parts of a root that have no parts themselves. A root that is one of its own parts is pinned.

        `final_parts` has the results so far, so that each root is followed once. `above` has the roots on the way to
        this one, so that the recursion ends in a cycle.
        """
        if root in final_parts:
            return final_parts[root]
        if root in above:
            self._pin([root], Reason("its grid is tied to itself"))
        if root in above or root not in self.parts:
            return (root,)
        parts = [last for part in self.parts[root] for last in self._follow(part, final_parts, above | {root})]
        final_parts[root] = tuple(dict.fromkeys(parts))
        return final_parts[root]

    def _table(self, final_parts: dict[int, tuple[int, ...]]) -> np.ndarray:
        """The final ids of every id, shape (k, ids + 1). If an id has fewer than k final ids, the first is repeated."""
        # A repeated id has no effect, because a position is deleted when any of its ids is deleted.
        rows = max(map(len, final_parts.values()), default=1)
        table = np.repeat(self.root[None], rows, axis=0)
        if final_parts:
            for root, parts in final_parts.items():
                table[:, root] = [*parts, *parts[:1] * (rows - len(parts))]
            table = table[:, self.root]
        table[:, FIXED] = FIXED
        return table


def _end(pointers: dict[int, int], start: int) -> int:
    """The end of a chain of pointers. Shortens the chain, so that the next walk along it takes fewer steps."""
    while start in pointers:
        following = pointers[start]
        pointers[start] = pointers.get(following, following)
        start = following
    return start


def _equalities(a: np.ndarray, b: np.ndarray, reason: Reason) -> list[Equality]:
    """The equality of each position of two maps."""
    return [Equality(tuple(left), tuple(right), reason) for left, right in zip(a.T.tolist(), b.T.tolist(), strict=True)]


def _pairs_to_tie(a: list[int], b: list[int]) -> list[tuple[int, int]] | None:
    """The pairs of ids to tie so that two lists of ids are deleted together; None if there are none.

    Ids that both lists have need no tie. The other ids are tied in order; if only one list has other ids, they are tied
    to a shared id.

    >>> _pairs_to_tie([1, 2], [3, 2]), _pairs_to_tie([1], [1, 2]), _pairs_to_tie([1], [2, 3])
    ([(1, 3)], [(1, 2)], None)
    """
    shared = [i for i in a if i in b]
    a, b = _without(a, shared), _without(b, shared)
    if len(a) == len(b):
        return list(zip(a, b, strict=True))
    if shared and not (a and b):
        return [(shared[0], i) for i in a + b]
    return None


def _without(ids: list[int], others: list[int]) -> list[int]:
    """The ids that are not among the others, in order."""
    return [i for i in ids if i not in others]
