"""What planning works on: the groups of a model with their scores, limits and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.coupled_groups import Group, groups_of
from kerassurgery_fn.arguments import counted, meant
from kerassurgery_fn.errors import BadScores, BadValue
from kerassurgery_fn.pruning.budget_search import Figures
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.cost_by_width import CostByWidth, owners_of
from kerassurgery_fn.pruning.group_limits import (
    ByGroup,
    GroupOptions,
    Limits,
    fitting,
    group_limits,
    layout_of,
    refuse_narrow,
)
from kerassurgery_fn.pruning.group_weights import class_names, named_groups
from kerassurgery_fn.pruning.latency_tables import LatencyTable
from kerassurgery_fn.pruning.removal_order import Steps, priorities, removal_steps, structure
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class PrunableModel:
    """A model as planning sees it. Arrays of shape (groups,) follow the order of `groups`.

    - `named`: name -> group, of the groups that layers create; `names`: the name of each group, empty for others;
    - `figures`: the costs as functions of widths.
    """

    snapshot: Snapshot
    flow: Flow
    groups: Sequence[Group]
    named: Mapping[str, Group]
    names: Sequence[str]
    figures: Figures

    @property
    def costs(self) -> CostByWidth:
        return self.figures.costs

    @cached_property
    def owners(self) -> np.ndarray:
        """The number of the group of each final id, -1 for none, shape (ids + 1,)."""
        return owners_of(self.flow, self.groups)


def prunable_model(snapshot: Snapshot, latency_table: LatencyTable | None = None) -> PrunableModel:
    """A snapshot as planning sees it.

    Args:
        snapshot: the model.
        latency_table: the latencies of its layers, if they count.
    """
    flow = analyse(snapshot)
    groups = groups_of(flow)
    named = named_groups(groups)
    by_group = {id(group): name for name, group in named.items()}
    free = np.array([bool(group.made) and not group.pinned for group in groups], bool)
    figures = Figures(CostByWidth(snapshot, flow, groups, latency_table), free)
    return PrunableModel(snapshot, flow, groups, named, [by_group.get(id(group), "") for group in groups], figures)


def refuse_other_scores(model: PrunableModel, scores: Scores) -> None:
    """Raises BadScores if the scores do not belong to the groups of the model."""
    for name, values in scores.items():
        if name not in model.named:
            raise BadScores(
                f"the scores are of another model: {model.snapshot.name!r} has no group {name!r}; "
                f"{meant(name, model.named)}"
            )
        if len(values) != (channels := len(model.named[name])):
            raise BadScores(
                f"the scores are of another model: the group {name!r} has {counted(channels, 'channel')} in "
                f"{model.snapshot.name!r}, and {counted(len(values), 'score')}"
            )


def left_alone(model: PrunableModel, number: int, scores: Scores, options: GroupOptions) -> str:
    """Why a group is not cut, in words; empty if it is."""
    group, name = model.groups[number], model.names[number]
    reasons: list[tuple[Any, str]] = [
        (group.pinned, str(next(iter(group.reasons), ""))),
        (not name, "no layer creates its channels"),
        (group.inexact and not options.inexact, f"not exact, and inexact=False: {next(iter(group.inexact), '')}"),
        (name in options.ignored, f"ignored by {options.ignored.get(name)!r}"),
        (name not in scores, f"it has no score by {scores.criterion}"),
        (len(group) < 2, "it has a single channel"),
    ]
    return next((reason for holds, reason in reasons if holds), "")


def refuse_idle_ratios(model: PrunableModel, scores: Scores, options: GroupOptions, ratios: Any) -> None:
    """Raises BadValue if a pattern has a ratio, and all groups that it fits are left alone.

    Args:
        model: the model.
        scores: the scores of its channels.
        options: the options of the caller for each group.
        ratios: the argument of the caller; only mappings from patterns are checked.
    """
    if not isinstance(ratios, Mapping) or isinstance(ratios, ByGroup):
        return
    numbers = {name: number for number, name in enumerate(model.names) if name}
    for pattern in (pattern for pattern, ratio in ratios.items() if ratio):
        groups = [name for name in fitting(model.flow, model.named, pattern) if len(model.named[name]) > 1]
        reasons = {name: left_alone(model, numbers[name], scores, options) for name in groups}
        if groups and all(reasons.values()):
            words = "; ".join(f"{name!r}: {reason}" for name, reason in [*reasons.items()][:5])
            raise BadValue(
                f"ratios: {pattern!r} has the ratio {ratios[pattern]}, and its groups are left alone: {words}; remove "
                "the pattern, or let the groups be cut (ignore, inexact, scores)"
            )


def limits_of(model: PrunableModel, scores: Scores, options: GroupOptions, frozen: Mapping[int, str]) -> list[Limits]:
    """The widths that each group can have.

    Raises:
        BadValue: the options contradict each other, or a layer has fewer channels than the multiple.
    """
    reasons = {
        number: frozen.get(number) or left_alone(model, number, scores, options) for number in range(len(model.groups))
    }
    layout = layout_of(model.flow, model.groups)
    free = {model.names[number]: model.groups[number] for number, reason in reasons.items() if not reason}
    refuse_narrow(free, options.round_to, layout)
    return [
        Limits(np.array([len(group)]), reasons[number])
        if reasons[number]
        else group_limits(model.names[number], group, options, layout)
        for number, group in enumerate(model.groups)
    ]


def steps_of(model: PrunableModel, scores: Scores, limits: Sequence[Limits], scope: str) -> Steps:
    """The order in which channels are removed."""
    free = {name: scores[name] for name, limit in zip(model.names, limits, strict=True) if len(limit.widths) > 1}
    classes = class_names(model.flow)
    ranked = priorities(free, scope, lambda name: structure(model.named[name], classes))
    return removal_steps([np.sort(ranked.get(name, np.zeros(0))) for name in model.names], limits)


def removed_ids(model: PrunableModel, scores: Scores, widths: np.ndarray) -> dict[int, np.ndarray]:
    """The channels with the lowest scores: number of each group that is cut -> indices into the group, sorted."""
    return {
        number: lowest(scores[model.names[number]], model.costs.full[number] - widths[number])
        for number in np.flatnonzero(widths < model.costs.full).tolist()
    }


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """The indices of the lowest scores, sorted; of equal scores, the first.

    Args:
        scores: shape (channels,).
        count: how many of them, at least one.

    >>> lowest(np.array([3.0, 1.0, 2.0, 1.0, 2.0]), 3)
    array([1, 2, 3])
    """
    highest = np.partition(scores, count - 1)[count - 1]  # of the lowest scores
    chosen = scores < highest
    chosen[np.flatnonzero(scores == highest)[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)
