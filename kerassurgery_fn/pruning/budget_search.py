"""Searches for widths that meet budgets, along the order of removal. It only computes with widths."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kerassurgery_fn.pruning.budget_targets import Budget
from kerassurgery_fn.pruning.cost_by_width import CostByWidth
from kerassurgery_fn.pruning.removal_order import Steps


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures for which there are budgets, as functions of the widths of groups.

    - `costs`: parameters, MACs, bytes and latency;
    - `free`: which groups count for the number of channels, boolean, shape (groups,).
    """

    costs: CostByWidth
    free: np.ndarray

    def __call__(self, widths: np.ndarray) -> dict[str, int]:
        """The figures for some widths."""
        return {"channels": int(widths[self.free].sum()), **self.costs(widths)}

    def added(self, growth: np.ndarray, widths: np.ndarray) -> dict[str, np.ndarray]:
        """What some more channels of each group alone add to each figure, shape (groups,)."""
        slopes = {"channels": self.free.astype(int), **self.costs.slopes(widths)}
        added = {figure: growth * slope for figure, slope in slopes.items()}
        return {**added, "latency": self.costs.added_latency(growth, widths)}


def met(figures: Mapping[str, int], budgets: Sequence[Budget]) -> bool:
    """Whether all budgets are met."""
    return all(figures[budget.figure] <= budget.target for budget in budgets)


def fewest_steps(steps: Steps, figures: Figures, budgets: Sequence[Budget]) -> np.ndarray | None:
    """The counts after as few steps of the sequence as meet the budgets; None if all steps do not.

    Costs never grow along the sequence, so that bisection finds the number of steps.
    """

    def enough(taken: int) -> bool:
        return met(figures(steps.widths_at(steps.counts(taken))), budgets)

    least = int(steps.least.sum())
    taken = bisect_left(range(least, len(steps) + 1), True, key=enough) + least
    return steps.counts(taken) if taken <= len(steps) else None


def given_back(steps: Steps, counts: np.ndarray, figures: Figures, budgets: Sequence[Budget]) -> np.ndarray:
    """The counts after the last step of some groups is taken back, those of the highest scores first.

    The last step of the sequence may have removed more than the budgets asked for. A group takes back one step at most:
    cheap channels with low scores would fill the gap otherwise, and groups would not lose the same ratio any more.

    The loop ends: each round is the last one for a group.
    """
    tried = np.zeros(len(counts), bool)
    while True:
        widths = steps.widths_at(counts)
        wider = steps.widths_at(np.maximum(counts - 1, steps.least))
        fits = (wider > widths) & ~tried & _fitting(wider - widths, widths, figures, budgets)
        if not fits.any():
            return counts
        group = int(np.argmax(np.where(fits, steps.last(counts), -1)))
        tried[group] = True
        attempt = counts - (np.arange(len(counts)) == group)
        if met(figures(steps.widths_at(attempt)), budgets):  # not so if its slope is not exact
            counts = attempt


def _fitting(growth: np.ndarray, widths: np.ndarray, figures: Figures, budgets: Sequence[Budget]) -> np.ndarray:
    """Whether each group can grow alone without missing a budget, by the slopes of the figures."""
    now, added = figures(widths), figures.added(growth, widths)
    each = [added[budget.figure] <= budget.target - now[budget.figure] for budget in budgets]
    return np.logical_and.reduce([np.ones(len(growth), bool), *each])


def search(steps: Steps, figures: Figures, budgets: Sequence[Budget]) -> np.ndarray | None:
    """The counts of steps with which the budgets are met to within one step; None if they cannot be met."""
    counts = fewest_steps(steps, figures, budgets)
    return None if counts is None else given_back(steps, counts, figures, budgets)
