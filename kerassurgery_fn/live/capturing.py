"""`capture`: the snapshot of a live model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.errors import NotAGraph
from kerassurgery_fn.graph import Record, is_model, name_of
from kerassurgery_fn.hidden import refuse_hidden, with_policy, with_vocabulary
from kerassurgery_fn.live.members import Functional, layers_of, members_of
from kerassurgery_fn.live.numbers import configured, numbers_of_numpy
from kerassurgery_fn.live.optimizer import owned, training_of
from kerassurgery_fn.live.rebuilding import at_root, from_record, keep_frozen, name_operations
from kerassurgery_fn.snapshot import Snapshot


def capture(model: keras.Model) -> Snapshot:
    """The snapshot of a built Sequential or Functional model.

    A subclass of Functional whose `get_config` returns constructor arguments, as backbones of model collections have
    it, is captured as the plain graph that it is; so are those nested in another model. The state of a model's
    optimizer comes along. The model is not changed, and later training does not change the snapshot.

    Raises:
        NotAGraph: the model is not built, or it is subclassed and has no graph.
        HiddenState: a layer knows something that neither its config nor its weights tell.
    """
    record = _restated(model, json.loads(json.dumps(_record(model))))
    for path, layer, own in layers_of(model, record, ""):
        refuse_hidden(path, layer, own)
    _warn_of_shared(model, record)
    weights = dict(_weights(model, record, ""))
    return Snapshot(record, weights, training_of(model, record, weights))


def _record(model: keras.Model) -> dict[str, Any]:
    """The serialised record of a model, plain graphs in place of subclasses of Functional."""
    if not isinstance(model, keras.Model):
        raise NotAGraph(f"expected a keras.Model, got {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        if not model.built or getattr(model, "_functional", None) is None:
            raise NotAGraph(f"Sequential model {model.name!r} is not built; call model.build(input_shape) first")
        if len({id(layer) for layer in model._layers}) < len(model._layers):
            raise NotAGraph(
                f"Sequential model {model.name!r} has a layer several times, and Keras writes it once; "
                "capture keras.Model(model.inputs, model.outputs)"
            )
        record = _serialized(model)
    elif not isinstance(model, Functional):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is subclassed: it is code, and its layers form no graph; "
            "write it with the Functional API, or capture the Functional models in it"
        )
    elif _overrides_call(model):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is Functional but overrides call(), so that its graph is "
            "not what it computes; capture keras.Model(model.inputs, model.outputs) if the graph is what you mean"
        )
    else:
        record = _serialized(_plain(model))
        if (compile_config := model.get_compile_config()) is not None:
            record["compile_config"] = keras.saving.serialize_keras_object(compile_config)
    for layer, own in zip(members_of(model), record["config"]["layers"], strict=True):
        if "name" not in own and "name" not in own["config"]:
            own["name"] = layer.name
    layers = {name_of(layer): layer for layer in record["config"]["layers"]}
    for layer in model.layers:
        inner, nested = layer, layers[layer.name]
        nested["config"] = with_policy(layer, with_vocabulary(layer, nested["config"]))
        while type(inner) is keras.layers.TimeDistributed:
            inner, nested = inner.layer, nested["config"]["layer"]
        if isinstance(inner, Functional | keras.Sequential) and (is_model(nested) or not _overrides_call(inner)):
            nested.update(
                {**_record(inner), **{key: nested[key] for key in ("name", "inbound_nodes") if key in nested}}
            )
            nested.pop("compile_config", None)
    return record


def _restated(model: keras.Model, record: dict[str, Any]) -> dict[str, Any]:
    """The record as Keras writes it of the model that it makes of it, where calls have numbers of numpy.

    A record tells the value of `np.sqrt(8)` but not that it is float64, so that tensors are of other dtypes afterwards.
    """
    if not any(numbers_of_numpy(model)):
        return record
    try:
        with keras.StatelessScope():
            again = from_record(Snapshot(record, {}), None, safe_mode=False)
            name_operations(again, record)
            keep_frozen(again, record)
            made = json.loads(json.dumps(_record(again)))
    except Exception:  # a class that is not registered, say: rebuild() is given it
        return record
    return {**made, **{key: record[key] for key in ("compile_config",) if key in record}}


def _serialized(model: keras.Model) -> dict[str, Any]:
    try:
        with configured(model):
            return keras.saving.serialize_keras_object(model)
    except Exception as error:
        raise NotAGraph(
            f"model {model.name!r} cannot be captured, as {_unsaved(model)} could not be saved: {at_root(error)}; "
            "its class wants a get_config() that gives all that its constructor takes"
        ) from error


def _unsaved(model: keras.Model) -> str:
    """The innermost layer or operation of a model that cannot be saved, in words."""
    for layer in members_of(model):
        try:
            keras.saving.serialize_keras_object(layer)
        except Exception:
            return _unsaved(layer) if hasattr(layer, "layers") else f"layer {layer.name!r} ({type(layer).__name__})"
    return "it"


def _plain(model: keras.Model) -> keras.Model:
    """The model itself if its class writes its graph, else a plain model of the same graph."""
    if type(model) is Functional:
        return model
    if type(model).__module__.startswith("keras.") and "layers" in model.get_config():
        return model
    plain = Functional(model.input, model.output, name=model.name)
    plain._trainable = model.trainable
    return plain


def _overrides_call(model: keras.Model) -> bool:
    home = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    return type(model).call is not home.call


def _warn_of_shared(model: keras.Model, record: Record) -> None:
    """Warns of layers that two models share, for a config cannot say so: Keras makes a layer for each of them."""
    paths: dict[int, str] = {}
    for path, layer, _ in layers_of(model, record, ""):
        if layer.weights and paths.setdefault(id(layer), path) != path:
            warnings.warn(
                f"{paths[id(layer)]!r} and {path!r} are one layer, in two models; a config cannot say so, and after "
                "rebuild() they are two layers with equal weights",
                stacklevel=3,
            )


def _weights(model: keras.Model, record: Record, scope: str) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    for path, layer, _ in layers_of(model, record, scope):
        if layer.weights:
            yield path, tuple(owned(array) for array in layer.get_weights())
