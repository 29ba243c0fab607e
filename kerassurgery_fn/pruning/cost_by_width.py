"""The cost of a model as a function of the widths of its groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.analysis.layer_costs import cost_by, cost_of, measure_of
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.pruning.cost_polynomials import Polynomials, Size, Terms, sum_of, terms_of
from kerassurgery_fn.pruning.latency_tables import LatencyTable
from kerassurgery_fn.pruning.layer_work import LayerWork, work_by
from kerassurgery_fn.pruning.model_latency import refuse_unmeasured
from kerassurgery_fn.values.snapshot import Snapshot

FIGURES = ("parameters", "macs", "bytes")


def owners_of(flow: Flow, groups: Sequence[Group]) -> np.ndarray:
    """The number of the group of each final id, -1 for none, shape (ids + 1,)."""
    owners = np.full(flow.solution.ids + 1, -1)
    for number, group in enumerate(groups):
        owners[group.ids] = number
    return owners


@dataclass
class AxisSizes:
    """A function from an axis to its number of positions as a `Size`, whose variables are the widths of groups.

    An axis that joins the channels of several groups is a variable of its own, so that the products of the sizes of
    two such axes stay short: `joined` has their polynomials, the variables after those of the groups.

    The size of an axis that does not follow from the widths of its groups is a plain int. The planner compares what it
    computes with the cost of the cut, and then leaves these groups alone where it matters.
    """

    flow: Flow
    groups: Sequence[Group]
    joined: dict[tuple[Any, ...], tuple[int, Terms]] = field(default_factory=dict)
    known: dict[int, tuple[Axis, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.owners = owners_of(self.flow, self.groups)
        self.pinned = np.array([*(group.pinned for group in self.groups), True], bool)  # the last one: of no group

    def __call__(self, axis: Axis) -> int:
        if not isinstance(axis, np.ndarray):
            return 1 if axis is None else axis
        if id(axis) not in self.known:
            self.known[id(axis)] = axis, self.size(axis)
        return self.known[id(axis)][1]

    def size(self, axis: np.ndarray) -> int:
        """The size of a channel map."""
        n = axis.shape[1]
        terms = self.terms(self.flow.solution.resolve(axis))
        if terms is None:
            return n
        if len(terms) < 2:
            return Size(n, terms)
        key = tuple(sorted(terms.items()))
        number, _ = self.joined.setdefault(key, (len(self.groups) + len(self.joined), terms))
        return Size(n, {(number,): 1})

    def terms(self, ids: np.ndarray) -> Terms | None:
        """The number of positions with some final ids as a polynomial of the widths, from shape (ids of a position, n).

        A position with the ids of two groups, a head and a place in it, is counted by the product of their widths.
        None if it is not that regular. Groups that cannot be cut do not count where they are not regular, as the rows
        and columns of an image that a Dense layer makes.
        """
        owners = self.owners[ids]
        free = np.where(self.pinned[owners], -1, owners)
        terms = self.regular_terms(ids, owners)
        return self.regular_terms(ids, free) if terms is None else terms

    def regular_terms(self, ids: np.ndarray, owners: np.ndarray) -> Terms | None:
        """The number of positions as a polynomial of the widths of the owners of their ids; None if it is not one."""
        terms: Terms = {}
        for position_owners, positions in _by_owners(owners):
            key = tuple(sorted({owner for owner in position_owners if owner >= 0}))
            widths = [len(self.groups[owner]) for owner in key]
            if not _is_regular(ids[:, positions], owners[:, positions], widths):
                return None
            terms[key] = terms.get(key, 0) + len(positions) // prod(widths)
        return terms


def _by_owners(owners: np.ndarray) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """The positions of an axis by the groups that own their ids."""
    if len(owners) == 1:
        return [((int(owner),), np.flatnonzero(owners[0] == owner)) for owner in np.unique(owners[0])]
    columns, inverse = np.unique(owners, axis=1, return_inverse=True)
    places = [np.flatnonzero(inverse.ravel() == number) for number in range(columns.shape[1])]
    return [(tuple(column.tolist()), positions) for column, positions in zip(columns.T, places, strict=True)]


def _is_regular(ids: np.ndarray, owners: np.ndarray, widths: Sequence[int]) -> bool:
    """Whether each combination of channels of the groups has equally many of some positions.

    Args:
        ids, owners: the final ids of the positions and the groups that own them, -1 for none, shape (rows, n).
        widths: the widths of the groups. Each position has one id of each of them.
    """
    live = np.sort(np.where(owners >= 0, ids, -1), axis=0)
    live[1:][live[1:] == live[:-1]] = -1  # an id that stands twice counts once
    if ((live >= 0).sum(axis=0) != len(widths)).any():
        return False
    if len(live) == 1:
        counts = np.unique(live[0], return_counts=True)[1]
    else:
        counts = np.unique(np.sort(live, axis=0), axis=1, return_counts=True)[1]
    return len(counts) == prod(widths) and int(counts.min()) == int(counts.max())


class Counts(NamedTuple):
    """The cost of a model as polynomials of the widths of its groups, and of the sizes of joined axes.

    - `layers`: for each figure, the polynomial of each layer;
    - `works`: the calls of layers whose latency counts, their work as polynomials;
    - `joined`: the polynomials of joined axes.
    """

    layers: list[list[Terms]]
    works: list[LayerWork]
    joined: Polynomials


class CostByWidth:
    """The cost of a model as a function of the widths of its groups, shape (groups,). It is worked out when it is used.

    - `full`: the widths as they are;
    - `table`: the latencies of layers; None if latencies do not count.
    """

    def __init__(
        self, snapshot: Snapshot, flow: Flow, groups: Sequence[Group], table: LatencyTable | None = None
    ) -> None:
        self.full = np.array([len(group) for group in groups], np.int64)
        self.table = table
        self._model = snapshot, flow, groups

    @cached_property
    def _counts(self) -> Counts:
        snapshot, flow, groups = self._model
        sizes = AxisSizes(flow, groups)
        rows = cost_by(snapshot, flow, sizes).layers
        layers = [[terms_of(getattr(row, figure)) for row in rows] for figure in FIGURES]
        works = [] if self.table is None else work_by(snapshot, flow, sizes)
        if self.table is not None:
            refuse_unmeasured(works, self.table, snapshot.name)
        return Counts(layers, works, Polynomials([terms for _, terms in sizes.joined.values()]))

    @cached_property
    def _totals(self) -> Polynomials:
        return Polynomials([sum_of(layers) for layers in self._counts.layers])

    @cached_property
    def _works(self) -> Polynomials:
        return Polynomials([terms_of(each.work) for each in self._counts.works])

    def __call__(self, widths: np.ndarray) -> dict[str, int]:
        """The parameters, MACs and bytes for some widths, and the latency in nanoseconds if it counts."""
        values = self._values(widths)
        latency = {} if self.table is None else {"latency": sum(self._latencies(values))}
        return dict(zip(FIGURES, self._totals(values).tolist(), strict=True)) | latency

    def slopes(self, widths: np.ndarray) -> dict[str, np.ndarray]:
        """What one more channel of each group would add to each figure, shape (groups,): exact where no product has
        the width of the group twice."""
        return dict(zip(FIGURES, self._slopes(self._totals, widths), strict=True))

    def added_latency(self, growth: np.ndarray, widths: np.ndarray) -> np.ndarray:
        """The nanoseconds that more channels of each group alone would add, shape (groups,): exact where no product has
        the width of the group twice, too few otherwise, and zero without a table.

        Args:
            growth: how many channels more, shape (groups,).
            widths: the widths.
        """
        added = np.zeros(len(widths), np.int64)
        if self.table is not None:
            more = self._slopes(self._works, widths) * growth
            works, signatures = self._works(self._values(widths)).tolist(), [e.signature for e in self._counts.works]
            times = self.latencies(widths)
            for call, group in zip(*(places.tolist() for places in np.nonzero(more)), strict=True):
                wider = self.table.nanoseconds(signatures[call], works[call] + int(more[call, group]))
                added[group] += wider - times[call]
        return added

    def _slopes(self, polynomials: Polynomials, widths: np.ndarray) -> np.ndarray:
        """The derivatives of some polynomials by the widths of groups, shape (polynomials, groups)."""
        slopes, groups = polynomials.slopes(self._values(widths)), len(widths)
        if slopes.shape[1] == groups:
            return slopes
        return slopes[:, :groups] + slopes[:, groups:] @ self._counts.joined.slopes(widths)

    def unlike(self, widths: np.ndarray, dead: np.ndarray) -> list[str]:
        """The paths of layers whose cost for some widths differs from their polynomials.

        Args:
            widths: the widths.
            dead: boolean mask over the final ids that are deleted then.
        """
        snapshot, flow, _ = self._model
        values, rows = self._values(widths), cost_of(snapshot, flow, dead).layers
        planned = [Polynomials(layers)(values).tolist() for layers in self._counts.layers]
        measured = [[getattr(row, figure) for row in rows] for figure in FIGURES]
        pairs = zip(zip(*planned, strict=True), zip(*measured, strict=True), strict=True)
        paths = [row.path for row, (expected, found) in zip(rows, pairs, strict=True) if expected != found]
        if self.table is not None:
            works = work_by(snapshot, flow, measure_of(flow, dead))
            expected = self._works(values).tolist()
            paths += [each.path for each, work in zip(works, expected, strict=True) if each.work != work]
        return paths

    def latencies(self, widths: np.ndarray) -> list[int]:
        """The nanoseconds of each call of a layer for some widths; empty without a table."""
        return self._latencies(self._values(widths))

    def _latencies(self, values: np.ndarray) -> list[int]:
        if self.table is None:
            return []
        works = zip(self._counts.works, self._works(values).tolist(), strict=True)
        return [self.table.nanoseconds(each.signature, work) for each, work in works]

    def _values(self, widths: np.ndarray) -> np.ndarray:
        return np.concatenate([widths, self._counts.joined(widths)])
