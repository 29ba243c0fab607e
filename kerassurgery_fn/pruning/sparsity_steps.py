"""Steps of sparsity training as pure functions: all weights of a coupled channel are shrunk together.

A penalty gives each channel of a group a factor from 0 to 1, by the norm of its weights:

    weights of the group          norms of its channels       factors          weights after the step
    kernel of conv   (..., 3)
    gamma, beta      (3,)     ->  [0.02, 1.0, 3.0]       ->   [0, 0.98, 0.99]  -> every value times its factor
    kernel of reader (3, ...)

The functions take arrays of NumPy, or tensors with `ops=keras.ops`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.pruning.group_weights import Member

Key = tuple[str, int]  # path of a layer, index of one of its weights
Factors = Callable[["ChannelGroup", Any], Any]  # from a group and its norms, shape (channels,), to factors


@dataclass(frozen=True, eq=False)
class ChannelAxis:
    """An axis of a weight that carries channels of a group.

    - `key`: the weight; `axis`: the number of the axis; `size`: the number of positions on it;
    - `positions`: where on the axis each channel is, shape (channels, n).
    """

    key: Key
    axis: int
    size: int
    positions: np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether the positions of the axis are the channels of the group, in order."""
        return np.array_equal(self.positions, np.arange(self.size)[:, None])

    @property
    def channels(self) -> np.ndarray:
        """For each position on the axis, the channel there; the number of channels where there is none.

        >>> ChannelAxis(("a", 0), 0, 4, np.array([[0, 3], [1, 2]])).channels
        array([0, 1, 1, 0])
        """
        count = len(self.positions)
        channels = np.full(self.size, count)
        channels[self.positions] = np.arange(count)[:, None]
        return channels


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """A coupled group as sparsity training sees it.

    - `name`: the name of the group, as in `Scores`;
    - `axes`: the axes that carry its channels;
    - `sizes`: the number of weights of each channel, float32, shape (channels,);
    - `selected`: which channels are meant to go, boolean, shape (channels,); None if the penalty decides.
    """

    name: str
    axes: tuple[ChannelAxis, ...]
    sizes: np.ndarray
    selected: np.ndarray | None = None


def channel_group(
    name: str, channels: int, members: Sequence[Member], selected: np.ndarray | None = None
) -> ChannelGroup:
    """A group of some members.

    Args:
        name: the name of the group; channels: their number.
        members: the axes of weights whose values count, and are shrunk.
        selected: as for `ChannelGroup`.
    """
    axes, sizes = [], np.zeros(channels, np.float32)
    for member in members:
        size = member.array.shape[member.axis]
        axes.append(ChannelAxis((member.path, member.slot), member.axis, size, member.positions))
        sizes += member.positions.shape[1] * member.array.size / size
    return ChannelGroup(name, tuple(axes), sizes, selected)


def channel_norms(group: ChannelGroup, squares: Mapping[Key, Any], ops: Any = np) -> Any:
    """The L2 norm of all weights of each channel, shape (channels,).

    Args:
        group: the group.
        squares: the squares of all values of the weights that the group has.
        ops: `numpy`, or `keras.ops` for tensors.

    >>> rows = ChannelGroup("a", (ChannelAxis(("a", 0), 0, 3, np.array([[0], [2]])),), np.array([2, 2]))
    >>> channel_norms(rows, {("a", 0): np.array([[9.0, 16.0], [25.0, 36.0], [0.0, 4.0]])})
    array([5., 2.])
    """
    total = 0.0
    for axis in group.axes:
        values = squares[axis.key]
        sums = ops.sum(values, axis=tuple(n for n in range(len(values.shape)) if n != axis.axis))
        total = total + (sums if axis.is_whole else ops.sum(ops.take(sums, axis.positions, axis=0), axis=1))
    return ops.sqrt(total)


def shrunk(
    groups: Sequence[ChannelGroup], weights: Mapping[Key, Any], factors: Factors, ops: Any = np
) -> tuple[dict[Key, Any], Any]:
    """The weights after a step: each value times the factors of the channels that it belongs to.

    All norms are those before the step. A value of a kernel may belong to a channel of its inputs and to one of its
    outputs; it is multiplied by both factors.

    Args:
        groups: the groups.
        weights: all weights that the groups have.
        factors: a function from a group and the norms of its channels to factors.
        ops: `numpy`, or `keras.ops` for tensors.

    Returns:
        The weights that some group has, by key, and the number of channels whose weights are all zero after the step.
    """
    after, zeros = dict(weights), 0
    squares = {key: ops.square(values) for key, values in weights.items()}
    for group in groups:
        norms = channel_norms(group, squares, ops)
        each = factors(group, norms)
        zeros = zeros + ops.sum(ops.equal(norms * each, 0))
        padded = ops.concatenate([each, ops.ones((1,), each.dtype)])  # 1 where no channel of the group is
        for axis in group.axes:
            values = after[axis.key]
            shape = [1] * len(values.shape)
            shape[axis.axis] = axis.size
            on_axis = each if axis.is_whole else ops.take(padded, axis.channels, axis=0)
            after[axis.key] = values * ops.reshape(on_axis, shape)
    return {key: after[key] for group in groups for key in {axis.key for axis in group.axes}}, zeros


# --- penalties: factors by the norms of the channels of a group


def group_lasso(norms: Any, amount: Any, ops: Any = np) -> Any:
    """The proximal step of the group lasso: max(0, 1 - amount / norm), which makes small channels exactly zero.

    Args:
        norms: the norm of each channel, shape (channels,).
        amount: learning rate times strength, a number or shape (channels,).
        ops: `numpy` or `keras.ops`.

    >>> group_lasso(np.array([0.0, 0.5, 2.0]), 1.0)
    array([0. , 0. , 0.5])
    """
    kept = ops.maximum(norms - amount, 0.0)
    return kept / ops.maximum(norms, 1e-30)


def relative_decay(norms: Any, amount: Any, alpha: float, ops: Any = np) -> Any:
    """A decay that is up to 2 ** alpha times as strong for the smallest channel of a group as for the largest:

        1 / (1 + amount * 2 ** (alpha * (largest - norm) / (largest - smallest)))

    Args:
        norms: the norm of each channel, shape (channels,).
        amount: learning rate times strength.
        alpha: how much stronger.
        ops: `numpy` or `keras.ops`.

    >>> relative_decay(np.array([1.0, 2.0, 3.0]), 0.25, alpha=2)
    array([0.5       , 0.66666667, 0.8       ])
    """
    largest, smallest = ops.max(norms), ops.min(norms)
    rank = (largest - norms) / ops.maximum(largest - smallest, 1e-30)
    return 1 / (1 + amount * 2 ** (alpha * rank))


def selected_decay(norms: Any, amount: Any, selected: np.ndarray, ops: Any = np) -> Any:
    """A decay of selected channels: 1 / (1 + amount), and 1 for the others.

    >>> selected_decay(np.array([1.0, 2.0]), 0.25, np.array([True, False]))
    array([0.8, 1. ])
    """
    return ops.where(selected, 1 / (1 + amount), ops.ones_like(norms))


def grown(step: int, growth: float, every: int, most: float) -> float:
    """A strength that grows by the same amount every few steps, up to a maximum.

    >>> [grown(step, 0.1, 10, 0.25) for step in (0, 9, 10, 20, 30)]
    [0.0, 0.0, 0.1, 0.2, 0.25]
    """
    return min(most, growth * (step // every))
