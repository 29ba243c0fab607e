"""Layers as people give them. A Keras layer, a record or a snapshot becomes a value; of classes that no rule knows,
Keras itself is asked.

Keras is imported only where it must be: for layer objects, which it has made, and for what nothing else can say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import is_keras, shortened
from kerassurgery_fn.errors import BadValue, MisfitTensor, NotALayer
from kerassurgery_fn.graph import Record, Spec, check_record, is_input, is_model, leaves, model_in
from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.values.frozen import thaw
from kerassurgery_fn.values.snapshot import Snapshot

COMPLETE = {"module", "class_name", "config", "registered_name"}


def as_layer(given: Any) -> Snapshot:
    """A layer as a value: its record, and its weights under the empty path if it has any.

    Args:
        given: a Keras layer, built or not; a record as `keras.saving.serialize_keras_object` writes it, or one with
            the class's name and some of the config, which Keras completes; or a snapshot, of such a layer or of a model
            that is to be a layer.

    Raises:
        NotALayer: it is none of these.
        BrokenSnapshot: the record does not have the form of one; the message names the place.

    >>> record = {"module": "keras.layers", "class_name": "ReLU", "config": {"name": "r"}, "registered_name": None}
    >>> as_layer(record).name
    'r'
    """
    match given:
        case Snapshot():
            check_record(given.record, "the record of the layer")
            refuse_unbuilt(given.record)
            return given
        case {"class_name": str(), "config": Mapping()}:
            complete = given.keys() >= COMPLETE and ("name" in given or "name" in given["config"])
            return as_layer(Snapshot(given if complete else completed(given), {}))
        case _ if is_keras(given, "Model"):
            raise NotALayer(f"{shortened(given)} is a model: give capture(model), which makes it one layer")
        case _ if is_keras(given, "Layer"):
            arrays = tuple(map(np.array, given.get_weights())) if given.built else ()
            return as_layer(Snapshot(_serialised(given), {"": arrays} if arrays else {}))
    raise NotALayer(
        f"{shortened(given)} is no layer: give a Keras layer, its record as "
        "keras.saving.serialize_keras_object writes it, or a snapshot"
    )


def refuse_unbuilt(record: Record) -> None:
    """Raises NotALayer for a Sequential model, or a wrapper of one, that has not been built."""
    inner = model_in(record)
    if inner and not any(map(is_input, inner[0]["config"]["layers"])):
        raise NotALayer(
            f"Sequential model {inner[0]['config']['name']!r} is not built: begin it with a keras.Input, so that its "
            "layers are known"
        )


def as_value(given: Any) -> Any:
    """The value of a field of a config as Keras writes it: what JSON has a form for is that already, an object of Keras
    becomes its record, one of its functions its name, a function of somebody else its record.

    Raises:
        BadValue: it is a lambda, which is no data.

    >>> as_value(0.5), as_value((2, 2)), as_value(np.float64(0.5))
    (0.5, (2, 2), 0.5)
    """
    if isinstance(given, np.generic):
        return given.item()
    if hasattr(given, "get_config") and not isinstance(given, type):
        return _serialised(given)
    if callable(given) and str(getattr(given, "__module__", "")).startswith("keras."):
        return given.__name__
    return _of_function(given) if isinstance(given, FunctionType) else given


def _of_function(given: FunctionType) -> Record:
    if given.__name__ == "<lambda>":
        raise BadValue(
            "a lambda is no data: give a function registered by keras.saving.register_keras_serializable, or put in a "
            "keras.layers.Lambda with InsertLayer"
        )
    return _serialised(given)


def completed(record: Record) -> Record:
    """A layer's record with all that Keras would write, made of one with only a part of it, or with other words for it.

    Raises:
        NotALayer: Keras makes no layer of it.
    """
    module = record.get("module") or "keras.layers"
    try:
        made = _serialised(_revived({"registered_name": None, **record, "module": module}))
    except Exception as error:
        why = str(error).rpartition("Exception encountered: ")[2]
        raise NotALayer(f"Keras makes no {record['class_name']} of {thaw(record['config'])}: {why}") from error
    return made


def _serialised(layer: Any) -> Record:
    import keras

    record = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    return record if not hasattr(layer, "name") or "name" in record["config"] else {**record, "name": layer.name}


def _revived(record: Record) -> Any:
    import keras

    made = keras.saving.deserialize_keras_object(thaw(record))
    if "name" in record and "name" not in record["config"]:
        made.name = record["name"]
    return made


def asked(
    path: str, record: Record, args: Any, kwargs: Any, *, reason: str
) -> tuple[list[Spec], Record, list[tuple[str, tuple[int, ...]]]]:
    """What a layer makes, its record once it is built, and the names and shapes of its weights, as Keras says by
    calling it on symbolic tensors.

    The layer is built anew: many classes check what they are called on only when they are built.

    Args:
        path: the layer's path.
        record: its record.
        args, kwargs: the arguments of the call, with a spec for every tensor.
        reason: why Keras is asked, in words.

    Raises:
        MisfitTensor: Keras cannot say either.
    """
    try:
        import keras

        with without_weights():
            layer = _revived(_unbuilt(record))
            made = keras.tree.flatten(layer(*_symbolic(args), **_symbolic(kwargs)))
            again = _serialised(layer)
        shapes = [(variable.name, tuple(variable.shape)) for variable in layer.weights]
        return [Spec(tuple(one.shape), one.dtype) for one in made], again, shapes
    except Exception as error:
        reads = ", ".join(str(leaf.shape) for leaf in leaves([args, kwargs]) if isinstance(leaf, Spec))
        raise MisfitTensor(
            f"what layer {path!r} ({record['class_name']}) makes of {reads} is not known: it {reason}. Keras could "
            f"not say either ({type(error).__name__}: {error})"
        ) from error


def _unbuilt(tree: Any) -> Any:
    """A layer's record, and those of the layers that it wraps, without the shapes that they were built for.

    >>> _unbuilt({"class_name": "Dense", "config": {"units": 2}, "build_config": {"input_shape": [None, 3]}})
    {'class_name': 'Dense', 'config': {'units': 2}}
    """
    if not isinstance(tree, Mapping) or is_model(tree):
        return tree
    return {key: _unbuilt(item) for key, item in tree.items() if key != "build_config"}


def hands_on_masks(record: Record) -> bool:
    """Whether a layer gives what it makes the mask of what it reads, as Keras says; False where Keras cannot say."""
    try:
        from keras.src import utils

        layer = _revived(record)
        return bool(layer.supports_masking and utils.is_default(layer.compute_mask))
    except Exception:
        return False


def computes_masks(record: Record) -> bool:
    """Whether the class of a layer computes the mask of what the layer makes, as Keras says; False if it cannot say."""
    try:
        from keras.src import utils

        return not utils.is_default(_revived(record).compute_mask)
    except Exception:
        return False


def _symbolic(tree: Any) -> Any:
    """Arguments with a symbolic tensor for every spec, and arrays for their records."""
    import keras

    match tree:
        case Spec(shape, dtype):
            return keras.KerasTensor(shape, dtype or "float32")
        case {"class_name": str()}:
            return _revived(tree)
        case dict():
            return {key: _symbolic(item) for key, item in tree.items()}
        case list():
            return [_symbolic(item) for item in tree]
    return tree
