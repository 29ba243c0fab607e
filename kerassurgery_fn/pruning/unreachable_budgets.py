"""What to say of a budget that cannot be reached: how close it comes, which groups hold the rest, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerassurgery_fn.arguments import counted
from kerassurgery_fn.errors import BudgetMissed, UnreachableBudget
from kerassurgery_fn.pruning.budget_targets import Budget
from kerassurgery_fn.pruning.group_limits import Limits
from kerassurgery_fn.pruning.pruning_problem import PrunableModel
from kerassurgery_fn.values.warning_origin import warn

MOST = 5


def report_unreachable(
    model: PrunableModel, budgets: Sequence[Budget], widths: np.ndarray, limits: Sequence[Limits], closest: bool
) -> None:
    """Warns of, or raises, that the budgets cannot be reached.

    Args:
        model: the model.
        budgets: the budgets of the caller.
        widths: the smallest widths that the groups can have.
        limits: why they cannot be smaller.
        closest: whether to warn.

    Raises:
        UnreachableBudget: `closest` is False.

    Warns:
        BudgetMissed: `closest` is True.
    """
    reached = model.figures(widths)
    missed = next(budget for budget in budgets if reached[budget.figure] > budget.target)
    message = (
        f"the budget of {missed.says(missed.target)} cannot be reached for {model.snapshot.name!r}: the closest is "
        f"{missed.says(reached[missed.figure])}. Most of the rest is held by "
        f"{'; '.join(holders(model, missed, widths, limits))}"
    )
    if closest:
        warn(f"{message}. The plan is the closest one", BudgetMissed)
        return
    raise UnreachableBudget(
        f"{message}. Give a larger budget, let more be cut (ignore, max_ratio, min_channels, round_to, inexact), or "
        "pass closest=True for the closest plan"
    )


def holders(model: PrunableModel, budget: Budget, widths: np.ndarray, limits: Sequence[Limits]) -> list[str]:
    """The groups without which a figure would fall most, in words: their name, width, share and the reason."""
    now = model.figures(widths)[budget.figure]
    held = [now - model.figures(_without(widths, number))[budget.figure] for number in range(len(widths))]
    order = sorted(range(len(widths)), key=lambda number: -held[number])[:MOST]
    return [
        f"{model.names[number] or 'constants'!r} ({counted(int(widths[number]), 'channel')}, "
        f"{100 * held[number] / max(1, now):.0f} %: {limits[number].reason})"
        for number in order
        if held[number] > 0
    ]


def _without(widths: np.ndarray, number: int) -> np.ndarray:
    """The widths with that of one group as zero."""
    return np.where(np.arange(len(widths)) == number, 0, widths)
