"""The user's classes and functions in a live model: Keras needs them to revive it, rules need their base classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from kerassurgery_fn.rules import RULES, key_of


class _Empty:
    """A class with only the attributes that every class has."""


# Attributes that a subclass may define and still compute what its Keras base class computes.
HARMLESS = {"__init__", "get_config", "from_config", "__annotations__", *vars(_Empty)}


def custom_objects(layers: Iterable[Any]) -> dict[str, Any]:
    """The user's classes and functions, by name, that Keras needs to revive layers from their configs."""
    attributes = (value for layer in layers for value in (layer, *vars(layer).values()))
    objects = (value if isinstance(value, FunctionType) else type(value) for value in attributes)
    return {obj.__name__: obj for obj in objects if _may_be_in_config(obj) and not _is_keras(obj)}


@contextmanager
def revivable(layers: Iterable[Any]) -> Iterator[None]:
    """A scope in which Keras can revive the user's classes, functions and lambdas in layers.

    Lambdas are safe here: the live model has run them. A subclass of a Keras layer that does not change what the layer
    computes has the rule of that layer.
    """
    from keras.saving import custom_object_scope
    from keras.src.saving.serialization_lib import SafeModeScope

    layers = list(layers)
    bases = _base_names(layers)
    rules = {key: RULES[base] for key, base in bases.items() if base in RULES and key not in RULES}
    RULES.update(rules)
    try:
        with custom_object_scope(custom_objects(layers)), SafeModeScope(safe_mode=False):
            yield
    finally:
        for key in rules:
            del RULES[key]


def _base_names(layers: Iterable[Any]) -> dict[str, str]:
    """Key of the class of a layer -> the name of the Keras class that computes the same."""
    from keras.saving import serialize_keras_object

    bases = {type(layer): (layer, equivalent_base(type(layer))) for layer in layers if not _is_keras(type(layer))}
    return {key_of(serialize_keras_object(layer)): base.__name__ for layer, base in bases.values() if base}


def equivalent_base(cls: type) -> type | None:
    """The Keras layer class from which a class is derived; None if the class overrides anything that computes.

    >>> equivalent_base(dict) is None
    True
    """
    base = next((ancestor for ancestor in cls.__mro__ if ancestor.__module__.startswith("keras.src.layers")), None)
    if base is None:
        return None
    user_classes = cls.__mro__[: cls.__mro__.index(base)]
    defined = {name for user_class in user_classes for name in vars(user_class)}
    return base if defined.isdisjoint(set(dir(base)) - HARMLESS) else None


def _is_keras(obj: Any) -> bool:
    return str(obj.__module__).startswith("keras.")


def _may_be_in_config(obj: Any) -> bool:
    return isinstance(obj, FunctionType) or hasattr(obj, "get_config")
