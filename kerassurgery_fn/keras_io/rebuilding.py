"""`rebuild`: a live model made of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.common.variables import register_uninitialized_variable
from keras.src.saving.serialization_lib import SafeModeScope, in_safe_mode

from kerassurgery_fn.arguments import as_flag, as_mapping, as_snapshot, optional, takes
from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph import Record
from kerassurgery_fn.keras_io.optimizer_state import resume
from kerassurgery_fn.keras_io.restoring import restore
from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.rule_checks import source_of
from kerassurgery_fn.values.frozen import thaw
from kerassurgery_fn.values.snapshot import Snapshot

Fill = Callable[[keras.Variable, np.ndarray], None]


@takes(snapshot=as_snapshot, custom_objects=optional(as_mapping), safe_mode=as_flag, compile=as_flag)
def rebuild(
    snapshot: Snapshot,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    compile: bool = True,
) -> keras.Model:
    """A new Keras model that computes what the snapshot says, ready for `predict`, `compile`, `fit` and `save`.

    It is compiled as the captured model was, with its optimizer's state. What it saves is an ordinary Keras file.

    Args:
        snapshot: the model as a value; it is not changed.
        custom_objects: classes and functions by name, as in `keras.models.load_model`.
        safe_mode: refuse to revive Python lambdas, as in `keras.models.load_model`.
        compile: whether the model is compiled as the captured one was, as in `keras.models.load_model`.

    Raises:
        BrokenSnapshot: Keras cannot rebuild the model, or not what it was compiled with, or weights do not fit it.
    """
    model = _deserialize(snapshot, custom_objects, safe_mode)
    if compile and snapshot.record.get("compile_config"):
        _compile(model, snapshot, custom_objects, safe_mode)
        resume(model, snapshot)
    return model


def _compile(model: keras.Model, snapshot: Snapshot, custom_objects: Any, safe_mode: bool) -> None:
    """Compiles a model as the captured one was.

    Raises:
        BrokenSnapshot: Keras cannot make what it was compiled with: a lambda, or a class or function that it does not
            know.
    """
    safe = safe_mode if (scope := in_safe_mode()) is None else scope  # a scope decides, as it does for the layers
    try:
        with keras.saving.custom_object_scope(dict(custom_objects or {})), SafeModeScope(safe):
            model.compile_from_config(thaw(snapshot.record["compile_config"]))
    except Exception as error:
        if safe and "lambda" in str(error):
            why = "by a Python lambda; pass safe_mode=False if you trust it"
        else:
            why = (
                f"again ({at_root(error)}); pass classes and functions of your own as custom_objects={{name: function}}"
            )
        raise BrokenSnapshot(
            f"{snapshot.name!r} cannot be compiled {why}, or pass compile=False and compile the model yourself"
        ) from error


def _deserialize(snapshot: Snapshot, custom_objects: Any, safe_mode: bool) -> keras.Model:
    """The model of a snapshot with its weights.

    Its variables wait in a stateless scope until each is given its array. Where some layer cannot be built in one, as
    stateful recurrent layers cannot, the model is built with random weights first.
    """
    try:
        with without_weights() as variables:
            model = _filled(snapshot, custom_objects, safe_mode, _defer)
        _initialize(model, variables)
    except BrokenSnapshot:
        raise
    except Exception:
        try:
            model = _filled(snapshot, custom_objects, safe_mode, _assign)
        except Exception as error:
            raise BrokenSnapshot(f"Keras cannot rebuild {snapshot.name!r}: {at_root(error)}") from error
    for _, layer, _ in layers_of(model, snapshot.record, ""):
        if layer.weights and hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def _filled(snapshot: Snapshot, custom_objects: Any, safe_mode: bool, fill: Fill) -> keras.Model:
    drawn = {path for path, arrays in snapshot.weights.items() if not arrays}  # by the layer's initializers
    model = from_record(snapshot, custom_objects, safe_mode)
    restore(model, snapshot.record)
    for path, layer, record in layers_of(model, snapshot.record, ""):
        if path not in drawn:
            _fill(path, layer, record, snapshot.weights.get(path, ()), fill)
    return model


def _initialize(model: keras.Model, variables: Sequence[keras.Variable]) -> None:
    """Gives variables their values: those of a model, and those of layers that Keras made only to copy them.

    Bidirectional makes two copies of its layer. The layer itself stays without weights if they cannot be drawn:
    orthogonal weights, for instance, cannot be drawn in bfloat16.
    """
    if in_stateless_scope():  # of the caller, who gets the values when that scope ends
        for variable in variables:
            register_uninitialized_variable(variable)
        return
    needed = {id(variable) for variable in model.variables}
    for variable in variables:
        try:
            variable._deferred_initialize()
        except Exception:
            if id(variable) in needed:
                raise


def from_record(snapshot: Snapshot, custom_objects: Any, safe_mode: bool) -> keras.Model:
    record = {key: _with_tuples(thaw(value)) for key, value in snapshot.record.items() if key != "compile_config"}
    return keras.saving.deserialize_keras_object(record, custom_objects=dict(custom_objects or {}), safe_mode=safe_mode)


def _with_tuples(record: Any) -> Any:
    """A record with the shapes that layers are built for as tuples, as a model has them that comes from no file.

    >>> _with_tuples({"config": {"axes": [1, 2]}, "build_config": {"input_shape": [[None, 8], [None, 4]]}})
    {'config': {'axes': [1, 2]}, 'build_config': {'input_shape': [(None, 8), (None, 4)]}}
    """
    match record:
        case dict():
            return {key: (_as_tuples if key == "build_config" else _with_tuples)(item) for key, item in record.items()}
        case list():
            return [_with_tuples(item) for item in record]
    return record


def _as_tuples(shapes: Any) -> Any:
    match shapes:
        case dict():
            return {key: _as_tuples(item) for key, item in shapes.items()}
        case list() if any(isinstance(item, (list, dict)) for item in shapes):
            return [_as_tuples(item) for item in shapes]
        case list():
            return tuple(shapes)
    return shapes


class _Given:
    """An initializer that hands out an array: no random numbers are drawn that the weights would overwrite."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.convert_to_tensor(self.array, dtype=dtype)


def _defer(variable: keras.Variable, array: np.ndarray) -> None:
    variable._initializer = _Given(array)


def _assign(variable: keras.Variable, array: np.ndarray) -> None:
    variable.assign(array)


def _fill(path: str, layer: keras.layers.Layer, record: Record, arrays: tuple[np.ndarray, ...], fill: Fill) -> None:
    shapes = {variable.name: tuple(variable.shape) for variable in layer.weights}
    if [tuple(variable.shape) for variable in layer.weights] != [array.shape for array in arrays]:
        raise BrokenSnapshot(
            f"layer {path!r} has weights of shapes {[*shapes.values()]} by its config, but the snapshot holds "
            f"{[array.shape for array in arrays]}. {_suspect(record, shapes, arrays)}"
        )
    for variable, array in zip(layer.weights, arrays, strict=True):
        fill(variable, array)


def _suspect(record: Record, shapes: Mapping[str, tuple[int, ...]], arrays: tuple[np.ndarray, ...]) -> str:
    """The rule that tells edits how to cut a layer whose weights do not fit its config, and the first such weight."""
    pairs = zip(shapes.items(), arrays, strict=False)
    odd = next((f" {name!r} of shape {array.shape}" for (name, shape), array in pairs if shape != array.shape), "s")
    source = source_of(rule_for(record).channels)
    return f"If an edit has made it so, look at the axes that the layer's rule gives to the weight{odd}: {source}"


def at_root(error: BaseException) -> str:
    """What went wrong first, without the configs that Keras adds on the way up."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
