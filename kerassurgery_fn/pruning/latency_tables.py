"""Latency tables: how long layers take by their work, as an immutable value."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from toolz import groupby, merge_with, valmap

from kerassurgery_fn.arguments import counted, shortened
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.tables import ShownAsTable, Table

Points = tuple[tuple[int, float], ...]
PER_MICROSECOND = 1000  # latencies are computed in whole nanoseconds, so that sums do not depend on their order


class Curve(NamedTuple):
    """The latency of a layer by its work, which never falls: works in ascending order, nanoseconds for each."""

    works: list[int]
    times: list[int]

    def at(self, work: int) -> int:
        """The nanoseconds for some work, see `LatencyTable`.

        >>> curve = Curve([100, 200], [1000, 1500])
        >>> [curve.at(work) for work in (50, 100, 150, 200, 400)]
        [750, 1000, 1250, 1500, 3000]
        """
        place = bisect_left(self.works, work)
        if place == len(self.works) or len(self.works) == 1:
            return self.times[-1] * work // self.works[-1]
        start = max(0, place - 1)
        (low, high), (fast, slow) = self.works[start : start + 2], self.times[start : start + 2]
        return max(0, fast + (slow - fast) * (work - low) // (high - low))


@dataclass(frozen=True, repr=False)
class LatencyTable(ShownAsTable, Mapping[str, Points]):
    """How long layers take on a device, by their work. `measure_latencies` measures one.

    It is a mapping: signature of a layer -> points (work, microseconds), in ascending order. The signature is what the
    layer does, without its widths; the work follows from the widths, see `layer_work`.

    Between two points, and below the first two, the latency is linear in the work, and not less than zero. Above the
    last point, and where there is only one, it is in proportion to the work. Points of equal work count by their mean,
    and where more work was measured to take less time, both times are replaced by their mean.

    `a | b` is the table with the points of both.

    Args:
        points: signature -> points (work, microseconds).

    Raises:
        BadValue: there are no points, a work is not a positive integer, or a latency is negative, NaN or infinite.

    >>> table = LatencyTable({"Dense": [(100, 2.0), (300, 4.0)]}) | LatencyTable({"Dense": [(200, 5.0)]})
    >>> table["Dense"]
    ((100, 2.0), (200, 5.0), (300, 4.0))
    >>> [table.microseconds("Dense", work) for work in (50, 150, 200, 300, 600)]
    [0.75, 3.25, 4.5, 4.5, 9.0]
    """

    points: Mapping[str, Iterable[tuple[int, float]]]
    _curves: dict[str, Curve] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.points, Mapping) or not self.points:
            raise BadValue(
                "a latency table is a mapping from signatures of layers to points (work, microseconds), with at least "
                f"one signature, not {shortened(self.points)}; measure_latencies(model) gives one"
            )
        points = {str(name): _as_points(name, self.points[name]) for name in sorted(self.points, key=str)}
        object.__setattr__(self, "points", FrozenDict(points))

    def __getitem__(self, signature: str) -> Points:
        return self.points[signature]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __or__(self, other: LatencyTable) -> LatencyTable:
        if not isinstance(other, LatencyTable):
            return NotImplemented
        return LatencyTable(merge_with(lambda both: sorted({*both[0], *both[-1]}), self.points, other.points))

    def __hash__(self) -> int:
        return hash(self.points)

    def __reduce__(self) -> tuple[Any, ...]:
        return LatencyTable, (dict(self.points),)

    def nanoseconds(self, signature: str, work: int) -> int:
        """The latency of a layer with some work, in whole nanoseconds.

        Raises:
            KeyError: the table does not have the signature.
        """
        if signature not in self._curves:
            self._curves[signature] = curve_of(self[signature])
        return self._curves[signature].at(work)

    def microseconds(self, signature: str, work: int) -> float:
        """The latency of a layer with some work, in microseconds.

        Raises:
            KeyError: the table does not have the signature.
        """
        return self.nanoseconds(signature, work) / PER_MICROSECOND

    def table(self) -> Table:
        """A row for each signature: the range of its work and of its latency."""
        rows = tuple(
            (
                without_config(name),
                len(some),
                f"{some[0][0]:,} - {some[-1][0]:,}",
                f"{some[0][1]:.4g} - {some[-1][1]:.4g}",
            )
            for name, some in self.items()
        )
        return Table(f"latencies of {counted(len(self), 'layer')}", ("layer", "points", "work", "microseconds"), rows)


def without_config(signature: str) -> str:
    """A signature without the config, for tables and messages.

    >>> without_config('ReLU after Add: (*, 8, *) -> (*, 8, *) {"max_value": 6.0}')
    'ReLU after Add: (*, 8, *) -> (*, 8, *)'
    """
    return signature.partition(" {")[0]


def _as_points(name: Any, points: Any) -> Points:
    """The points of a layer, in ascending order.

    Raises:
        BadValue: there are none, or one of them is not valid.
    """
    pairs = None if isinstance(points, (str, bytes)) else _listed(points)
    if not pairs or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise BadValue(f"the latencies of {name!r}: expected points (work, microseconds), got {shortened(points)}")
    for work, microseconds in pairs:
        if not isinstance(work, (int, np.integer)) or isinstance(work, bool) or work < 1:
            raise BadValue(f"the latencies of {name!r}: work is a positive integer, not {shortened(work)}")
        is_number = isinstance(microseconds, (int, float, np.integer, np.floating))
        if not is_number or isinstance(microseconds, bool) or not 0 <= microseconds < math.inf:
            raise BadValue(
                f"the latencies of {name!r}: microseconds are a number from 0, not {shortened(microseconds)}"
            )
    return tuple(sorted({(int(work), float(microseconds)) for work, microseconds in pairs}))


def _listed(points: Any) -> list[Any] | None:
    try:
        return list(points)
    except TypeError:
        return None


def curve_of(points: Sequence[tuple[int, float]]) -> Curve:
    """The curve through some points that never falls and is closest to them, by least squares.

    Neighbours whose latency falls are replaced by their mean, until none does: pool adjacent violators, Ayer et al.
    1955, An Empirical Distribution Function for Sampling with Incomplete Information.

    >>> curve_of([(1, 2.0), (2, 6.0), (3, 4.0), (3, 2.0), (4, 9.0)])
    Curve(works=[1, 2, 3, 4], times=[2000, 4500, 4500, 9000])
    """
    by_work = valmap(lambda some: [time for _, time in some], groupby(0, points))
    works = sorted(by_work)
    pools: list[tuple[float, int]] = []  # (mean, how many works it stands for), means in ascending order
    for work in works:
        mean, size = sum(by_work[work]) / len(by_work[work]), 1
        while pools and pools[-1][0] > mean:
            lower, others = pools.pop()
            mean, size = (lower * others + mean * size) / (others + size), others + size
        pools.append((mean, size))
    times = [round(mean * PER_MICROSECOND) for mean, size in pools for _ in range(size)]
    return Curve(works, times)
