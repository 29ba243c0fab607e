"""How the death of some channels leads to that of others: chains of ties through a model."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, Tie


class Link(NamedTuple):
    """One step of a chain: what ties a channel to the one before it, and where that one is made."""

    by: str
    address: str
    channel: int

    def __str__(self) -> str:
        return f"{self.by} ties it to {self.address} channel {self.channel}"


class Chains:
    """The ways on which dying ids reach each other: for each id the one before it and the tie between them."""

    def __init__(self, flow: Flow, dead: np.ndarray, asked: Iterable[int]) -> None:
        self.made = makers_of_ids(flow)
        self.ties = flow.solution.ties
        self._before = _spread(_edges(flow, dead), asked)

    def reaches(self, one: int) -> bool:
        """Whether the death of an id follows from what was asked for."""
        return one in self._before

    def chain(self, one: int) -> tuple[Link, ...]:
        """The links from an id back to one that was asked for; ids that no layer makes are passed over."""
        links: list[Link] = []
        by: list[str] = []
        while (before := self._before.get(one)) is not None:
            one, tie = before
            by.append(who_ties(self.ties[tie].reason))
            if one in self.made:
                links.append(Link(" and ".join(dict.fromkeys(by)), *self.made[one]))
                by = []
        return tuple(links)


def makers_of_ids(flow: Flow) -> dict[int, tuple[str, int]]:
    """Id -> the address of the channels that it was made for, and which of them it is."""
    made: dict[int, tuple[str, int]] = {}
    first: dict[str, str] = {}
    for (path, kind), producer in flow.producers.items():
        address = path if first.setdefault(path, kind) == kind else f"{path}:{kind}"
        for row in producer.axis:  # type: ignore[union-attr]
            for position, one in enumerate(row.tolist()):
                if one != FIXED:
                    made.setdefault(one, (address, position))
    return made


def who_ties(reason: str) -> str:
    """The layer that a tie comes from, by the words of its reason.

    >>> who_ties("'res_3' (Add) joins it with positions that are no channels"), who_ties("'a' is called twice")
    ("Add 'res_3'", "'a' (called several times)")
    """
    match = re.match(r"('.+?') (?:\((.+?)\))?", reason) or re.match(r"('.+?')", reason)
    if match is None:
        return "the model"
    name, kind = match.group(1), match.group(2) if match.re.groups > 1 else None
    return f"{kind} {name}" if kind else f"{name} (called several times)"


def _edges(flow: Flow, dead: np.ndarray) -> dict[int, list[tuple[int, int]]]:
    """Id -> the dying ids that it is tied to, each with the index of the tie."""
    dying = np.append(dead[flow.solution.table[:, :-1]].any(axis=0), False)
    edges: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index, tie in enumerate(flow.solution.ties):
        for a, b in _pairs(tie, dying):
            edges[a].append((b, index))
            edges[b].append((a, index))
    return edges


def _pairs(tie: Tie, dying: np.ndarray) -> Iterator[tuple[int, int]]:
    for a, b in product(tie.a, tie.b):
        both = dying[a] & dying[b]
        yield from zip(a[both].tolist(), b[both].tolist(), strict=True)


def _spread(edges: dict[int, list[tuple[int, int]]], asked: Iterable[int]) -> dict[int, tuple[int, int] | None]:
    """Every id that is reached from those asked for, with the id before it on a shortest way; None for these."""
    before: dict[int, tuple[int, int] | None] = dict.fromkeys(asked)
    waiting = deque(before)
    while waiting:
        one = waiting.popleft()
        for other, tie in edges.get(one, ()):
            if other not in before:
                before[other] = (one, tie)
                waiting.append(other)
    return before
