"""Output shapes of layers on symbolic tensors, for layers whose own method does not compute exact shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

BASES: tuple[Any, ...] = (keras.layers.Layer, keras.Model)


@contextmanager
def exact_output_shapes(model: keras.Model) -> Iterator[None]:
    """A scope in which some layers of a model compute the shapes of their outputs by their `call`.

    - EinsumDense returns None for sizes that are None in its config, even if its input has these sizes.
    - A class that is derived from a class of Keras can add arguments to `call` that the parent's method does not take.
    """
    layers = [layer for layer in model._flatten_layers() if _has_inexact_shapes(layer)]
    for layer in layers:
        vars(layer)["compute_output_spec"] = partial(_spec_by_call, layer)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["compute_output_spec"]


def _spec_by_call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
    """The outputs of a layer by its `call`, or by the method of its class if TensorFlow cannot infer shapes."""
    try:
        return keras.Operation.compute_output_spec(layer, *args, **kwargs)
    except Exception:
        return type(layer).compute_output_spec(layer, *args, **kwargs)


def _has_inexact_shapes(layer: keras.layers.Layer) -> bool:
    cls: Any = type(layer)
    if cls is keras.layers.EinsumDense:
        return True
    parent: Any = next(ancestor for ancestor in cls.__mro__ if ancestor.__module__.startswith("keras."))
    return (
        parent not in BASES
        and cls.call is not parent.call
        and cls.compute_output_spec is parent.compute_output_spec
        and parent.compute_output_spec is not keras.layers.Layer.compute_output_spec
    )
