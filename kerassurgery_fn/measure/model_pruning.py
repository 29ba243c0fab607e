"""`prune`: a smaller model for a budget, from a Keras model or a snapshot.

Keras is imported only for Keras models, so that snapshots are pruned without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from toolz import keyfilter, valfilter, valmap

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.analysis.input_shapes import Shapes
from kerassurgery_fn.analysis.layer_costs import Cost, cost
from kerassurgery_fn.analysis.residual_blocks import residual_blocks
from kerassurgery_fn.arguments import as_flag, as_model_or_snapshot, meant, optional, takes
from kerassurgery_fn.channels import size
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.errors import BadValue, MissingData
from kerassurgery_fn.keras_io.own_objects import knows_own_objects
from kerassurgery_fn.measure.block_scoring import score_blocks
from kerassurgery_fn.measure.model_scoring import ARGUMENTS as SCORING
from kerassurgery_fn.measure.model_scoring import READING, captured, importance, statistics_for
from kerassurgery_fn.pruning.activation_views import address
from kerassurgery_fn.pruning.block_scores import BlockScores, as_block_scores, is_influence, mean_scores
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.criterion_registry import CRITERIA, Criterion, CriterionFunction, as_criterion
from kerassurgery_fn.pruning.depth_planning import as_depth
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.importance_scoring import refuse_options
from kerassurgery_fn.pruning.latency_tables import LatencyTable
from kerassurgery_fn.pruning.model_latency import as_latency_table
from kerassurgery_fn.pruning.model_latency import latency as latency_by
from kerassurgery_fn.pruning.pruning_plans import plan_pruning
from kerassurgery_fn.pruning.pruning_rounds import LATENCY
from kerassurgery_fn.pruning.reconstruction import reconstructed
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import ShownAsTable, Table


@dataclass(frozen=True, eq=False, repr=False)
class Pruned(ShownAsTable):
    """The result of `prune`. It prints as a table.

    - `model`: the smaller model, a Keras model or a snapshot, as the model that was given;
    - `plan`: the edit that makes it from the snapshot of the model;
    - `scores`: the scores by which channels were chosen;
    - `before`, `after`: the costs of both models, layer by layer;
    - `widths`: address of each layer that lost channels -> its number of channels before and after, 0 if it was
      deleted;
    - `latencies`: the latencies before and after in microseconds, by the table that was given; None without a table.
    """

    model: Any
    plan: AtOnce | Plan
    scores: Scores
    before: Cost
    after: Cost
    widths: Mapping[str, tuple[int, int]]
    latencies: tuple[float, ...] | None = None

    def table(self) -> Table:
        """The costs and the widths before and after."""
        figures = (("parameters", "parameters"), ("MACs", "macs"), ("bytes", "bytes"))
        costs: list[tuple[str, float, float]] = [
            (label, getattr(self.before, name), getattr(self.after, name)) for label, name in figures
        ]
        costs += [] if self.latencies is None else [(LATENCY["latency"], self.latencies[0], self.latencies[1])]
        widths = [(name, *pair) for name, pair in self.widths.items()]
        rows = tuple(
            (name, before, after, f"{100 * after / max(1, before):.1f} %") for name, before, after in costs + widths
        )
        return Table(f"pruned by {self.scores.criterion}", ("", "before", "after", "left"), rows)


@takes(
    model=as_model_or_snapshot, depth=as_depth, block_scores=optional(as_block_scores), reconstruct=as_flag,
    latency_table=optional(as_latency_table),
)  # fmt: skip
@knows_own_objects
def prune(
    model: Any,
    *,
    by: str | CriterionFunction | Criterion | Scores = "magnitude",
    data: Any = None,
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
    reconstruct: bool = False,
    **options: Any,
) -> Pruned:
    """A model without its least important channels, within a budget.

        result = prune(model, macs=0.5)
        result.model.fit(...)              # half of the multiply-accumulates, compiled as the model was

    It is `importance`, then `plan_pruning`, then the plan applied. Each step can be called alone.

    Args:
        model: a Keras model, which is not changed, or a snapshot. Classes and functions of your own in a Keras model
            do not have to be registered.
        by: the criterion: a name, or a function, as for `importance`; or `Scores`. `block_influence` scores blocks, see
            `score_blocks`; channels are scored by `magnitude` then.
        data: data for criteria that need it, in any form that `fit` takes, with labels for the criteria on gradients of
            the loss; criteria on weights do not read it.
        channels, parameters, macs, bytes, latency, latency_table: budgets, as for `plan_pruning`.
        ratios, scope, max_ratio, min_channels, round_to, ignore, inexact, closest, shapes: as for `plan_pruning`.
        depth: the fraction of residual blocks to delete before channels are deleted, or `"only"`, as for
            `plan_pruning`.
        block_scores: the importance of residual blocks; by default `score_blocks` by the same criterion.
        reconstruct: whether the layers that read deleted channels compute them from the others, by least squares on
            data: see `reconstructed`.
        **options: `reduction`, `normalisation`, `over`, `statistics`, `loss`, `batch_size`, `steps`, `progress`,
            `executor` of `importance`, and options of the criterion.

    Returns:
        The smaller model, of the kind that was given, with the plan and the costs before and after.

    Raises:
        NotAGraph: the value is neither a model nor a snapshot.
        UnknownCriterion, BadScores, MissingData, BadData: see `importance`.
        UnreachableBudget, BadValue, UnknownLayer, NoChannels: see `plan_pruning`.
        BadValue: both `depth` and `reconstruct` are given.
        NoBlock: `depth` is given, and the model has no residual block.

    Warns:
        BudgetMissed: the budget cannot be reached and `closest` is True.
        InexactCut: `inexact` is True and the cut is not exact.
    """
    reading, scoring = keyfilter(READING.__contains__, options), keyfilter(lambda name: name not in READING, options)
    if is_influence(by):
        refuse_influence_alone(depth)
        by, block_scores = "magnitude", block_scores or score_blocks(model, by, data=data, **reading)
    criterion = by if isinstance(by, Scores) else as_criterion(by)
    refuse_misspelt(criterion, options)
    statistics = statistics_for(criterion, model, data, **reading) if isinstance(criterion, Criterion) else None
    snapshot = model if isinstance(model, Snapshot) else captured(model)
    if isinstance(criterion, Scores):
        scores = criterion
    else:
        scores = importance(snapshot, criterion, statistics=statistics, **scoring)
    if depth:
        refuse_reconstruction(reconstruct)
        block_scores = block_scores or scores_of_blocks(snapshot, criterion, statistics, options)
    products = products_for(criterion, model, data, statistics, reading) if reconstruct else None
    deletions = plan_pruning(
        snapshot, scores, channels=channels, parameters=parameters, macs=macs, bytes=bytes, latency=latency,
        latency_table=latency_table, ratios=ratios, scope=scope, max_ratio=max_ratio, min_channels=min_channels,
        round_to=round_to, ignore=ignore, inexact=inexact, closest=closest, shapes=shapes, depth=depth,
        block_scores=block_scores,
    )  # fmt: skip
    plan = reconstructed(snapshot, deletions, products) if isinstance(deletions, AtOnce) and products else deletions
    smaller = plan(snapshot)
    result = smaller if isinstance(model, Snapshot) else rebuilt(smaller, safe_mode=False)
    costs, widths = (cost(snapshot, shapes), cost(smaller, shapes)), changed_widths(snapshot, smaller)
    return Pruned(result, plan, scores, *costs, widths, latencies_of([snapshot, smaller], latency_table, shapes))


def latencies_of(
    models: Sequence[Snapshot], latency_table: LatencyTable | None, shapes: Shapes | None
) -> tuple[float, ...] | None:
    """The latencies of some models in microseconds; None without a table."""
    if latency_table is None:
        return None
    return tuple(latency_by(model, latency_table, shapes).microseconds for model in models)


def refuse_influence_alone(depth: float | str) -> None:
    """Raises BadValue if there is a criterion for blocks, but blocks cannot be deleted."""
    if not depth:
        raise BadValue(
            "by='block_influence' scores residual blocks: give depth='only', or the fraction of them to delete"
        )


def refuse_reconstruction(reconstruct: bool) -> None:
    """Raises BadValue if channels are to be reconstructed after a deletion of blocks."""
    if reconstruct:
        raise BadValue(
            "depth deletes blocks, after which layers have other inputs than those measured: delete blocks first "
            "(depth='only'), then call prune(..., reconstruct=True) on the result"
        )


def scores_of_blocks(
    snapshot: Snapshot, criterion: Criterion | Scores, statistics: Any, options: Mapping[str, Any]
) -> BlockScores:
    """The scores of residual blocks by the criterion for channels.

    Raises:
        NoBlock: the model has no residual block.
    """
    if isinstance(criterion, Scores):
        flow = analyse(snapshot)
        return mean_scores(flow, named_groups(groups_of(flow)), criterion, residual_blocks(snapshot))
    others = keyfilter(lambda name: name not in (*READING, "normalisation", "over"), options)
    return score_blocks(snapshot, criterion, statistics=statistics, **others)


def products_for(
    criterion: Criterion | Scores, model: Any, data: Any, statistics: Any, reading: Mapping[str, Any]
) -> Any:
    """The statistics for a reconstruction: the statistics of the criterion, or new ones that are measured on data.

    Raises:
        MissingData: there is no data.
    """
    needed = CRITERIA["least_squares"]
    if isinstance(criterion, Criterion) and criterion.needs == needed.needs:
        return statistics
    if data is None:
        raise MissingData("reconstruct=True measures what layers are given, and there is no data: give data=")
    return statistics_for(needed, model, data, **keyfilter(lambda name: name not in ("statistics", "loss"), reading))


def refuse_misspelt(
    criterion: Criterion | Scores, options: Collection[str], caller: str = "prune", known: Collection[str] = ()
) -> None:
    """Raises BadValue for an option that neither the caller nor the criterion has.

    Args:
        criterion: the criterion.
        options: the names of the options.
        caller: the function that was called, for the error.
        known: the names of its arguments; by default those of `prune`.
    """
    known = known or ARGUMENTS
    if isinstance(criterion, Criterion):
        known = [*dict.fromkeys([*known, *SCORING])]
        refuse_options(criterion, [name for name in options if name not in known], caller, known)
    elif unknown := [name for name in options if name not in READING]:
        name = unknown[0]
        raise BadValue(f"{caller}() has no argument {name!r} where by= is Scores; {meant(name, known, len(known))}")


def changed_widths(before: Snapshot, after: Snapshot) -> dict[str, tuple[int, int]]:
    """Address of each layer that lost channels -> its number of channels before and after, 0 if it was deleted."""
    return valfilter(lambda pair: pair[0] != pair[1], compared_widths(before, after))


def compared_widths(before: Snapshot, after: Snapshot) -> dict[str, tuple[int, int]]:
    """Address of each layer of a model -> its number of channels before and after an edit, 0 if it was deleted.

    A depth multiplier, or another axis of a grid, of which one is left is no kind of channels any more.
    """
    flow, after_cut, places = analyse(before), widths_of(after), analyse(after).graph.places
    return {
        address(flow, flow.producers[key]): (width, after_cut.get(key, int(key[0] in places)))
        for key, width in widths_of(before).items()
    }


def widths_of(snapshot: Snapshot) -> dict[tuple[str, str], int]:
    """The number of channels of each layer and kind."""
    return valmap(lambda producer: size(producer.axis) or 0, analyse(snapshot).producers)


def rebuilt(snapshot: Snapshot, safe_mode: bool = True) -> Any:
    """The live model of a snapshot; without safe mode if its lambdas are those of a live model, which has run them."""
    from kerassurgery_fn.keras_io.rebuilding import rebuild

    return rebuild(snapshot, safe_mode=safe_mode)


ARGUMENTS = [*signature(prune).parameters][1:-1]
