"""Calls of layers, taken over from a live model where their layers and their inputs are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.models.functional import deserialize_node
from keras.src.ops.function import make_node_key

from kerassurgery_fn.graph import Record, is_functional, name_of
from kerassurgery_fn.keras_io.reviving import with_tuples
from kerassurgery_fn.keras_io.sublayers import members_of

CALLS = "inbound_nodes"
Calls = Mapping[str, list[Any]]  # layer name -> the calls of this layer in one model, as Keras nodes


class Live(NamedTuple):
    """A live model, or a layer of one, and its record as `capture` writes it."""

    layer: Any
    record: Record


def calls_of_model(record: Record, layers: Mapping[str, Any], source: Live) -> Calls:
    """All calls of a Functional model, each made or taken over as soon as its inputs are there."""
    before = _calls_of_live(source)
    records = {name_of(layer): layer for layer in record["config"]["layers"]}
    calls: dict[str, list[Any]] = {name: [] for name in records}
    waiting, made = list(records), -1
    while waiting and made < (made := sum(map(len, calls.values()))):
        waiting = [name for name in waiting if not _made(name, records[name], layers[name], calls, before)]
    if waiting:
        raise ValueError(f"the inputs of layer {waiting[0]!r} depend on its outputs")
    return calls


def _made(name: str, record: Record, layer: Any, calls: Calls, before: Mapping[str, list[_Before]]) -> bool:
    """Whether all calls of a layer are there, after those have been added whose inputs are there."""
    for data in _written(record)[len(calls[name]) :]:
        if not all(call < len(calls[producer]) for producer, call in _producers(data)):
            return False
        calls[name].append(_same_call(name, data, layer, calls, before) or _new_call(layer, data, calls))
    return True


def _written(record: Record) -> list[Any]:
    """The calls of a layer as they are written; a layer of inputs has one call, without arguments."""
    return record.get(CALLS) or [None]


class _Before(NamedTuple):
    """A call of the live model: its layer, how it is written, and its Keras node."""

    layer: Any
    data: Any
    node: Any


def _calls_of_live(source: Live) -> dict[str, list[_Before]]:
    """The calls of a Functional model in the order in which they are written; those of other models are not used."""
    if not is_functional(source.record) or not hasattr(source.layer, "_nodes"):
        return {}
    calls: dict[str, list[_Before]] = {}
    for layer, record in zip(members_of(source.layer), source.record["config"]["layers"], strict=True):
        own = source.layer._nodes  # keys of operation and index
        nodes = [node for i, node in enumerate(layer._inbound_nodes) if make_node_key(layer, i) in own]
        written = _written(record)
        if len(nodes) == len(written):
            calls[name_of(record)] = [_Before(layer, *pair) for pair in zip(written, nodes, strict=True)]
    return calls


def _same_call(name: str, data: Any, layer: Any, calls: Calls, before: Mapping[str, list[_Before]]) -> Any:
    """The call of the live model that is the next call of a layer, or None.

    The calls of a layer keep their order. So after a new call, all further calls of the layer are new, too.
    """
    index = len(calls[name])
    if index >= len(before.get(name, ())):
        return None
    call = before[name][index]
    is_same = (
        call.layer is layer
        and call.data == data
        and all(calls[name][i] is before[name][i].node for i in range(index))
        and all(_is_before(before, producer, i, calls[producer][i]) for producer, i in _producers(data))
        # Keras writes a NumPy scalar as a number, which has another dtype.
        and not any(
            isinstance(argument, np.generic)
            for argument in keras.tree.flatten((call.node.arguments.args, call.node.arguments.kwargs))
        )
    )
    return call.node if is_same else None


def _is_before(before: Mapping[str, list[_Before]], name: str, index: int, node: Any) -> bool:
    return index < len(before.get(name, ())) and before[name][index].node is node


def _new_call(layer: Any, data: Any, calls: Calls) -> Any:
    """The node of a new call of a layer; for a new layer of inputs, its only node."""
    if data is not None:
        nodes = {name: SimpleNamespace(_inbound_nodes=made) for name, made in calls.items()}
        args, kwargs = deserialize_node(with_tuples(data), nodes)
        layer(*args, **kwargs)
    return layer._inbound_nodes[-1]


def _producers(data: Any) -> Iterator[tuple[str, int]]:
    """The layers and the calls whose outputs are arguments of a call.

    >>> tensor = {"class_name": "__keras_tensor__", "config": {"keras_history": ["dense", 0, 0]}}
    >>> list(_producers({"args": [tensor, 2.0], "kwargs": {}}))
    [('dense', 0)]
    """
    match data:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, _]}}:
            yield name, call
        case dict():
            for item in data.values():
                yield from _producers(item)
        case list():
            for item in data:
                yield from _producers(item)
