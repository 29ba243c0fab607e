"""`prune_iteratively`: pruning in rounds, with fine-tuning after each, until a budget is met or the accuracy falls.

Keras is imported only to build the models that are fine-tuned and evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np
from toolz import keyfilter

from kerassurgery_fn.arguments import as_count, as_file, as_function, as_model_or_snapshot, optional, shortened, takes
from kerassurgery_fn.documents.plan_algebra import concatenate
from kerassurgery_fn.documents.plan_files import save_plan
from kerassurgery_fn.errors import BadValue, BudgetMissed
from kerassurgery_fn.keras_io.own_objects import knows_own_objects
from kerassurgery_fn.measure.model_pruning import ARGUMENTS as PRUNING
from kerassurgery_fn.measure.model_pruning import rebuilt, refuse_misspelt
from kerassurgery_fn.measure.model_scoring import captured
from kerassurgery_fn.measure.pruning_run import Evaluate, FineTune, Run, planned
from kerassurgery_fn.measure.round_folder import round_folder
from kerassurgery_fn.pruning.block_scores import is_influence
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.criterion_registry import Criterion, CriterionFunction, as_criterion
from kerassurgery_fn.pruning.latency_tables import LatencyTable
from kerassurgery_fn.pruning.model_latency import as_latency_table
from kerassurgery_fn.pruning.pruning_plans import plan_pruning
from kerassurgery_fn.pruning.pruning_rounds import PrunedInRounds, Round, until_fall
from kerassurgery_fn.pruning.round_targets import RoundTargets, round_targets
from kerassurgery_fn.pruning.schedules import Schedule, as_schedule
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn


def as_tolerance(value: Any, name: str = "tolerance") -> float:
    """The largest fall of a metric.

    Raises:
        BadValue: it is not a number from 0.
    """
    if isinstance(value, int | float | np.number) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise BadValue(f"{name}: expected how far the metric may fall, such as 0.01, not {shortened(value)}")


@takes(
    model=as_model_or_snapshot, fine_tune=optional(as_function), evaluate=optional(as_function), rounds=as_count,
    tolerance=optional(as_tolerance), folder=optional(as_file), latency_table=optional(as_latency_table),
)  # fmt: skip
@knows_own_objects
def prune_iteratively(
    model: Any,
    *,
    fine_tune: FineTune | None = None,
    evaluate: Evaluate | None = None,
    rounds: int = 5,
    schedule: str | Schedule = "cubic",
    tolerance: float | None = None,
    folder: Any = None,
    by: str | CriterionFunction | Criterion = "magnitude",
    data: Any = None,
    channels: float | None = None,
    parameters: float | None = None,
    macs: float | None = None,
    bytes: float | None = None,
    latency: float | None = None,
    latency_table: LatencyTable | None = None,
    ratios: float | Mapping[str, float] | None = None,
    max_ratio: float | Mapping[str, float] = 1.0,
    min_channels: int | Mapping[str, int] = 1,
    **options: Any,
) -> PrunedInRounds:
    """A model that is pruned in rounds: each removes a part of the channels, and the model is fine-tuned after it.

        def fine_tune(model):
            model.fit(train, epochs=2)
            return model

        result = prune_iteratively(model, macs=0.5, rounds=5, fine_tune=fine_tune, folder="pruning")
        result.model, result.plan, result            # the last good model, all edits as one plan, a table of the rounds

    All targets are relative to the first model, for any number of rounds: with `macs=0.5`, half of its MACs are left
    after the last round. Channels are scored again in each round, on the fine-tuned model. A round without a cut is
    left out.

    With `folder`, each round is written to disk when it is done: `plan.json`, `model.keras` and `metrics.json` in
    `round_1`, `round_2`, .... The same call on the same model resumes a run that was killed. The result is the same as
    without the interruption if `fine_tune` sets its seeds. The settings must be the same as in the earlier run;
    functions are compared by their names, and `data`, `fine_tune`, `evaluate` and `tolerance` are not compared.

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        fine_tune: a function that trains a Keras model and returns it. The model is compiled as the first one was, and
            its optimizer continues where it stopped. None: no training.
        evaluate: a function from a Keras model to a number, higher is better, such as the accuracy on validation data.
        rounds: the number of rounds.
        schedule: the fraction that is left after each round: `cubic` (most is cut in the first rounds), `linear`,
            `geometric` (the same share in each round), `one_shot`, or a function (progress from 0 to 1, fraction that
            is left in the end) -> fraction that is left.
        tolerance: the rounds end when the metric has fallen by more than this below the metric of the first model. Then
            the result is the model of the round before. By default, there is no limit. Needs `evaluate`.
        folder: the folder to which rounds are written; created if it does not exist.
        by: the criterion, as for `prune`, but not `Scores`, because scores belong to one model.
        data: data for criteria that need it.
        channels, parameters, macs, bytes, latency, latency_table, ratios, max_ratio, min_channels: as for `prune`,
            relative to the first model.
        **options: all other options of `prune`, such as `scope`, `round_to`, `ignore`, `reconstruct`, `depth="only"`.

    Returns:
        The last good model, of the same kind as `model`, with the plan and the results of each round.

    Raises:
        BadValue: `fine_tune` returns no model, `evaluate` no number, `tolerance` is given without `evaluate`, the
            schedule is not valid, the folder has rounds with other settings, statistics of one model are given, or an
            option of `prune` is not valid.
        OtherModel: the folder has rounds of another model, or `fine_tune` returns a model of another architecture.
        UnreachableBudget: the budget cannot be reached: before the first round, unless the criterion skips groups.
        BadFile, BadDocument: the folder cannot be read or written.
        All errors of `prune`.

    Warns:
        BudgetMissed: the metric fell by more than the tolerance before the last round.

    Source:
        Han et al. 2015, Learning both Weights and Connections, arXiv:1506.02626; the schedule `cubic`: Zhu and Gupta
        2017, arXiv:1710.01878.
    """
    arguments = {
        "channels": channels, "parameters": parameters, "macs": macs, "bytes": bytes, "latency": latency,
        "latency_table": latency_table, "ratios": ratios, "max_ratio": max_ratio, "min_channels": min_channels,
        **options,
    }  # fmt: skip
    criterion = as_round_criterion("magnitude" if is_influence(by) else by)
    chosen = by if is_influence(by) else criterion
    refuse_misspelt(criterion, options, "prune_iteratively", OWN)
    for name in ("statistics", "block_scores"):
        if options.get(name) is not None:
            raise BadValue(
                f"{name}: each round measures another model; give by= and data=, which are used in each round"
            )
    if options.get("depth") not in (None, 0, "only"):
        raise BadValue(
            "depth: a fraction of the blocks is deleted at once: call prune(model, depth=...) first; depth='only' "
            "deletes blocks until the budget of each round is met"
        )
    if tolerance is not None and evaluate is None:
        raise BadValue("tolerance: the metric is what evaluate= gives, and there is none: give a function")
    first = model if isinstance(model, Snapshot) else captured(model)
    targets = targets_of(first, arguments, as_schedule(schedule), rounds)
    store = None
    if folder is not None:
        settings = {"by": chosen, "rounds": rounds, "schedule": schedule, **arguments}
        store = round_folder(folder, first, settings)
    run = Run(first, targets, fine_tune, evaluate, tolerance, store, {"by": chosen, "data": data, **arguments})
    done, models = run.through(model)
    shown, kept = until_fall(done, tolerance)
    plan = concatenate(*(each.plan for each in shown[1:kept] if each.plan is not None))
    if store is not None:
        save_plan(plan, store.path / "plan.json")
    if kept < len(shown):
        warn_of_fall(shown, tolerance)
    last = models(shown[kept - 1].number)
    return PrunedInRounds(last if isinstance(model, Snapshot) else rebuilt(last), plan, tuple(shown), kept)


def as_round_criterion(by: Any) -> Criterion:
    """The criterion.

    Raises:
        UnknownCriterion: there is no criterion of that name.
        BadValue: it is `Scores`.
    """
    if isinstance(by, Scores):
        raise BadValue("by: each round scores another model, so by= is a criterion, and no Scores")
    return as_criterion(by)


def targets_of(first: Snapshot, arguments: Mapping[str, Any], schedule: Schedule, rounds: int) -> RoundTargets:
    """The targets of the rounds, after a trial whether the last one can be reached.

    Raises:
        UnreachableBudget, BadValue, UnknownLayer, NoChannels: see `plan_pruning`.
    """
    model = planned(first, arguments)
    planning = keyfilter(PLANNING.__contains__, arguments)
    if not planning.get("closest") and not planning.get("depth"):
        alike = Scores({name: np.ones(len(group)) for name, group in model.named.items() if not group.pinned}, "trial")
        plan_pruning(first, alike, **planning)
    ratios, max_ratio, min_channels = (arguments[name] for name in ("ratios", "max_ratio", "min_channels"))
    return round_targets(model, arguments, ratios, max_ratio, min_channels, schedule, rounds)


def warn_of_fall(rounds: list[Round], tolerance: float | None) -> None:
    """Warns that the metric of the last round is too low."""
    first, last = rounds[0], rounds[-1]
    warn(
        f"the metric fell from {first.metric:.4g} to {last.metric:.4g} in round {last.number}, by more than the "
        f"tolerance of {tolerance}: the result is the model before it",
        BudgetMissed,
    )


PLANNING = [*signature(plan_pruning).parameters][2:]
OWN = [*dict.fromkeys([*signature(prune_iteratively).parameters][1:-1] + PRUNING)]
