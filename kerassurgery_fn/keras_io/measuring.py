"""Measures layers by running their code, and writes the results into their records, see `rules/measured.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from toolz import dissoc

from kerassurgery_fn.errors import NotIndependent, UnknownLayer, WrongShape
from kerassurgery_fn.graph import MEASURED, Record, matches
from kerassurgery_fn.keras_io.call_comparison import refuse_other_values
from kerassurgery_fn.keras_io.channel_experiments import measure_independence
from kerassurgery_fn.keras_io.graph_copies import without_defaults
from kerassurgery_fn.keras_io.hidden_state import records_in
from kerassurgery_fn.keras_io.layer_calls import LayerCall
from kerassurgery_fn.keras_io.numpy_arguments import with_operation_configs
from kerassurgery_fn.keras_io.restoring import NOTE
from kerassurgery_fn.keras_io.sublayers import Functional, PathLayerRecord
from kerassurgery_fn.rules.activations import ACROSS, ELEMENTWISE
from kerassurgery_fn.rules.measured import CHANNELS_ALIKE, EACH_CHANNEL
from kerassurgery_fn.rules.registry import RULES, class_key, rule_for
from kerassurgery_fn.values.frozen import thaw

# Methods that a class can override and still compute the same as its parent. Whether `call` does is tested on data.
COMPARED = {"__init__", "call", "get_config", "from_config"}


def add_measured(model: keras.Model, layers: Sequence[PathLayerRecord], selection: tuple[str, ...]) -> None:
    """Measures layers of a model for which the library has no rule, and writes the results into their records.

    Activation functions and layers that are derived from a class of Keras are always measured; other layers are only
    measured if they are selected.

    Raises:
        UnknownLayer: a selector selects no layer without a rule.
        NotIndependent: a layer that is selected by its name does not compute each channel separately.
    """
    matched: set[str] = set()
    parents: dict[str, str | None] = {}
    layer_record: Any
    with with_operation_configs(model):
        for path, layer, layer_record in layers:
            measured = _measured(layer, layer_record, parents)
            if rule_for({**layer_record, MEASURED: measured}).channels is None:
                fitting = {selector for selector in selection if matches(path, layer_record, selector)}
                matched |= fitting
                measured |= _measured_channels(layer, is_named=bool(fitting & {path, layer.name})) if fitting else {}
            if measured:
                layer_record[MEASURED] = measured
    if unmatched := set(selection) - matched - {"*"}:
        raise UnknownLayer(
            f"measure={sorted(unmatched)}: no layer without a rule matches; measure= is for your own layers"
        )


def _measured(layer: keras.layers.Layer, record: Record, parents: dict[str, str | None]) -> dict[str, Any]:
    """The results of the measurements that are always made on a layer. `parents` has the results for each class and
    config so far."""
    names = elementwise_activations(record)
    parent = None
    if rule_for(record).channels is None:
        key = json.dumps([class_key(record), dissoc(record["config"], "name")], sort_keys=True)
        parent = parents[key] = parents[key] if key in parents else equivalent_parent(layer)
    noted = vars(layer).get(NOTE, {})
    return {**noted, **({"elementwise": names} if names else {}), **({"as": parent} if parent else {})}


def _measured_channels(layer: keras.layers.Layer, is_named: bool) -> dict[str, Any]:
    """The result of an experiment on a layer. It is empty if a pattern selects the layer, and the layer does not treat
    its channels alike."""
    try:
        finding = measure_independence(layer, None, np.random.default_rng(0), may_mix=True)
    except (NotIndependent, WrongShape):
        if is_named:
            raise
        return {}
    return {"as": CHANNELS_ALIKE if finding.mixes else EACH_CHANNEL, **finding.as_data()}


# --- activation functions


def elementwise_activations(record: Record) -> list[str]:
    """The names of the user's activation functions in a record that are elementwise according to experiments."""
    functions = custom_activations(record)
    return sorted(name for name, function in functions.items() if is_elementwise(_revived(function)))


def custom_activations(record: Record) -> dict[str, Record]:
    """Name -> record of the user's activation functions in a record for which the library has no rule."""
    records = (record, *records_in(record["config"]))
    values = [value for inner in records for key, value in inner["config"].items() if "activation" in key]
    functions = [value for value in values if isinstance(value, dict) and value["class_name"] == "function"]
    return {
        function["config"]: function
        for function in functions
        if isinstance(function["config"], str) and function["config"] not in {*ELEMENTWISE, *ACROSS, *RULES}
    }


def _revived(function: Record) -> Any:
    """The function of a record; None if Keras does not find it."""
    try:
        return keras.saving.deserialize_keras_object(thaw(function))
    except Exception:  # a function of a module that cannot be imported, for example
        return None


def is_elementwise(function: Any) -> bool:
    """Whether each element of a function's result only depends on the same element of its argument.

    If the function is applied to a part of a tensor, also in another order, the result must be the same part of the
    whole result.
    """
    rng = np.random.default_rng(0)
    try:
        return all(_parts_agree(function, scale * rng.standard_normal((4, 6, 5)), rng) for scale in (0.5, 3, 30))
    except Exception:  # the user's function can raise any exception
        return False


def _parts_agree(function: Any, x: np.ndarray, rng: np.random.Generator) -> bool:
    whole = _applied(function, x)
    if whole.shape != x.shape:
        return False
    for axis, size in enumerate(x.shape):
        for count in (1, size - 1, size):
            kept = rng.choice(size, count, replace=False)
            part = _applied(function, x.take(kept, axis))
            expected = whole.take(kept, axis)
            if part.shape != expected.shape or not np.allclose(part, expected, 1e-5, 1e-6, equal_nan=True):
                return False
    return True


def _applied(function: Any, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(x.astype("float32"))))


# --- classes derived from classes of Keras


def equivalent_parent(layer: keras.layers.Layer) -> str | None:
    """The class of Keras from which the class of a layer is derived, if both compute the same on random data.

    The class can override `call`, such as for a cache, but no method that creates weights or computes shapes.
    """
    parent = next(cls for cls in type(layer).__mro__ if cls.__module__.startswith("keras."))
    has_rule = parent.__name__ in RULES and RULES[parent.__name__].channels is not None
    if parent is type(layer) or not has_rule or not layer._inbound_nodes or not _overrides_only_call(layer, parent):
        return None
    try:
        _compare_with_parent(layer, parent)
    except Exception:  # another constructor, other weights, other outputs
        return None
    return parent.__name__


def _overrides_only_call(layer: keras.layers.Layer, parent: Any) -> bool:
    user_classes = type(layer).__mro__[: type(layer).__mro__.index(parent)]
    methods = {name for cls in user_classes for name, value in vars(cls).items() if _is_method(value)}
    return not (methods - COMPARED) & set(dir(parent))


def _is_method(value: Any) -> bool:
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))


def _compare_with_parent(layer: keras.layers.Layer, parent: Any) -> None:
    """Raises an error if a layer of the parent class with the same weights computes different outputs."""
    arguments = layer._inbound_nodes[-1].arguments
    call = LayerCall(layer, arguments.args, without_defaults(layer, arguments.kwargs))
    twin = parent.from_config(_config_of_parent(layer, parent))
    args, kwargs = call.arguments(call.prepared(call.inputs))
    outputs = twin(*args, **kwargs)
    twin.set_weights(layer.get_weights())
    refuse_other_values(layer, Functional(call.inputs, outputs, name=layer.name), call)


def _config_of_parent(layer: keras.layers.Layer, parent: Any) -> dict[str, Any]:
    """The config of a layer without the fields that its class adds to the config of the parent class."""
    config = layer.get_config()
    known = parent.get_config(layer).keys()
    return {key: thaw(value) for key, value in config.items() if key in known}
