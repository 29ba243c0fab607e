"""What is asked for in each round of iterative pruning, relative to the first model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from toolz import valfilter

from kerassurgery_fn.arguments import as_count
from kerassurgery_fn.pruning.budget_targets import BUDGETS, Budget, as_argument, budgets, refuse_half_given
from kerassurgery_fn.pruning.group_limits import ByGroup, as_ratio, by_pattern, left_by
from kerassurgery_fn.pruning.pruning_problem import PrunableModel
from kerassurgery_fn.pruning.schedules import Schedule, fractions_left


@dataclass(frozen=True)
class RoundTargets:
    """Budgets, ratios and limits of the last round, and how they are reached.

    - `budgets`: the budgets;
    - `full`: name of each group -> its number of channels in the first model;
    - `ratios`: name of each group with a ratio of its own -> the fraction of `full` to remove;
    - `least`: name of each group -> the number of channels that it keeps at least;
    - `schedule`, `rounds`: how fast.
    """

    budgets: tuple[Budget, ...]
    full: Mapping[str, int]
    ratios: Mapping[str, float]
    least: Mapping[str, int]
    schedule: Schedule
    rounds: int

    def of(self, number: int, model: PrunableModel) -> dict[str, Any]:
        """The arguments of `plan_pruning` in a round, for the model that the last round left.

        Returns:
            Budgets in absolute numbers, `ratios`, `max_ratio` and `min_channels`; empty if nothing is to be cut.
        """
        figures = model.figures(model.costs.full)
        wanted = {budget.figure: self._target(budget, number) for budget in self.budgets}
        ratios = {
            name: 1 - min(left, len(group)) / len(group)
            for name, group in model.named.items()
            if (left := self._left(name, number))
        }
        if all(figures[figure] <= target for figure, target in wanted.items()) and not any(ratios.values()):
            return {}
        least = {name: self.least[name] for name in model.named if name in self.least}
        arguments = {figure: as_argument(figure, target) for figure, target in wanted.items()}
        return {**arguments, "ratios": ByGroup(ratios) or None, "max_ratio": 1.0, "min_channels": ByGroup(least)}

    def _target(self, budget: Budget, number: int) -> int:
        if number == self.rounds:
            return budget.target
        fraction = fractions_left(self.schedule, self.rounds, budget.target / budget.before)[number - 1]
        return max(budget.target, int(fraction * budget.before))

    def _left(self, name: str, number: int) -> int:
        """The number of channels that the ratio of a group leaves in a round; 0 without a ratio."""
        if name not in self.ratios:
            return 0
        fraction = fractions_left(self.schedule, self.rounds, 1 - self.ratios[name])[number - 1]
        return left_by(1 - fraction, self.full[name])


def round_targets(
    model: PrunableModel,
    values: Mapping[str, Any],
    ratios: Any,
    max_ratio: Any,
    min_channels: Any,
    schedule: Schedule,
    rounds: int,
) -> RoundTargets:
    """The targets of iterative pruning.

    Args:
        model: the first model.
        values: figure -> budget, as for `plan_pruning`.
        ratios, max_ratio, min_channels: as for `plan_pruning`.
        schedule, rounds: how the targets are reached.

    Raises:
        BadValue, UnknownLayer, NoChannels: as for `plan_pruning`, or the schedule is not valid.
    """
    full = {name: len(group) for name, group in model.named.items()}
    most = by_pattern(model.flow, model.named, max_ratio, _as_most, "max_ratio")
    fewest = by_pattern(model.flow, model.named, min_channels, as_count, "min_channels")
    own = {} if ratios is None else by_pattern(model.flow, model.named, ratios, as_ratio, "ratios")
    least = {name: max(1, fewest.get(name, 1), left_by(most.get(name, 1.0), n)) for name, n in full.items()}
    refuse_half_given(values.get("latency"), values.get("latency_table"))
    known = {figure: value for figure, value in values.items() if figure in BUDGETS}
    targets = RoundTargets(
        tuple(budgets(known, model.figures(model.costs.full))), full, own, valfilter(lambda n: n > 1, least), schedule,
        rounds,
    )  # fmt: skip
    for fraction in [budget.target / budget.before for budget in targets.budgets] + [1 - r for r in own.values()]:
        fractions_left(schedule, rounds, fraction)
    return targets


def _as_most(value: Any, name: str) -> float:
    return as_ratio(value, name, np.nextafter(1, 2))
