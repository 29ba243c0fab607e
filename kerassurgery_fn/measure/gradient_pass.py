"""Passes over data that measure gradients: of gates on channels, and of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import BadData, MissingData, SurgeryError
from kerassurgery_fn.graph import Ref
from kerassurgery_fn.keras_io.reviving import root_cause
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.measure.backend_functions import (
    compiled,
    refuse_other_backends,
    signs,
    value_and_gradients,
)
from kerassurgery_fn.measure.channel_reduction import entry_of, refuse_not_finite
from kerassurgery_fn.measure.channel_views import ViewsByLayer, views_without_overlap
from kerassurgery_fn.measure.criterion_statistics import Options
from kerassurgery_fn.measure.graph_execution import graph_runner
from kerassurgery_fn.measure.input_batches import Batch, check_batch, samples_in
from kerassurgery_fn.measure.sample_losses import loss_of_samples, output_of
from kerassurgery_fn.measure.sample_selection import seeds_of
from kerassurgery_fn.pruning.activation_views import View
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.pruning.gate_gradients import GateGradients
from kerassurgery_fn.pruning.summed_arrays import SummedArrays
from kerassurgery_fn.rules.layer import STATE
from kerassurgery_fn.values.snapshot import Snapshot

Measure = Callable[[Batch], Any]


class ModelRun:
    """A model that runs call by call, so that gradients with respect to all of its tensors can be computed."""

    def __init__(self, model: keras.Model, snapshot: Snapshot) -> None:
        refuse_other_backends()
        self.model, self.flow = model, analyse(snapshot)
        self.entry = entry_of(model)
        self.run_graph = graph_runner(model, snapshot, self.flow.trace)

    def __call__(self, x: Any, watched: frozenset[Ref] = frozenset(), watch: Any = None) -> tuple[Any, dict[Ref, Any]]:
        """The outputs of the model in their structure, and its tensors; `watch` is called for the tensors in
        `watched`."""

        def seen(ref: Ref, tensor: Any) -> None:
            if ref in watched:
                watch(tensor)

        tensors = self.run_graph(keras.tree.flatten(self.entry(x)), False, seen)
        outputs = [tensors[ref] for ref in self.flow.trace.outputs]
        return keras.tree.pack_sequence_as(output_of(self.model), outputs), tensors


def measure_gates(kind: str, model: keras.Model, snapshot: Snapshot, options: Options) -> Measure:
    """A function from a batch to the gradients of the loss with respect to gates on channels."""
    run = ModelRun(model, snapshot)
    total = _LossOfSamples(model, options)
    step = _gate_step(run, options.views(run.flow), lambda outputs, batch: total(batch.y, outputs, batch.weights))

    def measure(batch: Batch) -> ChannelStatistics:
        total.prepare(batch)
        return _measured_gates(kind, model, step, batch)

    return measure


def measure_sensitivities(kind: str, model: keras.Model, snapshot: Snapshot, options: Options) -> Measure:
    """A function from a batch to the gradients of the outputs, with random signs, with respect to gates on channels."""
    run = ModelRun(model, snapshot)

    def signed_sum(outputs: Any, batch: Batch) -> Any:
        flat = [ops.cast(output, "float32") for output in keras.tree.flatten(outputs)]
        return sum(ops.sum(output * signs(batch.y + number, ops.shape(output))) for number, output in enumerate(flat))

    step = _gate_step(run, options.views(run.flow), signed_sum)
    return lambda batch: _measured_gates(kind, model, step, Batch(batch.x, seeds_of(batch.x)))


def measure_weights(kind: str, model: keras.Model, snapshot: Snapshot, options: Options) -> Measure:
    """A function from a batch to the gradients of the loss with respect to all weights."""
    run = ModelRun(model, snapshot)
    total = _LossOfSamples(model, options)
    weights = {path: layer.weights for path, layer, _ in layers_of(model, snapshot.record, "") if layer.weights}
    learned = {path: learned_slots(run.flow, path, layer) for path, layer in weights.items()}
    variables = [weights[path][slot].value for path, slots in learned.items() for slot in slots]

    def step(batch: Batch) -> list[Any]:
        def loss(watch: Any) -> tuple[Any, Any, Sequence[Any]]:
            for variable in variables:
                watch(variable)
            outputs, _ = run(batch.x)
            return None, total(batch.y, outputs, batch.weights), variables

        return value_and_gradients(loss)[1]

    compiled_step = compiled(step)

    def measure(batch: Batch) -> SummedArrays:
        total.prepare(batch)
        gradients = map(np.asarray, _run(model, compiled_step, batch))
        layers = {path: _by_slot(layer, learned[path], gradients) for path, layer in weights.items()}
        for path, arrays in layers.items():
            refuse_not_finite(path, "has gradients that are", {str(slot): array for slot, array in enumerate(arrays)})
        return SummedArrays(kind, layers, samples_in(batch.x))

    return measure


def _by_slot(weights: Sequence[Any], learned: Sequence[int], gradients: Iterator[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The gradient of each weight of a layer, the next of `gradients`; zeros for weights that are not learned."""
    return tuple(
        next(gradients) if slot in learned else np.zeros(weight.shape, "float32") for slot, weight in enumerate(weights)
    )


def learned_slots(flow: Flow, path: str, weights: Sequence[Any]) -> list[int]:
    """Which weights of a layer training could change: no statistics, and no integers, as states of generators are."""
    names = dict(enumerate(weight.name for weight in flow.weights.get(path, ())))
    return [slot for slot, weight in enumerate(weights) if "float" in weight.dtype and names.get(slot) not in STATE]


class _LossOfSamples:
    """The summed loss of the samples of a batch. The first batch, whose targets show their structure, builds it."""

    def __init__(self, model: keras.Model, options: Options) -> None:
        self.model, self.options = model, options
        self.total: Any = None

    def prepare(self, batch: Batch) -> None:
        """Builds the loss.

        Raises:
            MissingData: the batch has no targets.
            BadData: the inputs or the targets do not fit the model.
        """
        check_batch(batch.x, self.model)
        if batch.y is None:
            raise MissingData(
                "the criterion needs labels, and the data has none: give data=(x, y), or batches (x, y), as for fit"
            )
        if self.total is None:
            try:
                self.total = loss_of_samples(self.options.objective, self.model, batch.y)
            except Exception as error:  # Keras raises many kinds of errors
                raise BadData(
                    f"the loss of {self.model.name!r} with {_outputs_of(self.model)} cannot be computed on targets "
                    f"that are {_described(batch.y)}: {root_cause(error)}"
                ) from error

    def __call__(self, y: Any, outputs: Any, weights: Any) -> Any:
        return self.total(y, outputs, weights)


def _outputs_of(model: keras.Model) -> str:
    """The names and the shapes of the outputs of a model, for a message."""
    names = getattr(model, "output_names", None) or ["output"]
    shapes = [tuple(output.shape) for output in model.outputs]
    several = "outputs" if len(shapes) > 1 else "output"
    return f"the {several} " + ", ".join(f"{name!r} {shape}" for name, shape in zip(names, shapes, strict=False))


def _described(targets: Any) -> str:
    """The structure and the shapes of targets, for a message."""
    if isinstance(targets, Mapping):
        return "a dict of " + ", ".join(f"{key!r} {tuple(array.shape)}" for key, array in targets.items())
    if isinstance(targets, list | tuple):
        return f"a {type(targets).__name__} of shapes " + ", ".join(str(tuple(array.shape)) for array in targets)
    return f"an array of shape {tuple(targets.shape)}"


def _gate_step(run: ModelRun, views: ViewsByLayer, number: Callable[[Any, Batch], Any]) -> Callable[[Batch], Any]:
    """A compiled function from a batch to the gradients of a number with respect to gates, by address."""
    seen = views_without_overlap(run.flow, views)
    refs = sorted({view.tensor for layer in seen.values() for view in layer})
    widths = {name: size(run.flow.producer(name).axis) or 0 for name in seen}

    def step(batch: Batch) -> dict[str, dict[str, Any]]:
        def watched_number(watch: Any) -> tuple[Any, Any, Sequence[Any]]:
            outputs, tensors = run(batch.x, frozenset(refs), watch)
            sources = [tensors[ref] for ref in refs]
            return sources, number(outputs, batch), sources

        activations, gradients = value_and_gradients(watched_number)
        products = {
            ref: ops.cast(activation, "float32") * ops.cast(gradient, "float32")
            for ref, activation, gradient in zip(refs, activations, gradients, strict=True)
        }
        samples = ops.shape(keras.tree.flatten(batch.x)[0])[0]
        return {name: _gate_sums(layer, widths[name], products, samples) for name, layer in seen.items()}

    return compiled(step)


def _gate_sums(views: Sequence[View], width: int, products: dict[Ref, Any], samples: Any) -> dict[str, Any]:
    """The fields of `GateGradients` of a layer, whose channels are seen in several tensors."""
    parts = [_by_sample(products[view.tensor], view, width, samples) for view in views]
    g = sum(part for part, _ in parts)
    return {
        "total": ops.sum(g, axis=0),
        "magnitudes": ops.sum(ops.abs(g), axis=0),
        "squares": ops.sum(ops.square(g), axis=0),
        "products": sum(ops.sum(magnitudes, axis=0) for _, magnitudes in parts),
    }


def _by_sample(products: Any, view: View, width: int, samples: Any) -> tuple[Any, Any]:
    """The sums of products, and of their absolute values, for each sample and channel, shape (samples, channels)."""
    sums = []
    for values in (products, ops.abs(products)):
        by_row = ops.sum(values, axis=[i for i in range(1, values.ndim) if i != view.axis])
        by_sample = ops.sum(ops.reshape(by_row, (samples, -1, by_row.shape[-1])), axis=1)
        sums.append(sum(by_sample[:, start : start + width] for start in view.starts))
    return sums[0], sums[1]


def _measured_gates(kind: str, model: keras.Model, step: Callable[[Batch], Any], batch: Batch) -> ChannelStatistics:
    samples = samples_in(batch.x)
    layers = {}
    for name, fields in _run(model, step, batch).items():
        arrays = {field: np.asarray(value, np.float64) for field, value in fields.items()}
        refuse_not_finite(name, "has gradients that are", arrays)
        layers[name] = ((GateGradients(np.full(arrays["total"].shape, samples), **arrays),),)
    return ChannelStatistics(kind, layers, samples)


def _run(model: keras.Model, step: Callable[[Batch], Any], batch: Batch) -> Any:
    """The result of a step on a batch.

    Raises:
        BadData: the model, or its loss, cannot be run on the batch.
    """
    batch = batch._replace(x=check_batch(batch.x, model))
    try:
        return step(Batch(*map(_as_tensors, batch)))
    except SurgeryError:
        raise
    except Exception as error:  # Keras and TensorFlow raise many kinds of errors
        shapes = [str(tuple(array.shape)) for array in keras.tree.flatten([batch.x, batch.y]) if array is not None]
        raise BadData(
            f"model {model.name!r} or its loss cannot be run on a batch of arrays of shapes {', '.join(shapes)}: "
            f"{root_cause(error)}"
        ) from error


def _as_tensors(part: Any) -> Any:
    return None if part is None else keras.tree.map_structure(ops.convert_to_tensor, part)
