"""`plan_pruning`: from scores and a budget to a plan of deletions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.input_shapes import Shapes, as_shapes, with_shapes
from kerassurgery_fn.arguments import as_count, as_flag, as_snapshot, counted, one_of, optional, shortened, takes
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.errors import BadScores, BadValue, UnreachableBudget
from kerassurgery_fn.pruning.block_scores import BlockScores, as_block_scores
from kerassurgery_fn.pruning.budget_search import met, search
from kerassurgery_fn.pruning.budget_targets import BUDGETS, Budget, budgets, refuse_half_given
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.depth_planning import (
    ONLY,
    as_depth,
    deletable_blocks,
    former_names,
    options_after,
    scores_after,
    without_blocks,
)
from kerassurgery_fn.pruning.group_limits import GroupOptions, Limits, as_patterns, as_ratio, by_pattern, fitting
from kerassurgery_fn.pruning.latency_tables import LatencyTable
from kerassurgery_fn.pruning.model_latency import as_latency_table
from kerassurgery_fn.pruning.plan_checks import deletions, refused_widths
from kerassurgery_fn.pruning.pruning_problem import (
    PrunableModel,
    limits_of,
    prunable_model,
    refuse_idle_ratios,
    refuse_other_scores,
    removed_ids,
    steps_of,
)
from kerassurgery_fn.pruning.removal_order import SCOPES
from kerassurgery_fn.pruning.unreachable_budgets import report_unreachable
from kerassurgery_fn.values.snapshot import Snapshot


def as_scores(value: Any, name: str = "scores") -> Scores:
    """The scores.

    Raises:
        BadScores: the value is not `Scores`.
    """
    if isinstance(value, Scores):
        return value
    raise BadScores(
        f"{name}: expected Scores, got {shortened(value)}; importance(snapshot) gives them, and Scores(mapping) makes "
        "them of one array for each group"
    )


@takes(
    snapshot=as_snapshot, scores=as_scores, scope=one_of(SCOPES), round_to=as_count, inexact=as_flag, closest=as_flag,
    shapes=optional(as_shapes), depth=as_depth, block_scores=optional(as_block_scores),
    latency_table=optional(as_latency_table),
)  # fmt: skip
def plan_pruning(
    snapshot: Snapshot,
    scores: Scores,
    *,
    channels: float | None = None,
    parameters: float | None = None,
    macs: float | None = None,
    bytes: float | None = None,
    latency: float | None = None,
    latency_table: LatencyTable | None = None,
    ratios: float | Mapping[str, float] | None = None,
    scope: str = "global",
    max_ratio: float | Mapping[str, float] = 1.0,
    min_channels: int | Mapping[str, int] = 1,
    round_to: int = 1,
    ignore: Any = (),
    inexact: bool = False,
    closest: bool = False,
    shapes: Shapes | None = None,
    depth: float | str = 0,
    block_scores: BlockScores | None = None,
) -> AtOnce | Plan:
    """The deletions that bring a model within a budget and keep the channels with the highest scores.

    Channels are removed in the order of their scores until the budgets are met, to within one channel of a group.
    Costs are computed from the widths of the layers and agree exactly with `cost(plan(snapshot))`. No trial model is
    built.

    Groups that cannot be cut, or not exactly, are not changed. Heads of attention and groups of convolutions are
    deleted as a whole.

    Args:
        snapshot: the model.
        scores: the importance of its channels; groups without scores are not changed.
        channels, parameters, macs, bytes, latency: one or several budgets. A number between 0 and 1 is the fraction to
            keep, a larger number is absolute, that of a latency in microseconds. `channels` counts the channels of this
            snapshot that can be cut; coupled channels count once.
        latency_table: the latencies of layers, from `measure_latencies`; required with `latency`. The latency of a
            plan is exactly `latency(plan(snapshot), latency_table)`.
        ratios: the fraction of channels to remove from each group, or a mapping from patterns to fractions. Groups with
            a ratio lose exactly this fraction; the other groups meet the budgets.
        scope: `global`: one ranking of all channels; `local`: every group loses the same fraction; `isomorphic`: every
            structure of groups loses the same fraction, with one ranking for all groups of that structure.
        max_ratio: the largest fraction of channels to remove from a group, or a mapping from patterns to fractions.
        min_channels: the smallest number of channels that a group keeps, or a mapping from patterns to numbers.
        round_to: widths that change become multiples of it: of layers, of the groups of convolutions, and of the size
            of attention heads. Numbers of attention heads are not rounded.
        ignore: patterns of layers whose groups are not changed.
        inexact: whether channels can be cut that a softmax or a normalisation over channels reads.
        closest: whether a budget that cannot be reached gives the closest plan with a warning, instead of an error.
        shapes: the shape of one sample, for models with variable input size, as for `cost`.
        depth: the fraction of residual blocks to delete. The blocks with the lowest scores are deleted first, and then
            channels until the budgets are met. `"only"`: as few blocks as possible to meet the budgets, and no
            channels. Blocks without a score, or with a layer that `ignore` matches, are not deleted.
        block_scores: the importance of residual blocks, from `score_blocks`; required with `depth`.

    Patterns are addresses as in `DeleteChannels`: `block*_conv`, `*@Dense`, `attention:num_heads`, `*:key_dim`; the
    name of a second group of channels of a layer, `conv#2` in the scores, only means this group.

    Returns:
        A plan of one `DeleteChannels` for each group that is cut, whose indices all refer to the snapshot. With
        `depth`, the plan begins with a `DeleteBlock`, and the indices refer to the model after it.

    Raises:
        UnreachableBudget: the budget cannot be reached; the message names the groups that hold most of the cost.
        BadScores: the scores belong to another model.
        BadValue: a ratio is outside [0, 1), a budget is not a number, budgets and ratios contradict each other, nothing
            would be cut, all groups with a ratio are ignored, `round_to` is larger than a layer, or the latency table
            does not have a layer of the model.
        UnknownLayer, NoChannels: a pattern matches nothing.

    Warns:
        BudgetMissed: the budget cannot be reached and `closest` is True.
    """
    refuse_half_given(latency, latency_table)
    model = prunable_model(snapshot if shapes is None else with_shapes(snapshot, shapes), latency_table)
    refuse_other_scores(model, scores)
    values = dict(zip(BUDGETS, (channels, parameters, macs, bytes, latency), strict=True))
    has_budget = any(value is not None for value in values.values())
    wanted = budgets(values, model.figures(model.costs.full)) if has_budget else []
    options = _group_options(model, ratios, max_ratio, min_channels, round_to, ignore, inexact)
    refuse_idle_ratios(model, scores, options, ratios)
    refuse_idle_depth(depth, block_scores, options.ratios)
    if not depth:
        refuse_idle(model, wanted, options)
        return _plan_channels(model, scores, wanted, options, scope, closest)
    order = deletable_blocks(model, block_scores or BlockScores({}), options.ignored)
    shorter = without_blocks(model, order, depth, wanted, closest)
    blocks = () if shorter.edit is None else (shorter.edit,)
    if depth == ONLY or is_reached(shorter.model, wanted, options):
        if not blocks:
            raise BadValue(_no_block_cut(model, wanted, len(order)))
        return Plan(*blocks)
    names = former_names(model, shorter.model)
    rest = scores_after(scores, names), wanted, options_after(options, names), scope, closest
    return Plan(*blocks, _plan_channels(shorter.model, *rest))


def _plan_channels(
    model: PrunableModel, scores: Scores, wanted: Sequence[Budget], options: GroupOptions, scope: str, closest: bool
) -> AtOnce:
    """The deletions of channels that meet the budgets; see `plan_pruning`."""
    frozen: dict[int, str] = {}
    while True:  # each round leaves at least one group alone that the last round cut
        limits = limits_of(model, scores, options, frozen)
        widths, is_met = planned_widths(model, scores, wanted, limits, scope)
        removed = removed_ids(model, scores, widths)
        if not (refused := refused_widths(model, removed, widths, with_costs=bool(wanted))):
            break
        frozen |= refused
    if not is_met:
        report_unreachable(model, wanted, widths, limits, closest)
    elif not removed:
        raise UnreachableBudget(_nothing_cut(model, limits, None if wanted else options.ratios))
    return AtOnce(tuple(deletions(model, removed).values()))


def planned_widths(
    model: PrunableModel, scores: Scores, wanted: Sequence[Budget], limits: Sequence[Limits], scope: str
) -> tuple[np.ndarray, bool]:
    """The widths of all groups, shape (groups,), and whether they meet the budgets; otherwise they are the smallest.

    Without a budget, only the ratios count, so channels are not ranked and no cost is computed.
    """
    if not wanted:
        return np.array([limit.by_ratio for limit in limits], int), True
    steps = steps_of(model, scores, limits, scope)
    counts = search(steps, model.figures, wanted)
    return steps.widths_at(steps.counts(len(steps)) if counts is None else counts), counts is not None


def refuse_idle_depth(depth: float | str, block_scores: BlockScores | None, ratios: Mapping[str, float]) -> None:
    """Raises BadValue if one of depth and block scores is given alone, or ratios of channels where only blocks go."""
    if depth and block_scores is None:
        raise BadValue(
            "depth deletes the residual blocks with the lowest scores: give block_scores=score_blocks(model)"
        )
    if block_scores is not None and not depth:
        raise BadValue(
            "block_scores choose the residual blocks that depth deletes: give depth='only', or the fraction to delete"
        )
    if depth == ONLY and any(ratios.values()):
        raise BadValue(
            "depth='only' deletes no channels, and ratios= are fractions of channels: leave one of them out, or give "
            "depth as a fraction"
        )


def is_reached(model: PrunableModel, wanted: Sequence[Budget], options: GroupOptions) -> bool:
    """Whether a model already meets all budgets, and no ratio asks for a cut."""
    return not any(options.ratios.values()) and met(model.figures(model.costs.full), wanted)


def _group_options(
    model: PrunableModel, ratios: Any, max_ratio: Any, min_channels: Any, round_to: int, ignore: Any, inexact: bool
) -> GroupOptions:
    """The options of the caller for each group, by name.

    Raises:
        BadValue: a value is not valid, or two patterns contradict each other.
        UnknownLayer, NoChannels: a pattern fits nothing.
    """

    def most(value: Any, name: str) -> float:
        return as_ratio(value, name, np.nextafter(1, 2))

    flow, named = model.flow, model.named
    return GroupOptions(
        fitting(flow, named, as_patterns(ignore)),
        {} if ratios is None else by_pattern(flow, named, ratios, as_ratio, "ratios"),
        by_pattern(flow, named, max_ratio, most, "max_ratio"),
        by_pattern(flow, named, min_channels, as_count, "min_channels"),
        round_to,
        inexact,
    )


def refuse_idle(model: PrunableModel, wanted: Sequence[Budget], options: GroupOptions) -> None:
    """Raises BadValue if there are no budgets and no ratios, or if the model already meets all budgets."""
    if not wanted and options.ratios and not any(options.ratios.values()):
        raise BadValue(
            "nothing would be cut: all ratios are 0. Ratios of scores below a threshold are 0 if no score is below it: "
            "give a larger threshold or tolerance, larger ratios, or a budget, such as macs=0.5"
        )
    if not wanted and not options.ratios:
        raise BadValue(
            "nothing would be cut: give a budget, such as macs=0.5, or ratios=0.5; budgets are channels, parameters, "
            "macs, bytes and latency"
        )
    if wanted and not options.ratios and all(budget.before <= budget.target for budget in wanted):
        raise BadValue(_within_budgets(model, wanted))


def _no_block_cut(model: PrunableModel, wanted: Sequence[Budget], blocks: int) -> str:
    if wanted:
        return _within_budgets(model, wanted)
    enough = f"{np.ceil(1000 / blocks) / 1000:g}"
    return (
        f"nothing would be cut: depth is less than one of the {counted(blocks, 'block')} of "
        f"{model.snapshot.name!r} that can be deleted; give depth={enough}, or a budget, such as macs=0.5"
    )


def _within_budgets(model: PrunableModel, wanted: Sequence[Budget]) -> str:
    says = " and ".join(budget.says(budget.before) for budget in wanted)
    return f"nothing would be cut: {model.snapshot.name!r} has {says}, within the budget; give a smaller one"


def _nothing_cut(model: PrunableModel, limits: Sequence[Limits], ratios: Collection[str] | None) -> str:
    """Why no group is cut, in words. Without a budget, only groups with a ratio could be."""
    named = [(name, limit) for name, limit in zip(model.names, limits, strict=True) if ratios is None or name in ratios]
    reasons = dict.fromkeys(f"{name!r}: {limit.reason}" for name, limit in named)
    return f"nothing would be cut of {model.snapshot.name!r}: {'; '.join([*reasons][:5])}"
