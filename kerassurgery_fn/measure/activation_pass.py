"""Passes over data that measure activations: zeros, moments, ranks of feature maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.channels import size
from kerassurgery_fn.measure.activation_reductions import count_of_zeros, map_ranks, moments
from kerassurgery_fn.measure.channel_reduction import ChannelReducer, as_columns
from kerassurgery_fn.measure.channel_views import channel_axes
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.input_batches import Batch, samples_in
from kerassurgery_fn.pruning.channel_statistics import RECORDS, ChannelStatistics, at_starts
from kerassurgery_fn.values.snapshot import Snapshot

REDUCTIONS: dict[str, Callable[..., Mapping[str, Any]]] = {
    "zeros of activations": count_of_zeros,
    "moments of activations": moments,
    "ranks of feature maps": map_ranks,
}


def measure_activations(
    kind: str, model: keras.Model, snapshot: Snapshot, options: Options
) -> Callable[[Batch], ChannelStatistics]:
    """A function from a batch to the statistics of its activations.

    Args:
        kind: a name in `REDUCTIONS`.
        model: the live model; snapshot: its snapshot.
        options: which layers.
    """
    flow = analyse(snapshot)
    selected = options.views(flow)
    widths = {name: size(flow.producer(name).axis) or 0 for name in selected}
    reductions = {(ref, axis): (ref, partial(REDUCTIONS[kind], axis=axis)) for ref, axis in channel_axes(selected)}
    reducer = ChannelReducer(model, snapshot, flow.trace, reductions)

    def measure(batch: Batch) -> ChannelStatistics:
        arrays = reducer.reduce(batch.x)
        records = {axis: RECORDS[kind](**as_columns(fields)) for axis, fields in arrays.items()}
        layers = {
            name: tuple(
                tuple(at_starts(records[view.tensor, view.axis], view.starts, widths[name]) for view in branches)
                for branches in calls
            )
            for name, calls in selected.items()
        }
        return ChannelStatistics(kind, layers, samples_in(batch.x))

    return measure
