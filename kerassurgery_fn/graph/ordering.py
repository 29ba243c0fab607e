"""The orders in which the calls and layers of a model are listed, as functions of the tensors that each call reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph.tensors import Node, Port

Reads = Mapping[Node, Sequence[Port]]  # call -> the tensors that it reads; InputLayers are not included
Reader = tuple[Node, Iterator[Port]]  # a call, and the tensors that it reads and that are not checked yet


def by_dependency(sources: Iterable[Node], reads: Reads) -> list[Node]:
    """The calls in topological order; otherwise in the order in which they are listed.

    A call that reads a missing tensor waits for it, and is checked again when the tensor appears. Each tensor is
    checked once, so the time is linear in the number of calls, whatever their order. Here c reads b, and b reads a;
    `ready` is a stack, its top on the left:

        ready    order    waiting
        c b a    -        -
        b a      -        c for b
        a        -        c for b, b for a
        b        a        c for b
        c        a b      -
        -        a b c    -

    Args:
        sources: the nodes that read nothing, such as InputLayers.
        reads: the tensors that each call reads, in the order of the config.

    Raises:
        BrokenSnapshot: some calls read tensors that no call computes.
    """
    order: dict[Node, None] = dict.fromkeys(sources)
    ready: list[Reader] = [(node, reversed(ports)) for node, ports in reversed([*reads.items()])]
    waiting: dict[Node, list[Reader]] = {}
    while ready:
        node, unchecked = ready.pop()
        for port in unchecked:
            if port[:2] not in order:
                waiting.setdefault(port[:2], []).append((node, unchecked))
                break
        else:
            order[node] = None
            ready += reversed(waiting.pop(node, ()))
    refuse_waiting(waiting)
    return [node for node in order if node in reads]


def refuse_waiting(waiting: Mapping[Node, list[Reader]]) -> None:
    """Raises BrokenSnapshot if calls still wait for tensors."""
    if waiting:
        names = ", ".join(sorted({key for readers in waiting.values() for (key, _), _ in readers}))
        raise BrokenSnapshot(f"the calls of {names} read tensors that no layer computes; check their inbound_nodes")


def from_outputs(outputs: Sequence[Port], reads: Reads) -> tuple[list[str], list[Node]]:
    """The layers and calls on a depth-first walk from the outputs to the inputs.

    Returns:
        The layers in the order in which the walk meets them, and the calls in the order in which the walk leaves them,
        which is a topological order.
    """
    met: dict[str, None] = {}
    started: set[Node] = set()
    finished: list[Node] = []
    stack: list[tuple[Node | None, Iterator[Port]]] = [(None, iter(outputs))]
    while stack:
        current, ports = stack[-1]
        node = next((port.node for port in ports if port.node not in started), None)
        if node is not None:
            started.add(node)
            met.setdefault(node[0])
            stack.append((node, iter(reads.get(node, ()))))
        else:
            stack.pop()
            finished += [] if current is None else [current]
    return list(met), finished


def by_distance(met: Sequence[str], finished: Sequence[Node], inputs: Iterable[Port], reads: Reads) -> list[str]:
    """The layers in the order in which Keras lists them.

    Keras sorts the layers by their distance from the outputs, the farthest first. Layers of equal distance stay in the
    order of a depth-first walk from the outputs.

    Args:
        met, finished: the layers and calls on that walk, see `from_outputs`.
        inputs: the inputs of the model. Keras lists them even if no call reads them.
        reads: the tensors that each call reads.
    """
    depths: dict[Node, int] = {}
    depth_of: dict[str, int] = {}
    for node in reversed(finished):
        depth_of[node[0]] = depths[node] = max(depths.get(node, 0), depth_of.get(node[0], 0))
        for port in reads.get(node, ()):
            depths[port.node] = max(depths[node] + 1, depths.get(port.node, 0))
    for port in inputs:
        depth_of.setdefault(port.layer, 0)
    place = {key: index for index, key in enumerate(met)}
    return sorted(depth_of, key=lambda key: (-depth_of[key], place.get(key, -1)))
