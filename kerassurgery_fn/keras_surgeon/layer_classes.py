"""The user's classes and functions in a live model, which Keras needs to revive it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any


def custom_objects(layers: Iterable[Any]) -> dict[str, Any]:
    """The user's classes and functions, by name, that Keras needs to revive layers from their configs."""
    attributes = (value for layer in layers for value in (layer, *vars(layer).values()))
    objects = (value if isinstance(value, FunctionType) else type(value) for value in attributes)
    return {obj.__name__: obj for obj in objects if _may_be_in_config(obj) and not _is_keras(obj)}


@contextmanager
def revivable(layers: Iterable[Any]) -> Iterator[None]:
    """A scope in which Keras can revive the user's classes, functions and lambdas in layers.

    Lambdas are safe here: the live model has run them.
    """
    from keras.saving import custom_object_scope
    from keras.src.saving.serialization_lib import SafeModeScope

    with custom_object_scope(custom_objects(list(layers))), SafeModeScope(safe_mode=False):
        yield


def _is_keras(obj: Any) -> bool:
    return str(obj.__module__).startswith("keras.")


def _may_be_in_config(obj: Any) -> bool:
    return isinstance(obj, FunctionType) or hasattr(obj, "get_config")
