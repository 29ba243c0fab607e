"""`importance`: scores of all channels of a model by a criterion."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

import kerassurgery_fn.pruning.activation_criteria
import kerassurgery_fn.pruning.weight_criteria  # noqa: F401
from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.arguments import as_snapshot, meant, one_of, optional, takes
from kerassurgery_fn.errors import BadScores, BadValue, MissingData, SurgeryError
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.criterion_registry import Criterion, CriterionFunction, as_criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights, group_weights, named_groups
from kerassurgery_fn.pruning.score_arithmetic import NORMALISATIONS, REDUCTIONS, normalised, reduced
from kerassurgery_fn.values.snapshot import Snapshot


@takes(
    snapshot=as_snapshot, by=as_criterion, reduction=one_of(REDUCTIONS), normalisation=optional(one_of(NORMALISATIONS)),
    over=one_of(("group", "global")),
)  # fmt: skip
def importance(
    snapshot: Snapshot,
    by: str | CriterionFunction | Criterion = "magnitude",
    *,
    reduction: str = "mean",
    normalisation: str | None = None,
    over: str = "group",
    statistics: Any = None,
    **options: Any,
) -> Scores:
    """The importance of each channel of a model. Low means that the channel can be deleted.

    Scores are given for the coupled groups that can be cut. A channel's score combines all weights that are deleted
    with it: in the layers that create the channel, in normalisations, and in the layers that read it.

    | criterion | score of a channel | normalisation |
    |---|---|---|
    | `magnitude` | norm of its values in each weight; options `p`, `of` | mean |
    | `group_magnitude` | norm of its values in all weights together; options `p`, `of` | mean |
    | `bn_scale` | absolute scale in batch normalisations | none |
    | `fpgm` | sum of distances of its filter to all others | mean |
    | `lamp` | share in the squared magnitude of all channels that are not smaller; option `of` | none |
    | `cosine` | how little its filter resembles a larger one | none |
    | `random` | a random number; option `seed` | none |
    | `apoz` | how often its activation is not zero; needs data | none |

    Args:
        snapshot: the model.
        by: the name of a criterion, or a function `function(group, **options)` from a `GroupWeights` to scores of shape
            (channels,) or (members, channels). `criterion` registers a function under a name.
        reduction: how the scores of the members of a group become one score for each channel: `mean`, `sum`, `max`,
            `product` or `first`.
        normalisation: how scores of different groups are made comparable: `none`, `mean`, `max`, `gaussian` or
            `standardised`; by default that of the criterion.
        over: whether the statistics of the normalisation are those of each `group`, or `global`.
        statistics: what a criterion that needs data reads besides the weights, in the form that it asks for. It is
            passed to the function as `statistics=`.
        **options: options of the criterion.

    Raises:
        UnknownCriterion: there is no criterion of that name.
        MissingData: the criterion needs statistics of data.
        BadScores: scores are NaN, infinite, or not one for each channel.
        BrokenSnapshot: the snapshot has no weights.
    """
    criterion = as_criterion(by)
    refuse_options(criterion, options)
    if criterion.needs and statistics is None:
        raise MissingData(
            f"the criterion {criterion.name!r} needs {criterion.needs} measured on data: give statistics=, or call "
            "prune(model, data=...)"
        )
    if criterion.needs:
        options |= {"statistics": statistics}
    flow = analyse(snapshot)
    free = {name: group for name, group in named_groups(groups_of(flow)).items() if not group.pinned}
    scores = {
        weights.name: _scored(criterion, weights, options, reduction) for weights in group_weights(snapshot, flow, free)
    }
    known = {name: values for name, values in scores.items() if values is not None}
    if scores and not known:
        raise BadScores(
            f"the criterion {criterion.name!r} gives no score for any of the {len(scores)} groups of {snapshot.name!r} "
            "that can be cut; use another criterion, such as 'magnitude'"
        )
    # Not finite scores are reported before a normalisation spreads them over their group.
    raw = Scores(known, criterion.name)
    return Scores(normalised(raw, normalisation or criterion.normalisation, over), criterion.name)


def refuse_options(
    criterion: Criterion, options: Collection[str], caller: str = "importance", known: Collection[str] = ()
) -> None:
    """Raises BadValue for an option that neither the caller nor the criterion has.

    Args:
        criterion: the criterion.
        options: the names of the options.
        caller: the name of the function that was called, for the error.
        known: the names of its arguments.
    """
    if "options" in criterion.options:  # the criterion takes any
        return
    names = [*ARGUMENTS, *known, *criterion.options]
    for name in options:
        if name not in criterion.options:
            raise BadValue(
                f"{caller}() has no argument {name!r}, and the criterion {criterion.name!r} has no such option; "
                f"{meant(name, names, len(names))}"
            )


def _scored(criterion: Criterion, weights: GroupWeights, options: dict[str, Any], reduction: str) -> np.ndarray | None:
    """The scores of the channels of a group, shape (channels,); None where the criterion has none.

    Raises:
        BadScores: the criterion fails, or its result has another shape.
    """
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused by name
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


ARGUMENTS = ("reduction", "normalisation", "over")
