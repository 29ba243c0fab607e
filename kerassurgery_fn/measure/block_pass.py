"""A pass over data that compares the input of each residual block with its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any

import keras
import numpy as np
from keras import ops
from toolz import groupby

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.residual_blocks import ResidualBlock, residual_blocks
from kerassurgery_fn.channels import has_ids
from kerassurgery_fn.errors import NoBlock
from kerassurgery_fn.graph import Ref, refs
from kerassurgery_fn.measure.channel_reduction import ChannelReducer
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.input_batches import Batch, samples_in
from kerassurgery_fn.pruning.summed_arrays import SummedArrays
from kerassurgery_fn.values.snapshot import Snapshot


def measure_blocks(
    kind: str, model: keras.Model, snapshot: Snapshot, options: Options
) -> Callable[[Batch], SummedArrays]:
    """A function from a batch to the cosine similarities of the inputs and outputs of all residual blocks.

    Raises:
        NoBlock: the model has no residual block.
    """
    blocks = residual_blocks(snapshot)
    if not blocks:
        raise NoBlock(f"model {snapshot.name!r} has no residual block, so there is nothing to score")
    flow = analyse(snapshot)
    ends = {(block.merge, *pair): pair for block in blocks for pair in ends_of(flow, block)}
    reductions = {key: ([*pair], partial(cosines, axis=channel_axis(flow, pair[1]))) for key, pair in ends.items()}
    reducer = ChannelReducer(model, snapshot, flow.trace, reductions)
    calls = groupby(lambda key: key[0], ends)

    def measure(batch: Batch) -> SummedArrays:
        results = reducer.reduce(batch.x)
        layers = {
            name: tuple(reduce(np.add, [results[key][field] for key in keys]) for field in ("count", "sums"))
            for name, keys in calls.items()
        }
        return SummedArrays(kind, layers, samples_in(batch.x))

    return measure


def ends_of(flow: Flow, block: ResidualBlock) -> Iterator[tuple[Ref, Ref]]:
    """The shortcut and the sum of a block, in each call of the model that contains it."""
    for call in flow.trace.calls:
        if call.path == block.merge and call.node[-1] == block.call[1]:
            yield refs([call.args, call.kwargs])[block.operand], Ref(call.path, call.node, 0)


def channel_axis(flow: Flow, ref: Ref) -> int:
    """The number of the channel axis of a tensor; the last axis if no axis or several axes have channels."""
    axes = [number for number, axis in enumerate(flow.tensors.get(ref) or ()) if has_ids(axis)]
    return axes[0] if len(axes) == 1 else -1


def cosines(before: Any, after: Any, axis: int) -> dict[str, Any]:
    """The number of positions, and the sum over them of the cosine similarity of the channels of two tensors."""
    before, after = (ops.cast(tensor, "float32") for tensor in (before, after))
    product = ops.sum(before * after, axis)
    norms = ops.sqrt(ops.sum(before * before, axis) * ops.sum(after * after, axis))
    similarity = ops.where(norms > 0, product / ops.maximum(norms, 1e-30), 1.0)  # two zero vectors are the same
    return {"count": ops.size(similarity), "sums": ops.sum(similarity)}
