"""A Keras model that reduces the tensors of another model to statistics of their channels, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from toolz import valmap

from kerassurgery_fn.errors import BadData
from kerassurgery_fn.graph import Ref, Trace
from kerassurgery_fn.keras_io.reviving import root_cause
from kerassurgery_fn.measure.activation_reductions import HAS_NAN, has_nan
from kerassurgery_fn.measure.backend_functions import compiled_call
from kerassurgery_fn.measure.graph_execution import graph_runner
from kerassurgery_fn.measure.input_batches import check_batch
from kerassurgery_fn.values.snapshot import Snapshot

Reduction = Callable[..., Mapping[str, Any]]  # from tensors to statistics by name


class ChannelReducer(keras.Model):
    """A model that runs another model and returns statistics of channels, not the activations.

    `reductions` are functions of tensors: key -> the tensor, or a list of tensors, and the function.

    As a Keras model it is compiled into one function, in which activations are freed as soon as they are reduced.
    """

    def __init__(
        self,
        model: keras.Model,
        snapshot: Snapshot,
        trace: Trace,
        reductions: Mapping[Any, tuple[Ref | list[Ref], Reduction]],
    ) -> None:
        super().__init__(name="reducer")
        self.source, self.reductions = model, reductions
        self.entry = entry_of(model)
        self.run_graph = graph_runner(model, snapshot, trace)
        self.compiled = compiled_call(self)
        self.jit_compile = keras.backend.backend() == "jax"  # with TensorFlow, XLA compiles longer than the model runs

    def build(self, *_: Any) -> None:
        """Does nothing, because the layers of the source model are already built."""

    def call(self, x: Any, training: bool = False) -> tuple[list[Any], list[Any]]:
        """The statistics of a batch: whether each input has NaN, and all reductions."""
        inputs = keras.tree.flatten(self.entry(x))
        tensors = self.run_graph(inputs, training)
        return list(map(has_nan, inputs)), [
            reduction(*map(tensors.__getitem__, as_list(ref))) for ref, reduction in self.reductions.values()
        ]

    def reduce(self, batch: Any) -> dict[Any, dict[str, np.ndarray]]:
        """The statistics of a batch as NumPy arrays of 64 bits, by the key of the reduction and by name.

        Raises:
            BadData: the model cannot be run on the batch, or there is NaN in it.
        """
        batch = check_batch(batch, self.source)
        try:
            nan_inputs, results = self.compiled(batch)
        except Exception as error:
            raise BadData(cannot_run(self.source, batch, error)) from error
        refuse_nan_inputs(self.entry, nan_inputs)
        for (ref, _), arrays in zip(self.reductions.values(), results, strict=True):
            refuse_not_finite(as_list(ref)[-1].path, "has activations that are", arrays)
        return dict(zip(self.reductions, map(in_64_bits, results), strict=True))


def as_list(ref: Ref | list[Ref]) -> list[Ref]:
    """The tensors of a reduction."""
    return ref if isinstance(ref, list) else [ref]


def entry_of(model: keras.Model) -> keras.Model:
    """An identity model that converts a batch as `model` would: it picks inputs from a dict by name, and casts them."""
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.Model(inputs, inputs)


def cannot_run(model: keras.Model, batch: Any, error: Exception) -> str:
    """Why a model cannot be run on a batch, in words."""
    shapes = ", ".join(str(tuple(array.shape)) for array in keras.tree.flatten(batch))
    return f"model {model.name!r} cannot be run on a batch of arrays of shapes {shapes}: {root_cause(error)}"


def refuse_nan_inputs(entry: keras.Model, nan_inputs: Iterable[Any]) -> None:
    """Raises BadData if an input has NaN."""
    for tensor, is_nan in zip(keras.tree.flatten(entry.input), nan_inputs, strict=True):
        if is_nan:
            raise BadData(f"the data for input {tensor.name!r} has NaN in it; remove or replace these samples")


def refuse_not_finite(path: str, has: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises BadData if statistics are NaN or infinite: no criterion can compare them.

    Args:
        path: the layer.
        has: what of the layer it is, in words.
        arrays: its statistics by name.
    """
    if arrays.get(HAS_NAN, False) or not all(np.isfinite(array).all() for array in arrays.values()):
        raise BadData(
            f"layer {path!r} {has} NaN or infinite for the data, so they cannot be measured; check the "
            "model's weights and the range of the data"
        )


def in_64_bits(results: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Statistics as NumPy arrays of 64 bits, by name."""
    arrays = {name: np.asarray(value) for name, value in results.items() if name != HAS_NAN}
    return valmap(lambda array: array.astype(np.int64 if array.dtype.kind in "iu" else np.float64), arrays)


def as_columns(fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Statistics with one value for each channel; some have one for all."""
    channels = max((array.shape for array in fields.values()), key=len)
    return valmap(lambda array: np.broadcast_to(array, channels), fields)
