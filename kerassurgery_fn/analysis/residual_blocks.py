"""Finds the residual blocks of a model.

entry -> conv -> norm -> add -> ...       layers: conv, norm       shortcut: the entry itself
entry -----------------> add

entry -> conv -> norm -> add -> ...       layers: conv, norm       shortcut: proj, which stays without the block
entry -> proj ---------> add
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_

from toolz import unique

from kerassurgery_fn.analysis.masks import without_masks
from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.arguments import as_snapshot
from kerassurgery_fn.graph import Graph, Node, Port, Spec, graph_at, join_path, model_in, read_graph
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True)
class ResidualBlock:
    """The layers between a tensor and the sum that adds the result to a shortcut from this tensor.

    - `entry`: the path of the layer that computes the tensor;
    - `merge`: the path of the layer or operation that adds;
    - `layers`: the paths of the layers that only this block needs, in the order of their calls;
    - `model`: the path of the nested model that contains the block, "" at the top;
    - `call`: the call of the merge, in that model;
    - `operand`: the number of the shortcut among the tensors that the merge reads;
    - `calls`: the calls of `layers` that only this block needs.
    """

    entry: str
    merge: str
    layers: tuple[str, ...]
    model: str = field(default="", repr=False)
    call: Node = field(default=("", 0), repr=False)
    operand: int = field(default=0, repr=False)
    calls: tuple[Node, ...] = field(default=(), repr=False)


def residual_blocks(snapshot: Snapshot) -> tuple[ResidualBlock, ...]:
    """The residual blocks of a model and of its nested models, in the order of their calls.

    The shortcut of a sum is the operand with fewer calls between it and the entry than all other operands. If there is
    no such operand, or if the sum has another shape than the shortcut, the sum is not the end of a block.

    Raises:
        NotASnapshot: the value is not a snapshot.
    """
    snapshot = as_snapshot(snapshot)
    graph = read_graph(snapshot)
    models = ["", *(path for path, record in graph.records.items() if model_in(record))]
    return tuple(block for path in models for block in _blocks_in(snapshot, without_masks(graph_at(graph, path)), path))


def _blocks_in(snapshot: Snapshot, graph: Graph, model: str) -> Iterator[ResidualBlock]:
    sums = [node for node in graph.live if node in graph.calls and _adds(graph, node)]
    if not sums:
        return
    specs, ancestors = settled(graph, snapshot.weights, model).specs, _ancestors(graph)
    place = {node: i for i, node in enumerate(graph.live)}
    for node in sums:
        entry = _entry(graph, ancestors, node)
        operand = None if entry is None else _shortcut(graph, node, graph.live[place[entry] : place[node]])
        if entry is not None and operand is not None and _keeps_shape(graph, node, operand, specs):
            inside = tuple(sorted(_needed_for(graph, node, operand), key=place.__getitem__))
            layers = tuple(unique(join_path(model, key) for key, _ in inside))
            merge = join_path(model, node[0])
            yield ResidualBlock(join_path(model, entry[0]), merge, layers, model, node, operand, inside)


def _adds(graph: Graph, node: Node) -> bool:
    return rule_for(graph.layers[node[0]]).merges == "sums" and len(graph.reads(node)) > 1


def _ancestors(graph: Graph) -> dict[Node, int]:
    """Call -> the calls on which it depends, and itself: bit i stands for call i of `graph.live`."""
    ancestors: dict[Node, int] = {}
    for i, node in enumerate(graph.live):
        ancestors[node] = reduce(or_, (ancestors[port.node] for port in graph.reads(node)), 1 << i)
    return ancestors


def _entry(graph: Graph, ancestors: Mapping[Node, int], node: Node) -> Node | None:
    """The last call on which all operands of a sum depend, or which is one of them."""
    common = reduce(and_, (ancestors[port.node] for port in graph.reads(node)))
    return graph.live[common.bit_length() - 1] if common else None


def _shortcut(graph: Graph, node: Node, between: Sequence[Node]) -> int | None:
    """The number of the operand with the fewest calls between it and the entry, if it depends on nothing else.

    Args:
        graph: the graph.
        node: the sum.
        between: the calls from the entry to the sum, in topological order.
    """
    entry, distance = between[0], _distances(graph, between)
    lengths = [distance[port.node] for port in graph.reads(node)]
    nearest = lengths.index(min(lengths))
    alone = lengths.count(lengths[nearest]) == 1 and _depends_only_on(graph, graph.reads(node)[nearest].node, entry)
    return nearest if alone else None


def _distances(graph: Graph, calls: Sequence[Node]) -> dict[Node, int]:
    """Call -> the length of the shortest path from the first call, for all calls that depend on the first call."""
    distance = {calls[0]: 0}
    for node in calls[1:]:
        before = [distance[port.node] for port in graph.reads(node) if port.node in distance]
        if before:
            distance[node] = 1 + min(before)
    return distance


def _depends_only_on(graph: Graph, node: Node, entry: Node) -> bool:
    """Whether all paths from a call back to the inputs of the model pass through the entry."""
    seen, ahead = {entry}, [node]
    while ahead:
        current = ahead.pop()
        if current not in seen:
            seen.add(current)
            if not graph.reads(current):
                return False
            ahead += [port.node for port in graph.reads(current)]
    return True


def _keeps_shape(graph: Graph, node: Node, operand: int, specs: Mapping[Port, Spec]) -> bool:
    """Whether a sum is known to have the shape of its shortcut."""
    shortcut, total = specs.get(graph.reads(node)[operand]), specs.get(Port(*node))
    return shortcut is not None and total is not None and shortcut.shape == total.shape


def _needed_for(graph: Graph, node: Node, operand: int) -> set[Node]:
    """The calls that the model no longer needs if the readers of the sum read the shortcut. The sum is not included.

    A call is not needed if it is only read by calls that are not needed. The search starts at the sum and goes back.
    """
    shortcut, needless, waiting = graph.reads(node)[operand].node, {node}, [node]
    while waiting:
        for source in {port.node for port in graph.reads(waiting.pop())} - {shortcut} - needless:
            if needless.issuperset(graph.reading[source]):
                needless.add(source)
                waiting.append(source)
    return needless - {node}
