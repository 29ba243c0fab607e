"""`importance`: scores of all channels of a model by a criterion, measured on data where the criterion needs it.

Keras is imported only for Keras models and data, so that snapshots are scored by their weights without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import signature
from typing import Any

from toolz import valmap

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.arguments import as_model_or_snapshot, counted, one_of, optional, shortened, takes
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import BadScores, MissingData
from kerassurgery_fn.measure.criterion_statistics import refuse_missing_data
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.pruning.criterion_registry import CRITERIA, Criterion, CriterionFunction, as_criterion
from kerassurgery_fn.pruning.group_weights import producers_by_address
from kerassurgery_fn.pruning.importance_scoring import refuse_options, score_channels
from kerassurgery_fn.pruning.score_arithmetic import NORMALISATIONS, REDUCTIONS
from kerassurgery_fn.pruning.summed_arrays import SummedArrays
from kerassurgery_fn.values.snapshot import Snapshot


@takes(
    model=as_model_or_snapshot, by=as_criterion, reduction=one_of(REDUCTIONS),
    normalisation=optional(one_of(NORMALISATIONS)), over=one_of(("group", "global")),
)  # fmt: skip
def importance(
    model: Any,
    by: str | CriterionFunction | Criterion = "magnitude",
    *,
    reduction: str = "mean",
    normalisation: str | None = None,
    over: str = "group",
    data: Any = None,
    loss: Any = None,
    statistics: Any = None,
    batch_size: int = 32,
    steps: int | None = None,
    progress: Any = None,
    executor: Any = None,
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
    | `mean_activation` | its mean absolute activation; needs data | mean |
    | `variance` | the variance of its activation; needs data | mean |
    | `hrank` | the mean rank of its feature maps; needs data | mean |
    | `taylor` | the change of the loss without it, to first order, sample by sample; needs labels | mean |
    | `fisher` | the same to second order; needs labels | mean |
    | `gradient_activation` | gradient times activation, position by position; needs labels | mean |
    | `lfh` | the squared change of the outputs without it (label-free Hessian); needs data | mean |
    | `thinet` | the error of the layers that read it, without it and all with lower scores; needs data | mean |
    | `least_squares` | the same where combinations of the others replace them; needs data | mean |
    | `taylor_weights` | the change of the mean loss without its weights; needs labels; option `of` | mean |
    | `snip` | gradient times weight, element by element; needs labels; option `of` | mean |

        importance(model, "magnitude")
        importance(model, "hrank", data=images)

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        by: the name of a criterion, or a function `function(group, **options)` from a `GroupWeights` to scores of shape
            (channels,) or (members, channels). `criterion` registers a function under a name.
        reduction: how the scores of the members of a group become one score for each channel: `mean`, `sum`, `max`,
            `product` or `first`.
        normalisation: how scores of different groups are made comparable: `none`, `mean`, `sum`, `max`, `median`,
            `gaussian` or `standardised`; by default that of the criterion.
        over: whether the statistics of the normalisation are those of each `group`, or `global`.
        data: data for criteria that need it, in any form that `fit` takes, with labels for the criteria on gradients of
            the loss: (x, y), for example. Criteria on weights do not read it.
        loss: the loss for criteria on gradients, as for `compile`; by default that of the compiled model.
        statistics: in place of data, what the criterion reads besides the weights: the result of `measure_statistics`,
            or whatever a criterion of your own asks for. It is passed to the function as `statistics=`.
        batch_size, steps, progress, executor: how data is read, as for `measure_statistics`.
        **options: options of the criterion.

    Raises:
        UnknownCriterion: there is no criterion of that name.
        MissingData: the criterion needs data or statistics and has none, or has statistics of another kind.
        BadData: the data does not fit the model; see `measure_statistics`.
        BadScores: scores are NaN, infinite, or not one for each channel, or the statistics are of another model.
        BrokenSnapshot: the snapshot has no weights.
        NotAGraph: the value is neither a model nor a snapshot, or a subclassed model that `capture` cannot record.
    """
    criterion = as_criterion(by)
    refuse_options(criterion, options, "importance", ARGUMENTS)
    statistics = statistics_for(
        criterion,
        model,
        data,
        statistics,
        loss=loss,
        batch_size=batch_size,
        steps=steps,
        progress=progress,
        executor=executor,
    )
    snapshot = model if isinstance(model, Snapshot) else captured(model)
    if criterion.needs:
        refuse_other_widths(snapshot, widths_in(criterion, statistics))
        options |= {"statistics": statistics}
    return score_channels(snapshot, criterion, options, reduction, normalisation, over)


def statistics_for(criterion: Criterion, model: Any, data: Any, statistics: Any = None, **reading: Any) -> Any:
    """The statistics for a criterion: from the caller, or measured on data; None if the criterion only reads weights.

    Args:
        criterion: the criterion.
        model: a Keras model or a snapshot.
        data: what `fit` takes.
        statistics: the statistics from the caller, if any.
        **reading: how data is read.

    Raises:
        MissingData: there is neither data nor statistics, or statistics of another kind.
    """
    if not criterion.needs:
        return None
    if statistics is not None:
        refuse_other_statistics(criterion, statistics)
        return statistics
    refuse_missing_data(criterion, data)
    from kerassurgery_fn.measure.statistics_pass import measure_statistics

    return measure_statistics(model, data, criterion, **reading)


def refuse_other_statistics(criterion: Criterion, statistics: Any) -> None:
    """Raises MissingData if statistics are not of the kind that a criterion needs, or the path of a file."""
    if isinstance(statistics, str | os.PathLike):
        raise MissingData(
            f"statistics: expected {criterion.needs}, got {shortened(statistics)}; if this is a file, call "
            "load_statistics on it"
        )
    if isinstance(statistics, ChannelStatistics | SummedArrays) and statistics.kind != criterion.needs:
        raise MissingData(
            f"the criterion {criterion.name!r} needs {criterion.needs}, and these are {statistics!r}: call "
            f"measure_statistics(model, data, {criterion.name!r})"
        )


def widths_in(criterion: Criterion, statistics: Any) -> Mapping[str, int]:
    """Address -> the number of its channels in statistics of channels; empty for statistics of other kinds."""
    if isinstance(statistics, ChannelStatistics):
        return statistics.widths()
    if criterion is CRITERIA["apoz"] and isinstance(statistics, Mapping):  # the result of `score_by_apoz`
        return valmap(len, statistics)
    return {}


def refuse_other_widths(snapshot: Snapshot, widths: Mapping[str, int]) -> None:
    """Raises BadScores if statistics are of a model in which a layer has another number of channels.

    Statistics of a wider layer, such as that of the model before a cut, have a value for each index, of other channels.
    """
    producers = producers_by_address(analyse(snapshot))
    for address, measured in widths.items():
        channels = size(producers[address].axis) if address in producers else None
        if channels is not None and measured != channels:
            raise BadScores(
                f"the statistics are of another model: they have {counted(measured, 'channel')} of {address!r}, and "
                f"{snapshot.name!r} has {channels}; measure them on this model"
            )


def captured(model: Any) -> Snapshot:
    """The snapshot of a live model."""
    from kerassurgery_fn.keras_io.capturing import capture

    return capture(model)


ARGUMENTS = [*signature(importance).parameters][2:-1]
READING = (
    "statistics",
    "loss",
    "batch_size",
    "steps",
    "progress",
    "executor",
)  # those of them that say how data is read
