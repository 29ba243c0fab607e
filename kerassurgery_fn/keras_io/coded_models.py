"""Models that are Python code, as graphs: the Functional model that a subclassed model's `call` records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from kerassurgery_fn.errors import ClassNotKept
from kerassurgery_fn.keras_io.call_inputs import example_arrays, inputs_of
from kerassurgery_fn.keras_io.call_recording import numbered_names, record_call, without_new_nodes
from kerassurgery_fn.keras_io.model_classes import overridden_methods, overrides_call
from kerassurgery_fn.keras_io.sublayers import is_graph
from kerassurgery_fn.values.warning_origin import warn


@contextmanager
def graph_of(model: keras.Model, inputs: Any = None) -> Iterator[keras.Model]:
    """A scope with the graph of a model: the model itself if it is one, else the graph that its `call` records.

    The graph has the layers of the model. Its calls of these layers are taken back at the end of the scope.

    Raises:
        NotAGraph: the call cannot be recorded.
    """
    if is_graph(model) and not overrides_call(model):
        yield model
        return
    with without_new_nodes(model):
        yield recorded_model(model, inputs)


def recorded_model(model: keras.Model, inputs: Any = None) -> keras.Model:
    """The Functional model that a subclassed model's `call` records, compared with the model on data."""
    names = {layer.name for layer in model._flatten_layers(include_self=False)}
    with numbered_names(names):
        symbolic = inputs_of(model, inputs, names)
        recording = record_call(model, symbolic.tensors, symbolic.arguments, example_arrays(inputs))
    _warn_of_lost_class(model, recording.trains_alike)
    _warn_of_unused_weights(model, recording.graph)
    return compiled_like(model, recording.graph)


def compiled_like(model: keras.Model, graph: keras.Model) -> keras.Model:
    """A graph that Keras takes for compiled as a model is, with the optimizer of the model."""
    if model.compiled:
        names = ("compiled", "optimizer", "_compile_config")
        vars(graph).update({name: vars(model)[name] for name in names if name in vars(model)})
    return graph


def _warn_of_lost_class(model: keras.Model, trains_alike: bool) -> None:
    methods = [name for name in overridden_methods(model) if name not in ("call", "build")]
    lost = f"the class and its methods ({', '.join(methods)})" if methods else "the class"
    training = "" if trains_alike else ". In training, the graph computes something else than the class does"
    warn(
        f"model {model.name!r} ({type(model).__name__}) is captured as the graph that its call() records: names and "
        f"weights are kept, {lost} {'are' if methods else 'is'} not{training}",
        ClassNotKept,
    )


def _warn_of_unused_weights(model: keras.Model, graph: keras.Model) -> None:
    used = {id(weight) for weight in graph.weights}
    if unused := [weight.path for weight in model.weights if id(weight) not in used]:
        more = f" and {len(unused) - 4} more" * (len(unused) > 4)
        warn(
            f"the call() of model {model.name!r} does not use all of its weights in inference: "
            f"{', '.join(unused[:4])}{more}. They are not captured",
            ClassNotKept,
        )
