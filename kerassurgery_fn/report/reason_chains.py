"""Finds out why channels are deleted: chains of ties that lead back to a selected channel.

The final ids of a solution say which channels are deleted together, but not why. The reason is a path in the graph of
ties. With a selected, b tied to a by the layer `sum_1`, and c tied to b by `sum_2`:

    a --- sum_1 --- b --- sum_2 --- c       the chain of c: "sum_2 ties it to b", "sum_1 ties it to a"

A breadth-first search from the selected ids finds the shortest chain for every id.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from toolz import unique

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, Reason, Tie


class Link(NamedTuple):
    """One step of a chain: the layer that ties a channel to the channel before it, and the address of that channel."""

    by: str
    address: str
    channel: int

    def __str__(self) -> str:
        return f"{self.by} ties it to {self.address} channel {self.channel}"


class Chains:
    """Shortest chains of ties from the deleted ids of a model back to the selected ids."""

    def __init__(self, flow: Flow, dead: np.ndarray, selected: Iterable[int]) -> None:
        self.producers = producers_of_ids(flow)
        self.ties = flow.solution.ties
        self._previous = _search(_neighbours(flow, dead), selected)

    def reaches(self, channel_id: int) -> bool:
        """Whether an id is deleted because of a selected id."""
        return channel_id in self._previous

    def chain(self, channel_id: int) -> tuple[Link, ...]:
        """The links from an id back to a selected id.

        Some ids on the way belong to no producer (the ids of grid axes, for example). Their ties are joined with the
        next link.
        """
        links: list[Link] = []
        tying_layers: list[str] = []
        while (previous := self._previous.get(channel_id)) is not None:
            channel_id, tie = previous
            tying_layers.append(tying_layer(self.ties[tie].reason))
            if channel_id in self.producers:
                links.append(Link(" and ".join(unique(tying_layers)), *self.producers[channel_id]))
                tying_layers = []
        return tuple(links)


def producers_of_ids(flow: Flow) -> dict[int, tuple[str, int]]:
    """Id -> the address of the channels that got the id from their producer, and the index of the channel."""
    producers: dict[int, tuple[str, int]] = {}
    first_kinds: dict[str, str] = {}
    for (path, kind), producer in flow.producers.items():
        address = path if first_kinds.setdefault(path, kind) == kind else f"{path}:{kind}"
        for row in producer.axis:  # type: ignore[union-attr]
            for channel, channel_id in enumerate(row.tolist()):
                if channel_id != FIXED:
                    producers.setdefault(channel_id, (address, channel))
    return producers


def tying_layer(reason: Reason) -> str:
    """The layer that added a tie.

    >>> tying_layer(Reason("adds them", "res_3", "Add")), tying_layer(Reason("is called several times", "a"))
    ("Add 'res_3'", "'a' (called several times)")
    """
    if not reason.layer:
        return "the model"
    return f"{reason.class_name} {reason.layer!r}" if reason.class_name else f"{reason.layer!r} (called several times)"


def _neighbours(flow: Flow, dead: np.ndarray) -> dict[int, list[tuple[int, int]]]:
    """Deleted id -> the deleted ids that it is tied to, each with the index of the tie."""
    is_deleted = np.append(dead[flow.solution.table[:, :-1]].any(axis=0), False)  # the last entry is FIXED
    neighbours: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index, tie in enumerate(flow.solution.ties):
        for a, b in _tied_pairs(tie, is_deleted):
            neighbours[a].append((b, index))
            neighbours[b].append((a, index))
    return neighbours


def _tied_pairs(tie: Tie, is_deleted: np.ndarray) -> Iterator[tuple[int, int]]:
    """The pairs of deleted ids at equal positions of the two maps of a tie."""
    for a, b in product(tie.a, tie.b):
        both = is_deleted[a] & is_deleted[b]
        yield from zip(a[both].tolist(), b[both].tolist(), strict=True)


def _search(neighbours: dict[int, list[tuple[int, int]]], start: Iterable[int]) -> dict[int, tuple[int, int] | None]:
    """Breadth-first search: id -> (previous id, index of the tie between them), None for the ids of the start."""
    previous: dict[int, tuple[int, int] | None] = dict.fromkeys(start)
    queue = deque(previous)
    while queue:
        channel_id = queue.popleft()
        for neighbour, tie in neighbours.get(channel_id, ()):
            if neighbour not in previous:
                previous[neighbour] = (channel_id, tie)
                queue.append(neighbour)
    return previous
