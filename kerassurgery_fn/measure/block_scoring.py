"""`score_blocks`: scores of the residual blocks of a model, measured on data where the criterion needs it.

Keras is imported only for Keras models and data, so that blocks of snapshots are scored by their weights without it.
"""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.analysis.residual_blocks import residual_blocks
from kerassurgery_fn.arguments import as_model_or_snapshot, takes
from kerassurgery_fn.errors import BadValue, NoBlock
from kerassurgery_fn.measure.model_scoring import ARGUMENTS as SCORING
from kerassurgery_fn.measure.model_scoring import READING, captured, importance, statistics_for
from kerassurgery_fn.pruning.block_scores import (
    INFLUENCE,
    BlockScores,
    as_block_criterion,
    block_influence,
    mean_scores,
)
from kerassurgery_fn.pruning.criterion_registry import Criterion, CriterionFunction
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.importance_scoring import refuse_options
from kerassurgery_fn.values.snapshot import Snapshot


@takes(model=as_model_or_snapshot, by=as_block_criterion)
def score_blocks(
    model: Any,
    by: str | CriterionFunction | Criterion = "magnitude",
    *,
    data: Any = None,
    statistics: Any = None,
    **options: Any,
) -> BlockScores:
    """The importance of each residual block of a model. Low means that the block can be deleted.

        scores = score_blocks(model, "block_influence", data=images)
        plan = plan_pruning(snapshot, importance(snapshot), macs=0.5, depth=0.25, block_scores=scores)

    Args:
        model: a Keras model, which is not changed, or a snapshot.
        by: `block_influence`: 1 - mean cosine similarity of the input and the output of the block on data (Men et al.
            2024, ShortGPT, arXiv:2403.03853). Or a criterion for channels, as for `importance`: the score of a block is
            the mean of the scores, not normalised, of all channels that only layers of the block create. Blocks without
            such channels have no score.
        data: data for criteria that need it, as for `importance`.
        statistics: in place of data, the result of `measure_statistics(model, data, by)`.
        **options: further arguments of `importance`: how data is read, and options of the criterion.

    Raises:
        NoBlock: the model has no residual block.
        UnknownCriterion, MissingData, BadData, BadScores: see `importance`.
        NotAGraph: the value is neither a model nor a snapshot.
    """
    criterion = as_block_criterion(by)
    snapshot = model if isinstance(model, Snapshot) else captured(model)
    blocks = residual_blocks(snapshot)
    if not blocks:
        raise NoBlock(f"model {snapshot.name!r} has no residual block, so there is nothing to score")
    if criterion is INFLUENCE:
        refuse_other_options(options)
        cosines = statistics_for(criterion, model, data, statistics, **options)
        return BlockScores(block_influence(cosines), criterion.name)
    refuse_options(criterion, [name for name in options if name not in SCORING], "score_blocks", SCORING)
    options = {"normalisation": "none", **options}
    scores = importance(model, criterion, data=data, statistics=statistics, **options)
    flow = analyse(snapshot)
    return mean_scores(flow, named_groups(groups_of(flow)), scores, blocks)


def refuse_other_options(options: dict[str, Any]) -> None:
    """Raises BadValue for an option that is not one of reading data."""
    if unknown := [name for name in options if name not in READING]:
        raise BadValue(
            f"score_blocks() has no argument {unknown[0]!r} for block_influence; it takes data, {', '.join(READING)}"
        )
