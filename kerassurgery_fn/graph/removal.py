"""Removes calls from a model and the models nested in it. The readers of a removed call read other tensors instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace

from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.reading import graph_of
from kerassurgery_fn.graph.records import Record, is_functional, is_model, join_path, name_of
from kerassurgery_fn.graph.rewiring import redirected, shortened
from kerassurgery_fn.graph.tensors import Node, Port
from kerassurgery_fn.graph.writing import record_of
from kerassurgery_fn.values.frozen import get_in, set_in


@dataclass(frozen=True)
class Rewiring:
    """The changes of the calls of a model.

    A call is identified by the path of its layer and the number of the call; an output also has its index.

    - `dropped`: the calls that are removed;
    - `shortened`: calls whose first argument is a list -> the indices of the items that are removed from it;
    - `replaced`: output that is removed -> the output, in the same model, that is read instead.
    """

    dropped: Set[Node] = frozenset()
    shortened: Mapping[Node, Set[int]] = field(default_factory=dict)
    replaced: Mapping[tuple[str, int, int], tuple[str, int, int]] = field(default_factory=dict)


def rewire(record: Record, changes: Rewiring, scope: str = "") -> Record:
    """The record of a model after a rewiring. Layers without calls are removed, and calls get new numbers.

    The unchanged parts of the record are shared.
    """
    if not (changes.dropped or changes.shortened or changes.replaced):
        return record
    for index, layer in enumerate(record["config"]["layers"]):
        path = join_path(scope, name_of(layer))
        if is_model(layer) and any(touched.startswith(f"{path}/") for touched in _paths(changes)):
            record = set_in(record, ("config", "layers", index), rewire(layer, changes, path))
    graph = _shortened(graph_of(record), changes, scope)
    ports = {Port(_key(a[0], scope), *a[1:]): Port(_key(b[0], scope), *b[1:]) for a, b in changes.replaced.items()}
    if not is_functional(record):
        dropped = [node for node in graph.calls if (join_path(scope, node[0]), node[1]) in changes.dropped]
        ports |= {Port(*node): graph.reads(node)[0] for node in dropped}
    graph = redirected(graph, ports)
    return record_of(graph, graph.stated.__getitem__)


def _paths(changes: Rewiring) -> Iterable[str]:
    return {str(path) for path, *_ in [*changes.dropped, *changes.shortened, *changes.replaced]}


def _key(path: str, scope: str) -> str:
    return path.removeprefix(f"{scope}/") if scope else path


def _shortened(graph: Graph, changes: Rewiring, scope: str) -> Graph:
    """The graph with its shortened calls, and with the build_config of their layers.

    Keras builds a layer at its first call, so the build_config only has the shapes of the first call.
    """
    for (path, number), removed in changes.shortened.items():
        node = (_key(path, scope), number)
        if node not in graph.calls:
            continue
        graph = shortened(graph, node, removed)
        layer = graph.layers[node[0]]
        if number == 0 and (layer.get("build_config") or {}).get("input_shape"):
            place = ("build_config", "input_shape")
            shapes = [shape for i, shape in enumerate(get_in(layer, place)) if i not in removed]
            graph = replace(graph, layers={**graph.layers, node[0]: set_in(layer, place, shapes)})
    return graph
