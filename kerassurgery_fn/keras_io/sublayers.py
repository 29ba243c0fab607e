"""Live models as their config lists them: layers, operations, and what wraps a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from kerassurgery_fn.graph import Record, is_model, join_path, name_of, wrapped_model

Functional = type(keras.Model(_x := keras.Input((1,)), keras.layers.Identity(name="identity")(_x)))


def members_of(model: keras.Model) -> list[Any]:
    """The layers and operations of a model, as its config lists them."""
    return model._layers if isinstance(model, keras.Sequential) else model.operations


def is_graph(operation: Any) -> bool:
    """Whether a layer is a model with a graph."""
    return isinstance(operation, keras.Sequential | Functional)


def operations_of(model: keras.Model) -> Iterator[keras.Operation]:
    """All layers and operations of a model and of those in it."""
    for operation in members_of(model):
        yield operation
        if isinstance(operation, keras.Sequential | Functional):
            yield from operations_of(operation)


def inside(layer: keras.layers.Layer, record: Record) -> tuple[keras.layers.Layer, Record]:
    """The model that a layer wraps and its record, or the layer itself and its own."""
    own, where = wrapped_model(record) or (record, ())
    for _ in where[::2]:
        layer = layer.layer
    return layer, own


def layers_of(model: keras.Model, record: Record, scope: str) -> Iterator[tuple[str, keras.layers.Layer, Record]]:
    """Every layer of a model that neither is nor wraps a model, with its path and record."""
    records = {name_of(layer): layer for layer in record["config"]["layers"]}
    for layer in model.layers:
        inner, own = inside(layer, records[layer.name])
        path = join_path(scope, layer.name)
        if is_model(own):
            yield from layers_of(inner, own, path)
        else:
            yield path, inner, own
