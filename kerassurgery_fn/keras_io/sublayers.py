"""Pairs the layers and operations of a live model with their records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from kerassurgery_fn.graph import Record, is_model, join_path, name_of, wrapped_model

PathLayerRecord = tuple[str, keras.layers.Layer, Record]

# Keras does not export this class: keras.Model(inputs, outputs) creates an instance of it.
Functional = type(keras.Model(_x := keras.Input((1,)), keras.layers.Identity(name="identity")(_x)))


def members_of(model: keras.Model) -> list[Any]:
    """The layers and operations of a model, in the order of its config."""
    return model._layers if isinstance(model, keras.Sequential) else model.operations


def is_graph(operation: Any) -> bool:
    """Whether a layer is a Sequential or Functional model."""
    return isinstance(operation, keras.Sequential | Functional)


def operations_of(model: keras.Model) -> Iterator[keras.Operation]:
    """All layers and operations of a model and of its nested models."""
    for operation in members_of(model):
        yield operation
        if is_graph(operation):
            yield from operations_of(operation)


def unwrap(layer: keras.layers.Layer, record: Record) -> tuple[keras.layers.Layer, Record]:
    """The model inside a wrapper such as TimeDistributed, with its record; any other layer unchanged."""
    inner_record, location = wrapped_model(record) or (record, ())
    # The location is ("config", "layer", "config", "layer", ...): one step in the config for each `.layer`.
    for _ in location[::2]:
        layer = layer.layer
    return layer, inner_record


def layers_of(model: keras.Model, record: Record, scope: str) -> Iterator[PathLayerRecord]:
    """Path, layer and record of every layer of a model, except models and layers that wrap a model."""
    records = {name_of(layer_record): layer_record for layer_record in record["config"]["layers"]}
    for layer in model.layers:
        inner, inner_record = unwrap(layer, records[layer.name])
        path = join_path(scope, layer.name)
        if is_model(inner_record):
            yield from layers_of(inner, inner_record, path)
        else:
            yield path, inner, inner_record
