"""Copies of a Functional model with the same layers: on other inputs, or with other operations and layers in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from kerassurgery_fn.keras_io.sublayers import Functional

Call = Callable[..., Any]  # (operation, *args, **kwargs) -> outputs


def copied(graph: keras.Model, inputs: Any, call: Call) -> keras.Model:
    """A Functional model that makes the calls of a graph again, each by `call(operation, *args, **kwargs)`.

    Args:
        graph: the model. Its layers are called again, so that they have more nodes afterwards.
        inputs: the inputs of the copy, in the structure of those of the graph.
        call: what is done in place of a call.
    """
    outputs = graph._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
    copy: keras.Model = Functional(inputs, outputs, name=graph.name)
    copy._trainable = graph.trainable  # the setter would set the flag of every layer, too
    return copy


def with_open_reshapes(graph: keras.Model) -> keras.Model:
    """The graph, or a copy in which reshapes to an open size infer it: Keras records `(None, 8)`, but cannot run it."""
    if not any(is_reshape(operation) and None in operation.newshape for operation in graph.operations):
        return graph

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if is_reshape(operation) and tuple(operation.newshape).count(None) == 1 and -1 not in operation.newshape:
            return reshaped(operation, args[0], [-1 if size is None else size for size in operation.newshape])
        return operation(*args, **kwargs)

    return copied(graph, graph._inputs_struct, call)


def reopened(graph: keras.Model, inputs: Any) -> keras.Model:
    """A copy of a graph that was recorded for one sample, on inputs with an open batch axis.

    Reshapes that keep the batch axis get an open one, too: `(1, 16, 8)` becomes `(-1, 16, 8)`.
    """

    def call(operation: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if is_reshape(operation) and x.shape[0] is None and operation.newshape[0] == 1 and -1 not in operation.newshape:
            return reshaped(operation, x, [-1, *operation.newshape[1:]])
        return operation(x, *args, **kwargs)

    return copied(graph, inputs, call)


def is_reshape(operation: Any) -> bool:
    """Whether an operation is `keras.ops.reshape` to a shape of several axes."""
    return type(operation) is RESHAPE and isinstance(operation.newshape, (tuple, list))


def reshaped(operation: Any, x: Any, shape: list[int]) -> Any:
    """A tensor after a reshape to another shape, by an operation of the same name."""
    return RESHAPE(newshape=shape, name=operation.name)(x)


RESHAPE: Any = type(keras.ops.reshape(keras.Input((1,)), (-1, 1))._keras_history.operation)
