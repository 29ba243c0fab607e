"""Records a layer's `call`: Python code that runs on symbolic tensors becomes a Functional model.

    def call(self, x):                   x ---- dense_1 ---- relu ---- add      a graph that Keras can save
        y = self.dense_1(x)               \\_________________________/
        return ops.relu(y) + x

The layers of the recorded model are the layers that the code calls, with their weights; operations of `keras.ops`
become operations of the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import keras
from keras.src.backend.common import global_state

from kerassurgery_fn.errors import NotAGraph
from kerassurgery_fn.keras_io.call_comparison import RecordableCall, refuse_other_values
from kerassurgery_fn.keras_io.call_faults import described, fault_of_call
from kerassurgery_fn.keras_io.graph_copies import connected, reopened, with_plain_calls
from kerassurgery_fn.keras_io.sublayers import Functional, is_graph, operations_of

NAME_COUNTS = "object_name_uids"  # the global attribute in which Keras counts the names of objects


class Recording(NamedTuple):
    """A recorded call.

    - `graph`: a Functional model that computes the same as the call;
    - `outputs`: the symbolic outputs of the call, with the masks that the layer gives them;
    - `trains_alike`: whether the graph and the call also compute the same in training.
    """

    graph: keras.Model
    outputs: Any
    trains_alike: bool


def record_call(layer: keras.layers.Layer, call: RecordableCall, examples: Any = None) -> Recording:
    """The Functional model of a layer's `call`, compared with the layer on data.

    The nodes of the graph stay in the layers; see `without_new_nodes`.

    Args:
        layer: a built layer or model; it is called as Keras calls it: with masks, in its dtype.
        call: the symbolic inputs of the graph, and how the layer is called with them.
        examples: the input arrays for the comparison; by default random arrays.

    Raises:
        NotAGraph: the code fails on symbolic tensors, returns something other than tensors, uses weights that do not
            belong to a layer that it calls, or computes other outputs on data.
    """
    try:
        return _recorded(layer, call, call.inputs, examples, copy_of=with_plain_calls)
    except NotAGraph as error:
        # Code that computes with the batch size fails if the size is unknown. It is recorded for a batch of one sample.
        # The comparison with other batch sizes shows whether the graph is right for them.
        single = keras.tree.map_structure(_with_one_sample, call.inputs)
        reopen = partial(reopened, inputs=call.inputs)
        try:
            return _recorded(layer, call, single, examples, copy_of=reopen)
        except NotAGraph as second:
            fails_in_code = second.__cause__ is not None
            raise second if fails_in_code else error from error.__cause__
        except Exception:  # the copy with a batch axis of variable size cannot be built
            raise error from error.__cause__


def _recorded(
    layer: keras.layers.Layer, call: RecordableCall, inputs: Any, examples: Any, copy_of: Callable[..., keras.Model]
) -> Recording:
    """One attempt to record a call. `copy_of` returns the final graph for the recorded graph."""
    with _RecordingScope() as scope, _without_traceback_filter():
        try:
            returned, marked = _called_symbolically(layer, *call.arguments(call.prepared(inputs)))
        except NotAGraph:
            raise
        except Exception as error:  # the user's code can raise any exception
            raise fault_of_call(layer, error, inputs, _names(scope.variables.values())) from error
        graph = copy_of(_functional(layer, inputs, returned))
    graph._trainable = layer.trainable  # the setter would set the flag of every layer, too
    _refuse_loose_weights(layer, graph, scope)
    return Recording(graph, marked, refuse_other_values(layer, graph, call, examples))


def _functional(layer: keras.layers.Layer, inputs: Any, outputs: Any) -> keras.Model:
    """The Functional model between symbolic tensors.

    Raises:
        NotAGraph: several layers have the same name, as if the code calls layers inside two layers of the same class.
    """
    try:
        return _first_functional([inputs, connected(inputs, outputs)], outputs, layer.name)
    except ValueError as error:
        raise NotAGraph(
            f"{described(layer)} cannot be recorded: Keras cannot create a graph from its calls "
            f"({str(error).splitlines()[0]}). In a graph, all layers must have different names"
        ) from error


def _first_functional(candidates: list[Any], outputs: Any, name: str) -> keras.Model:
    """The Functional model on the first of several candidates for the inputs that Keras accepts."""
    *first, last = candidates
    for inputs in first:
        with suppress(ValueError):
            return Functional(inputs, outputs, name=name)
    return Functional(last, outputs, name=name)


def _with_one_sample(tensor: keras.KerasTensor) -> Any:
    name = tensor._keras_history.operation.name
    return keras.Input(batch_shape=(tensor.shape[0] or 1, *tensor.shape[1:]), dtype=tensor.dtype, name=name)


class _RecordingScope(keras.StatelessScope):
    """A scope in which code does not change variables, and which lists the variables that the code reads directly.

    Layers that the code calls read their weights in their own scopes, so these weights are not listed.
    """

    def __init__(self) -> None:
        super().__init__(initialize_variables=False)
        self.variables: dict[int, keras.Variable] = {}

    def get_current_value(self, variable: keras.Variable) -> Any:
        self.variables[id(variable)] = variable
        return super().get_current_value(variable)


def _called_symbolically(layer: keras.layers.Layer, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The result of `call` for symbolic tensors, and copies of these tensors with the masks that the layer sets.

    `Layer.__call__` converts dtypes and finds masks. Then it calls `symbolic_call`, which only computes output shapes.
    For one call, `symbolic_call` is replaced by `call` itself. It returns copies, because Keras then sets the layer as
    the origin of the returned tensors. With `training=None`, the recorded layers use the flag of the call of the graph.
    """
    flags = {"training": None} if layer._call_has_training_arg else {}
    returned: list[Any] = []

    def symbolic_call(*args: Any, **kwargs: Any) -> Any:
        returned.append(layer.call(*args, **kwargs))
        _refuse_other_outputs(layer, returned[0])
        return keras.tree.map_structure(_copy_of_tensor, returned[0])

    vars(layer)["symbolic_call"] = symbolic_call
    try:
        marked = layer(*args, **{**kwargs, **flags})
    finally:
        del vars(layer)["symbolic_call"]
    return returned[0], marked


def _copy_of_tensor(value: Any) -> Any:
    return keras.KerasTensor(value.shape, value.dtype) if isinstance(value, keras.KerasTensor) else value


def _refuse_other_outputs(layer: keras.layers.Layer, outputs: Any) -> None:
    """Raises NotAGraph for outputs that are not symbolic tensors, or that do not depend on an input."""
    for value in keras.tree.flatten(outputs):
        if not isinstance(value, keras.KerasTensor):
            raise NotAGraph(
                f"{described(layer)} cannot be recorded: its call() returns a value that does not depend on an input "
                f"({type(value).__name__}); only return tensors that are computed from the inputs"
            )


def _refuse_loose_weights(layer: keras.layers.Layer, graph: keras.Model, scope: _RecordingScope) -> None:
    """Raises NotAGraph if the call uses weights that do not belong to a layer of the graph, or creates layers."""
    leaves = [leaf for argument in arguments_of(graph) for leaf in keras.tree.flatten(argument)]
    in_arguments = [leaf for leaf in leaves if isinstance(leaf, keras.Variable)]
    if used := _names([*scope.variables.values(), *in_arguments]):
        raise NotAGraph(
            f"{described(layer)} cannot be recorded: its call() uses the variables {used} directly, and in a graph, "
            "only layers have variables; use them in a separate layer, such as keras.layers.Dense, EinsumDense, "
            "ReversibleEmbedding, or a small class of your own, and call that layer"
        )
    known = {id(variable) for variable in layer.variables}
    if new := _names(variable for variable in graph.variables if id(variable) not in known):
        raise NotAGraph(
            f"{described(layer)} cannot be recorded: its call() creates weights ({new}) that the model does not have "
            "yet; create all layers in the constructor, as attributes, and call the model on data once"
        )


def arguments_of(graph: keras.Model) -> Iterator[Any]:
    """The arguments of all calls of a graph."""
    for operation in graph.operations:
        for node in operation._inbound_nodes:
            yield from (node.arguments.args, node.arguments.kwargs)


def _names(variables: Any) -> str:
    return ", ".join(dict.fromkeys(variable.path for variable in variables))


# --- scopes


@contextmanager
def without_new_nodes(model: keras.Model) -> Iterator[None]:
    """A scope that removes the calls of a model's layers that recording adds."""
    lists = [nodes for operation in _operations(model) for nodes in _node_lists(operation)]
    lengths = [len(nodes) for nodes in lists]
    try:
        yield
    finally:
        for nodes, length in zip(lists, lengths, strict=True):
            del nodes[length:]


def _operations(model: keras.Model) -> list[Any]:
    """The layers of a model at any depth, and the operations of the graphs among them."""
    graphs = [layer for layer in model._flatten_layers() if is_graph(layer)]
    operations = [*model._flatten_layers(), *(operation for graph in graphs for operation in operations_of(graph))]
    return list({id(operation): operation for operation in operations}.values())


def _node_lists(operation: Any) -> tuple[list[Any], list[Any]]:
    return operation._inbound_nodes, operation._outbound_nodes


@contextmanager
def numbered_names(taken: Any) -> Iterator[None]:
    """A scope in which Keras names operations `add`, `add_1`, ... from the first free number.

    Without the scope, Keras counts names in the whole process, so each recording of a model would have other names.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for name in taken:
        prefix, _, number = name.rpartition("_")
        counts[name] = max(counts[name], 1)
        if number.isdigit():
            counts[prefix] = max(counts[prefix], int(number) + 1)
    outer_counts = global_state.get_global_attribute(NAME_COUNTS)
    global_state.set_global_attribute(NAME_COUNTS, counts)
    try:
        yield
    finally:
        global_state.set_global_attribute(NAME_COUNTS, outer_counts)


@contextmanager
def _without_traceback_filter() -> Iterator[None]:
    """A scope in which Keras does not shorten tracebacks, so that they contain the place in the user's code."""
    is_enabled: Callable[[], bool] = keras.config.is_traceback_filtering_enabled
    was_enabled = is_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if was_enabled:
            keras.config.enable_traceback_filtering()
