"""What to say of a budget that cannot be reached: how close it comes, which groups hold the rest, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kerassurgery_fn.analysis.layer_costs import cost
from kerassurgery_fn.arguments import counted
from kerassurgery_fn.errors import BudgetMissed, UnreachableBudget
from kerassurgery_fn.pruning.budget_targets import Budget
from kerassurgery_fn.pruning.group_limits import Limits
from kerassurgery_fn.pruning.pruning_problem import PrunableModel
from kerassurgery_fn.values.warning_origin import warn

MOST = 5
COSTS = ("parameters", "macs", "bytes")  # the figures that a single layer has


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
        f"{'; '.join([*opaque_layers(model, missed, reached), *holders(model, missed, widths, limits)])}"
    )
    if closest:
        warn(f"{message}. The plan is the closest one", BudgetMissed)
        return
    raise UnreachableBudget(
        f"{message}. Give a larger budget, let more be cut (ignore, max_ratio, min_channels, round_to, inexact, by), "
        "or pass closest=True for the closest plan"
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


def opaque_layers(model: PrunableModel, budget: Budget, reached: Mapping[str, int]) -> list[str]:
    """The layers without a rule with the largest costs, in words: their share and the reason. Plans do not cut them."""
    rows = cost(model.snapshot).layers if model.flow.opaque and budget.figure in COSTS else ()
    held = {row.path: getattr(row, budget.figure) for row in rows if row.path in model.flow.opaque}
    return [
        f"{path!r} ({100 * held[path] / max(1, reached[budget.figure]):.0f} %: {model.flow.opaque[path]})"
        for path in sorted(held, key=lambda path: -held[path])[:MOST]
        if held[path]
    ]


def _without(widths: np.ndarray, number: int) -> np.ndarray:
    """The widths with that of one group as zero."""
    return np.where(np.arange(len(widths)) == number, 0, widths)
