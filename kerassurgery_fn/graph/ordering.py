"""The orders in which the calls and layers of a model are listed, as functions of what each call reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph.tensors import Node, Port

Reads = Mapping[Node, Sequence[Port]]  # call -> the tensors that it reads; an InputLayer is not in it


def by_dependency(sources: Iterable[Node], reads: Reads) -> list[Node]:
    """The calls, each after those whose outputs it reads, otherwise as they are listed.

    A call waits for one of the tensors that are not there yet, and is looked at again when that tensor appears. No
    tensor is looked up twice, so this takes linear time in whatever order the calls are listed. Here c reads b, and b
    reads a; `ready` is a stack, its top on the left:

        ready    order    waiting
        c b a    -        -
        b a      -        c for b
        a        -        c for b, b for a
        b        a        c for b
        c        a b      -
        -        a b c    -

    Args:
        sources: what is there from the start, the InputLayers.
        reads: the tensors that each call reads, in the order of the config.

    Raises:
        BrokenSnapshot: some calls wait for tensors that nothing makes.
    """
    order: dict[Node, None] = dict.fromkeys(sources)
    unread = {node: [port[:2] for port in ports] for node, ports in reversed([*reads.items()])}
    waiting: dict[Node, list[Node]] = {}
    ready = list(unread)
    while ready:
        node = ready.pop()
        ahead = unread[node]
        while ahead and ahead[-1] in order:
            ahead.pop()
        if ahead:
            waiting.setdefault(ahead[-1], []).append(node)
        else:
            order[node] = None
            ready += reversed(waiting.pop(node, ()))
    refuse_waiting(waiting)
    return [node for node in order if node in reads]


def refuse_waiting(waiting: Mapping[Node, list[Node]]) -> None:
    """Raises BrokenSnapshot if calls wait for tensors."""
    if waiting:
        names = ", ".join(sorted({key for nodes in waiting.values() for key, _ in nodes}))
        raise BrokenSnapshot(f"the calls of {names} wait for tensors that nothing makes; check their inbound_nodes")


def from_outputs(outputs: Sequence[Port], reads: Reads) -> tuple[list[str], list[Node]]:
    """Layers as a depth-first walk from the outputs meets them, and calls as the walk is done with them: each after
    those that it reads."""
    met: dict[str, None] = {}
    started: set[Node] = set()
    finished: list[Node] = []
    stack: list[tuple[Node | None, Iterator[Port]]] = [(None, iter(outputs))]
    while stack:
        here, ahead = stack[-1]
        node = next((port.node for port in ahead if port.node not in started), None)
        if node is not None:
            started.add(node)
            met.setdefault(node[0])
            stack.append((node, iter(reads.get(node, ()))))
        else:
            stack.pop()
            finished += [] if here is None else [here]
    return list(met), finished


def by_distance(met: Sequence[str], finished: Sequence[Node], inputs: Iterable[Port], reads: Reads) -> list[str]:
    """The layers in the order in which Keras lists them: by their distance from the outputs, the farthest first, and
    among equals as they are met on a walk from the outputs to the inputs.

    Args:
        met, finished: the layers and calls on that walk.
        inputs: the inputs of the model, which Keras lists also if nothing reads them.
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
