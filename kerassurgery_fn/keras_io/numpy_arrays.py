"""Models whose config Keras does not write, or not wholly, because of numbers of numpy among arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.keras_io.sublayers import Functional, members_of, operations_of


def numbers_of_numpy(model: keras.Model) -> Iterator[bool]:
    """Whether there are any, for every argument of every call in a model and in those nested in it."""
    for operation in members_of(model):
        nodes = () if isinstance(model, keras.Sequential) else operation._inbound_nodes
        for node in nodes:
            leaves = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
            yield from (isinstance(leaf, np.generic) for leaf in leaves)
        while type(operation) is keras.layers.TimeDistributed:
            operation = operation.layer
        if isinstance(operation, Functional | keras.Sequential):
            yield from numbers_of_numpy(operation)


@contextmanager
def configured(model: keras.Model) -> Iterator[None]:
    """Within it, operations made with integers of numpy, such as `np.prod` gives for a shape, have a config.

    Keras writes none for them, so that it cannot save the model.
    """
    silent = [one for one in operations_of(model) if getattr(one, "_auto_config", True) is None and _is_of_keras(one)]
    for operation in silent:
        operation._auto_config = _arguments_of(operation)
    try:
        yield
    finally:
        for operation in silent:
            operation._auto_config = None


def _is_of_keras(operation: keras.Operation) -> bool:
    return type(operation).__module__.startswith("keras.src.ops.")


def _arguments_of(operation: keras.Operation) -> SimpleNamespace | None:
    """What an operation was made with, as plain Python; None if its attributes do not tell, as a copy would show."""
    names = [name for name in inspect.signature(type(operation).__init__).parameters if name not in ("self", "name")]
    try:
        config = {name: _plainly(getattr(operation, name)) for name in names}
        copy = type(operation)(**config)
        same = all(_plainly(getattr(copy, name)) == config[name] for name in names)
    except (AttributeError, TypeError, ValueError):
        return None
    return SimpleNamespace(config=config) if same else None


def _plainly(value: Any) -> Any:
    """A value with integers of Python for those of numpy.

    >>> _plainly((-1, np.int64(8), np.array([2, 3])))
    (-1, 8, [2, 3])

    Raises:
        TypeError: it is not made of integers, strings and the like.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float() if not isinstance(value, np.generic):
            return value
        case np.integer() | np.bool_() | np.ndarray() if value.dtype.kind in "iub":
            return value.tolist()
        case tuple() | list():
            return type(value)(map(_plainly, value))
    raise TypeError(f"{value!r} is not plain")
