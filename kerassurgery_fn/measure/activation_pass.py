"""Passes over data that measure activations: zeros, moments, ranks of feature maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from toolz import valmap

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.channels import size
from kerassurgery_fn.measure.activation_reductions import count_of_zeros, map_ranks, moments
from kerassurgery_fn.measure.channel_reduction import ChannelReducer, as_columns
from kerassurgery_fn.measure.channel_views import channel_axes
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.input_batches import Batch
from kerassurgery_fn.measure.sample_selection import levels_in
from kerassurgery_fn.pruning.activation_statistics import ranks_of
from kerassurgery_fn.pruning.channel_statistics import RECORDS, ChannelStatistics, at_starts
from kerassurgery_fn.values.snapshot import Snapshot

Record = Callable[[Mapping[str, np.ndarray]], Any]


class Reading(NamedTuple):
    """How the activations of a tensor become its statistics.

    - `reduction`: a function from a tensor and the axis of its channels to arrays by name, in the compiled model;
    - `records`: a function from a batch to the function from its arrays by name to its statistics.
    """

    reduction: Callable[..., Mapping[str, Any]]
    records: Callable[[Batch], Record]


def sums(kind: str) -> Callable[[Batch], Record]:
    """Arrays that are the fields of statistics."""
    return lambda batch: lambda arrays: RECORDS[kind](**as_columns(arrays))


def ranks_by_level(batch: Batch) -> Record:
    """Ranks of the maps of each sample."""
    levels = levels_in(batch)
    return lambda arrays: ranks_of(arrays["ranks"], levels, batch.samples)


READINGS: dict[str, Reading] = {
    "zeros of activations": Reading(count_of_zeros, sums("zeros of activations")),
    "moments of activations": Reading(moments, sums("moments of activations")),
    "ranks of feature maps": Reading(map_ranks, ranks_by_level),
}


def measure_activations(
    kind: str, model: keras.Model, snapshot: Snapshot, options: Options
) -> Callable[[Batch], ChannelStatistics]:
    """A function from a batch to the statistics of its activations.

    Args:
        kind: a name in `READINGS`.
        model: the live model; snapshot: its snapshot.
        options: which layers.
    """
    flow, reading = analyse(snapshot), READINGS[kind]
    selected = options.views(flow)
    widths = {name: size(flow.producer(name).axis) or 0 for name in selected}
    reductions = {(ref, axis): (ref, partial(reading.reduction, axis=axis)) for ref, axis in channel_axes(selected)}
    reducer = ChannelReducer(model, snapshot, flow.trace, reductions)

    def measure(batch: Batch) -> ChannelStatistics:
        records = valmap(reading.records(batch), reducer.reduce(batch.x))
        layers = {
            name: tuple(
                tuple(at_starts(records[view.tensor, view.axis], view.starts, widths[name]) for view in branches)
                for branches in calls
            )
            for name, calls in selected.items()
        }
        return ChannelStatistics(kind, layers, batch.samples)

    return measure
