"""Translates layers and nodes of a live model into the paths and call numbers of its snapshot.

Keras numbers the calls of a layer over all models that use it (`layer._inbound_nodes`). A snapshot numbers the calls in
one model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerassurgery_fn.edits.steps.indices import as_indices
from kerassurgery_fn.errors import UnknownNode
from kerassurgery_fn.graph import find_layer, join_path, read_graph

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Calls:
    """Some of the `total` calls of a layer in a model, by number.

    >>> Calls("conv", (1,), 2).are_all, Calls("conv", (0, 1), 2).are_all
    (False, True)
    """

    path: str
    numbers: tuple[int, ...]
    total: int

    @property
    def are_all(self) -> bool:
        return len(self.numbers) == self.total

    @property
    def selection(self) -> tuple[int, ...] | None:
        """The numbers of the calls for the argument of an edit: None for all calls."""
        return None if self.are_all else self.numbers

    def overlap(self, other: Calls) -> bool:
        """Whether two selections have a call in common.

        >>> Calls("a", (0, 1), 3).overlap(Calls("a", (1, 2), 3)), Calls("a", (0,), 2).overlap(Calls("a", (1,), 2))
        (True, False)
        """
        both_all = self.are_all and other.are_all
        return self.path == other.path and (both_all or not set(self.numbers).isdisjoint(other.numbers))


def calls_of(model: keras.Model, layer: Any, node_indices: Iterable[int] | None = None) -> Calls:
    """The calls of a layer that indices into `layer._inbound_nodes` select.

    Args:
        model: a Sequential or Functional model.
        layer: a layer of the model, or its name or path.
        node_indices: the nodes; None or an empty list selects all nodes of the model.

    Raises:
        UnknownLayer, AmbiguousLayer: the model has no such layer, or several such layers.
        UnknownNode: an index is repeated, or its node does not belong to the model.
        NotAGraph: the model has no graph.
    """
    path = path_of(model, layer)
    numbers = {node: number for number, node in enumerate(nodes_in(model, path))}
    indices = as_indices(node_indices) if node_indices is not None else ()
    if indices is None:
        raise UnknownNode(f"node_indices must be integers such as [0, 2], or None for all nodes, not {node_indices!r}")
    nodes = [*indices] or [*numbers]
    if len(set(nodes)) < len(nodes):
        raise UnknownNode(f"node_indices {nodes} for layer {path!r} name a node twice; name each node once")
    if foreign := [node for node in nodes if node not in numbers]:
        raise UnknownNode(
            f"node {foreign[0]} of layer {path!r} does not belong to model {model.name!r}; the nodes of the model have "
            f"the indices {[*numbers]}; omit node_indices to select all of them"
        )
    return Calls(path, tuple(sorted(numbers[node] for node in nodes)), len(numbers))


def path_of(model: keras.Model, layer: Any) -> str:
    """The path of a layer: of the layer object if it belongs to the model, otherwise of the layer with its name."""
    from kerassurgery_fn.keras_io.capturing import capture_graph

    name = getattr(layer, "name", layer)
    paths = {path: operation for path, operation, _ in _operations(model, "") if isinstance(name, str)}
    for candidates in (
        [path for path, operation in paths.items() if operation is layer],
        [path for path in paths if path == name],
        [path for path in paths if path.endswith(f"/{name}")],
    ):
        if len(candidates) == 1:
            return candidates[0]
    # The graph also has the layers inside wrappers, and find_layer raises an error with suggestions.
    return find_layer(read_graph(capture_graph(model)), name)


def nodes_in(model: keras.Model, path: str) -> list[int]:
    """The indices into `layer._inbound_nodes` of a layer's calls in the model, in the order of its config.

    A layer inside a wrapped model (TimeDistributed) has no nodes in the model.
    """
    for operation_path, operation, graph in _operations(model, ""):
        if operation_path == path:
            model_nodes = {id(node) for nodes in graph._nodes_by_depth.values() for node in nodes}
            return [index for index, node in enumerate(operation._inbound_nodes) if id(node) in model_nodes]
    return []


def _operations(model: keras.Model, scope: str) -> Iterator[tuple[str, Any, Any]]:
    """Path, object and Functional model of every layer and operation of a model and of its nested models."""
    graph = getattr(model, "_functional", None) or model
    for operation in getattr(graph, "operations", ()):
        path = join_path(scope, operation.name)
        yield path, operation, graph
        if hasattr(operation, "operations") or hasattr(operation, "_functional"):
            yield from _operations(operation, path)
