"""Passes over data that measure the products of channels in the inputs of layers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial, reduce
from typing import Any

import keras
import numpy as np
from keras import ops
from toolz import groupby, valfilter

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.coupled_groups import Group, groups_of
from kerassurgery_fn.measure.channel_reduction import ChannelReducer
from kerassurgery_fn.measure.channel_views import ViewsByLayer
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.input_batches import Batch, samples_in
from kerassurgery_fn.pruning.consumer_inputs import ConsumerInput, consumer_inputs
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.summed_arrays import SummedArrays, input_name
from kerassurgery_fn.values.snapshot import Snapshot


def measure_products(
    kind: str, model: keras.Model, snapshot: Snapshot, options: Options
) -> Callable[[Batch], SummedArrays]:
    """A function from a batch to the products of channels in the inputs of the layers that sum over them."""
    flow = analyse(snapshot)
    readers = consumer_inputs(flow, selected_groups(flow, options.views(flow)))
    reductions = {
        key_of(reader): (reader.tensor, partial(products, axis=reader.axis, positions=reader.positions))
        for reader in readers
    }
    reducer = ChannelReducer(model, snapshot, flow.trace, reductions)
    inputs = groupby(lambda reader: input_name(reader.path, reader.group), readers)  # those of all calls of a layer

    def measure(batch: Batch) -> SummedArrays:
        results = reducer.reduce(batch.x)
        layers = {
            name: tuple(reduce(np.add, [results[key_of(call)][field] for call in calls]) for field in ("count", "sums"))
            for name, calls in inputs.items()
        }
        return SummedArrays(kind, layers, samples_in(batch.x))

    return measure


def selected_groups(flow: Flow, views: ViewsByLayer) -> dict[str, Group]:
    """The groups that can be cut and that one of the selected layers creates."""
    named = named_groups(groups_of(flow))
    return valfilter(lambda group: not group.pinned and not views.keys().isdisjoint(group.made), named)


def key_of(reader: ConsumerInput) -> Hashable:
    """The tensors to measure. Several layers can read one tensor, and its products are only computed once."""
    return reader.tensor, reader.axis, reader.positions.tobytes()


def products(tensor: Any, axis: int, positions: np.ndarray) -> Mapping[str, Any]:
    """The number of positions, and the sum over them of the products of each two channels.

    Args:
        tensor: the input of a layer.
        axis: the axis of the channels.
        positions: where the channels are on the axis, shape (channels, n).
    """
    channels, n = positions.shape
    rows = ops.moveaxis(ops.cast(tensor, "float32"), axis, -1)
    rows = ops.reshape(rows, (-1, rows.shape[-1]))
    if n > 1 or not np.array_equal(positions[:, 0], np.arange(rows.shape[-1])):
        rows = ops.reshape(ops.take(rows, positions.T.ravel(), axis=-1), (-1, channels))
    return {"count": ops.shape(rows)[0], "sums": ops.matmul(ops.transpose(rows), rows)}
