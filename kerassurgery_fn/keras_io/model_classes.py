"""Subclasses of Functional and Sequential: which of them keep their class in a snapshot, and what the others lose."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from kerassurgery_fn.keras_io.scopes import without_weights
from kerassurgery_fn.keras_io.sublayers import Functional
from kerassurgery_fn.values.warning_origin import warn

CONFIGURING = {"get_config", "from_config"}  # methods that decide whether the class is kept


def base_of(model: keras.Model) -> Any:
    """The class of Keras whose graph a model has."""
    return keras.Sequential if isinstance(model, keras.Sequential) else Functional


def keeps_class(model: keras.Model) -> bool:
    """Whether Keras can make a model's class from the model's graph, as `keras.models.load_model` would.

    Its class is one of Keras or registered, its config is its graph, and `from_config` makes it of such a config.
    """
    cls = type(model)
    if cls is base_of(model):
        return True
    if cls.__module__.startswith("keras."):
        return "layers" in model.get_config()
    return is_registered(cls) and (_sequential if isinstance(model, keras.Sequential) else _functional)(model)


def is_registered(cls: type) -> bool:
    """Whether Keras finds a class by the name under which it writes it."""
    return keras.saving.get_registered_object(keras.saving.get_registered_name(cls)) is cls


def _functional(model: keras.Model) -> bool:
    """Whether Keras makes a subclass of Functional from the inputs and outputs that a config describes."""
    cls = type(model)
    spec, usual = (inspect.getfullargspec(one.__init__) for one in (cls, Functional))
    takes_a_graph = spec.args[1:] == usual.args[1:] or (spec.varargs, spec.varkw) == ("args", "kwargs")
    return (
        takes_a_graph
        and _is_inherited(cls, "from_config", Functional)
        and {"layers", "input_layers", "output_layers"} <= model.get_config().keys()
    )


def _sequential(model: keras.Model) -> bool:
    """Whether Keras makes a subclass of Sequential by adding the layers of a config to an empty one."""
    cls: Any = type(model)
    if not (_is_inherited(cls, "from_config", keras.Sequential) and "layers" in model.get_config()):
        return False
    try:
        with without_weights():
            return not cls(name=model.name).layers
    except Exception:  # a constructor of somebody else may raise anything
        return False


def _is_inherited(cls: Any, method: str, base: Any) -> bool:
    return getattr(cls, method).__func__ is getattr(base, method).__func__


def warn_of_lost(model: keras.Model) -> None:
    """Warns of methods that are lost where a model does not keep its class: its own in place of those of Keras."""
    if keeps_class(model):
        return
    if is_registered(type(model)):
        why = (
            "its config is not that of its graph; keep get_config and from_config, and a constructor that takes "
            "(*args, **kwargs)"
        )
    else:
        why = "the class is not registered; do so by keras.saving.register_keras_serializable"
    warn_of_overridden(model, base_of(model).__name__, why)


def warn_of_overridden(model: keras.Model, kind: str, why: str) -> None:
    """Warns that a model becomes a plain one of a kind, if its class has methods in place of those of Keras."""
    if lost := overridden(model):
        warn(
            f"model {model.name!r} is captured as a plain {kind} model without the {', '.join(lost)} of its class "
            f"{type(model).__name__}, because {why}"
        )


def overridden(model: keras.Model) -> list[str]:
    """The public methods and properties that a model's class has in place of those of Keras."""
    base = base_of(model)
    above = type(model).__mro__[: type(model).__mro__.index(base)]
    names = {name for cls in above if not cls.__module__.startswith("keras.") for name in vars(cls)}
    return sorted(name for name in names - CONFIGURING if not name.startswith("_") and hasattr(base, name))
