"""Revives a snapshot with the layers of a live model that it has not changed.

A layer of the live model is taken over if `capture` would read the record and the weights that the snapshot has for it.
A call is taken over, with the tensors that it returned, if its layer and all of its inputs are. So after an edit of a
late layer, only the calls behind it are made again:

    live model       x -> a -> b -> c -> d
    new model        x -> a -> b -> C -> d      x, a, b and the calls of a and b are those of the live model;
                                                C is a new layer; d is the layer of the live model, called again
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope, deserialize_keras_object

from kerassurgery_fn.graph import Record, is_functional, is_model, join_path, model_in, name_of
from kerassurgery_fn.keras_io.capturing import complete_record
from kerassurgery_fn.keras_io.compile_state import uncompiled
from kerassurgery_fn.keras_io.own_objects import scope_of
from kerassurgery_fn.keras_io.reused_calls import CALLS, Live, calls_of_model
from kerassurgery_fn.keras_io.reviving import is_in_safe_mode, with_tuples
from kerassurgery_fn.keras_io.sublayers import Functional, layers_of, members_of, operations_of, unwrap
from kerassurgery_fn.values.frozen import thaw
from kerassurgery_fn.values.snapshot import Snapshot, same_arrays

CLASS = ("module", "class_name", "registered_name")


class Revived(NamedTuple):
    """A model, and the paths of its layers that belong to a live model, too."""

    model: keras.Model
    shared: frozenset[str]


def live(model: keras.Model) -> Live:
    """A model with its record, without its compile config.

    Raises:
        NotAGraph, HiddenState: as in `capture`.
    """
    with uncompiled(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `capture` has given these warnings
        return Live(model, complete_record(model))


def revive_reusing(snapshot: Snapshot, source: Live, custom_objects: Any, safe_mode: bool) -> Revived:
    """The model of a snapshot, with the layers of a live model that the snapshot has not changed. New layers have no
    weights of the snapshot. If this fails, the live model is as before."""
    custom = dict(custom_objects or {})
    with (
        scope_of(custom),
        SafeModeScope(is_in_safe_mode(safe_mode)),
        _calls_withdrawn_on_error(source.layer),
    ):
        reviver = _Reviver(snapshot, custom)
        record = {key: value for key, value in snapshot.record.items() if key != "compile_config"}
        return Revived(reviver.model(record, source, ""), frozenset(reviver.shared))


@contextmanager
def _calls_withdrawn_on_error(model: keras.Model) -> Iterator[None]:
    """A scope that removes the new calls of a model's layers if an error leaves it."""
    lists = [calls for layer in operations_of(model) for calls in (layer._inbound_nodes, layer._outbound_nodes)]
    lengths = [len(calls) for calls in lists]
    try:
        yield
    except Exception:
        for calls, length in zip(lists, lengths, strict=True):
            del calls[length:]
        raise


class _Reviver:
    """Revives models and layers from records, and notes which layers are those of the live model."""

    def __init__(self, snapshot: Snapshot, custom_objects: Mapping[str, Any]) -> None:
        self.weights = snapshot.weights
        self.custom_objects = custom_objects
        self.shared: set[str] = set()  # paths
        self.taken: set[int] = set()  # ids of layers: one that belongs to two models has two paths, and is used once

    def model(self, record: Record, source: Live, path: str) -> Any:
        """The model of a record. Its class is that of the live model, or a class of Keras."""
        cls = _class_of(record, source)
        if cls is None:
            return _deserialized(record)
        before = _layers_by_name(source) if is_model(source.record) else {}
        layers = {
            name_of(layer): self.layer(layer, before.get(name_of(layer)), join_path(path, name_of(layer)))
            for layer in record["config"]["layers"]
        }
        if is_functional(record):
            return _connected(cls, record, layers, source)
        return _stacked(cls, record, layers)

    def layer(self, record: Record, source: Live | None, path: str) -> Any:
        """The layer of the live model if it is the same; otherwise a new layer."""
        if source is None:
            return _deserialized(record)
        if self.is_same(record, source, path):
            parts = _parts(source, path)
            self.taken |= {id(source.layer), *(id(layer) for _, layer in parts)}
            self.shared |= {part for part, _ in parts}
            return source.layer
        if is_model(record) and is_model(source.record):
            return self.model(record, source, path)
        return _deserialized(record)

    def is_same(self, record: Record, source: Live, path: str) -> bool:
        """Whether a layer of the live model can take the place of the layer of a record."""
        parts = _parts(source, path)
        names = {record["class_name"], record.get("registered_name")}
        custom = [cls for name, cls in self.custom_objects.items() if name in names]
        return (
            _without_calls(record) == _without_calls(source.record)
            and all(type(source.layer) is cls for cls in custom)
            and self.taken.isdisjoint({id(source.layer), *(id(layer) for _, layer in parts)})
            and not _remembers_calls(source.layer)
            and all(_has_arrays(layer, self.weights.get(part, ())) for part, layer in parts)
        )


def _class_of(record: Record, source: Live) -> type | None:
    """The class of the model of a record; None if it is a custom class that the live model does not have."""
    if all(record.get(key) == source.record.get(key) for key in CLASS):
        return type(source.layer)
    plain = {"Sequential": keras.Sequential, "Functional": Functional}
    return plain.get(record["class_name"]) if str(record.get("module")).startswith("keras") else None


def _deserialized(record: Record) -> Any:
    return deserialize_keras_object(with_tuples(record))


def _layers_by_name(source: Live) -> dict[str, Live]:
    records = source.record["config"]["layers"]
    return {
        name_of(record): Live(layer, record) for layer, record in zip(members_of(source.layer), records, strict=True)
    }


def _parts(source: Live, path: str) -> list[tuple[str, keras.layers.Layer]]:
    """The paths and the layers with weights inside a layer: those of a nested or wrapped model, or the layer itself."""
    if not isinstance(source.layer, keras.layers.Layer):
        return []
    if model_in(source.record) is None:
        return [(path, source.layer)]
    inner, inner_record = unwrap(source.layer, source.record)
    return [(part, layer) for part, layer, _ in layers_of(inner, inner_record, path)]


def _without_calls(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != CALLS}


def _remembers_calls(layer: Any) -> bool:
    """Whether a layer or one inside it has a state that each call changes, as stateful recurrent layers do."""
    return isinstance(layer, keras.layers.Layer) and any(
        getattr(inner, "stateful", False) for inner in layer._flatten_layers()
    )


def _has_arrays(layer: keras.layers.Layer, arrays: tuple[np.ndarray, ...]) -> bool:
    return len(layer.weights) == len(arrays) and all(
        same_arrays([_values(weight)], [array]) for weight, array in zip(layer.weights, arrays, strict=True)
    )


def _values(weight: keras.Variable) -> np.ndarray:
    """The values of a weight, without a copy if the backend can share its memory."""
    try:
        return np.asarray(memoryview(weight.value.value()))
    except Exception:  # another backend, or a dtype that Python does not know
        return np.asarray(keras.ops.convert_to_numpy(weight))


# --- models of layers


def _stacked(cls: Any, record: Record, layers: Mapping[str, Any]) -> keras.Model:
    """A Sequential model. Each of its layers is called again."""
    model = cls(name=record["config"]["name"])
    *first, last = layers.values()
    for layer in first:
        model.add(layer, rebuild=False)
    model.add(last)
    if not model.built and record.get("build_config"):
        model.build_from_config(with_tuples({"build_config": record["build_config"]})["build_config"])
    return model


def _connected(cls: Any, record: Record, layers: Mapping[str, Any], source: Live) -> keras.Model:
    """A Functional model, created as Functional.from_config does."""
    config = thaw({key: value for key, value in record["config"].items() if key != "layers"})
    calls = calls_of_model(record, layers, source)

    def tensors(tree: Any) -> Any:
        match tree:
            case [str(name), int(call), int(output)]:
                # Keras counts from 1 where the layer is a Functional model.
                return calls[name][call - isinstance(layers[name], Functional)].outputs[output]
            case dict():
                return {key: tensors(item) for key, item in tree.items()}
        return [tensors(item) for item in tree]

    inputs, outputs = tensors(config.pop("input_layers")), tensors(config.pop("output_layers"))
    name, trainable = config.pop("name", None), config.pop("trainable", None)
    return cls(inputs=inputs, outputs=outputs, name=name, trainable=trainable, **config)
