"""`capture`: the snapshot of a live model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.arguments import as_model, takes
from kerassurgery_fn.errors import NotAGraph
from kerassurgery_fn.graph import TRAINED, Record, is_model, name_of
from kerassurgery_fn.keras_io.compile_state import uncompiled
from kerassurgery_fn.keras_io.hidden_state import refuse_hidden, with_policy, with_vocabulary
from kerassurgery_fn.keras_io.model_classes import base_of, keeps_class, warn_of_lost
from kerassurgery_fn.keras_io.numpy_arrays import configured, numbers_of_numpy
from kerassurgery_fn.keras_io.older_keras import complete, with_structure
from kerassurgery_fn.keras_io.optimizer_state import owned, training_of
from kerassurgery_fn.keras_io.rebuilding import at_root, from_record
from kerassurgery_fn.keras_io.restoring import restore, trained_weights
from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.keras_io.sublayers import Functional, is_graph, layers_of, members_of, operations_of
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.warning_origin import warn


@takes(model=as_model)
def capture(model: keras.Model) -> Snapshot:
    """The snapshot of a built Sequential or Functional model.

    A registered subclass of Functional or Sequential whose config is its graph keeps its class. Others, as backbones
    whose `get_config` returns constructor arguments, are captured as the plain graphs that they are, with a warning
    that names the methods that are lost (`train_step`, for one). So are those nested in another model.

    The state of a model's optimizer comes along. The model is not changed, and later training does not change the
    snapshot.

    Raises:
        NotAGraph: the model is not built, or it is subclassed and has no graph.
        HiddenState: a layer knows something that neither its config nor its weights tell.
    """
    record = _checked_record(model)
    weights = dict(_weights(model, record, ""))
    return Snapshot(record, weights, training_of(model, record, weights))


def capture_graph(model: keras.Model) -> Snapshot:
    """The snapshot of a model without what it was compiled with, which Keras need not be able to save."""
    with uncompiled(model):
        record = _checked_record(model)
    record.pop("compile_config", None)
    return Snapshot(record, dict(_weights(model, record, "")))


def _checked_record(model: keras.Model) -> dict[str, Any]:
    record = _restated(model, json.loads(json.dumps(_record(model))))
    for path, layer, own in layers_of(model, record, ""):
        refuse_hidden(path, layer, own)
    _list_trained(model, record)
    _warn_of_shared(model, record)
    _warn_of_outside(model, record)
    return record


def _list_trained(model: keras.Model, record: dict[str, Any]) -> None:
    """Lists, in the records of layers whose config does not tell, which weights training changes."""
    layer_record: Any
    for _, layer, layer_record in layers_of(model, record, ""):
        if (trained := trained_weights(layer, layer_record)) is not None:
            layer_record[TRAINED] = trained


def _record(model: keras.Model) -> dict[str, Any]:
    """The serialised record of a model, plain graphs in place of subclasses that do not keep their class."""
    _refuse_without_graph(model)
    warn_of_lost(model)
    record = with_structure(model, _serialized(model))
    for layer, own in zip(members_of(model), record["config"]["layers"], strict=True):
        complete(layer, own)
    layers = {name_of(layer): layer for layer in record["config"]["layers"]}
    for layer in model.layers:
        inner, nested = layer, layers[layer.name]
        nested["config"] = with_policy(layer, with_vocabulary(layer, nested["config"]))
        while type(inner) is keras.layers.TimeDistributed:
            inner, nested = inner.layer, nested["config"]["layer"]
        if isinstance(inner, Functional | keras.Sequential) and (is_model(nested) or not _overrides_call(inner)):
            with uncompiled(inner):
                plain = _record(inner)
            nested.update({**plain, **{key: nested[key] for key in ("name", "inbound_nodes") if key in nested}})
            nested.pop("compile_config", None)
    return record


def _refuse_without_graph(model: Any) -> None:
    """Raises NotAGraph for what has no graph, or does not compute it."""
    if isinstance(model, keras.Sequential):
        if not model.built or getattr(model, "_functional", None) is None:
            raise NotAGraph(f"Sequential model {model.name!r} is not built; call model.build(input_shape) first")
        if len({id(layer) for layer in model._layers}) < len(model._layers):
            raise NotAGraph(
                f"Sequential model {model.name!r} has a layer several times, and Keras writes it once; "
                "capture keras.Model(model.inputs, model.outputs)"
            )
    elif not isinstance(model, Functional):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is subclassed: it is code, and its layers form no graph; "
            "write it with the Functional API, or capture the Functional models in it"
        )
    if _overrides_call(model):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is {base_of(model).__name__} but overrides call(), so that "
            "its graph is not what it computes; capture keras.Model(model.inputs, model.outputs) if the graph is what "
            "you mean"
        )


def _restated(model: keras.Model, record: dict[str, Any]) -> dict[str, Any]:
    """The record as Keras writes it of the model that it makes of it, where calls have numbers of numpy.

    A record tells the value of `np.sqrt(8)` but not that it is float64, so that tensors are of other dtypes afterwards.
    """
    if not any(numbers_of_numpy(model)):
        return record
    try:
        with without_weights():
            again = from_record(Snapshot(record, {}), None, safe_mode=False)
            restore(again, record)
            made = json.loads(json.dumps(_record(again)))
    except Exception:  # a class that is not registered, say: rebuild() is given it
        return record
    return {**made, **{key: record[key] for key in ("compile_config",) if key in record}}


def _serialized(model: keras.Model) -> dict[str, Any]:
    write = keras.saving.serialize_keras_object if keeps_class(model) else _plainly_serialized
    try:
        with configured(model), uncompiled(*filter(is_graph, operations_of(model))):
            record = write(model)
        json.dumps(record)
        return record
    except Exception as error:
        if not _is_saved(model.get_compile_config):
            raise NotAGraph(
                f"model {model.name!r} is compiled with something that Keras cannot save: {at_root(error)}; compile it "
                "with what has a get_config(), or capture keras.Model(model.inputs, model.outputs)"
            ) from error
        raise NotAGraph(
            f"model {model.name!r} cannot be captured, as {_unsaved(model)} could not be saved: {at_root(error)}; "
            "its class needs a get_config() that gives all that its constructor takes, and to be registered by "
            "keras.saving.register_keras_serializable"
        ) from error


def _is_saved(compile_config: Callable[[], Any]) -> bool:
    """Whether Keras can write what a model is compiled with."""
    try:
        json.dumps(keras.saving.serialize_keras_object(compile_config()))
    except Exception:
        return False
    return True


def _unsaved(model: keras.Model) -> str:
    """The innermost layer or operation of a model that cannot be saved, in words."""
    for layer in members_of(model):
        try:
            keras.saving.serialize_keras_object(layer)
        except Exception:
            if isinstance(layer, Functional | keras.Sequential):
                return _unsaved(layer)
            kind = "subclassed model" if isinstance(layer, keras.Model) else "layer"
            return f"{kind} {layer.name!r} ({type(layer).__name__})"
    return "it"


def _plainly_serialized(model: keras.Model) -> dict[str, Any]:
    """The serialised record of a model of a subclass, as the plain model of the same graph has it."""
    write: Any = keras.saving.serialize_keras_object
    compiled = {} if (config := model.get_compile_config()) is None else {"compile_config": write(config)}
    if isinstance(model, keras.Sequential):
        config, build = write(keras.Sequential.get_config(model)), write(model.get_build_config())
        record = {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}
        return {**record, "build_config": build, **compiled}
    plain = Functional(model.input, model.output, name=model.name)
    plain._trainable = model.trainable
    return {**write(plain), **compiled}


def _overrides_call(model: keras.Model) -> bool:
    return type(model).call is not base_of(model).call


def _warn_of_shared(model: keras.Model, record: Record) -> None:
    """Warns of layers that two models share, for a config cannot say so: Keras makes a layer for each of them."""
    paths: dict[int, str] = {}
    for path, layer, _ in layers_of(model, record, ""):
        if layer.weights and paths.setdefault(id(layer), path) != path:
            warn(
                f"{paths[id(layer)]!r} and {path!r} are one layer, in two models; a config cannot say so, and after "
                "rebuild() they are two layers with equal weights"
            )


def _warn_of_outside(model: keras.Model, record: Record) -> None:
    """Warns of weights that a model has beside its graph, as a class of its own may make them."""
    inside = {id(weight) for _, layer, _ in layers_of(model, record, "") for weight in layer.weights}
    if outside := [weight.path for weight in model.weights if id(weight) not in inside]:
        warn(
            f"model {model.name!r} has weights outside of its graph ({', '.join(outside[:4])}), which are not "
            "captured: after rebuild() they are gone, or as its class makes them"
        )


def _weights(model: keras.Model, record: Record, scope: str) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    for path, layer, _ in layers_of(model, record, scope):
        if layer.weights:
            yield path, tuple(owned(array) for array in layer.get_weights())
