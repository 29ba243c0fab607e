"""Runs the graph of a live model call by call, so that every tensor is available.

`model.predict` returns outputs only, and the tensors inside nested models belong to other graphs. Therefore the calls
of the snapshot's graph, which lists nested calls by path, are executed with the live layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from kerassurgery_fn.graph import (
    Constant,
    Record,
    Ref,
    Trace,
    is_input,
    is_model,
    join_path,
    leaves,
    map_leaves,
    name_of,
)
from kerassurgery_fn.keras_io.sublayers import members_of
from kerassurgery_fn.values.frozen import get_in, thaw
from kerassurgery_fn.values.snapshot import Snapshot

Seen = Callable[[Ref, Any], None]  # is called for each tensor as soon as it is computed
RunGraph = Callable[..., dict[Ref, Any]]


def graph_runner(model: keras.Model, snapshot: Snapshot, trace: Trace) -> RunGraph:
    """A function from the inputs of a model, the flag `training`, and a function `seen`, to all tensors of its graph.

    As in `predict`, the flag overrides a `training` argument that is written in a call of the graph.
    """
    inputs = [Ref(port.layer, (port.call,), port.output) for port in leaves(trace.graph.inputs)]
    operations = dict(operations_by_path(model, snapshot.record, ""))
    calls = [call for call in trace.calls if not is_input(call.record)]
    arguments = [revived_arguments([call.args, call.kwargs], snapshot) for call in calls]

    def run(input_tensors: list[Any], training: bool, seen: Seen = lambda ref, tensor: None) -> dict[Ref, Any]:
        tensors = dict(zip(inputs, input_tensors, strict=True))
        for call, call_arguments in zip(calls, arguments, strict=True):
            args, kwargs = with_tensors(call_arguments, tensors)
            kwargs |= {"training": training} if "training" in kwargs else {}
            outputs = keras.tree.flatten(operations[call.path](*args, **kwargs))
            for index, output in enumerate(outputs):
                ref = Ref(call.path, call.node, index)
                tensors[ref] = output
                seen(ref, output)
        return tensors

    return run


def operations_by_path(model: keras.Model, record: Record, scope: str) -> Iterator[tuple[str, Any]]:
    """Path and object of every layer and operation of a model, nested models excepted."""
    records = {name_of(layer_record): layer_record for layer_record in record["config"]["layers"]}
    for operation in model.layers if isinstance(model, keras.Sequential) else members_of(model):
        path = join_path(scope, operation.name)
        if is_model(records[operation.name]):
            yield from operations_by_path(operation, records[operation.name], path)
        else:
            yield path, operation


def revived_arguments(tree: Any, snapshot: Snapshot) -> Any:
    """The arguments of a call, with the objects of Keras revived from their records; refs to tensors stay."""
    match tree:
        case Ref():
            return tree
        case Constant(where=where):
            # The location ends in ("config", "value"): the record of the array is two levels up.
            return keras.saving.deserialize_keras_object(thaw(get_in(snapshot.record, where[:-2])))
        case {"class_name": _}:
            return keras.saving.deserialize_keras_object(thaw(tree))
        case dict():
            return {key: revived_arguments(item, snapshot) for key, item in tree.items()}
        case list():
            return [revived_arguments(item, snapshot) for item in tree]
    return tree


def with_tensors(tree: Any, tensors: Mapping[Ref, Any]) -> Any:
    """The arguments of a call, with every ref replaced by its tensor."""
    return map_leaves(lambda leaf: tensors[leaf] if isinstance(leaf, Ref) else leaf, tree)
