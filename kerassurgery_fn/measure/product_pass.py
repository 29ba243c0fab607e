"""Passes over data that measure the products of channels in the inputs of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.measure.channel_reduction import ChannelReducer
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.input_batches import Batch, samples_in
from kerassurgery_fn.pruning.consumer_inputs import consumer_inputs
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.summed_arrays import SummedArrays, input_name
from kerassurgery_fn.values.snapshot import Snapshot


def measure_products(
    kind: str, model: keras.Model, snapshot: Snapshot, options: Options
) -> Callable[[Batch], SummedArrays]:
    """A function from a batch to the products of channels in the inputs of the layers that sum over them."""
    flow = analyse(snapshot)
    selected = options.views(flow)
    named = {
        name: group
        for name, group in named_groups(groups_of(flow)).items()
        if not group.pinned and not selected.keys().isdisjoint(group.made)
    }
    inputs = dict(enumerate(consumer_inputs(flow, named)))
    # Several layers may read one tensor, whose products are computed once.
    keys = {number: (reader.tensor, reader.axis, reader.positions.tobytes()) for number, reader in inputs.items()}
    reductions = {
        keys[number]: (reader.tensor, partial(products, axis=reader.axis, positions=reader.positions))
        for number, reader in inputs.items()
    }
    reducer = ChannelReducer(model, snapshot, flow.trace, reductions)

    def measure(batch: Batch) -> SummedArrays:
        results = reducer.reduce(batch.x)
        layers: dict[str, tuple[np.ndarray, ...]] = {}
        for number, reader in inputs.items():
            name, result = input_name(reader.path, reader.group), results[keys[number]]
            arrays = (result["count"], result["sums"])
            layers[name] = tuple(map(np.add, layers[name], arrays)) if name in layers else arrays
        return SummedArrays(kind, layers, samples_in(batch.x))

    return measure


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
