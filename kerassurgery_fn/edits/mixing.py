"""Combinations of channels in place of the channels that a layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_string, counted, shortened
from kerassurgery_fn.channels import FIXED, Axis, as_map, has_ids
from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.errors import BadValue, NoChannels
from kerassurgery_fn.graph import find_layer
from kerassurgery_fn.rules.constrained import stays, undone
from kerassurgery_fn.rules.layer import Producer, Weight
from kerassurgery_fn.values.snapshot import Snapshot


@edit
@dataclass(frozen=True, eq=False)
class MixInputs(Edit):
    """Makes a layer read combinations of channels in place of the channels themselves: new(x) = old(x @ matrix).

    Only the weights of the layer that sum over these channels change: their values for the channels become
    matrix @ values. The identity matrix changes nothing. A row of zeros makes the layer ignore a channel, so that the
    channel can be deleted without a further change of this layer's output: the least-squares reconstruction of pruned
    layers (He et al. 2017, Luo et al. 2017) is this edit, followed by deletions.

    Args:
        layer: the layer that reads the channels; its name or path.
        channels: the layer that creates the channels, as `DeleteChannels` takes it.
        matrix: shape (channels, channels). Column j says how channel j is composed of the channels.

    Raises (when created):
        BadValue: the matrix is not a square matrix of finite numbers.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer has this name, or several layers have it.
        NoChannels: there are no such channels, or no weight of the layer sums over all of them.
        BadValue: the weights are not drawn yet, the size of the matrix is not the number of channels, a constraint
            would undo the edit in training, or the layer treats each channel on its own before it sums over them, as a
            separable convolution does.

    >>> MixInputs("conv_2", "conv_1", [[1, 0.5], [0, 0]]).matrix
    array([[1. , 0.5],
           [0. , 0. ]])
    """

    layer: str
    channels: str
    matrix: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_string(self.layer, "layer"))
        object.__setattr__(self, "channels", as_string(self.channels, "channels"))
        object.__setattr__(self, "matrix", as_matrix(self.matrix))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MixInputs):
            return NotImplemented
        same = (self.layer, self.channels) == (other.layer, other.channels)
        return same and self.matrix.dtype == other.matrix.dtype and np.array_equal(self.matrix, other.matrix)

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        flow = analyse(snapshot)
        path, producer = find_layer(flow.graph, self.layer), flow.producer(self.channels)
        arrays = list(snapshot.weights.get(path, ()))
        axes = self.axes(flow, producer, path)
        if not arrays:
            raise BadValue(f"the inputs of {path!r} cannot be mixed: its weights are drawn when the model is rebuilt")
        for axis in axes:
            arrays[axis.slot] = self.mixed(path, flow.weights[path][axis.slot], arrays[axis.slot], axis)
        return Snapshot(snapshot.record, {**snapshot.weights, path: tuple(arrays)}, snapshot.training)

    def axes(self, flow: Flow, producer: Producer, path: str) -> list[CarryingAxis]:
        """The axes of the layer's weights that are summed over and carry the channels.

        Raises:
            NoChannels: there is no such axis.
            BadValue: the matrix has another size, or the layer treats each channel on its own before it sums over them.
        """
        if self.matrix.shape[0] != (channels := as_map(producer.axis).shape[1]):
            raise BadValue(
                f"matrix: {self.channels!r} has {counted(channels, 'channel')}, and the matrix has the shape "
                f"{self.matrix.shape}"
            )
        axes = axes_with(flow, producer, path)
        if not any(axis.summed for axis in axes):
            raise NoChannels(
                f"no weight of {path!r} sums over the channels of {self.channels!r}, so it cannot read combinations of "
                "them; name a layer that reads them, such as the next Dense or convolution"
            )
        if name := weight_by_channel(flow, producer, path, axes):
            raise BadValue(
                f"the inputs of {path!r} cannot be mixed: its {name} treats each channel on its own before channels "
                "are summed over"
            )
        return [axis for axis in axes if axis.summed]

    def mixed(self, path: str, weight: Weight, array: np.ndarray, axis: CarryingAxis) -> np.ndarray:
        """A weight of the layer after the edit of one of its axes.

        Raises:
            BadValue: a constraint would undo the edit.
        """
        change = partial(with_rows_mixed, positions=axis.positions, matrix=self.matrix, axis=axis.number)
        if not stays(weight.constraint, array, change):
            raise BadValue(f"inputs cannot be mixed: {undone(path, weight.name, weight.constraint)}")
        return change(array)


class CarryingAxis(NamedTuple):
    """An axis of a weight that carries channels.

    - `slot`: the index of the weight among the weights of the layer;
    - `number`: the index of the axis;
    - `positions`: where each channel is on the axis, shape (channels, n);
    - `summed`: whether the layer sums over the axis.
    """

    slot: int
    number: int
    positions: np.ndarray
    summed: bool


def axes_with(flow: Flow, producer: Producer, path: str) -> list[CarryingAxis]:
    """The axes of the weights of a layer that carry all channels of another layer."""
    axes = [
        (slot, number, positions_of(flow, producer, axis), number in (weight.summed or ()))
        for slot, weight in enumerate(flow.weights.get(path, ()))
        for number, axis in enumerate(weight.axes)
    ]
    return [CarryingAxis(slot, number, at, summed) for slot, number, at, summed in axes if at is not None]


def weight_by_channel(flow: Flow, producer: Producer, path: str, axes: Sequence[CarryingAxis]) -> str:
    """The name of a weight with which a layer treats each channel of its input on its own before it sums over them, as
    a separable convolution does; empty if there is none.

    In a residual network, the channels that a layer creates can be tied to those that it reads. Then the layer also
    carries them on its output axes, so the result is empty.
    """
    ids = np.setdiff1d(flow.solution.resolve(as_map(producer.axis)), FIXED)
    created = [flow.solution.resolve(as_map(other.axis)) for other in flow.producers.values() if other.path == path]
    if any(np.isin(axis, ids).any() for axis in created):
        return ""
    return next((flow.weights[path][axis.slot].name for axis in axes if not axis.summed), "")


def as_matrix(value: Any) -> np.ndarray:
    """A square matrix of finite floats, read-only.

    Raises:
        BadValue: the value is not such a matrix.
    """
    try:
        matrix = np.array(value)
        matrix = matrix if matrix.dtype in (np.float32, np.float64) else matrix.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise BadValue(f"matrix: expected numbers of shape (channels, channels), got {shortened(value)}") from error
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise BadValue(
            f"matrix: expected finite numbers of shape (channels, channels), got the shape {matrix.shape}"
            + " with NaN or infinite values" * (not np.isfinite(matrix).all())
        )
    matrix.flags.writeable = False
    return matrix


def positions_of(flow: Flow, producer: Producer, axis: Axis) -> np.ndarray | None:
    """Where the channels of a layer are on an axis, shape (channels, n); None if the axis does not have all of them
    equally often.

    A channel is recognised by its final ids. Channels that an Add ties have the same final ids.
    """
    if not has_ids(axis):
        return None
    channels = np.sort(flow.solution.resolve(as_map(producer.axis)), axis=0)
    on_axis = np.sort(flow.solution.resolve(as_map(axis)), axis=0)
    if len(channels) != len(on_axis):
        return None
    labels, labels_on_axis = _labels(channels, on_axis)
    if len(np.unique(labels)) < len(labels):
        return None  # fixed channels have no id of their own
    order = np.argsort(labels_on_axis, kind="stable")
    first, last = (np.searchsorted(labels_on_axis[order], labels, side) for side in ("left", "right"))
    counts = last - first
    if not counts.size or counts.min() == 0 or counts.min() != counts.max():
        return None
    return order[first[:, None] + np.arange(counts[0])]


def _labels(channels: np.ndarray, on_axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each column of two maps that is the same for equal columns."""
    if len(channels) == 1:
        return channels[0], on_axis[0]
    _, labels = np.unique(np.concatenate([channels, on_axis], axis=1), axis=1, return_inverse=True)
    first, second = np.split(labels.ravel(), [channels.shape[1]])
    return first, second


def with_rows_mixed(array: np.ndarray, positions: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """An array whose values at positions of an axis are combined: matrix @ values.

    Args:
        array: a weight.
        positions: where the channels are on the axis, shape (channels, n).
        matrix: shape (channels, channels).
        axis: the number of the axis.

    >>> with_rows_mixed(np.array([[1.0], [2.0], [3.0]]), np.array([[0], [2]]), np.array([[1, 0.5], [0, 0]]), 0)
    array([[2.5],
           [2. ],
           [0. ]])
    """
    mixed = np.moveaxis(array, axis, 0).copy()
    values = mixed[positions].astype(np.float64)
    mixed[positions] = np.tensordot(matrix.astype(np.float64), values, axes=1).astype(array.dtype)
    return np.moveaxis(mixed, 0, axis)
