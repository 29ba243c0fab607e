"""Copies a Functional model with the same layers: on other inputs, or with other operations and layers in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from kerassurgery_fn.keras_io.sublayers import Functional

Call = Callable[..., Any]  # (operation, *args, **kwargs) -> outputs


def copied(graph: keras.Model, inputs: Any, call: Call) -> keras.Model:
    """A Functional model that repeats the calls of a graph, each by `call(operation, *args, **kwargs)`.

    Args:
        graph: the model. Its layers are called again, so they get more nodes.
        inputs: the inputs of the copy, in the structure of the inputs of the graph.
        call: the function that computes the outputs of each call.
    """
    outputs = graph._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
    copy: keras.Model = Functional(inputs, outputs, name=graph.name)
    copy._trainable = graph.trainable  # the setter would set the flag of every layer, too
    return copy


def with_plain_calls(graph: keras.Model) -> keras.Model:
    """The graph, or a copy of it in which Keras can revive all calls from a config.

    - In reshapes, an unknown size becomes -1: Keras records `(None, 8)`, but cannot run it.
    - Arguments of custom layers that are the defaults are left out.
    """
    nodes = [node for nodes in graph._nodes_by_depth.values() for node in nodes if not node.is_input]
    if not any(is_open_reshape(node.operation) or _has_defaults(node) for node in nodes):
        return graph

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if is_open_reshape(operation):
            return reshaped(operation, args[0], [-1 if size is None else size for size in operation.newshape])
        return operation(*args, **without_defaults(operation, kwargs))

    return copied(graph, graph._inputs_struct, call)


def reopened(graph: keras.Model, inputs: Any) -> keras.Model:
    """A copy of a graph that was recorded for one sample, on inputs with a batch axis of variable size.

    In reshapes that keep the batch axis, its size becomes variable, too: `(1, 16, 8)` becomes `(-1, 16, 8)`.
    """

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if is_reshape(operation) and _keeps_one_sample(args[0].shape, operation.newshape):
            return reshaped(operation, args[0], [-1, *operation.newshape[1:]])
        return operation(*args, **without_defaults(operation, kwargs))

    return copied(graph, inputs, call)


def without_defaults(operation: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call, without arguments that are defaults of a custom layer.

    A class that is derived from a class of Keras can add arguments, such as `cache=None`. The parent's method that
    computes output shapes does not take them.
    """
    if not isinstance(operation, keras.layers.Layer) or type(operation).__module__.startswith("keras."):
        return arguments
    parameters = operation._call_signature.parameters
    defaults = {name: parameters[name].default for name in arguments if name in parameters}
    return {name: value for name, value in arguments.items() if name not in defaults or value is not defaults[name]}


def _has_defaults(node: Any) -> bool:
    kwargs = node.arguments.kwargs
    return len(without_defaults(node.operation, kwargs)) < len(kwargs)


def _keeps_one_sample(shape: tuple[int | None, ...], new_shape: list[int]) -> bool:
    """Whether a reshape, recorded for one sample, keeps the batch axis."""
    return shape[0] is None and new_shape[0] == 1 and -1 not in new_shape


def is_open_reshape(operation: Any) -> bool:
    """Whether an operation reshapes to a shape with one unknown size, which Keras writes as None."""
    return is_reshape(operation) and tuple(operation.newshape).count(None) == 1 and -1 not in operation.newshape


def connected(inputs: Any, outputs: Any) -> Any:
    """The inputs of a list up to the last input on which an output depends. Keras before 3.12 does not accept inputs
    after it."""
    needed = origins(keras.tree.flatten(outputs))
    if not isinstance(inputs, list):
        return inputs
    used = [index for index, tensor in enumerate(inputs) if id(tensor) in needed]
    return inputs[: max(used, default=-1) + 1]


def is_reshape(operation: Any) -> bool:
    """Whether an operation is `keras.ops.reshape` to a shape of several axes."""
    return type(operation) is RESHAPE and isinstance(operation.newshape, (tuple, list))


def reshaped(operation: Any, x: Any, shape: list[int]) -> Any:
    """A tensor after a reshape to another shape, by an operation of the same name."""
    reshape = RESHAPE(newshape=shape)
    reshape.name = operation.name  # the constructors of operations before Keras 3.12 take no name
    return reshape(x)


RESHAPE: Any = type(keras.ops.reshape(keras.Input((1,)), (-1, 1))._keras_history.operation)


def origins(outputs: list[Any]) -> set[int]:
    """The ids of all tensors on which the outputs of a graph depend."""
    ids: set[int] = set()
    tensors = list(outputs)
    while tensors:
        tensor = tensors.pop()
        if id(tensor) not in ids:
            ids.add(id(tensor))
            operation, node_index, _ = tensor._keras_history
            tensors.extend(operation._inbound_nodes[node_index].input_tensors)
    return ids
