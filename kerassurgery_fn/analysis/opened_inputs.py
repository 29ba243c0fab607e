"""The inputs of a model whose channels an edit can change, and the layers with a row for each value of an input.

The channels of inputs have no ids in the usual analysis. Edits do not cut these channels unless the user asks for it,
and the analysis of a model with thousands of input features is faster without ids for them. If an edit names an input,
or allows inputs to change, the channels of these inputs get ids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kerassurgery_fn.analysis.vocabularies import row_kinds, vocabulary_of
from kerassurgery_fn.graph import Graph, find_layers, leaves, trace
from kerassurgery_fn.rules.registry import rule_for

# (Path, kind) of channels -> the axis of the input with these channels; 0 for rows.
Opened = dict[tuple[str, str], int]
CHANNELS = "channels"


def opened_inputs(graph: Graph, addresses: Iterable[str], every: bool) -> Opened:
    """The inputs whose channels get ids: the inputs at some addresses, and if `every`, all other inputs of floats."""
    named = {address if address in graph.layers else str(address).rpartition(":")[0] for address in addresses}
    keys = [port.layer for port in leaves(graph.inputs) if port.layer in graph.layers]
    axes = {key: channel_axis(graph, key) for key in keys if key in named or (every and is_of_floats(graph, key))}
    return {(key, CHANNELS): axis for key, axis in axes.items() if axis}


def opened_rows(graph: Graph, addresses: Iterable[str]) -> Opened:
    """The layers whose rows some addresses name, such as `words:input_dim`, and those that share their values."""
    named = [address.rpartition(":") for address in map(str, addresses) if address not in graph.places]
    kinds = row_kinds()
    rows = {
        (path, kind)
        for name, _, kind in named
        for path in (find_layers(graph, name) if kind in kinds else ())
        if rule_for(graph.records[path]).rows == kind
    }
    return dict.fromkeys(vocabulary_of(trace(graph), rows).rows, 0) if rows else {}


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
