"""Criteria that read gradients: pure functions from statistics, which are measured elsewhere, to scores.

Gradients with respect to gates are per sample, so that they say something of a trained model, whose mean gradient is
near zero. Gradients with respect to weights are summed over all data.
"""

from __future__ import annotations

from operator import attrgetter

import numpy as np
from toolz import groupby

from kerassurgery_fn.errors import BadScores
from kerassurgery_fn.pruning.activation_criteria import by_layer
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.pruning.criterion_registry import criterion
from kerassurgery_fn.pruning.group_weights import GroupWeights, Member
from kerassurgery_fn.pruning.summed_arrays import SummedArrays
from kerassurgery_fn.pruning.weight_criteria import chosen_members


@criterion("taylor", needs="gradients of gates", normalisation="mean")
def taylor(group: GroupWeights, *, statistics: ChannelStatistics) -> np.ndarray | None:
    """The change of the loss of a sample when the channel is zeroed, to first order: mean over samples of |g|.

        g = sum over positions of (activation * gradient of the sample's loss)

    g is the gradient with respect to a gate, a factor on the channel. Molchanov et al. 2017, Pruning Convolutional
    Neural Networks for Resource Efficient Inference, arXiv:1611.06440, equation 8.

    Args:
        group: the channels.
        statistics: the gradients of gates.

    Returns:
        Shape (layers that create the channels, channels). None without statistics of these layers.
    """
    return by_layer(group, statistics, attrgetter("mean_magnitude"))


@criterion("fisher", needs="gradients of gates", normalisation="mean")
def fisher(group: GroupWeights, *, statistics: ChannelStatistics) -> np.ndarray | None:
    """The change of the loss when the channel is zeroed, to second order: mean over samples of g ** 2 / 2.

    It is half the diagonal of the Hessian with respect to the gates, which is estimated by the Fisher information:
    LeCun et al. 1990, Optimal Brain Damage, for gates in place of weights; Theis et al. 2018, Faster gaze prediction
    with dense networks and Fisher pruning, arXiv:1801.05787. Twice the score is the gate criterion of Molchanov et al.
    2019, Importance Estimation for Neural Network Pruning, arXiv:1906.10771.

    Args, returns: as for `taylor`.
    """
    return by_layer(group, statistics, lambda gates: gates.mean_square / 2)


@criterion("gradient_activation", needs="gradients of gates", normalisation="mean")
def gradient_activation(group: GroupWeights, *, statistics: ChannelStatistics) -> np.ndarray | None:
    """Gradient times activation, position by position: mean over samples of the sum over positions of |a * gradient|.

    Contributions of opposite sign at different positions do not cancel, as they do in `taylor`.

    Args, returns: as for `taylor`.
    """
    return by_layer(group, statistics, attrgetter("mean_product"))


@criterion("lfh", needs="sensitivities of outputs", normalisation="mean")
def label_free_hessian(group: GroupWeights, *, statistics: ChannelStatistics) -> np.ndarray | None:
    """The squared change of the model's outputs when the channel is zeroed, to first order; needs no labels.

        E over random signs v of (gradient of v . outputs with respect to the gate) ** 2, mean over samples

    That is the gate's entry on the diagonal of the Hessian of |outputs - outputs of the whole model| ** 2 / 2, by
    Hutchinson's estimate with a vector of signs for each sample. The label-free Hessian (LFH) of Sony's Model
    Compression Toolkit, after Habi et al. 2021, HPTQ, arXiv:2109.09113, multiplies the trace of the same Hessian with
    respect to a filter's weights by the squared norm of the filter; the gate has the filter's direction, too.

    Args:
        group: the channels.
        statistics: the sensitivities of outputs.

    Returns:
        Shape (layers that create the channels, channels). None without statistics of these layers.
    """
    return by_layer(group, statistics, attrgetter("mean_square"))


@criterion("taylor_weights", needs="gradients of weights", normalisation="mean")
def taylor_weights(group: GroupWeights, *, statistics: SummedArrays, of: str = "all") -> np.ndarray | None:
    """The change of the loss when the channel's weights in a layer are zeroed, to first order: |sum of w * gradient|.

    The sum is over all weights of a layer that are deleted with the channel; the gradient is the mean over all data.
    Zeroing the weights of the layers that read a channel is its deletion: where one layer reads it, the score with
    `of="consumers", normalisation="none"` is the change of the loss. Molchanov et al. 2019, Importance Estimation for
    Neural Network Pruning, arXiv:1906.10771, take the square.

    Args:
        group: the channels.
        statistics: the gradients of weights.
        of: `all` layers, the kernels that create the channels (`producers`), or the kernels that read them
            (`consumers`).

    Returns:
        Shape (layers, channels). None if there is no such layer.
    """
    members = groupby(lambda member: (member.path, member.role), chosen_members(group, of))
    sums = [sum(member.sums_of(products(member, statistics)) for member in layer) for layer in members.values()]
    return np.abs(np.stack(sums)) if sums else None


@criterion("snip", needs="gradients of weights", normalisation="mean")
def snip(group: GroupWeights, *, statistics: SummedArrays, of: str = "all") -> np.ndarray | None:
    """Connection sensitivity: the sum of |w * gradient| over the channel's values in a weight.

    The gradient is the mean over all data. Lee et al. 2019, SNIP: Single-shot Network Pruning based on Connection
    Sensitivity, arXiv:1810.02340, for channels in place of single weights, and without the divisor, the sum over the
    whole model, which does not change the order.

    Args:
        group, statistics, of: as for `taylor_weights`.

    Returns:
        Shape (weights, channels). None if there is no such weight.
    """
    members = chosen_members(group, of)
    sums = [member.sums_of(np.abs(products(member, statistics))) for member in members]
    return np.stack(sums) if sums else None


def products(member: Member, statistics: SummedArrays) -> np.ndarray:
    """Weight times mean gradient, element by element, float64, the shape of the weight.

    Raises:
        BadScores: the gradients are of another model.
    """
    gradient = statistics[member.path][member.slot]
    if gradient.shape != member.array.shape:
        raise BadScores(
            f"the statistics are of another model: the gradient of {member.path!r} {member.name} has the shape "
            f"{gradient.shape}, and the weight {member.array.shape}"
        )
    return member.array * (gradient / max(1, statistics.samples))
