"""Converts models with Python code to graphs: subclassed models, and models with layers that consist of layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from toolz import concat

from kerassurgery_fn.arguments import counted
from kerassurgery_fn.errors import ClassNotKept, WrongShape
from kerassurgery_fn.keras_io.call_comparison import refuse_other_values
from kerassurgery_fn.keras_io.call_inputs import CallInputs, example_arrays, inputs_of
from kerassurgery_fn.keras_io.call_recording import numbered_names, record_call, without_new_nodes
from kerassurgery_fn.keras_io.expanding import Expansion, Selection, is_unsaved_model
from kerassurgery_fn.keras_io.model_classes import overridden_methods, overrides_call
from kerassurgery_fn.keras_io.output_shapes import exact_output_shapes
from kerassurgery_fn.keras_io.sublayers import is_graph, operations_of
from kerassurgery_fn.values.warning_origin import warn


def has_graph(model: keras.Model) -> bool:
    """Whether the graph of a model describes its computation: it is Sequential or Functional and does not override
    `call`."""
    return is_graph(model) and not overrides_call(model)


@contextmanager
def graph_of(model: keras.Model, inputs: Any = None, expand: Selection = ()) -> Iterator[keras.Model]:
    """A scope with the graph of a model: the model itself if it is a graph, otherwise the recorded graph of its `call`.

    The graph has the layers of the model. Its calls of these layers are removed at the end of the scope.

    Raises:
        NotAGraph: a call cannot be recorded.
        UnknownLayer: `expand` selects no layer that can be expanded.
    """
    is_graphic = has_graph(model)
    if is_graphic and inputs is None and not expand and not any(map(is_unsaved_model, operations_of(model))):
        yield model
        return
    with without_new_nodes(model):
        with exact_output_shapes(model):
            graph = model if is_graphic else recorded_model(model, inputs)
            expanded = expanded_model(graph, inputs if is_graphic else None, expand)
        yield compiled_like(model, expanded)


def recorded_model(model: keras.Model, inputs: Any = None) -> keras.Model:
    """The Functional model of a subclassed model's recorded `call`. It is compared with the model on data."""
    names = {layer.name for layer in model._flatten_layers(include_self=False)}
    with numbered_names(names):
        symbolic = inputs_of(model, inputs, names)
        recording = record_call(model, symbolic, example_arrays(inputs))
    _warn_of_lost_class(model, recording.trains_alike)
    _warn_of_unused_weights(model, recording.graph)
    return recording.graph


def expanded_model(model: keras.Model, inputs: Any, selection: Selection) -> keras.Model:
    """A Functional model with nested models in place of layers that consist of layers. It is compared with the model on
    data."""
    symbolic = None if inputs is None else inputs_of(model, inputs, set())
    expansion = Expansion(selection, fixed_sizes=symbolic is not None)
    try:
        expanded = expansion.model(model, inputs=symbolic and symbolic.inputs)
    except ValueError as error:
        if symbolic is None:
            raise
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in keras.tree.flatten(symbolic.inputs))
        raise WrongShape(f"inputs: model {model.name!r} cannot be called on the shapes {shapes}: {error}") from error
    expansion.refuse_unmatched()
    _warn_of_failures(expansion)
    if expanded is model:
        return model
    call = symbolic or CallInputs(expanded._inputs_struct, by_name=False)
    trains_alike = refuse_other_values(model, expanded, call, example_arrays(inputs))
    _warn_of_expanded_layers(expansion, trains_alike)
    _warn_of_fixed_sizes(model, expanded)
    _warn_of_unused_weights(model, expanded)
    return expanded


def compiled_like(model: keras.Model, graph: keras.Model) -> keras.Model:
    """A graph with the compile state and the optimizer of a model."""
    if model.compiled and graph is not model:
        names = ("compiled", "optimizer", "_compile_config")
        vars(graph).update({name: vars(model)[name] for name in names if name in vars(model)})
    return graph


def _warn_of_failures(expansion: Expansion) -> None:
    for path, error in expansion.failures.items():
        reason = str(error)
        warn(f"layer {path!r} stays one layer. {reason[0].upper()}{reason[1:]}", ClassNotKept)


def _warn_of_lost_class(model: keras.Model, trains_alike: bool) -> None:
    methods = [name for name in overridden_methods(model) if name not in ("call", "build")]
    lost = f"the class and its methods ({', '.join(methods)})" if methods else "the class"
    warn(
        f"model {model.name!r} ({type(model).__name__}) is captured as the graph that its call() records: names and "
        f"weights are kept, {lost} {'are' if methods else 'is'} not{_in_training(trains_alike)}",
        ClassNotKept,
    )


def _in_training(trains_alike: bool) -> str:
    return "" if trains_alike else ". In training, the graph computes other values than the class"


def _warn_of_expanded_layers(expansion: Expansion, trains_alike: bool) -> None:
    if paths := list(expansion.nested):
        names = ", ".join(map(repr, paths[:4])) + ", ..." * (len(paths) > 4)
        nested = "is captured as a nested model" if len(paths) == 1 else "are captured as nested models"
        alike = trains_alike and all(nested.trains_alike for nested in concat(expansion.nested.values()))
        warn(
            f"{counted(len(paths), 'layer')} ({names}) {nested} of the same name: names and weights are kept, "
            f"{'the class is' if len(paths) == 1 else 'the classes are'} not{_in_training(alike)}",
            ClassNotKept,
        )


def _warn_of_fixed_sizes(model: keras.Model, expanded: keras.Model) -> None:
    """Warns if axes of inputs had variable sizes and now have fixed sizes."""
    before, after = ([tuple(tensor.shape) for tensor in graph.inputs] for graph in (model, expanded))
    if before != after:
        warn(
            f"model {model.name!r} is captured for inputs of the shapes {after}, and is only valid for these sizes: "
            f"the shapes were {before}",
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
