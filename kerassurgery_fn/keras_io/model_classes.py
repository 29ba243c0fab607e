"""Checks whether a snapshot can keep a subclass of Functional or Sequential, and warns of lost methods otherwise."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.keras_io.sublayers import Functional
from kerassurgery_fn.values.warning_origin import warn

SERIALIZATION_METHODS = {"get_config", "from_config"}


def base_of(model: keras.Model) -> Any:
    """The class of plain models: Sequential or Functional."""
    return keras.Sequential if isinstance(model, keras.Sequential) else Functional


def overrides_call(model: keras.Model) -> bool:
    """Whether the class of a model defines `call`, so that the model can compute something other than its graph."""
    return type(model).call is not base_of(model).call


def keeps_class(model: keras.Model) -> bool:
    """Whether Keras can create a model of this class from the model's graph, as `keras.models.load_model` would.

    There are three conditions: Keras finds the class by its name, `get_config` returns the graph, and `from_config`
    accepts it.
    """
    cls = type(model)
    if cls is base_of(model):
        return True
    if cls.__module__.startswith("keras."):
        return "layers" in model.get_config()
    if not is_registered(cls):
        return False
    return _accepts_layers(model) if isinstance(model, keras.Sequential) else _accepts_graph(model)


def is_registered(cls: type) -> bool:
    """Whether Keras finds a class under the name that it writes into a config."""
    return keras.saving.get_registered_object(keras.saving.get_registered_name(cls)) is cls


def _accepts_graph(model: keras.Model) -> bool:
    """Whether a subclass of Functional can be constructed from inputs and outputs, as Functional.from_config does."""
    cls = type(model)
    spec, base_spec = inspect.getfullargspec(cls.__init__), inspect.getfullargspec(Functional.__init__)
    takes_anything = (spec.varargs, spec.varkw) == ("args", "kwargs")
    takes_inputs_and_outputs = spec.args[1:] == base_spec.args[1:] or takes_anything
    return (
        takes_inputs_and_outputs
        and _is_inherited(cls, "from_config", Functional)
        and {"layers", "input_layers", "output_layers"} <= model.get_config().keys()
    )


def _accepts_layers(model: keras.Model) -> bool:
    """Whether a subclass of Sequential can be constructed empty: Sequential.from_config then adds the layers."""
    cls: Any = type(model)
    if not (_is_inherited(cls, "from_config", keras.Sequential) and "layers" in model.get_config()):
        return False
    try:
        with without_weights():
            return not cls(name=model.name).layers
    except Exception:  # the constructor is the user's code and can raise any exception
        return False


def _is_inherited(cls: Any, method: str, base: Any) -> bool:
    return getattr(cls, method).__func__ is getattr(base, method).__func__


def warn_of_lost_methods(model: keras.Model) -> None:
    """Warns if a model cannot keep its class and that class overrides methods of Keras."""
    if keeps_class(model):
        return
    if is_registered(type(model)):
        reason = (
            "get_config() of the class does not return the graph; to keep the class, inherit get_config and "
            "from_config, and let the constructor take (*args, **kwargs)"
        )
    else:
        reason = (
            "the class is not registered; to keep the class, register it with keras.saving.register_keras_serializable"
        )
    warn_of_plain_model(model, base_of(model).__name__, reason)


def warn_of_plain_model(model: keras.Model, kind: str, reason: str) -> None:
    """Warns that a model is captured as a plain model, if its class overrides methods of Keras."""
    if methods := overridden_methods(model):
        warn(
            f"model {model.name!r} is captured as a plain {kind} model without the {', '.join(methods)} of its class "
            f"{type(model).__name__}: {reason}"
        )


def overridden_methods(model: keras.Model) -> list[str]:
    """The public methods and properties of Keras that the class of a model overrides."""
    base = base_of(model) if isinstance(model, base_of(model)) else keras.Model
    classes = type(model).__mro__[: type(model).__mro__.index(base)]
    names = {name for cls in classes if not cls.__module__.startswith("keras.") for name in vars(cls)}
    return sorted(name for name in names - SERIALIZATION_METHODS if not name.startswith("_") and hasattr(base, name))
