"""Criteria that read activations: pure functions from statistics, which are measured elsewhere, to scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from kerassurgery_fn.errors import BadScores
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.pruning.criterion_registry import criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights


@criterion("apoz", needs="zeros of activations")
def apoz(group: GroupWeights, *, statistics: ChannelStatistics | Mapping[str, np.ndarray]) -> np.ndarray | None:
    """How often the activation of a channel is not zero: 1 - APoZ, the Average Percentage of Zeros.

    Hu et al. 2016, Network Trimming, arXiv:1607.03250.

    Args:
        group: the channels.
        statistics: the zeros of activations; or, as `score_by_apoz` gives it, address of a layer's channels -> APoZ of
            each, from 0 to 1.

    Returns:
        Shape (layers that create the channels, channels). None if there is no APoZ of any of these layers.
    """
    if isinstance(statistics, ChannelStatistics):
        return by_layer(group, statistics, lambda counts: 1 - counts.apoz)
    return rows_of_layers(group, statistics, lambda address: 1 - np.asarray(statistics[address]))


@criterion("mean_activation", needs="moments of activations", normalisation="mean")
def mean_activation(group: GroupWeights, *, statistics: ChannelStatistics) -> np.ndarray | None:
    """The mean absolute activation of a channel, over all samples and positions: mean of |a|.

    Molchanov et al. 2017, Pruning Convolutional Neural Networks for Resource Efficient Inference, arXiv:1611.06440,
    section 2.2, "activation", with absolute values, so that activations other than ReLU are treated alike.

    Args:
        group: the channels.
        statistics: the moments of activations.

    Returns:
        Shape (layers that create the channels, channels). None without statistics of these layers.
    """
    return by_layer(group, statistics, attrgetter("mean_absolute"))


@criterion("variance", needs="moments of activations", normalisation="mean")
def variance(group: GroupWeights, *, statistics: ChannelStatistics) -> np.ndarray | None:
    """The variance of the activation of a channel, over all samples and positions: mean of (a - mean of a) ** 2.

    A channel that is nearly constant says nothing of its input. Polyak and Wolf 2015, Channel-level acceleration of
    deep face representations, IEEE Access 3, delete channels with a low variance of their activations.

    Args, returns: as for `mean_activation`.
    """
    return by_layer(group, statistics, attrgetter("variance"))


@criterion("hrank", needs="ranks of feature maps", normalisation="mean")
def hrank(group: GroupWeights, *, statistics: ChannelStatistics) -> np.ndarray | None:
    """The mean rank of the feature maps of a channel: mean over samples of rank(a) of the map a, shape (rows, columns).

    The rank of a map says how much information it has. Activations without such a map, as of a dense layer, have rank
    1, or 0 where they are zero. Ranks take longer than the model itself and vary little between samples, so that of
    more than 500 samples, 250 to 500 are ranked. They are selected by their content, so that the result does not
    depend on the order or the split of the data. Lin et al. 2020, HRank: Filter Pruning using High-Rank Feature Map,
    arXiv:2002.10179, who rank the maps of 500 samples.

    Args:
        group: the channels.
        statistics: the ranks of feature maps.

    Returns:
        Shape (layers that create the channels, channels). None without statistics of these layers.
    """
    return by_layer(group, statistics, attrgetter("mean_rank"))


def by_layer(
    group: GroupWeights, statistics: ChannelStatistics, value: Callable[[Any], np.ndarray]
) -> np.ndarray | None:
    """A value of the channels in each layer that creates them, shape (layers, channels); None without statistics.

    Args:
        group: the channels.
        statistics: the statistics of layers.
        value: a function from the statistics of a tensor to numbers of shape (channels,).
    """
    return rows_of_layers(group, statistics, lambda address: statistics.pooled(address, value))


def rows_of_layers(
    group: GroupWeights, known: Mapping[str, Any], scores: Callable[[str], np.ndarray]
) -> np.ndarray | None:
    """Scores of the channels of layers as scores of a group, shape (layers, channels); None without such a layer.

    A channel of the group that stands for several channels of a layer, as a head does, has their mean.

    Args:
        group: the channels.
        known: the addresses that have scores.
        scores: address of a layer's channels -> a score for each of them.

    Raises:
        BadScores: the scores are of another model.
    """
    rows = [_lines(scores(address), at, address) for address, at in group.group.made.items() if address in known]
    return np.stack(rows) if rows else None


def _lines(scores: np.ndarray, positions: np.ndarray, address: str) -> np.ndarray:
    if positions.size and positions.max() >= len(scores):
        raise BadScores(
            f"the statistics are of another model: they have {len(scores)} channels of {address!r}, and the model has "
            f"{positions.max() + 1} or more"
        )
    return scores[positions].mean(axis=1)
