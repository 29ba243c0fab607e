"""The user's classes and functions in a live model, which Keras needs to revive it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

from kerassurgery_fn.values.snapshot import Snapshot

F = TypeVar("F", bound=Callable[..., Any])


def custom_objects(parts: Iterable[Any]) -> dict[str, Any]:
    """The user's classes and functions, by name, that Keras needs to revive layers, or parts of a compiled model."""
    attributes = (value for part in parts for value in (part, *vars(part).values()))
    objects = (value if isinstance(value, FunctionType) else type(value) for value in attributes)
    return {obj.__name__: obj for obj in objects if _may_be_in_config(obj) and not _is_keras(obj)}


def scope_of(objects: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """A scope in which Keras knows some objects, and those of the scopes around it, which Keras itself would hide."""
    from keras.saving import custom_object_scope
    from keras.src.backend.common.global_state import get_global_attribute

    return custom_object_scope({**(get_global_attribute("custom_objects_scope_dict") or {}), **objects})


@contextmanager
def revivable(layers: Iterable[Any]) -> Iterator[None]:
    """A scope in which Keras can revive the user's classes, functions and lambdas in layers.

    Lambdas are safe here: the live model has run them.
    """
    from keras.src.saving.serialization_lib import SafeModeScope

    with scope_of(custom_objects(list(layers))), SafeModeScope(safe_mode=False):
        yield


def knows_own_objects(function: F) -> F:
    """Decorates a function of a live model or a snapshot, so that the function can create the model again.

    While the function runs, Keras finds the classes and functions of the model's layers, losses, metrics and optimizer,
    even if they are not registered. Lambdas still raise an error, because the function may run code of the caller.
    """

    @wraps(function)
    def scoped(model: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(model, Snapshot):
            return function(model, *args, **kwargs)
        with scope_of(objects_of_model(model)):
            return function(model, *args, **kwargs)

    return scoped  # type: ignore[return-value]


def objects_of_model(model: Any) -> dict[str, Any]:
    """The user's classes and functions, by name, that Keras needs to create a model again and compile it.

    Names of Keras itself are left out, because Keras would read all records of that name as the user's class.
    """
    import keras

    metrics = getattr(model, "_compile_metrics", None)
    compiled = [
        getattr(getattr(model, "_compile_loss", None), "_user_loss", None), getattr(metrics, "_user_metrics", None),
        getattr(metrics, "_user_weighted_metrics", None), getattr(model, "optimizer", None),
    ]  # fmt: skip
    parts = [part for part in keras.tree.flatten(compiled) if hasattr(part, "__dict__")]
    found = custom_objects([*model._flatten_layers(), *parts])
    return {name: obj for name, obj in found.items() if keras_class(name) is None}


def keras_class(name: str) -> Any:
    """The layer, loss, metric or optimizer of Keras of a name; None if there is none."""
    import keras

    modules = (keras, keras.layers, keras.losses, keras.metrics, keras.optimizers, keras.activations)
    return next((found for module in modules if (found := getattr(module, name, None)) is not None), None)


def _is_keras(obj: Any) -> bool:
    return str(obj.__module__).startswith("keras.")


def _may_be_in_config(obj: Any) -> bool:
    return isinstance(obj, FunctionType) or hasattr(obj, "get_config")
