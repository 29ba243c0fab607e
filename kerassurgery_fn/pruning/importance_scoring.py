"""Scores of all channels of a model by a criterion."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

import kerassurgery_fn.pruning.activation_criteria
import kerassurgery_fn.pruning.gradient_criteria
import kerassurgery_fn.pruning.reconstruction_criteria
import kerassurgery_fn.pruning.weight_criteria  # noqa: F401
from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.arguments import meant
from kerassurgery_fn.errors import BadScores, BadValue, SurgeryError
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.criterion_registry import Criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights, group_weights, named_groups
from kerassurgery_fn.pruning.score_arithmetic import normalised, reduced
from kerassurgery_fn.values.mapped_arrays import release
from kerassurgery_fn.values.snapshot import Snapshot


def score_channels(
    snapshot: Snapshot,
    criterion: Criterion,
    options: Mapping[str, Any],
    reduction: str = "mean",
    normalisation: str | None = None,
    over: str = "group",
) -> Scores:
    """The scores of all channels that can be cut by a criterion; arguments as for `importance`.

    Args:
        options: keyword arguments of the criterion, with `statistics` where it needs them.

    Raises:
        BadScores, BrokenSnapshot: see `importance`.
    """
    flow = analyse(snapshot)
    free = {name: group for name, group in named_groups(groups_of(flow)).items() if not group.pinned}
    scores: dict[str, np.ndarray | None] = {}
    for weights in group_weights(snapshot, flow, free):
        scores[weights.name] = _scored(criterion, weights, options, reduction)
        for member in weights.members:
            release(member.array)
    known = {name: values for name, values in scores.items() if values is not None}
    if scores and not known:
        raise BadScores(
            f"the criterion {criterion.name!r} gives no score for any of the {len(scores)} groups of {snapshot.name!r} "
            "that can be cut; use another criterion, such as 'magnitude'"
        )
    # Not finite scores are reported before a normalisation spreads them over their group.
    raw = Scores(known, criterion.name)
    return Scores(normalised(raw, normalisation or criterion.normalisation, over), criterion.name)


def refuse_options(criterion: Criterion, options: Collection[str], caller: str, known: Collection[str]) -> None:
    """Raises BadValue for an option that neither the caller nor the criterion has.

    Args:
        criterion: the criterion.
        options: the names of the options.
        caller: the name of the function that was called, for the error.
        known: the names of its arguments.
    """
    if "options" in criterion.options:  # the criterion takes any
        return
    names = [*known, *criterion.options]
    for name in options:
        if name not in criterion.options:
            raise BadValue(
                f"{caller}() has no argument {name!r}, and the criterion {criterion.name!r} has no such option; "
                f"{meant(name, names, len(names))}"
            )


def _scored(
    criterion: Criterion, weights: GroupWeights, options: Mapping[str, Any], reduction: str
) -> np.ndarray | None:
    """The scores of the channels of a group, shape (channels,); None if the criterion has no score for the group.

    Raises:
        BadScores: the criterion fails, or its result has another shape.
    """
    try:
        with np.errstate(all="ignore"):  # scores that are not finite raise an error with the name of the group
            result = criterion.function(weights, **options)
        array = np.asarray(result)
    except SurgeryError:
        raise
    except Exception as error:  # the function is the caller's
        raise BadScores(
            f"the criterion {criterion.name!r} fails on the group {weights.name!r} ({type(error).__name__}: {error})"
        ) from error
    if result is None or not array.size:
        return None
    if array.ndim not in (1, 2) or array.shape[-1] != len(weights) or array.dtype.kind not in "iufb":
        raise BadScores(
            f"the criterion {criterion.name!r} must return numbers of shape ({len(weights)},) or "
            f"(members, {len(weights)}) for the group {weights.name!r}, not {array.dtype} of shape {array.shape}"
        )
    return reduced(np.atleast_2d(array).astype(np.float64), reduction)
