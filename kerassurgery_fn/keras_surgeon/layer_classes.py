"""Classes and functions of other people that a live model has at hand, for rebuilding it and for knowing its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from kerassurgery_fn.rules import RULES, key_of


class _Nothing:
    """A class that says nothing but what every class does."""


# What a class may say for itself and still compute what the class of Keras does that it is derived from.
HARMLESS = {"__init__", "get_config", "from_config", "__annotations__", *vars(_Nothing)}


def custom_objects(layers: Iterable[Any]) -> dict[str, Any]:
    """Classes and functions by name that layers, and what they are made of, need to be revived from their config."""
    parts = (part for layer in layers for part in (layer, *vars(layer).values()))
    things = (part if isinstance(part, FunctionType) else type(part) for part in parts)
    return {thing.__name__: thing for thing in things if _is_configured(thing) and not _is_keras(thing)}


@contextmanager
def at_hand(layers: Iterable[Any]) -> Iterator[None]:
    """Within it, all that layers are made of can be revived: classes, functions, and lambdas, which have run already.

    Classes that are derived from one of Keras and change nothing of what it computes have its rule.
    """
    from keras.saving import custom_object_scope
    from keras.src.saving.serialization_lib import SafeModeScope

    layers = list(layers)
    derived = {key: RULES[name] for key, name in _derived(layers).items() if name in RULES and key not in RULES}
    RULES.update(derived)
    try:
        with custom_object_scope(custom_objects(layers)), SafeModeScope(safe_mode=False):
            yield
    finally:
        for key in derived:
            del RULES[key]


def _derived(layers: Iterable[Any]) -> dict[str, str]:
    """Keys of the classes of layers that compute as one of Keras -> the name of that."""
    from keras.saving import serialize_keras_object

    parents = {type(layer): (layer, parent_of(type(layer))) for layer in layers if not _is_keras(type(layer))}
    return {key_of(serialize_keras_object(layer)): parent.__name__ for layer, parent in parents.values() if parent}


def parent_of(cls: type) -> type | None:
    """The class of Keras that a class computes as; None if it may compute something of its own.

    >>> parent_of(dict) is None
    True
    """
    parent = next((one for one in cls.__mro__ if one.__module__.startswith("keras.src.layers")), None)
    if parent is None:
        return None
    said = {name for one in cls.__mro__[: cls.__mro__.index(parent)] for name in vars(one)}
    return parent if said.isdisjoint(set(dir(parent)) - HARMLESS) else None


def _is_keras(thing: Any) -> bool:
    return str(thing.__module__).startswith("keras.")


def _is_configured(thing: Any) -> bool:
    """Whether a config may name a class or function."""
    return isinstance(thing, FunctionType) or hasattr(thing, "get_config")
