"""Depth: residual blocks that are deleted for a budget, before channels are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from toolz import keyfilter, unique

from kerassurgery_fn.analysis.residual_blocks import ResidualBlock, residual_blocks
from kerassurgery_fn.arguments import counted, shortened
from kerassurgery_fn.edits.blocks import DeleteBlock
from kerassurgery_fn.errors import BadScores, BadValue, BudgetMissed, UnreachableBudget
from kerassurgery_fn.pruning.block_scores import BlockScores, groups_inside
from kerassurgery_fn.pruning.budget_search import met
from kerassurgery_fn.pruning.budget_targets import Budget
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.group_limits import GroupOptions
from kerassurgery_fn.pruning.pruning_problem import PrunableModel, prunable_model
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn

ONLY = "only"  # blocks alone meet the budgets


def as_depth(value: Any, name: str = "depth") -> float | str:
    """The fraction of residual blocks to delete, or `"only"`.

    Raises:
        BadValue: the value is neither.

    >>> as_depth(0.25), as_depth("only")
    (0.25, 'only')
    """
    if isinstance(value, str) and value == ONLY:
        return value
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise BadValue(
        f"{name}: expected the fraction of residual blocks to delete, from 0 to 1, or 'only' (blocks alone meet the "
        f"budget), not {shortened(value)}"
    )


@dataclass(frozen=True)
class WithoutBlocks:
    """A model without its least important blocks.

    - `edit`: the edit that deletes the blocks, None if there are none;
    - `model`: the model after the edit.
    """

    edit: DeleteBlock | None
    model: PrunableModel


def deletable_blocks(model: PrunableModel, scores: BlockScores, ignored: Mapping[str, str]) -> list[str]:
    """The names of the blocks that can be deleted; the blocks with the lowest scores come first.

    Blocks without a score are left alone, and blocks with channels that the caller leaves alone.

    Raises:
        BadScores: the scores are of another model.
        BadValue: there is no such block.
    """
    blocks = residual_blocks(model.snapshot)
    refuse_other_blocks(model.snapshot, scores, blocks)
    free = [b.merge for b in blocks if b.merge in scores and not _is_ignored(model, b, ignored)]
    if not free:
        raise BadValue(
            f"depth: no residual block of {model.snapshot.name!r} can be deleted: it has "
            f"{counted(len(blocks), 'block')}, {len(scores)} of them with a score; see residual_blocks(snapshot)"
        )
    return sorted(unique(free), key=scores.__getitem__)


def _is_ignored(model: PrunableModel, block: ResidualBlock, ignored: Mapping[str, str]) -> bool:
    return any(name in ignored for name in groups_inside(model.flow, model.named, block))


def refuse_other_blocks(snapshot: Snapshot, scores: BlockScores, blocks: Sequence[ResidualBlock]) -> None:
    """Raises BadScores if the scores do not belong to the blocks of a model."""
    known = {block.merge for block in blocks}
    if unknown := [name for name in scores if name not in known]:
        raise BadScores(
            f"the scores of blocks are of another model: {snapshot.name!r} has no residual block {unknown[0]!r}; see "
            "residual_blocks(snapshot)"
        )


def without_blocks(
    model: PrunableModel, order: Sequence[str], depth: float | str, budgets: Sequence[Budget], closest: bool
) -> WithoutBlocks:
    """The model without some of its blocks.

    Args:
        model: the model.
        order: the names of the blocks, in the order in which they are deleted.
        depth: the fraction of them to delete, or `only`: as few as meet the budgets.
        budgets: what the model may cost.
        closest: whether a budget that cannot be reached warns, in place of an error.

    Raises:
        UnreachableBudget, BadValue: the blocks do not meet the budgets, or there are no budgets.

    Warns:
        BudgetMissed: the budgets cannot be reached and `closest` is True.
    """
    if depth != ONLY:
        return _without(model, order[: int(float(depth) * len(order) + 1e-9)])
    if not budgets:
        raise BadValue("depth='only' deletes as many blocks as a budget asks for, and there is none: give macs=0.5")
    shorter = cache(lambda number: _without(model, order[:number]))

    def enough(number: int) -> bool:
        return met(_figures(shorter(number).model), budgets)

    number = bisect_left(range(len(order) + 1), True, key=enough)
    if number > len(order):
        _report_unreachable(shorter(len(order)).model, budgets, len(order), closest)
    return shorter(min(number, len(order)))


def _without(model: PrunableModel, names: Sequence[str]) -> WithoutBlocks:
    if not names:
        return WithoutBlocks(None, model)
    edit = DeleteBlock(tuple(names))
    return WithoutBlocks(edit, prunable_model(edit(model.snapshot), model.costs.table))


def _figures(model: PrunableModel) -> dict[str, int]:
    return model.figures(model.costs.full)


def _report_unreachable(model: PrunableModel, budgets: Sequence[Budget], blocks: int, closest: bool) -> None:
    reached = _figures(model)
    missed = next(budget for budget in budgets if reached[budget.figure] > budget.target)
    message = (
        f"the budget of {missed.says(missed.target)} cannot be reached for {model.snapshot.name!r} by deleting blocks: "
        f"without all {blocks} blocks it has {missed.says(reached[missed.figure])}"
    )
    if not closest:
        raise UnreachableBudget(f"{message}. Give a larger budget, or delete channels, too (depth=0.5)")
    warn(f"{message}. The plan is the closest one", BudgetMissed)


# --- names of groups after a deletion of blocks


def former_names(before: PrunableModel, after: PrunableModel) -> dict[str, tuple[str, np.ndarray]]:
    """Name of each group after the deletion -> its name before, and for each channel the number that it had before.

    A group is named by the first layer that creates its channels, which may have been deleted. Groups that were part of
    a larger group, or changed their channels, are left out.
    """
    owners = {address: name for name, group in before.named.items() for address in group.made}
    found = {}
    for name, group in after.named.items():
        address, positions = next(iter(group.made.items()))
        if address in owners and len(before.named[owners[address]]) == len(group):
            former = before.named[owners[address]].made[address][:, 0]  # the first position of each channel
            order = np.argsort(former)
            found[name] = (owners[address], order[np.searchsorted(former, positions[:, 0], sorter=order)])
    return found


def scores_after(scores: Scores, names: Mapping[str, tuple[str, np.ndarray]]) -> Scores:
    """The scores of the channels that a model has after a deletion of blocks."""
    kept = {new: scores[old][order] for new, (old, order) in names.items() if old in scores}
    return Scores(kept, scores.criterion)


def options_after(options: GroupOptions, names: Mapping[str, tuple[str, np.ndarray]]) -> GroupOptions:
    """The options of the caller for the groups that a model has after a deletion of blocks."""

    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        former = keyfilter(lambda new: names[new][0] in values, names)
        return {new: values[old] for new, (old, _) in former.items()}

    return replace(
        options,
        ignored=renamed(options.ignored),
        ratios=renamed(options.ratios),
        max_ratios=renamed(options.max_ratios),
        min_channels=renamed(options.min_channels),
    )
