"""A Keras model that counts zeros in the tensors of another model, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.errors import BadData
from kerassurgery_fn.graph import Ref, Trace
from kerassurgery_fn.keras_io.rebuilding import root_cause
from kerassurgery_fn.measure.graph_execution import graph_runner
from kerassurgery_fn.measure.input_batches import check_batch
from kerassurgery_fn.pruning.apoz_scores import ZeroCounts
from kerassurgery_fn.values.snapshot import Snapshot

ChannelAxis = tuple[Ref, int]  # a tensor and one of its axes
Counts = dict[ChannelAxis, ZeroCounts]


class ZeroCounter(keras.Model):
    """A model that runs another model and returns the number of zeros per channel, not the activations.

    As a Keras model it is compiled into one function, in which activations are freed as soon as they are counted.
    """

    def __init__(self, model: keras.Model, snapshot: Snapshot, trace: Trace, channel_axes: list[ChannelAxis]) -> None:
        super().__init__(name="counter")
        self.source, self.channel_axes = model, channel_axes
        inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        # An identity model converts a batch as `model` would: it picks inputs from a dict by name, and casts them.
        self.entry = keras.Model(inputs, inputs)
        self.run_graph = graph_runner(model, snapshot, trace)
        self.jit_compile = keras.backend.backend() == "jax"  # with TensorFlow, XLA compiles longer than the model runs

    def build(self, *_: Any) -> None:
        """Does nothing: the layers of the source model are built."""

    def call(self, x: Any, training: bool = False) -> tuple[list[Any], list[tuple[Any, Any, Any]]]:
        """The counts of a batch.

        Returns:
            For each input, whether it has NaN; for each channel axis, the zeros of each channel, shape (channels,), the
            number of values per channel, and whether the tensor has NaN.
        """
        inputs = keras.tree.flatten(self.entry(x))
        tensors = self.run_graph(inputs, training)
        return list(map(_has_nan, inputs)), [_count_zeros(tensors[ref], axis) for ref, axis in self.channel_axes]

    def count(self, batch: Any) -> Counts:
        """The counts of a batch as NumPy arrays.

        Raises:
            BadData: the model cannot be run on the batch, or there is NaN in it.
        """
        batch = check_batch(batch, self.source)
        try:
            nan_inputs, results = self.predict_on_batch(batch)
        except Exception as error:
            shapes = ", ".join(str(tuple(array.shape)) for array in keras.tree.flatten(batch))
            raise BadData(
                f"model {self.source.name!r} cannot be run on a batch of arrays of shapes {shapes}: {root_cause(error)}"
            ) from error
        self.refuse_nan(nan_inputs, [has_nan for _, _, has_nan in results])
        return {
            channel_axis: ZeroCounts(zeros.astype(np.int64), np.full(zeros.shape, values, np.int64))
            for channel_axis, (zeros, values, _) in zip(self.channel_axes, results, strict=True)
        }

    def refuse_nan(self, nan_inputs: Iterable[Any], nan_tensors: Iterable[Any]) -> None:
        """Raises BadData if an input or a counted tensor has NaN: NaN is not zero, but no activation either."""
        for tensor, has_nan in zip(keras.tree.flatten(self.entry.input), nan_inputs, strict=True):
            if has_nan:
                raise BadData(f"the data for input {tensor.name!r} has NaN in it; remove or replace these samples")
        for (ref, _), has_nan in zip(self.channel_axes, nan_tensors, strict=True):
            if has_nan:
                raise BadData(
                    f"layer {ref.path!r} outputs NaN for the data, so its zeros cannot be counted; check the model's "
                    "weights and the range of the data"
                )


def _has_nan(tensor: Any) -> Any:
    return keras.ops.any(keras.ops.isnan(keras.ops.cast(tensor, "float32"))) if _is_float(tensor) else False


def _is_float(tensor: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def _count_zeros(tensor: Any, axis: int) -> tuple[Any, Any, Any]:
    other_axes = [i for i in range(tensor.ndim) if i != axis]
    zeros = keras.ops.sum(keras.ops.cast(keras.ops.equal(tensor, 0), "int32"), axis=other_axes)
    return zeros, keras.ops.size(tensor) // tensor.shape[axis], _has_nan(tensor)
