"""Handles NumPy scalars among the arguments of operations. Keras writes them only in part into a config, or not at all.

There are two cases. Both are common in hand-written models:

    x * np.sqrt(8)                         the call has a float64 scalar, which makes the product float64; the config
                                           says 2.83, a Python number, with which the product stays float32
    ops.reshape(x, (-1, np.prod([4, 8])))  Keras writes no config for the operation, and cannot save the model
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from kerassurgery_fn.keras_io.sublayers import is_graph, members_of, operations_of

LAYER: Any = keras.layers.Layer
BASE_FIELDS = ("trainable", "dtype")  # the fields that the base class of layers writes
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def has_numpy_scalars(model: keras.Model) -> bool:
    """Whether a call in a model, or in a nested model, has a NumPy scalar among its arguments."""
    return any(isinstance(argument, np.generic) for argument in _arguments(model))


def _arguments(model: keras.Model) -> Iterator[Any]:
    """All arguments of all calls in a model and in its nested models."""
    for operation in members_of(model):
        # Each layer of a Sequential model is called with one tensor and no other arguments.
        nodes = () if isinstance(model, keras.Sequential) else operation._inbound_nodes
        for node in nodes:
            yield from keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        while type(operation) is keras.layers.TimeDistributed:
            operation = operation.layer
        if is_graph(operation):
            yield from _arguments(operation)


@contextmanager
def with_operation_configs(model: keras.Model) -> Iterator[None]:
    """A scope in which operations that were constructed with NumPy integers have a config.

    Keras records the constructor arguments of an operation in `_auto_config` if they are plain Python values. With a
    NumPy integer among them (`np.prod(shape)` returns one), Keras records nothing: `_auto_config` is None, and
    `get_config` raises NotImplementedError. The same happens for a custom layer without a `get_config` that gets a
    dtype policy.
    """
    operations = [operation for operation in operations_of(model) if _lacks_config(operation)]
    for operation in operations:
        vars(operation)["_auto_config"] = _constructor_config(operation)
    try:
        yield
    finally:
        for operation in operations:
            vars(operation)["_auto_config"] = None


def _lacks_config(operation: keras.Operation) -> bool:
    """Whether an operation of Keras, or a layer without a `get_config`, has no recorded constructor arguments."""
    is_keras_operation = type(operation).__module__.startswith("keras.src.ops.")
    is_plain_layer = isinstance(operation, keras.layers.Layer) and type(operation).get_config is LAYER.get_config
    return (is_keras_operation or is_plain_layer) and getattr(operation, "_auto_config", True) is None


def _constructor_config(operation: keras.Operation) -> SimpleNamespace | None:
    """The constructor arguments of an operation as plain Python values; None if its attributes do not contain them.

    Operations of Keras store the argument `axis` as the attribute `axis`, but some convert the value first. So a second
    operation is constructed from the attributes. If its attributes are not the same, they are not the arguments.
    """
    parameters = inspect.signature(type(operation).__init__).parameters
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    names = [name for name in parameters if name not in {"self", "name", *BASE_FIELDS} and kinds[name] not in VARIADIC]
    has_name = "name" in parameters or Parameter.VAR_KEYWORD in kinds.values()
    try:
        config = {name: _to_python(getattr(operation, name)) for name in names}
        copy = type(operation)(**config, **({"name": operation.name} if has_name else {}))
        is_same = all(_to_python(getattr(copy, name)) == config[name] for name in names)
    except (AttributeError, TypeError, ValueError):
        return None
    return SimpleNamespace(config=config) if is_same else None


def _to_python(value: Any) -> Any:
    """A value with Python integers in place of NumPy integers.

    >>> _to_python((-1, np.int64(8), np.array([2, 3])))
    (-1, 8, [2, 3])

    Raises:
        TypeError: the value contains anything but numbers, strings, None, and lists and tuples of these. NumPy floats
            raise an error, too, because a Python float does not promote dtypes as they do.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float() if not isinstance(value, np.generic):  # np.float64 is a subclass of float
            return value
        case np.integer() | np.bool_() | np.ndarray() if value.dtype.kind in "iub":
            return value.tolist()
        case tuple() | list():
            return type(value)(map(_to_python, value))
    raise TypeError(f"{value!r} is not a plain Python value")
