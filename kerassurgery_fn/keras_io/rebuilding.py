"""`rebuild`: creates a live Keras model from a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.common.variables import register_uninitialized_variable
from keras.src.saving.serialization_lib import SafeModeScope

from kerassurgery_fn.arguments import as_flag, as_mapping, as_model, as_snapshot, optional, takes
from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph import Record
from kerassurgery_fn.keras_io.optimizer_state import restore_training
from kerassurgery_fn.keras_io.own_objects import scope_of
from kerassurgery_fn.keras_io.restoring import restore
from kerassurgery_fn.keras_io.reused_calls import Live
from kerassurgery_fn.keras_io.reusing import Revived, live, revive_reusing
from kerassurgery_fn.keras_io.reviving import is_in_safe_mode, revive, root_cause
from kerassurgery_fn.keras_io.saved_groups import in_order_of_weights
from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.keras_io.weight_arrays import tensor_of
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.rule_checks import source_of
from kerassurgery_fn.values.frozen import thaw
from kerassurgery_fn.values.snapshot import Snapshot

SetValue = Callable[[keras.Variable, np.ndarray], None]
Shapes = Mapping[str, tuple[int, ...]]


# What to do, wherever the model is created: `prune` and other functions, which call `rebuild`, have no such arguments.
IF_TRUSTED = (
    "if you trust it, call keras.config.enable_unsafe_deserialization() before, or rebuild(snapshot, safe_mode=False)"
)
IF_UNKNOWN = (
    "decorate your classes and functions with @keras.saving.register_keras_serializable(), or call "
    "rebuild(snapshot, custom_objects={name: function})"
)


@takes(
    snapshot=as_snapshot, custom_objects=optional(as_mapping), safe_mode=as_flag, compile=as_flag,
    reuse=optional(as_model),
)  # fmt: skip
def rebuild(
    snapshot: Snapshot,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    compile: bool = True,
    reuse: keras.Model | None = None,
) -> keras.Model:
    """A new Keras model with the config and the weights of a snapshot, ready for `predict`, `fit` and `save`.

    It is compiled as the captured model was, and its optimizer continues where that optimizer stopped. `save` writes an
    ordinary Keras file.

    With `reuse=model`, only what the snapshot changes is created. All layers of that model whose config, weights and
    trainable flags are those of the snapshot are taken over: they belong to both models then, so training one of the
    models changes the weights of the other, and both draw from the same random state. `reuse` pays if a late part of a
    large model is changed. It computes the same as a model that is created from nothing.

    Args:
        snapshot: the model as a value; it is not changed.
        custom_objects: classes and functions by name, as in `keras.models.load_model`.
        safe_mode: whether Python lambdas raise an error, as in `keras.models.load_model`.
        compile: whether to compile the model, as in `keras.models.load_model`.
        reuse: a live model, such as the one that was captured; its predictions, config and optimizer stay as they are.

    Raises:
        NotAGraph: `reuse` is no model, or a subclassed model.
        BrokenSnapshot: Keras cannot create or compile the model, or the weights do not fit the config.
    """
    model = _with_weights(snapshot, custom_objects, safe_mode, None if reuse is None else live(reuse))
    if compile and snapshot.record.get("compile_config"):
        _compile(model, snapshot, custom_objects, safe_mode)
        restore_training(model, snapshot)
    return model


def _compile(model: keras.Model, snapshot: Snapshot, custom_objects: Any, safe_mode: bool) -> None:
    """Compiles a model as the captured model was compiled.

    Raises:
        BrokenSnapshot: the compile config has a lambda, or a class or function that Keras does not know.
    """
    is_safe = is_in_safe_mode(safe_mode)
    try:
        with scope_of(custom_objects or {}), SafeModeScope(is_safe):
            model.compile_from_config(thaw(snapshot.record["compile_config"]))
    except Exception as error:
        if is_safe and "lambda" in str(error):
            remedy = f"its compile config has a Python lambda; {IF_TRUSTED}"
        else:
            remedy = _why_not(error)
        raise BrokenSnapshot(
            f"{snapshot.name!r} cannot be compiled: {remedy}, or call rebuild(snapshot, compile=False) and compile the "
            "model yourself"
        ) from error


def _with_weights(snapshot: Snapshot, custom_objects: Any, safe_mode: bool, source: Live | None) -> keras.Model:
    """The model of a snapshot with its weights, not compiled.

    The model is built in a stateless scope, where variables have no values yet. Each variable gets an initializer that
    returns its array, so Keras does not draw random weights that would be overwritten at once.

    Some layers cannot be built in a stateless scope: stateful recurrent layers, for example, assign to a variable. Then
    the model is built with random weights, and the arrays are assigned.
    """
    try:
        with without_weights() as variables:
            model, shared = _revive_and_fill(snapshot, custom_objects, safe_mode, source, _set_initializer)
        _initialize(model, variables)
    except BrokenSnapshot:  # the arrays have the wrong shapes, so a second attempt would fail, too
        raise
    except Exception:  # a layer that cannot be built in a stateless scope, or an error of the user's class
        try:
            model, shared = _revive_and_fill(snapshot, custom_objects, safe_mode, source, _assign)
        except Exception as error:
            raise BrokenSnapshot(f"Keras cannot rebuild {snapshot.name!r}: {_why_not(error)}") from error
    for path, layer, _ in layers_of(model, snapshot.record, ""):
        # Normalization computes its mean from its weights.
        if hasattr(layer, "finalize_state") and path not in shared and layer.weights:
            layer.finalize_state()
    return model


def _why_not(error: Exception) -> str:
    """A message: why Keras cannot create a model, and what to do."""
    if "safe_mode=False" in str(error):
        return f"it has a Python lambda; {IF_TRUSTED}"
    cause = root_cause(error)
    if "Could not locate" in cause:
        return f"{cause.partition('. Make sure')[0]}; {IF_UNKNOWN}"
    if "__init__()" in cause:
        return f"{cause}; let the constructor take all entries of get_config(), and pass name= and others to its parent"
    return cause


def _revive_and_fill(
    snapshot: Snapshot, custom_objects: Any, safe_mode: bool, source: Live | None, set_value: SetValue
) -> Revived:
    """The model of a snapshot, with each weight of a new layer set by `set_value`."""
    # An edit writes () for a layer whose weights are not drawn yet. Keras draws them with the layer's initializers.
    new_layers = {path for path, arrays in snapshot.weights.items() if not arrays}
    if source is None:
        model, shared = revive(snapshot, custom_objects, safe_mode), frozenset[str]()
    else:
        model, shared = revive_reusing(snapshot, source, custom_objects, safe_mode)
    restore(model, snapshot.record)
    for path, layer, record in layers_of(model, snapshot.record, ""):
        if path not in new_layers and path not in shared:
            arrays = in_order_of_weights(layer, record, snapshot.weights.get(path, ()))
            _refuse_other_shapes(path, layer, record, arrays)
            for variable, array in zip(layer.weights, arrays, strict=True):
                set_value(variable, array)
    return Revived(model, shared)


def _initialize(model: keras.Model, variables: Sequence[keras.Variable]) -> None:
    """Initializes variables that were created in a stateless scope.

    Some of them do not belong to a layer of the model: Bidirectional copies its layer twice and does not use the
    original. If the initializer of such a variable fails, the error is ignored. Orthogonal weights, for example, cannot
    be drawn in bfloat16.
    """
    if in_stateless_scope():  # a scope of the caller: variables get their values when it ends
        for variable in variables:
            register_uninitialized_variable(variable)
        return
    for variable in variables:
        try:
            variable._deferred_initialize()
        except Exception:
            if any(variable is required for required in model.variables):
                raise


class _TensorInitializer:
    """An initializer that returns a tensor."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return self.tensor


def _set_initializer(variable: keras.Variable, array: np.ndarray) -> None:
    # The array is copied here, not when Keras initializes the variable: variables are created faster in a row.
    variable._initializer = _TensorInitializer(tensor_of(array, variable.dtype))


def _assign(variable: keras.Variable, array: np.ndarray) -> None:
    variable.assign(array)


def _refuse_other_shapes(path: str, layer: keras.layers.Layer, record: Record, arrays: tuple[np.ndarray, ...]) -> None:
    """Raises BrokenSnapshot if the arrays of a layer do not have the shapes of its weights."""
    expected = [tuple(variable.shape) for variable in layer.weights]
    if expected != [array.shape for array in arrays]:
        shapes = {variable.name: tuple(variable.shape) for variable in layer.weights}
        raise BrokenSnapshot(
            f"layer {path!r} needs weights of shapes {expected}, but the snapshot has arrays of shapes "
            f"{[array.shape for array in arrays]}. {_rule_to_check(record, shapes, arrays)}"
        )


def _rule_to_check(record: Record, shapes: Shapes, arrays: tuple[np.ndarray, ...]) -> str:
    """The rule by which edits cut a layer, and the first weight whose array has another shape, as a hint."""
    pairs = zip(shapes.items(), arrays, strict=False)
    misfits = [f" {name!r} of shape {array.shape}" for (name, shape), array in pairs if shape != array.shape]
    weight = misfits[0] if misfits else "s"
    source = source_of(rule_for(record).channels)
    return f"If an edit caused this, check the axes that the layer's rule states for the weight{weight}: {source}"
