"""Sensitivity: how the metric of a model falls when a part of each coupled group is cut, as an immutable value."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from toolz import valmap

from kerassurgery_fn.arguments import as_file, as_string, shortened, takes
from kerassurgery_fn.documents.plan_files import MAX_BYTES, dumps, loads, refuse_other_version
from kerassurgery_fn.documents.safe_files import read_limited, write_atomically
from kerassurgery_fn.errors import BadDocument, BadValue
from kerassurgery_fn.pruning.group_limits import ByGroup
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.tables import ShownAsTable, Table

FORMAT, VERSION = "kerassurgery_fn sensitivity", 1


@dataclass(frozen=True, repr=False)
class Sensitivity(ShownAsTable):
    """The metric of a model with a part of one coupled group cut, for each group and ratio. It prints as a table.

    - `criterion`: the criterion by which channels were chosen;
    - `baseline`: the metric of the whole model, higher is better;
    - `metrics`: name of a group, as in `Scores` -> ratio of its channels that is cut -> metric.

    Raises:
        BadValue: a ratio is not between 0 and 1, or a metric is no number.

    >>> found = Sensitivity("magnitude", 0.9, {"a": {0.2: 0.9, 0.4: 0.86}, "b": {0.2: 0.7, 0.4: 0.5}})
    >>> print(found)
    sensitivity by magnitude, from 0.9
    group  0.2   0.4
    b      0.7   0.5
    a      0.9  0.86
    >>> found.ratios(tolerance=0.02)
    {'a': 0.3, 'b': 0.02}
    """

    criterion: str
    baseline: float
    metrics: Mapping[str, Mapping[float, float]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "criterion", as_string(self.criterion, "criterion"))
        object.__setattr__(self, "baseline", _as_number(self.baseline, "baseline"))
        if not isinstance(self.metrics, Mapping) or not all(isinstance(row, Mapping) for row in self.metrics.values()):
            raise BadValue(
                f"metrics: expected a mapping from groups to metrics by ratio, got {shortened(self.metrics)}"
            )
        metrics = {str(name): FrozenDict(_checked_row(name, row)) for name, row in self.metrics.items()}
        object.__setattr__(self, "metrics", FrozenDict(metrics))

    @property
    def tried(self) -> list[float]:
        """The ratios that were tried, in ascending order."""
        return sorted({ratio for row in self.metrics.values() for ratio in row})

    @property
    def order(self) -> list[str]:
        """The names of the groups, the most sensitive first: by the mean of their metrics."""
        return sorted(self.metrics, key=lambda name: float(np.mean([*self.metrics[name].values()])))

    def ratios(self, tolerance: float) -> ByGroup:
        """The ratio of each group up to which the metric falls by no more than a tolerance.

        Between two tried ratios, the metric is assumed to be linear. Beyond the largest tried ratio, the metric is not
        known, so this is the largest possible result. Use the result as `ratios=` of `plan_pruning` and `prune` to cut
        each group as far as it can be cut alone; the cuts together lower the metric by more than the tolerance. As
        `max_ratio=`, the result limits the cuts for a budget.

        Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv:1608.08710, section 3.2; Han et al. 2015, Learning
        both Weights and Connections, arXiv:1506.02626, section 3.

        Args:
            tolerance: the largest accepted fall of the metric, absolute.

        Returns:
            Name of each group -> ratio, 0.0 for a group that cannot be cut at all.

        Raises:
            BadValue: the tolerance is not a number, or is negative.
        """
        allowed = _as_number(tolerance, "tolerance")
        if not allowed >= 0:
            raise BadValue(f"tolerance: expected how far the metric may fall, such as 0.01, not {shortened(tolerance)}")
        lowest = self.baseline - allowed
        return ByGroup({name: reached(self.baseline, row, lowest) for name, row in self.metrics.items()})

    def table(self) -> Table:
        """The metric by ratio: a row for each group, the most sensitive first."""
        rows = tuple((name, *(_shown(self.metrics[name].get(ratio)) for ratio in self.tried)) for name in self.order)
        title = f"sensitivity by {self.criterion}, from {self.baseline:.4g}"
        return Table(title, ("group", *(f"{ratio:.4g}" for ratio in self.tried)), rows)


def reached(baseline: float, row: Mapping[float, float], lowest: float) -> float:
    """The ratio at which a curve falls below a metric: piecewise linear from the baseline at the ratio 0.

    A metric that is NaN is below all others.

    Args:
        baseline: the metric at the ratio 0.
        row: ratio -> metric.
        lowest: the metric that is still allowed.

    Returns:
        The ratio, to three digits, rounded down; the largest of `row` if the curve never falls below `lowest`.

    >>> reached(1.0, {0.2: 0.9, 0.6: 0.5, 0.8: 0.95}, lowest=0.8)
    0.3
    """
    before, metric_before = 0.0, baseline
    for ratio in sorted(row):
        metric = row[ratio]
        if not metric >= lowest:
            share = (metric_before - lowest) / (metric_before - metric) if math.isfinite(metric) else 0.0
            return math.floor(1000 * (before + (ratio - before) * max(0.0, share)) + 1e-6) / 1000
        before, metric_before = ratio, metric
    return before


def encode_sensitivity(sensitivity: Sensitivity) -> dict[str, Any]:
    """A sensitivity as JSON-ready data.

    >>> encode_sensitivity(Sensitivity("fpgm", 0.9, {"a": {0.5: float("nan")}}))["metrics"]
    {'a': {'0.5': 'nan'}}
    """
    metrics = {
        name: {repr(ratio): _as_json(metric) for ratio, metric in row.items()}
        for name, row in sensitivity.metrics.items()
    }
    return {
        "format": FORMAT, "version": VERSION, "criterion": sensitivity.criterion,
        "baseline": _as_json(sensitivity.baseline), "metrics": metrics,
    }  # fmt: skip


def decode_sensitivity(data: Any, source: str = "$") -> Sensitivity:
    """The sensitivity from the data that `encode_sensitivity` returned.

    Raises:
        BadDocument: the data is not that of a sensitivity; the message names `source`.
        UnknownVersion: it has another version.
    """
    refuse_other_version(data, FORMAT, VERSION, "sensitivities", source)
    match data:
        case {"format": str(form), "criterion": str(criterion), "baseline": baseline, "metrics": dict(metrics)}:
            if form == FORMAT:
                try:
                    rows = valmap(lambda row: {float(ratio): float(metric) for ratio, metric in row.items()}, metrics)
                    return Sensitivity(criterion, float(baseline), rows)
                except (AttributeError, TypeError, ValueError) as error:
                    raise BadDocument(f"{source}: {error}") from error
    raise BadDocument(f"{source}: expected a sensitivity, a document with the format {FORMAT!r}, got {shortened(data)}")


@takes(path=as_file)
def save_sensitivity(sensitivity: Sensitivity, path: str | os.PathLike[str]) -> None:
    """Writes a sensitivity to a JSON file.

    Raises:
        BadFile: the file cannot be written.
        BadValue: the value is not a `Sensitivity`.
    """
    if not isinstance(sensitivity, Sensitivity):
        raise BadValue(f"expected a Sensitivity, got {shortened(sensitivity)}; sensitivity(model, evaluate) gives one")
    write_atomically(path, dumps(encode_sensitivity(sensitivity)).encode("utf-8"))


@takes(path=as_file)
def load_sensitivity(path: str | os.PathLike[str]) -> Sensitivity:
    """The sensitivity in a file that `save_sensitivity` wrote, or in a cache of `sensitivity`.

    Raises:
        BadFile: the file does not exist or cannot be read.
        BadDocument, UnknownVersion: it has no sensitivity.
    """
    return decode_sensitivity(loads(read_limited(path, MAX_BYTES), str(path)), str(path))


def _as_number(value: Any, name: str) -> float:
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)
    raise BadValue(f"{name}: expected a number, got {shortened(value)}")


def _checked_row(name: Any, row: Mapping[Any, Any]) -> dict[Any, float]:
    """The metrics of a group by ratio, in ascending order of the ratios."""
    checked = {_as_number(ratio, "ratio"): _as_number(metric, f"metrics[{name!r}]") for ratio, metric in row.items()}
    if wrong := [ratio for ratio in checked if not 0 < ratio < 1]:
        raise BadValue(f"metrics[{name!r}]: a ratio is between 0 and 1, not {wrong[0]}")
    return {ratio: checked[ratio] for ratio in sorted(checked)}


def _shown(metric: float | None) -> float | None:
    return None if metric is None else float(f"{metric:.4g}")


def _as_json(metric: float) -> float | str:
    return metric if math.isfinite(metric) else str(metric)
