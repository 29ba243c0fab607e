"""The values that weights get for new channels of an input. New channels come after the old channels.

Weights that sum over the channels of an input get zeros, the mean over all old channels, or the values of some old
channels. Weights that have a value for each channel (a normalisation, a depthwise kernel) get values of old channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.arguments import counted
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.edits.steps.indices import as_indices
from kerassurgery_fn.errors import BadValue, ChannelOutOfRange
from kerassurgery_fn.rules.layer import Producer, Tensor
from kerassurgery_fn.values.frozen import Location, get_in
from kerassurgery_fn.values.snapshot import Record, Weights

ZERO, MEAN = "zero", "mean"
Fill = str | tuple[int, ...]


class Bands(NamedTuple):
    """Inputs that get new channels, and how their weights are filled.

    - `flow`: the channels before the edit;
    - `sources`: axis -> the old position of each new position. For new channels, this is the last channel of the input;
    - `inputs`: final id of the last channel of an input -> final ids of all channels of the input;
    - `fill`: the weights for new channels: zeros, the mean over all old channels, or the weights of some old channels.
    """

    flow: Flow
    sources: Sources
    inputs: Mapping[int, np.ndarray]
    fill: Fill

    def with_values(self, array: np.ndarray, number: int, axis: Axis, is_summed: bool) -> np.ndarray:
        """An array with filled values for new channels along one axis.

        Args:
            array: the array after the edit, in which new channels are copies.
            number: the index of the axis.
            axis: the old axis in ids.
            is_summed: whether the layer sums over the axis.
        """
        positions = self.sources(axis)
        if positions is None or not isinstance(axis, np.ndarray):
            return array
        resolved = self.flow.solution.resolve(axis)
        new_position = np.unique(positions, return_index=True)[1]  # old position -> its new position
        occurrences = cache(lambda final_id: np.flatnonzero((resolved == final_id).any(axis=0)))
        filled = array.copy()
        for position, nth in _new_positions(positions):
            place = (slice(None),) * number + (position,)
            if self.fill == ZERO and is_summed:
                filled[place] = 0
                continue
            old = int(positions[position])
            last = next(final_id for final_id in resolved[:, old].tolist() if final_id in self.inputs)
            models = [position_of_other(occurrences, old, last, final_id) for final_id in self._filled_from(last, nth)]
            filled[place] = array.take(new_position[models], axis=number).mean(axis=number, dtype=np.float64)
        return filled

    def _filled_from(self, last: int, nth: int) -> list[int]:
        """The final ids of the old channels whose mean weights a new channel of an input gets.

        Args:
            last: the final id of the last old channel of the input.
            nth: the number of the new channel, from 0.
        """
        ids = self.inputs[last]
        return ids.tolist() if isinstance(self.fill, str) else [int(ids[self.fill[nth % len(self.fill)]])]


def _new_positions(positions: np.ndarray) -> Iterator[tuple[int, int]]:
    """The positions of new channels, each with the number of the new channel there, from 0.

    >>> [*_new_positions(np.array([0, 1, 1, 1, 2, 3, 3, 3]))]
    [(2, 0), (3, 1), (6, 0), (7, 1)]
    """
    seen: dict[int, int] = {}
    for place, position in enumerate(positions.tolist()):
        if position in seen:
            yield place, seen[position]
        seen[position] = seen.get(position, -1) + 1


def position_of_other(occurrences: Callable[[int], np.ndarray], position: int, last: int, other: int) -> int:
    """The position of another channel in the same pixel. A flattened image has each channel once for each pixel.

    Args:
        occurrences: final id -> its positions on the axis.
        position: a position of the last channel of the input.
        last: the final id of the last channel.
        other: the final id of the other channel.

    Returns:
        The n-th position of the other channel if `position` is the n-th position of the last channel.

    >>> row = np.array([7, 8, 9, 7, 8, 9])
    >>> position_of_other(lambda final_id: np.flatnonzero(row == final_id), 5, 9, 7)
    3
    """
    nth = int(np.searchsorted(occurrences(last), position))
    positions = occurrences(other)
    return int(positions[nth]) if nth < len(positions) else position


def with_filled_weights(weights: Weights, bands: Bands) -> Weights:
    """The weights with filled values for new channels."""
    return {path: _filled_layer(path, arrays, bands) for path, arrays in weights.items()}


def _filled_layer(path: str, arrays: tuple[np.ndarray, ...], bands: Bands) -> tuple[np.ndarray, ...]:
    if not arrays or path not in bands.flow.weights:
        return arrays
    pairs = zip(arrays, bands.flow.weights[path], strict=True)
    return tuple(_filled(array, weight.axes, weight.summed or (), bands) for array, weight in pairs)


def _filled(array: np.ndarray, axes: Tensor, summed: Collection[int], bands: Bands) -> np.ndarray:
    for number, axis in enumerate(axes):
        array = bands.with_values(array, number, axis, number in summed)
    return array


def filled_constants(record: Record, bands: Bands) -> dict[Location, Any]:
    """Place in the record -> its new value, for all arrays in the record that get values for new channels."""
    return {
        place: _filled(np.asarray(get_in(record, place)), axes, (), bands).tolist()
        for place, axes in bands.flow.constants.items()
        if any(bands.sources(axis) is not None for axis in axes)
    }


def checked_fill(producer: Producer, channels: int, fill: Fill) -> None:
    """Raises ChannelOutOfRange if `fill` has the index of a channel that an input does not have."""
    for index in () if isinstance(fill, str) else fill:
        if not -channels <= index < channels:
            raise ChannelOutOfRange(
                f"input {producer.path!r} has {counted(channels, 'channel')} (0 to {channels - 1}), so fill= cannot "
                f"name channel {index}"
            )


def as_fill(value: Any) -> Fill:
    """The argument `fill`: `"zero"`, `"mean"`, or indices of channels.

    Raises:
        BadValue: the value is something else.
    """
    if isinstance(value, str) and value in (ZERO, MEAN):
        return value
    indices = None if isinstance(value, str) else as_indices(value)
    if indices:
        return indices
    raise BadValue(
        f"fill= is 'zero', 'mean', or the indices of channels whose weights are copied, as in [0, 1], not {value!r}"
    )
