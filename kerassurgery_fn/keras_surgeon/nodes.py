"""Live layers and their nodes as a snapshot names and numbers them: paths, and calls of the model."""

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
    """Some calls of a layer, by their numbers among all `total` calls of it in the model.

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
    def chosen(self) -> tuple[int, ...] | None:
        """The numbers as edits take them: None for all there are."""
        return None if self.are_all else self.numbers

    def meet(self, other: Calls) -> bool:
        """Whether some call is among these and others.

        >>> Calls("a", (0, 1), 3).meet(Calls("a", (1, 2), 3)), Calls("a", (0,), 2).meet(Calls("a", (1,), 2))
        (True, False)
        """
        both_all = self.are_all and other.are_all
        return self.path == other.path and (both_all or not set(self.numbers).isdisjoint(other.numbers))


def calls_of(model: keras.Model, layer: Any, node_indices: Iterable[int] | None = None) -> Calls:
    """The calls that indices into `layer._inbound_nodes` mean.

    Args:
        model: a Sequential or Functional model.
        layer: a layer of the model, or its name or path.
        node_indices: the nodes; None or none at all for all that are part of the model.

    Raises:
        UnknownLayer, AmbiguousLayer: the model has no such layer, or several.
        UnknownNode: an index twice, or of a node that is not part of the model.
        NotAGraph: the model has no graph.
    """
    path = path_of(model, layer)
    known = {node: number for number, node in enumerate(nodes_in(model, path))}
    given = as_indices(node_indices) if node_indices is not None else ()
    if given is None:
        raise UnknownNode(f"node_indices are numbers, as [0, 2], or None for all nodes, not {node_indices!r}")
    wanted = [*given] or [*known]
    if len(set(wanted)) < len(wanted):
        raise UnknownNode(f"node_indices {wanted} for layer {path!r} name a node twice; name each once")
    if foreign := [node for node in wanted if node not in known]:
        raise UnknownNode(
            f"node {foreign[0]} of layer {path!r} is not part of model {model.name!r}; the nodes that are have the "
            f"indices {[*known]}, and without node_indices all of them are meant"
        )
    return Calls(path, tuple(sorted(known[node] for node in wanted)), len(known))


def path_of(model: keras.Model, layer: Any) -> str:
    """The path of a layer: that of the object itself if it is part of the model, else the one that its name means."""
    from kerassurgery_fn.keras_io.capturing import capture_graph

    name = getattr(layer, "name", layer)
    paths = {path: operation for path, operation, _ in _operations(model, "") if isinstance(name, str)}
    for meant in (
        [path for path, operation in paths.items() if operation is layer],
        [path for path in paths if path == name],
        [path for path in paths if path.endswith(f"/{name}")],
    ):
        if len(meant) == 1:
            return meant[0]
    return find_layer(read_graph(capture_graph(model)), name)  # which knows what wrappers wrap, and says what is wrong


def nodes_in(model: keras.Model, path: str) -> list[int]:
    """The indices into `layer._inbound_nodes` of a layer's calls in the model, in the order of its config.

    A layer of a model that another layer wraps has none.
    """
    for place, operation, graph in _operations(model, ""):
        if place == path:
            own = {id(node) for nodes in graph._nodes_by_depth.values() for node in nodes}
            return [index for index, node in enumerate(operation._inbound_nodes) if id(node) in own]
    return []


def _operations(model: keras.Model, scope: str) -> Iterator[tuple[str, Any, Any]]:
    """Every layer and operation of a model and of those nested in it: path, itself, the Functional model it is in."""
    graph = getattr(model, "_functional", None) or model
    for operation in getattr(graph, "operations", ()):
        path = join_path(scope, operation.name)
        yield path, operation, graph
        if hasattr(operation, "operations") or hasattr(operation, "_functional"):
            yield from _operations(operation, path)
