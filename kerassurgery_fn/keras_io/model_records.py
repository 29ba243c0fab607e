"""Serialises a live model to a record, and raises errors for models that have none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras

from kerassurgery_fn.errors import NotAGraph
from kerassurgery_fn.graph import is_model, name_of
from kerassurgery_fn.keras_io.compile_state import uncompiled
from kerassurgery_fn.keras_io.hidden_state import with_policy, with_vocabulary
from kerassurgery_fn.keras_io.model_classes import base_of, keeps_class, overrides_call, warn_of_lost_methods
from kerassurgery_fn.keras_io.numpy_arguments import has_numpy_scalars, with_operation_configs
from kerassurgery_fn.keras_io.older_keras import add_missing_fields, with_single_tensors
from kerassurgery_fn.keras_io.own_objects import scope_of
from kerassurgery_fn.keras_io.restoring import restore
from kerassurgery_fn.keras_io.reviving import revive, root_cause
from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.keras_io.sublayers import Functional, is_graph, members_of, operations_of
from kerassurgery_fn.values.snapshot import Snapshot


def stable_record(model: keras.Model, *, is_recorded: bool = False) -> dict[str, Any]:
    """The record of a model as plain JSON data, equal to the record of the rebuilt model.

    Args:
        model: a Sequential or Functional model.
        is_recorded: whether the model is the recorded call of another model. Then its layers were built by the code of
            that model, for other batch sizes or one by one, so their `build_config` is not that of the graph.

    Raises:
        NotAGraph: the model has no graph, or Keras cannot save it.
    """
    record = record_of(model)
    if not is_recorded and not has_numpy_scalars(model):
        return record
    return _revived_record(model, _without_build_config(record) if is_recorded else record) or record


def _revived_record(model: keras.Model, record: dict[str, Any]) -> dict[str, Any] | None:
    """The record that Keras writes for the model that it revives from a record; None if Keras cannot revive it.

    For calls with NumPy scalars, the two records differ. A record has the value of `np.sqrt(8)`, but not its dtype,
    float64:

        the model           x * np.float64(2.83)   float64, and so is every tensor after it
        its record          x * 2.83               the shapes and dtypes of the tensors above: float64
        the revived model   x * 2.83               float32
        its record          x * 2.83               float32

    One round is enough, because the revived model only has Python numbers.
    """
    classes = {type(operation).__name__: type(operation) for operation in operations_of(model)}
    custom = {name: cls for name, cls in classes.items() if not cls.__module__.startswith("keras.")}
    try:
        with without_weights(), scope_of(custom):
            revived = revive(Snapshot(record, {}), None, safe_mode=False)
            restore(revived, record)
            stable = record_of(revived)
    except Exception:  # for example an unregistered function, which rebuild() gets as custom_objects
        return None
    compile_config = {key: record[key] for key in ("compile_config",) if key in record}
    return {**stable, **compile_config}


def _without_build_config(tree: Any) -> Any:
    """A record without the shapes for which its layers were built. Keras then builds the layers when it calls them."""
    if isinstance(tree, list):
        return [_without_build_config(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return {key: _without_build_config(item) for key, item in tree.items() if key != "build_config"}


def record_of(model: keras.Model) -> dict[str, Any]:
    """The serialised record of a model as plain JSON data. Models that cannot keep their class become plain graphs."""
    refuse_without_graph(model)
    warn_of_lost_methods(model)
    record = with_single_tensors(model, _serialize(model))
    layer_records = record["config"]["layers"]
    for operation, layer_record in zip(members_of(model), layer_records, strict=True):
        add_missing_fields(operation, layer_record)
    records_by_name = {name_of(layer_record): layer_record for layer_record in layer_records}
    for layer in model.layers:
        layer_record = records_by_name[layer.name]
        layer_record["config"] = with_policy(layer, with_vocabulary(layer, layer_record["config"]))
        _write_nested_graph(layer, layer_record)
    return record


def _write_nested_graph(layer: keras.layers.Layer, layer_record: dict[str, Any]) -> None:
    """Replaces the record of a nested model by the record of its graph, in place."""
    while type(layer) is keras.layers.TimeDistributed:
        layer, layer_record = layer.layer, layer_record["config"]["layer"]
    if not is_graph(layer) or (overrides_call(layer) and not is_model(layer_record)):
        return
    with uncompiled(layer):
        graph_record = record_of(layer)
    position: dict[str, Any] = {key: layer_record[key] for key in ("name", "inbound_nodes") if key in layer_record}
    layer_record.update({**graph_record, **position})
    layer_record.pop("compile_config", None)


def refuse_without_graph(model: Any) -> None:
    """Raises NotAGraph for a model that has no graph, or that can compute something other than its graph."""
    if isinstance(model, keras.Sequential):
        _refuse_unusable_sequential(model)
    elif not isinstance(model, Functional):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is subclassed: it computes by Python code, not by a "
            "graph of layers; rebuild(capture(model)) gives a Functional model with its layers and weights"
        )
    if overrides_call(model):
        raise NotAGraph(
            f"model {model.name!r} ({type(model).__name__}) is {base_of(model).__name__} but overrides call(), so it "
            "may compute something other than its graph; capture it alone, or capture its graph, "
            "keras.Model(model.inputs, model.outputs)"
        )


def _refuse_unusable_sequential(model: Any) -> None:
    if not model.built or getattr(model, "_functional", None) is None:
        raise NotAGraph(f"Sequential model {model.name!r} is not built; call model.build(input_shape) first")
    if len({id(layer) for layer in model._layers}) < len(model._layers):
        raise NotAGraph(
            f"Sequential model {model.name!r} has a layer several times, and Keras only writes it once into the "
            "config; capture keras.Model(model.inputs, model.outputs)"
        )


def _serialize(model: keras.Model) -> dict[str, Any]:
    """The record of a model as Keras writes it; nested models keep whatever `get_config` returns.

    The record makes a round trip through JSON: Keras mixes tuples and lists, so records of equal models could differ,
    and it does not check that the result of `get_config` can be written as JSON.
    """
    serialize = keras.saving.serialize_keras_object if keeps_class(model) else _serialize_plain
    try:
        with with_operation_configs(model), uncompiled(*filter(is_graph, operations_of(model))):
            return json.loads(json.dumps(serialize(model)))
    except Exception as error:  # get_config() of a user's class can raise any exception
        if not _can_be_saved(model.get_compile_config):
            raise NotAGraph(
                f"model {model.name!r} is compiled with something that Keras cannot save: {root_cause(error)}; compile "
                "it with an optimizer, a loss and metrics that have a get_config(), or capture "
                "keras.Model(model.inputs, model.outputs)"
            ) from error
        raise NotAGraph(
            f"model {model.name!r} cannot be captured, because Keras cannot save {_first_unsaved(model)}: "
            f"{root_cause(error)}; give its class a get_config() that returns all arguments of its constructor, and "
            "register it with keras.saving.register_keras_serializable"
        ) from error


def _can_be_saved(compile_config: Callable[[], Any]) -> bool:
    try:
        json.dumps(keras.saving.serialize_keras_object(compile_config()))
    except Exception:  # get_config() of the user's optimizer, loss or metric can raise any exception
        return False
    return True


def _first_unsaved(model: keras.Model) -> str:
    """The innermost layer or operation that Keras cannot save, for an error message."""
    for layer in members_of(model):
        try:
            keras.saving.serialize_keras_object(layer)
        except Exception:
            if is_graph(layer):
                return _first_unsaved(layer)
            kind = "subclassed model" if isinstance(layer, keras.Model) else "layer"
            return f"{kind} {layer.name!r} ({type(layer).__name__})"
    return "it"


def _serialize_plain(model: keras.Model) -> dict[str, Any]:
    """The record of the plain Sequential or Functional model that has the graph of a subclassed model."""
    serialize: Any = keras.saving.serialize_keras_object
    compile_config = model.get_compile_config()
    compiled = {} if compile_config is None else {"compile_config": serialize(compile_config)}
    if isinstance(model, keras.Sequential):
        config, build_config = serialize(keras.Sequential.get_config(model)), serialize(model.get_build_config())
        record = {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}
        return {**record, "build_config": build_config, **compiled}
    plain = Functional(model.input, model.output, name=model.name)
    plain._trainable = model.trainable  # the setter would set the flag of every layer, too
    return {**serialize(plain), **compiled}
