"""Criteria that read activations: pure functions from statistics, which are measured elsewhere, to scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kerassurgery_fn.pruning.criterion_registry import criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights


@criterion("apoz", needs="zeros of activations")
def apoz(group: GroupWeights, *, statistics: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """How often the activation of a channel is not zero: 1 - APoZ, the Average Percentage of Zeros.

    Hu et al. 2016, Network Trimming, arXiv:1607.03250.

    Args:
        group: the channels.
        statistics: address of a layer's channels -> APoZ of each, from 0 to 1, as `score_by_apoz` gives it.

    Returns:
        Shape (layers that create the channels, channels). None if there is no APoZ of any of these layers.
    """
    return by_layer(group, {address: 1 - np.asarray(zeros) for address, zeros in statistics.items()})


def by_layer(group: GroupWeights, scores: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Scores of the channels of layers as scores of a group, shape (layers, channels); None without such a layer.

    A channel of the group that stands for several channels of a layer, as a head does, has their mean.

    Args:
        group: the channels.
        scores: address of a layer's channels -> a score for each of them.
    """
    rows = [scores[address][at].mean(axis=1) for address, at in group.group.made.items() if address in scores]
    return np.stack(rows) if rows else None
