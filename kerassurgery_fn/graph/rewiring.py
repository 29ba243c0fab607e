"""Changes of the calls and layers of a graph. Each function returns a new graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from toolz import concat

from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.records import Record, leaves, map_leaves, with_name
from kerassurgery_fn.graph.tensors import Arguments, Node, Port, Use
from kerassurgery_fn.values.frozen import freeze


def redirected(graph: Graph, ports: Mapping[Port, Port], *, but: Collection[Node] = ()) -> Graph:
    """The graph in which calls and outputs read other tensors.

    Args:
        graph: the graph.
        ports: tensor -> the tensor that is read instead. If the new tensor is replaced, too, its replacement is read.
        but: calls that are left unchanged.
    """
    ports = {old: new for old, new in ports.items() if old != new}
    if not ports:
        return graph

    last: dict[Port, Port] = {}  # the ends that are known, so that long chains are followed once

    def follow(port: Port) -> Port:
        passed = []
        while port in ports and port not in last:
            passed.append(port)
            port = ports[port]
        end = last.get(port, port)
        last.update(dict.fromkeys(passed, end))
        return end

    calls = {
        node: _with_ports(call, [*map(follow, call.ports)])
        for node, call in graph.calls.items()
        if node not in but and not ports.keys().isdisjoint(call.ports)
    }
    return replace(graph, calls={**graph.calls, **calls}, outputs=map_leaves(follow, graph.outputs))


def reread(graph: Graph, changes: Mapping[Node, Mapping[int, Port]]) -> Graph:
    """The graph in which some calls read other tensors.

    Args:
        graph: the graph.
        changes: call -> index among the tensors that the call reads -> the tensor that it reads instead.
    """
    calls = {
        node: _with_ports(graph.calls[node], [ports.get(i, port) for i, port in enumerate(graph.reads(node))])
        for node, ports in changes.items()
    }
    return replace(graph, calls={**graph.calls, **calls})


def _with_ports(call: Arguments, ports: Sequence[Port]) -> Arguments:
    """A call that reads other tensors, in the order of its arguments."""
    remaining = iter(ports)

    def with_port(tree: Any) -> Any:
        match tree:
            case Use():
                return tree._replace(port=next(remaining))
            case dict():
                # `leaves` visits a dict in the order of its keys; the dict itself keeps its own order.
                items = {key: with_port(tree[key]) for key in sorted(tree)}
                return {key: items[key] for key in tree}
            case list():
                return [with_port(item) for item in tree]
        return tree

    return Arguments(with_port(call.args), with_port(call.kwargs))


def shortened(graph: Graph, node: Node, removed: Collection[int]) -> Graph:
    """The graph in which the list of tensors that a call reads is shorter.

    Args:
        graph: the graph.
        node: a call whose first argument, by position or with the name `inputs`, is a list.
        removed: the indices of the items that are removed from the list.
    """
    args, kwargs = graph.calls[node]
    kept = [item for i, item in enumerate(args[0] if args else kwargs["inputs"]) if i not in removed]
    call = Arguments([kept, *args[1:]], kwargs) if args else Arguments([], {**kwargs, "inputs": kept})
    return replace(graph, calls={**graph.calls, node: call})


def with_layer(graph: Graph, key: str, record: Record) -> Graph:
    """The graph with another record for a layer, or with a new layer."""
    return with_layers(graph, {key: record})


def with_layers(graph: Graph, records: Mapping[str, Record]) -> Graph:
    """The graph with other records for some layers, or with new layers."""
    return replace(graph, layers={**graph.layers, **records}, changed=graph.changed | records.keys())


def with_call(graph: Graph, key: str, call: Arguments) -> tuple[Graph, Port]:
    """The graph with one more call of a layer, and the first output of this call."""
    graph, (port,) = with_calls(graph, [(key, call)])
    return graph, port


def with_calls(graph: Graph, calls: Sequence[tuple[str, Arguments]]) -> tuple[Graph, list[Port]]:
    """The graph with more calls of layers, and the first output of each of these calls.

    Args:
        graph: the graph.
        calls: the key of the layer and the arguments, for each new call.
    """
    numbers = dict.fromkeys((key for key, _ in calls), 0)  # key -> the number of the next call
    for key, number in graph.calls:
        if key in numbers:
            numbers[key] = max(numbers[key], number + 1)
    added: dict[Node, Arguments] = {}
    for key, call in calls:
        added[key, numbers[key]] = call
        numbers[key] += 1
    return replace(graph, calls={**graph.calls, **added}), [Port(*node) for node in added]


def renamed(graph: Graph, key: str, name: str) -> Graph:
    """The graph with another name for a layer."""
    return replace(graph, layers={**graph.layers, key: freeze(with_name(graph.layers[key], name))})


def moved(graph: Graph, owners: Mapping[Node, str]) -> Graph:
    """The graph in which other layers take over calls. Readers of a call's outputs read the new call's outputs.

    Args:
        graph: the graph.
        owners: call -> the key of the layer that takes it over.
    """
    graph, ports = with_calls(graph, [(key, graph.calls[node]) for node, key in owners.items()])
    new = dict(zip(owners, ports, strict=True))
    calls = {node: call for node, call in graph.calls.items() if node not in owners}
    read = {*concat(map(graph.reads, calls)), *leaves(graph.outputs)}
    outputs = {port: new[port.node]._replace(output=port.output) for port in read if port.node in new}
    return redirected(replace(graph, calls=calls), outputs)


def unused(name: str, taken: Iterable[str]) -> str:
    """A name that is not taken: the name itself, or the first free name of name_1, name_2, ...

    >>> unused("drop", ["drop", "drop_1"])
    'drop_2'
    """
    return FreeNames(taken).take(name)


class FreeNames:
    """Names that are not taken, given out one after the other as by `unused`. The search for the next free name goes on
    where the last search for the same name has ended.

    >>> names = FreeNames(["drop"])
    >>> names.take("drop"), names.take("drop"), names.take("relu")
    ('drop_1', 'drop_2', 'relu')
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = Counter(taken)
        self._numbers: dict[str, int] = {}  # name -> the lowest number that may be free; 0 for the name itself

    def take(self, name: str) -> str:
        """The name, or the first free one of name_1, name_2, ...; it is taken from now on."""
        number = self._numbers.get(name, 0)
        while (candidate := f"{name}_{number}" if number else name) in self._taken:
            number += 1
        self._numbers[name] = number
        self.reserve(candidate)
        return candidate

    def reserve(self, name: str) -> None:
        """Marks a name as taken."""
        self._taken[name] += 1

    def release(self, name: str) -> None:
        """Marks a name as free, if it was taken once."""
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
        stem, _, digits = name.rpartition("_")
        self._numbers[name] = 0
        if digits.isdecimal():
            self._numbers[stem] = min(self._numbers.get(stem, 0), int(digits))
