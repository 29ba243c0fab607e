"""Graphs whose tensors are joined in another way: each function gives a new graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Any

from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.records import Record, leaves, map_leaves, with_name
from kerassurgery_fn.graph.tensors import Arguments, Node, Port, Use
from kerassurgery_fn.values.frozen import freeze


def redirected(graph: Graph, ports: Mapping[Port, Port], *, but: Collection[Node] = ()) -> Graph:
    """The model with other tensors read in place of some, by all calls but a few and by the model's outputs.

    Replacements are followed to the last.
    """
    if not ports:
        return graph

    def follow(port: Port) -> Port:
        while port in ports:
            port = ports[port]
        return port

    calls = {
        node: _with_ports(call, [follow(use.port) for use in call.uses]) if node not in but else call
        for node, call in graph.calls.items()
    }
    return replace(graph, calls=calls, outputs=map_leaves(follow, graph.outputs))


def reread(graph: Graph, node: Node, ports: Mapping[int, Port]) -> Graph:
    """The model with other tensors at some places among those that a call reads."""
    now = [ports.get(i, port) for i, port in enumerate(graph.reads(node))]
    return replace(graph, calls={**graph.calls, node: _with_ports(graph.calls[node], now)})


def _with_ports(call: Arguments, ports: Sequence[Port]) -> Arguments:
    """A call that reads other tensors, in the order of its arguments."""
    left = iter(ports)

    def reread(tree: Any) -> Any:
        match tree:
            case Use():
                return tree._replace(port=next(left))
            case dict():
                made = {key: reread(tree[key]) for key in sorted(tree)}
                return {key: made[key] for key in tree}
            case list():
                return [reread(item) for item in tree]
        return tree

    return Arguments(reread(call.args), reread(call.kwargs))


def shortened(graph: Graph, node: Node, lost: Collection[int]) -> Graph:
    """The model with a call that reads fewer tensors: some of the items of its first argument, a list, go.

    That argument may go by its name, `inputs`.
    """
    args, kwargs = graph.calls[node]
    left = [item for i, item in enumerate(args[0] if args else kwargs["inputs"]) if i not in lost]
    call = Arguments([left, *args[1:]], kwargs) if args else Arguments([], {**kwargs, "inputs": left})
    return replace(graph, calls={**graph.calls, node: call})


def with_layer(graph: Graph, key: str, record: Record) -> Graph:
    """The model with another record for a layer, or with one more layer."""
    return replace(graph, layers={**graph.layers, key: record}, changed=graph.changed | {key})


def with_call(graph: Graph, key: str, call: Arguments) -> tuple[Graph, Port]:
    """The model with one more call of a layer, and the first tensor that the call makes."""
    number = 1 + max((n for _, n in graph.nodes(key)), default=-1)
    return replace(graph, calls={**graph.calls, (key, number): call}), Port(key, number)


def renamed(graph: Graph, key: str, name: str) -> Graph:
    """The model with another name for a layer, which is all that changes of it."""
    return replace(graph, layers={**graph.layers, key: freeze(with_name(graph.layers[key], name))})


def moved(graph: Graph, node: Node, key: str) -> Graph:
    """The model with a call of one layer made a call of another one, with all that reads what it makes."""
    graph, new = with_call(graph, key, graph.calls[node])
    calls = {one: call for one, call in graph.calls.items() if one != node}
    outputs = {port for one in calls for port in graph.reads(one)} | set(leaves(graph.outputs))
    return redirected(
        replace(graph, calls=calls), {port: new._replace(output=port.output) for port in outputs if port.node == node}
    )


def unused(name: str, taken: Iterable[str]) -> str:
    """A name that is not taken: the name itself, or the first of name_1, name_2, ...

    >>> unused("drop", ["drop", "drop_1"])
    'drop_2'
    """
    taken = set(taken)
    return next(one for one in chain([name], (f"{name}_{i}" for i in count(1))) if one not in taken)
