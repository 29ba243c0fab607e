"""`sensitivity`: the metric of a model with a part of each coupled group cut, one group at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from toolz import groupby, keyfilter

from kerassurgery_fn.arguments import (
    as_file,
    as_flag,
    as_function,
    as_model_or_snapshot,
    items_of,
    optional,
    shortened,
    takes,
)
from kerassurgery_fn.documents.plan_files import MAX_BYTES, dumps, loads
from kerassurgery_fn.documents.preconditions import digest_of_arrays
from kerassurgery_fn.documents.safe_files import read_limited, write_atomically
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.keras_io.own_objects import knows_own_objects
from kerassurgery_fn.measure.data_shards import as_executor, results_by
from kerassurgery_fn.measure.masked_models import Cut, start_masking
from kerassurgery_fn.measure.model_pruning import refuse_misspelt
from kerassurgery_fn.measure.model_scoring import READING, captured, importance
from kerassurgery_fn.measure.progress_bars import as_progress, with_progress
from kerassurgery_fn.measure.pruning_run import Evaluate
from kerassurgery_fn.measure.run_settings import refuse_other_run, run_data
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.channel_sensitivity import Sensitivity, decode_sensitivity, encode_sensitivity
from kerassurgery_fn.pruning.criterion_registry import Criterion, CriterionFunction, as_criterion
from kerassurgery_fn.pruning.group_limits import as_patterns, as_ratio, fitting, left_by
from kerassurgery_fn.pruning.plan_checks import refused_widths
from kerassurgery_fn.pruning.pruning_problem import PrunableModel, prunable_model, refuse_other_scores, removed_ids
from kerassurgery_fn.values.snapshot import Snapshot

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)


def as_ratios(value: Any, name: str = "ratios") -> tuple[float, ...]:
    """Ratios of channels, in ascending order.

    Raises:
        BadValue: a ratio is not between 0 and 1, or there are no ratios.
    """
    listed = [value] if isinstance(value, int | float) else items_of(value) or []
    ratios = sorted({as_ratio(ratio, name) for ratio in listed})
    if not ratios or ratios[0] == 0:
        raise BadValue(f"{name}: expected ratios between 0 and 1, such as {RATIOS}, not {shortened(value)}")
    return tuple(ratios)


@takes(
    model=as_model_or_snapshot, evaluate=as_function, ratios=as_ratios, inexact=as_flag, cache=optional(as_file),
    progress=as_progress, executor=optional(as_executor),
)  # fmt: skip
@knows_own_objects
def sensitivity(
    model: Any,
    evaluate: Evaluate,
    *,
    ratios: Sequence[float] = RATIOS,
    by: str | CriterionFunction | Criterion | Scores = "magnitude",
    data: Any = None,
    ignore: Any = (),
    inexact: bool = False,
    executor: Any = None,
    cache: Any = None,
    progress: Any = None,
    **options: Any,
) -> Sensitivity:
    """How sensitive a model is to cuts: its metric with a part of one coupled group cut, for each group and ratio.

        found = sensitivity(model, lambda model: model.evaluate(x, y, return_dict=True)["accuracy"])
        found                                                        # a table, the most sensitive groups first
        prune(model, ratios=found.ratios(tolerance=0.01))            # each group as far as it can be cut alone
        prune(model, macs=0.5, max_ratio=found.ratios(tolerance=0.05))

    The channels with the lowest scores are cut. Groups that cannot be cut, or not exactly, are left out.

    `evaluate` is called for each group and ratio on one model, in which the channels are set to zero. This model
    computes the same as the smaller model, so no model must be built or compiled again. A smaller model is only built
    for cuts that are not exact.

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        evaluate: a function from a Keras model to a number, higher is better, such as the accuracy on validation data.
            It must not train the model. The model is compiled as the first one was.
        ratios: the fractions of channels to cut from a group.
        by, data: the criterion and its data, as for `prune`; or `Scores`.
        ignore: patterns of layers whose groups are left out, as for `plan_pruning`.
        inexact: whether groups are also measured if a softmax or a normalisation over channels reads them.
        executor: a `concurrent.futures.Executor`, whose workers evaluate cuts. If the workers are processes, `evaluate`
            must be a function of a module.
        cache: the path of a JSON file to which each metric is written at once. The same call resumes from it,
            also with more ratios. `evaluate` and `data` are not compared with the earlier call.
        progress: as for `measure_statistics`, a step for each cut.
        **options: options of `importance` and of the criterion.

    Returns:
        The metrics by group and ratio.

    Raises:
        BadValue: a ratio is not between 0 and 1, `evaluate` returns no number, or NaN for the whole model, no group
            can be cut, or the cache belongs to other settings.
        OtherModel: the cache belongs to another model.
        UnknownCriterion, BadScores, MissingData, BadData: see `importance`.
        UnknownLayer, NoChannels: a pattern matches nothing.
        BadFile, BadDocument: the cache cannot be read or written.

    Source:
        Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv:1608.08710, section 3.2.
    """
    refuse_misspelt(by if isinstance(by, Scores) else as_criterion(by), options, "sensitivity", ARGUMENTS)
    snapshot = model if isinstance(model, Snapshot) else captured(model)
    scores = by if isinstance(by, Scores) else importance(snapshot, by, data=data, progress=progress, **options)
    planned = prunable_model(snapshot)
    cuts = cuts_of(planned, scores, ratios, ignore, inexact)
    settings = settings_of(by, scores, options)
    known = None if cache is None else read_cache(cache, snapshot, settings)
    found = Sensitivity(scores.criterion, np.nan, {}) if known is None else known
    waiting = [*([None] if known is None else []), *(cut for cut in cuts if not has_metric(found, cut))]
    start = partial(start_masking, snapshot, evaluate)
    if executor is None:
        results = map(start(), waiting) if waiting else iter(())
    else:
        results = results_by(executor, start, waiting)
    for cut, metric in zip(waiting, with_progress(results, len(waiting), progress, "cut"), strict=True):
        if cut is None and np.isnan(metric):
            raise BadValue("evaluate: the metric of the whole model is NaN, so no cut can be compared with it")
        found = with_metric(found, cut, metric)
        if cache is not None:
            write_cache(cache, found, snapshot, settings)
    metrics = {name: {cut.ratio: metric_for(found, cut) for cut in some} for name, some in groupby(0, cuts).items()}
    return Sensitivity(scores.criterion, found.baseline, metrics)


ARGUMENTS = [*signature(sensitivity).parameters][1:-1]


def cuts_of(
    model: PrunableModel, scores: Scores, ratios: Sequence[float], ignore: Any, inexact: bool
) -> list[Cut]:  # fmt: skip
    """The cuts to try: each ratio of each group that can be cut alone.

    Raises:
        BadValue: there are none.
        BadScores: the scores are of another model.
        UnknownLayer, NoChannels: a pattern matches nothing.
    """
    refuse_other_scores(model, scores)
    ignored = fitting(model.flow, model.named, as_patterns(ignore))
    free = [
        number
        for number, (name, group) in enumerate(zip(model.names, model.groups, strict=True))
        if name in scores and name not in ignored and not group.pinned and (inexact or not group.inexact)
    ]
    cuts = [cut for number in free for ratio in ratios if (cut := cut_of(model, scores, number, ratio)) is not None]
    if not cuts:
        raise BadValue(
            f"no group of {model.snapshot.name!r} can be cut: all are pinned, ignored, without a score or not exact; "
            "see groups(snapshot)"
        )
    return cuts


def cut_of(model: PrunableModel, scores: Scores, number: int, ratio: float) -> Cut | None:
    """The cut of a ratio of a group, of the channels with the lowest scores; None if it is impossible."""
    widths = model.costs.full.copy()
    widths[number] = left_by(ratio, int(widths[number]))
    removed = removed_ids(model, scores, widths)
    if refused_widths(model, removed, widths, with_costs=True):
        return None
    return Cut(model.names[number], ratio, removed.get(number, np.zeros(0, int)))


def has_metric(found: Sensitivity, cut: Cut) -> bool:
    """Whether the metric of a cut is known. Without any channel, it is the baseline."""
    return not cut.channels.size or cut.ratio in found.metrics.get(cut.name, {})


def metric_for(found: Sensitivity, cut: Cut) -> float:
    """The metric of a cut."""
    return found.metrics[cut.name][cut.ratio] if cut.channels.size else found.baseline


def with_metric(found: Sensitivity, cut: Cut | None, metric: float) -> Sensitivity:
    """The sensitivity with one metric more: of a cut, or of the whole model."""
    if cut is None:
        return replace(found, baseline=metric)
    row = {**found.metrics.get(cut.name, {}), cut.ratio: metric}
    return replace(found, metrics={**found.metrics, cut.name: row})


# --- the cache


def settings_of(by: Any, scores: Scores, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings on which the metrics depend, besides the model, the data and `evaluate`."""
    settings = {"by": scores.criterion, **keyfilter(lambda name: name not in READING, dict(options))}
    if isinstance(by, Scores):
        settings["scores"] = digest_of_arrays(tuple(by.values()))
    return settings


def read_cache(path: str, snapshot: Snapshot, settings: Mapping[str, Any]) -> Sensitivity | None:
    """The metrics in a cache; None if there is no file.

    Raises:
        OtherModel, BadValue: the cache is of another model or of other settings.
        BadFile, BadDocument, UnknownVersion: it cannot be read.
    """
    if not Path(path).exists():
        return None
    data = loads(read_limited(path, MAX_BYTES), path)
    found = decode_sensitivity(data, path)
    refuse_other_run(data, f"the cache {path!r}", snapshot, settings)
    return found


def write_cache(path: str, found: Sensitivity, snapshot: Snapshot, settings: Mapping[str, Any]) -> None:
    """Writes the metrics, with the model and the settings of the run."""
    document = {**encode_sensitivity(found), **run_data(snapshot, settings)}
    write_atomically(path, dumps(document).encode("utf-8"))
