"""Scores of residual blocks: how important each block is, as an immutable value, and how criteria score blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from toolz import valmap

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.analysis.residual_blocks import ResidualBlock
from kerassurgery_fn.arguments import as_string, shortened
from kerassurgery_fn.errors import BadScores, BadValue
from kerassurgery_fn.pruning.channel_scores import Scores
from kerassurgery_fn.pruning.criterion_registry import Criterion, as_criterion
from kerassurgery_fn.pruning.group_weights import producers_by_address
from kerassurgery_fn.pruning.named_scores import NamedScores
from kerassurgery_fn.pruning.summed_arrays import SummedArrays
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.tables import Table

BLOCK_INFLUENCE = "block_influence"
COSINES = "cosines of blocks"


@dataclass(frozen=True, eq=False, repr=False)
class BlockScores(NamedScores[float]):
    """The importance of each residual block. Low means that the block can be deleted.

    It is a mapping: name of a block -> score. The name of a block is the path of the sum that closes it.

    Args:
        scores: name of a block -> score.
        criterion: the name of the criterion, for the table.

    Raises:
        BadScores: a score is NaN or infinite.
        BadValue: the scores are not a mapping from names to numbers.

    >>> print(BlockScores({"add_1": 0.25, "add_2": 2}, "block_influence"))
    residual blocks by block_influence
    block  score
    add_1   0.25
    add_2      2
    """

    unknown = "no block {} has a score"

    def __post_init__(self) -> None:
        if not isinstance(self.scores, Mapping) or not all(isinstance(score, Real) for score in self.scores.values()):
            raise BadValue(f"scores of blocks are a mapping from blocks to numbers, not {shortened(self.scores)}")
        scores = {str(name): float(score) for name, score in self.scores.items()}
        if wrong := [name for name, score in scores.items() if not np.isfinite(score)]:
            raise BadScores(f"the score of the block {wrong[0]!r} by {self.criterion} is {scores[wrong[0]]}")
        object.__setattr__(self, "scores", FrozenDict(scores))
        object.__setattr__(self, "criterion", as_string(self.criterion, "criterion"))

    def table(self) -> Table:
        """A row for each block."""
        rows = tuple((name, f"{score:.4g}") for name, score in self.scores.items())
        return Table(f"residual blocks by {self.criterion}", ("block", "score"), rows)


def as_block_scores(value: Any, name: str = "block_scores") -> BlockScores:
    """The scores of blocks.

    Raises:
        BadScores: the value is not `BlockScores`.
    """
    if isinstance(value, BlockScores):
        return value
    raise BadScores(f"{name}: expected BlockScores, got {shortened(value)}; score_blocks(model) gives them")


def block_influence(statistics: SummedArrays) -> dict[str, float]:
    """The block influence: 1 - mean cosine similarity of the input and the output of a block.

    The similarity is that of the channels at each position of each sample. Men et al. 2024, ShortGPT: Layers in Large
    Language Models are More Redundant Than You Expect, arXiv:2403.03853.

    Args:
        statistics: name of a block -> the number of positions and the sum of the cosines, as arrays.

    >>> block_influence(SummedArrays("cosines of blocks", {"add": (np.array(8), np.array(6.0))}, 2))
    {'add': 0.25}
    """
    return valmap(lambda arrays: float(1 - arrays[1] / arrays[0]), dict(statistics.items()))


def _refuse_channels(group: Any, **options: Any) -> None:
    raise BadScores(
        f"{BLOCK_INFLUENCE!r} scores residual blocks, not channels: call score_blocks(model, {BLOCK_INFLUENCE!r}, "
        "data=...), and choose another criterion for channels"
    )


# The criterion is not registered: it has no scores of channels.
INFLUENCE = Criterion(BLOCK_INFLUENCE, _refuse_channels, COSINES)


def as_block_criterion(value: Any, name: str = "by") -> Criterion:
    """The criterion for blocks: `block_influence`, or a criterion for channels.

    Raises:
        UnknownCriterion: there is no criterion of that name.
    """
    return INFLUENCE if value is INFLUENCE or is_influence(value) else as_criterion(value, name)


def is_influence(value: Any) -> bool:
    """Whether a value is the name of the criterion for blocks alone."""
    return isinstance(value, str) and value == BLOCK_INFLUENCE


def mean_scores(flow: Flow, named: Mapping[str, Group], scores: Scores, blocks: Sequence[ResidualBlock]) -> BlockScores:
    """The mean score of the channels that only the layers of a block create. A block without such channels has none."""
    means = {}
    for block in blocks:
        inside = groups_inside(flow, named, block)
        if values := [scores[name] for name in inside if name in scores]:
            means[block.merge] = float(np.concatenate(values).mean())
    return BlockScores(means, scores.criterion)


def groups_inside(flow: Flow, named: Mapping[str, Group], block: ResidualBlock) -> list[str]:
    """The names of the groups whose channels only the layers of a block create."""
    producers = producers_by_address(flow)
    layers = {*block.layers}

    def is_inside(path: str) -> bool:
        return path in layers or any(path.startswith(f"{layer}/") for layer in layers)

    return [name for name, group in named.items() if all(is_inside(producers[address].path) for address in group.made)]
