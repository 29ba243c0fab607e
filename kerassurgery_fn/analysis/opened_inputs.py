"""The inputs of a model whose channels an edit may change.

The channels of inputs have no ids in the usual analysis: edits do not cut them unless they are told to, and a model
with thousands of input features is analysed faster without them. An edit that names an input, or that allows inputs to
change, gives ids to the channels of these inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kerassurgery_fn.graph import Graph, leaves

Opened = dict[str, int]  # the path of an input -> the axis of its channels


def opened_inputs(graph: Graph, addresses: Iterable[str], every: bool) -> Opened:
    """The inputs whose channels get ids: the inputs at some addresses, and if `every`, all other inputs of floats."""
    named = {address if address in graph.layers else str(address).rpartition(":")[0] for address in addresses}
    keys = [port.layer for port in leaves(graph.inputs) if port.layer in graph.layers]
    axes = {key: channel_axis(graph, key) for key in keys if key in named or (every and is_of_floats(graph, key))}
    return {key: axis for key, axis in axes.items() if axis}


def channel_axis(graph: Graph, key: str) -> int:
    """The channel axis of an input: the last axis, or the axis after the batch if a reader of the input has channels
    first; 0 if the input has no such axis."""
    rank = len(graph.layers[key]["config"]["batch_shape"])
    readers = [graph.layers[node[0]] for node in graph.calls if key in _read(graph, node)]
    first = any(reader["config"].get("data_format") == "channels_first" for reader in readers)
    return 1 if first and rank > 2 else max(rank - 1, 0)


def _read(graph: Graph, node: tuple[str, int]) -> Collection[str]:
    return {port.layer for port in graph.reads(node)}


def is_of_floats(graph: Graph, key: str) -> bool:
    return "float" in graph.layers[key]["config"]["dtype"]
