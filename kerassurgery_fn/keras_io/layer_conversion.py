"""Converts Keras layers, functions and records into plain values, and asks Keras about layers without a rule.

Edits accept a Keras layer, a record or a snapshot; all become snapshots. For classes without a rule, Keras computes
output shapes and masks. Keras is imported inside functions, so that edits of plain data do not load it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from toolz import dissoc, keyfilter

from kerassurgery_fn.arguments import is_keras, shortened
from kerassurgery_fn.errors import BadValue, MisfitTensor, NotALayer
from kerassurgery_fn.graph import (
    MEASURED,
    STATE_WEIGHTS,
    TRAINED,
    WEIGHT_GROUPS,
    WEIGHTS_BY_NAME,
    Record,
    Spec,
    check_record,
    is_input,
    is_model,
    leaves,
    model_in,
)
from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.values.frozen import freeze, set_in, thaw
from kerassurgery_fn.values.snapshot import Snapshot, Weights

COMPLETE = {"module", "class_name", "config", "registered_name"}


class InferredCall(NamedTuple):
    """The results of a call of a layer by Keras: the specs of the outputs, the record of the built layer, and the names
    and shapes of its weights."""

    outputs: list[Spec]
    record: Record
    weights: list[tuple[str, tuple[int, ...]]]


def as_layer(value: Any) -> Snapshot:
    """A layer as a snapshot: its record, and its weights under the path "" if it has weights.

    Args:
        value: a Keras layer, built or not; its record as `keras.saving.serialize_keras_object` writes it, or only the
            class name and some config fields, which Keras completes; a snapshot of a layer, or of a model that is
            inserted as a layer.

    Raises:
        NotALayer: the value is none of these.
        BrokenSnapshot: the record is not well-formed; the message names the place in it.

    >>> record = {"module": "keras.layers", "class_name": "ReLU", "config": {"name": "r"}, "registered_name": None}
    >>> as_layer(record).name
    'r'
    """
    match value:
        case Snapshot():
            check_record(value.record, "the record of the layer")
            refuse_unbuilt(value.record)
            record = _with_complete_inputs(value.record)
            return value if record is value.record else Snapshot(record, value.weights, value.training)
        case {"class_name": str(), "config": Mapping()}:
            is_complete = value.keys() >= COMPLETE and ("name" in value or "name" in value["config"])
            record = _without_compile_config(freeze(value if is_complete else complete_record(value)))
            return as_layer(Snapshot(record, {} if model_in(record) is None else _weights_of(_built(record), record)))
        case _ if is_keras(value, "Model"):
            raise NotALayer(f"{shortened(value)} is a model: pass capture(model) to use it as one layer")
        case _ if is_keras(value, "Layer"):
            record = _serialize(value)
            refuse_unbuilt(record)
            findings = {**_weight_lists(value, record), **_measured_activations(record)}
            _add_weight_groups(value, record)
            return as_layer(Snapshot({**record, **findings}, _weights_of(value, record)))
    raise NotALayer(
        f"{shortened(value)} is not a layer: pass a Keras layer, its record as keras.saving.serialize_keras_object "
        "writes it, or a snapshot"
    )


def _with_complete_inputs(record: Record) -> Record:
    """The record in which the inputs of a model in the layer have the field `optional`, as after a capture.

    Keras before 3.11 does not write this field.
    """
    inner = model_in(record)
    if inner is None:
        return record
    model, place = inner
    layers = [
        {**layer, "config": {**layer["config"], "optional": False}}
        if is_input(layer) and "optional" not in layer["config"]
        else _with_complete_inputs(layer)
        for layer in model["config"]["layers"]
    ]
    if all(new is old for new, old in zip(layers, model["config"]["layers"], strict=True)):
        return record
    return freeze(set_in(record, (*place, "config", "layers"), layers))


def _built(record: Record) -> Any:
    """The layer of a record that is a model or wraps a model. Keras builds the model when it revives it."""
    check_record(record, "the record of the layer")
    refuse_unbuilt(record)
    return revive_layer(record)


def _weights_of(layer: Any, record: Record) -> Weights:
    """The weights of a layer under the path "". For a model, or a wrapper of a model, the paths are those in the model.

    A wrapper that is not built has no weights, even if the model in it has weights.
    """
    if model_in(record) is None:
        arrays = {"": layer.get_weights()} if layer.built else {}
    else:
        from kerassurgery_fn.keras_io.sublayers import layers_of, unwrap

        arrays = {path: inner.get_weights() for path, inner, _ in layers_of(*unwrap(layer, record), "")}
    return {path: tuple(map(np.array, layer_arrays)) for path, layer_arrays in arrays.items() if layer_arrays}


def refuse_unbuilt(record: Record) -> None:
    """Raises NotALayer for a Sequential model, or a wrapper around one, that is not built."""
    inner = model_in(record)
    if inner and not any(map(is_input, inner[0]["config"]["layers"])):
        raise NotALayer(
            f"Sequential model {inner[0]['config']['name']!r} is not built: add a keras.Input as its first layer"
        )


def as_value(value: Any) -> Any:
    """The value of a config field as Keras writes it.

    Objects of Keras become records, functions of Keras become names, functions of the user become records. NumPy
    scalars become Python numbers. Everything else is returned unchanged.

    Raises:
        BadValue: the value is a lambda, which cannot be written as data.

    >>> as_value(0.5), as_value((2, 2)), as_value(np.float64(0.5))
    (0.5, (2, 2), 0.5)
    """
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "get_config") and not isinstance(value, type):
        return _serialize(value)
    if callable(value) and str(getattr(value, "__module__", "")).startswith("keras."):
        return value.__name__
    return _function_record(value) if isinstance(value, FunctionType) else value


def _function_record(function: FunctionType) -> Record:
    if function.__name__ == "<lambda>":
        raise BadValue(
            "a lambda cannot be written as data: pass a function registered with "
            "keras.saving.register_keras_serializable, or insert a keras.layers.Lambda with InsertLayer"
        )
    return _serialize(function)


def complete_record(record: Record) -> Record:
    """A layer's record with all fields that Keras writes, from a record with only some of them or with aliases.

    Raises:
        NotALayer: Keras cannot create the layer.
    """
    module = record.get("module") or "keras.layers"
    try:
        return _serialize(revive_layer({"registered_name": None, **record, "module": module}))
    except Exception as error:
        reason = str(error).rpartition("Exception encountered: ")[2]
        raise NotALayer(
            f"Keras cannot create a {record['class_name']} layer with config {thaw(record['config'])}: {reason}"
        ) from error


def _serialize(layer: Any) -> Record:
    import keras

    record = _without_compile_config(json.loads(json.dumps(keras.saving.serialize_keras_object(layer))))
    return record if not hasattr(layer, "name") or "name" in record["config"] else {**record, "name": layer.name}


def _weight_lists(layer: Any, record: Record) -> dict[str, list[int]]:
    """The lists that `capture` adds to the record of a built layer: the weights that are trained, and those that never
    are."""
    if not layer.built or model_in(record):
        return {}
    from kerassurgery_fn.keras_io.restoring import state_weights, trained_weights

    lists = {TRAINED: trained_weights(layer, record), STATE_WEIGHTS: state_weights(layer, record)}
    return {key: indices for key, indices in lists.items() if indices is not None}


def _add_weight_groups(layer: Any, record: Any) -> None:
    """Adds what `capture` adds to the record of a custom layer that consists of layers, in place."""
    if layer.built and not model_in(record):
        from kerassurgery_fn.keras_io.saved_groups import add_weight_groups

        add_weight_groups(layer, record)


def _measured_activations(record: Record) -> dict[str, Any]:
    """The entry that `capture` adds to the record of a layer with a custom activation function that is elementwise."""
    from kerassurgery_fn.keras_io.measuring import elementwise_activations

    names = elementwise_activations(record)
    return {MEASURED: {"elementwise": names}} if names else {}


def _without_compile_config(record: Any) -> Any:
    """A record without the compile config of the model that it wraps, if any, as `capture` writes it."""
    inner, place = model_in(record) or (record, ())
    return set_in(record, place, dissoc(inner, "compile_config")) if place else record


def revive_layer(record: Record) -> Any:
    import keras

    layer = keras.saving.deserialize_keras_object(thaw(record))
    if "name" in record and "name" not in record["config"]:
        layer.name = record["name"]
    return layer


def infer_call(path: str, record: Record, args: Any, kwargs: Any, *, reason: str) -> InferredCall:
    """The results of a call of a layer without a rule on symbolic tensors, by Keras.

    The layer is built from scratch, because many classes only check their input in `build`.

    Args:
        path: the layer's path.
        record: the layer's record.
        args, kwargs: the arguments of the call, with a spec for every tensor.
        reason: why the library does not know the output itself, for the error message.

    Raises:
        MisfitTensor: Keras cannot call the layer either.
    """
    try:
        import keras

        with without_weights():
            layer = revive_layer(_unbuilt(record))
            outputs = keras.tree.flatten(layer(*_symbolic(args), **_symbolic(kwargs)))
            built_record = _serialize(layer)
            # Keras revives a layer without the flags of its weights, so the old list of trained weights is kept.
            flags = keyfilter({TRAINED, WEIGHTS_BY_NAME}.__contains__, record)
            _add_weight_groups(layer, built_record)
            if WEIGHTS_BY_NAME in record:
                flags[WEIGHT_GROUPS] = record[WEIGHT_GROUPS]
            state = keyfilter(STATE_WEIGHTS.__eq__, _weight_lists(layer, built_record))
        weights = [(variable.name, tuple(variable.shape)) for variable in layer.weights]
        return InferredCall(
            [Spec(tuple(output.shape), output.dtype) for output in outputs], {**built_record, **flags, **state}, weights
        )
    except Exception as error:
        inputs = ", ".join(str(leaf.shape) for leaf in leaves([args, kwargs]) if isinstance(leaf, Spec))
        raise MisfitTensor(
            f"the output of layer {path!r} ({record['class_name']}) for input {inputs} is unknown: the layer {reason}, "
            f"and Keras cannot call it on such an input ({type(error).__name__}: {error})"
        ) from error


def _unbuilt(tree: Any) -> Any:
    """A layer's record, and the records of wrapped layers, without the shapes for which they were built.

    >>> _unbuilt({"class_name": "Dense", "config": {"units": 2}, "build_config": {"input_shape": [None, 3]}})
    {'class_name': 'Dense', 'config': {'units': 2}}
    """
    if not isinstance(tree, Mapping) or is_model(tree):
        return tree
    return {key: _unbuilt(item) for key, item in tree.items() if key != "build_config"}


def _symbolic(tree: Any) -> Any:
    """The arguments of a call with a symbolic tensor for every spec, and an array for the record of an array."""
    import keras

    match tree:
        case Spec(shape, dtype):
            return keras.KerasTensor(shape, dtype or "float32")
        case {"class_name": str()}:
            return revive_layer(tree)
        case dict():
            return {key: _symbolic(item) for key, item in tree.items()}
        case list():
            return [_symbolic(item) for item in tree]
    return tree
