"""More channels of an input, behind those that it has, and the values that weights have for them.

Weights that sum over the channels of an input decide what a new one does. Whatever else has a value for each channel
(a normalisation, a depthwise kernel) gets one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.arguments import counted
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.edits.steps.cutting import Sources
from kerassurgery_fn.edits.steps.indices import as_indices
from kerassurgery_fn.errors import BadValue, ChannelOutOfRange
from kerassurgery_fn.rules.layer import Producer, Tensor
from kerassurgery_fn.values.frozen import Location, get_in
from kerassurgery_fn.values.snapshot import Record, Weights

ZERO, MEAN = "zero", "mean"
Fill = str | tuple[int, ...]


class Bands(NamedTuple):
    """The channels of inputs that get more.

    - `flow`: the channels before;
    - `sources`: where positions come from after: new channels are copies of the last one yet;
    - `inputs`: the final id of the last channel of an input -> those of all its channels;
    - `fill`: what weights have for a new channel: zeros, the mean of all channels, or what some channels have.
    """

    flow: Flow
    sources: Sources
    inputs: Mapping[int, np.ndarray]
    fill: Fill

    def with_values(self, array: np.ndarray, number: int, axis: Axis, is_summed: bool) -> np.ndarray:
        """An array with the values for new channels along one axis."""
        positions = self.sources(axis)
        if positions is None or not isinstance(axis, np.ndarray):
            return array
        resolved = self.flow.solution.resolve(axis)
        kept = np.unique(positions, return_index=True)[1]  # old position -> where it stands now
        occurrences = cache(lambda one: np.flatnonzero((resolved == one).any(axis=0)))
        made = array.copy()
        for place, turn in _new_positions(positions):
            here = (slice(None),) * number + (place,)
            if self.fill == ZERO and is_summed:
                made[here] = 0
                continue
            old = int(positions[place])
            last = next(one for one in resolved[:, old].tolist() if one in self.inputs)
            others = [partner(occurrences, old, last, one) for one in self._like(last, turn)]
            made[here] = array.take(kept[others], axis=number).mean(axis=number, dtype=np.float64)
        return made

    def _like(self, last: int, turn: int) -> list[int]:
        """The final ids of the channels of an input that its `turn`-th new one is like."""
        ids = self.inputs[last]
        return ids.tolist() if isinstance(self.fill, str) else [int(ids[self.fill[turn % len(self.fill)]])]


def _new_positions(positions: np.ndarray) -> Iterator[tuple[int, int]]:
    """The positions of new channels, and the number of the new channel at each.

    >>> [*_new_positions(np.array([0, 1, 1, 1, 2, 3, 3, 3]))]
    [(2, 0), (3, 1), (6, 0), (7, 1)]
    """
    seen: dict[int, int] = {}
    for place, position in enumerate(positions.tolist()):
        if position in seen:
            yield place, seen[position]
        seen[position] = seen.get(position, -1) + 1


def partner(occurrences: Callable[[int], np.ndarray], position: int, last: int, other: int) -> int:
    """The position at which a channel stands in the way in which the last one stands at one position: a flattened image
    has each channel once for each pixel.

    >>> row = np.array([7, 8, 9, 7, 8, 9])
    >>> partner(lambda one: np.flatnonzero(row == one), 5, 9, 7)
    3
    """
    turn = int(np.searchsorted(occurrences(last), position))
    places = occurrences(other)
    return int(places[turn]) if turn < len(places) else position


def with_filled_weights(weights: Weights, bands: Bands) -> Weights:
    """Weights with the values for new channels."""
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
    """The arrays in a record with the values for new channels, by their places."""
    return {
        place: _filled(np.asarray(get_in(record, place)), axes, (), bands).tolist()
        for place, axes in bands.flow.constants.items()
        if any(bands.sources(axis) is not None for axis in axes)
    }


def checked_fill(producer: Producer, channels: int, fill: Fill) -> None:
    """Raises ChannelOutOfRange where an input has no channel that a new one would be like."""
    for index in () if isinstance(fill, str) else fill:
        if not -channels <= index < channels:
            raise ChannelOutOfRange(
                f"input {producer.path!r} has {counted(channels, 'channel')} (0 to {channels - 1}), so there is no "
                f"{index} for new ones to be like"
            )


def as_fill(value: Any) -> Fill:
    """What weights have for new channels.

    Raises:
        BadValue: it is none of what can be asked for.
    """
    if isinstance(value, str) and value in (ZERO, MEAN):
        return value
    indices = None if isinstance(value, str) else as_indices(value)
    if indices:
        return indices
    raise BadValue(
        f"fill= is 'zero', 'mean', or the indices of channels that new ones are like, as [0, 1], and not {value!r}"
    )
