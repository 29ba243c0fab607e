"""Measures the inputs of the batch normalisations of a model while they normalise by the statistics of each batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import keras
from keras import ops

from kerassurgery_fn.errors import BadData
from kerassurgery_fn.graph import Record
from kerassurgery_fn.keras_io.rebuilding import rebuild
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.measure.activation_reductions import Reduced, has_nan, moments
from kerassurgery_fn.measure.backend_functions import compiled_call
from kerassurgery_fn.measure.channel_reduction import (
    as_columns,
    cannot_run,
    entry_of,
    in_64_bits,
    refuse_nan_inputs,
    refuse_not_finite,
)
from kerassurgery_fn.measure.input_batches import Batch, check_batch, samples_in
from kerassurgery_fn.pruning.activation_statistics import Moments
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.values.snapshot import Snapshot

KIND = "moments of activations"


class Norm(NamedTuple):
    """A batch normalisation of a live model.

    - `path`: the path of its weights in a snapshot: that of the layer, or of the wrapper or layer that contains it;
    - `layer`: the batch normalisation;
    - `slots`: names of its statistics -> their indices among the weights of that path.
    """

    path: str
    layer: keras.layers.BatchNormalization
    slots: dict[str, int]


STATISTICS_NAMES = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")


def norms_of(model: keras.Model, record: Record) -> dict[str, Norm]:
    """The batch normalisations of a live model by a name: their path, with a number if it has several of them.

    Args:
        model: the model.
        record: its record.
    """
    norms: dict[str, Norm] = {}
    for path, layer, _ in layers_of(model, record, ""):
        for number, norm in enumerate(_norms_in(layer)):
            norms[f"{path}#{number + 1}" if number else path] = Norm(path, norm, _slots(layer, norm))
    return norms


def _norms_in(layer: keras.layers.Layer) -> Iterator[keras.layers.BatchNormalization]:
    """The batch normalisation itself, or the batch normalisations inside a wrapper or a layer that consists of
    layers."""
    yield from (part for part in layer._flatten_layers() if isinstance(part, keras.layers.BatchNormalization))


def _slots(layer: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> dict[str, int]:
    indices = {id(weight): index for index, weight in enumerate(layer.weights)}
    statistics = {name: getattr(norm, name, None) for name in STATISTICS_NAMES}
    return {name: indices[id(weight)] for name, weight in statistics.items() if weight is not None}


class Seen(NamedTuple):
    """Name of a batch normalisation -> the moments of its inputs at each call, filled while the model is called.

    Keras copies the dicts and lists that are attributes of a model, but no object of another class.
    """

    calls: dict[str, list[Reduced]]


class NormReader(keras.Model):
    """A model that runs a copy of another model and returns the moments of the inputs of its batch normalisations.

    The copy belongs to the reader, which changes how its batch normalisations are called: they normalise by the
    statistics of the batch, whether they are frozen or not.
    """

    def __init__(self, copy: keras.Model, norms: dict[str, Norm]) -> None:
        super().__init__(name="reader")
        self.source, self.entry = copy, entry_of(copy)
        self.seen = Seen({name: [] for name in norms})
        for name, norm in norms.items():
            observe(norm.layer, self.seen.calls[name].append)
        self.compiled = compiled_call(self)
        self.jit_compile = False

    def build(self, *_: Any) -> None:
        """Does nothing, because the layers of the copy are already built."""

    def call(self, x: Any, training: bool = False) -> tuple[list[Any], dict[str, list[Reduced]]]:
        """Whether each input has NaN, and the moments for each batch normalisation and call."""
        for calls in self.seen.calls.values():
            calls.clear()
        self.source(x, training=False)
        inputs = keras.tree.flatten(self.entry(x))
        return list(map(has_nan, inputs)), {name: list(calls) for name, calls in self.seen.calls.items()}

    def read(self, batch: Batch) -> ChannelStatistics:
        """The moments for a batch.

        Raises:
            BadData: the model cannot be run on the batch, or there is NaN in it.
        """
        x = check_batch(batch.x, self.source)
        try:
            nan_inputs, results = self.compiled(x)
        except Exception as error:  # Keras and TensorFlow raise many kinds of errors
            raise BadData(cannot_run(self.source, x, error)) from error
        refuse_nan_inputs(self.entry, nan_inputs)
        called = {name: _total(name, calls) for name, calls in results.items() if calls}
        return ChannelStatistics(KIND, {name: ((total,),) for name, total in called.items()}, samples_in(x))


def observe(norm: keras.layers.BatchNormalization, seen: Callable[[Reduced], None]) -> None:
    """Makes a batch normalisation normalise by the statistics of each batch, and report the moments of its inputs."""
    call = norm.call

    def observed(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        seen(masked_moments(inputs, norm.axis, mask))
        return call(inputs, training=True, mask=mask)

    norm.trainable = True  # Keras lets a frozen layer normalise by its moving statistics, in training, too
    norm.synchronized = False  # there is one replica
    norm.renorm = False
    norm.call = observed


def masked_moments(inputs: Any, axis: int, mask: Any = None) -> Reduced:
    """The fields of `Moments` for the positions that a mask selects, shape (batch, ...) without the last axis."""
    if mask is None:
        return moments(inputs, axis % inputs.ndim)
    values = ops.cast(inputs, "float32")
    selected = ops.broadcast_to(ops.cast(ops.expand_dims(mask, -1), "bool"), ops.shape(values))
    axes = [number for number in range(values.ndim) if number != axis % values.ndim]

    def total(tensor: Any) -> Any:
        return ops.sum(ops.where(selected, tensor, 0), axis=axes, keepdims=True)

    count = total(ops.ones_like(values))
    mean = total(values) / ops.maximum(count, 1)
    fields = {
        "values": count, "mean": mean, "deviations": total(ops.square(values - mean)), "magnitudes": total(abs(values))
    }  # fmt: skip
    return {name: ops.reshape(field, (-1,)) for name, field in fields.items()}


def _total(name: str, calls: Collection[Reduced]) -> Moments:
    """The moments of all calls of a layer.

    Raises:
        BadData: one is NaN or infinite.
    """
    arrays = [in_64_bits(fields) for fields in calls]
    for fields in arrays:
        refuse_not_finite(name, "has inputs that are", fields)
    return reduce(add, (Moments(**as_columns(fields)) for fields in arrays))


def start_reading(
    snapshot: Snapshot, names: Collection[str], copy: keras.Model | None = None
) -> Callable[[Batch], ChannelStatistics]:
    """A function from a batch to the moments for some batch normalisations.

    Args:
        snapshot: the model.
        names: names of batch normalisations, as in `norms_of`.
        copy: a live copy of the model, which may be changed; by default a new one.
    """
    copy = rebuild(snapshot, compile=False) if copy is None else copy
    norms = norms_of(copy, snapshot.record)
    return NormReader(copy, {name: norms[name] for name in names}).read
