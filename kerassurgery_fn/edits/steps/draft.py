"""Drafts: the graphs of a snapshot's models while one or several edits change them. `draft_writing` writes the result.

Layers keep the paths that they have in the original snapshot, so that several edits of one draft all refer to that
snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from toolz import dissoc, keyfilter

from kerassurgery_fn.analysis.masks import with_masks, without_masks
from kerassurgery_fn.analysis.shape_collector import Facts
from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.edits.steps.new_layers import Addition, records_of
from kerassurgery_fn.errors import UnknownCall, UnknownLayer
from kerassurgery_fn.graph import (
    Graph,
    Node,
    Port,
    Record,
    Selector,
    Spec,
    find_layers,
    find_one,
    graph_at,
    join_path,
    model_in,
    read_graph,
)
from kerassurgery_fn.rules.registry import is_operation
from kerassurgery_fn.values.snapshot import Snapshot, Weights

SpecsOf = Callable[[str], Mapping[Port, Spec]]  # path of a model -> the specs of its tensors


@dataclass(frozen=True)
class Draft:
    """A snapshot with changes that are not written yet.

    - `snapshot`: the original snapshot;
    - `graphs`: path of a model ("" at the top) -> its current graph, for the models that have changed;
    - `arrays`: path -> weights, for new layers and for layers whose weights have changed;
    - `fresh`: paths of new layers whose weights are drawn when the model is rebuilt;
    - `copies`: path of a copy of a layer or model -> path of the original, whose optimizer state the copy gets;
    - `restarted`: paths of layers whose optimizer state is dropped;
    - `gone`: paths of the weights of replaced layers;
    - `replaced`: paths of nested models that are replaced by layers, and of layers that are replaced by models;
    - `output_origins`: for each output of the model, its index among the original outputs, None for a new one; None
      if the outputs are the original ones.
    """

    snapshot: Snapshot
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    arrays: Weights = field(default_factory=dict)
    fresh: frozenset[str] = frozenset()
    copies: Mapping[str, str] = field(default_factory=dict)
    restarted: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    output_origins: tuple[int | None, ...] | None = None
    # Path of a model -> its original graph, without masks. Drafts that `replace` creates from this draft share it.
    _unmasked: dict[str, Graph] = field(default_factory=dict, repr=False, compare=False)

    @property
    def before(self) -> Graph:
        """The graph of the original snapshot."""
        return read_graph(self.snapshot)

    @cached_property
    def weights(self) -> Weights:
        """The weights of all layers by path; empty for new layers whose weights are drawn at rebuild."""
        kept = {path: arrays for path, arrays in self.snapshot.weights.items() if path not in self.gone}
        return {**kept, **self.arrays, **dict.fromkeys(self.fresh, ())}

    def record(self, path: str) -> Record:
        """The record of a layer in the original snapshot."""
        return self.before.records[path]

    def find(self, selector: Selector) -> list[str]:
        """The paths of the selected layers.

        Raises:
            UnknownLayer: the selector selects no layer, or another edit has replaced all of them.
            AmbiguousLayer: several layers have the name.
        """
        return self.present(find_layers(self.before, selector))

    def present(self, paths: list[str]) -> list[str]:
        """The paths without those of replaced models and of layers inside them.

        Raises:
            UnknownLayer: no path is left.
        """
        present = [path for path in paths if not self.is_replaced(path)]
        if paths and not present:
            raise UnknownLayer(
                f"layer {paths[0]!r} no longer exists: another edit of the same plan replaces it, or the model around "
                "it; use Plan(...) instead of Plan.at_once(...)"
            )
        return present

    def is_replaced(self, path: str) -> bool:
        """Whether a layer, or a model around it, is replaced by another layer."""
        return not self.replaced.isdisjoint(paths_to(path))

    def find_one(self, selector: Selector) -> str:
        """The path of the only selected layer.

        Raises:
            UnknownLayer, AmbiguousLayer: the selector selects no layer, or several.
        """
        return self.present([find_one(self.before, selector)])[0]

    def within(self, selector: Selector) -> list[str]:
        """The paths of the selected layers, and of the layers inside selected models."""
        chosen = dict.fromkeys(self.find(selector))
        inside = tuple(f"{path}/" for path in chosen)
        return self.present([path for path in self.before.places if path in chosen or path.startswith(inside)])

    def graph(self, scope: str) -> Graph:
        """The current graph of a model, by its path or the path of its wrapper, without automatic masks."""
        if scope in self.graphs:
            return self.graphs[scope]
        if scope not in self._unmasked:
            self._unmasked[scope] = without_masks(graph_at(self.before, scope))
        return self._unmasked[scope]

    def exposed(self, path: str) -> Draft:
        """The draft in which calls state their masks, if a layer is an operation that only computes a mask. An edit of
        that operation changes the mask, so it is no longer the one that Keras passes automatically."""
        scope, key = parted(path)
        graph = self.graph(scope)
        if not is_operation(graph.layers[key]) or not graph.alive.isdisjoint(graph.nodes(key)):
            return self
        return self.with_graph(scope, with_masks(graph, self.facts(scope).specs)[0])

    def with_graph(self, scope: str, graph: Graph) -> Draft:
        """The draft with another graph for the model at a path ("" for the whole model)."""
        return replace(self, graphs={**self.graphs, scope: graph})

    def with_output_origins(self, origins: Sequence[int | None]) -> Draft:
        """The draft with other outputs: the index of each among the current outputs, None for a new output."""
        before = self.output_origins
        known = [index if before is None or index is None else before[index] for index in origins]
        return replace(self, output_origins=tuple(known))

    def with_arrays(self, arrays: Weights) -> Draft:
        """The draft with other weights for some layers: path -> arrays in the order of `get_weights()`."""
        return replace(self, arrays={**self.arrays, **arrays})

    def without(self, *paths: str) -> Draft:
        """The draft without the weights of some layers and of the layers in them."""
        layers = {*paths}
        gone = frozenset(owner for owner in self.weights if not layers.isdisjoint(paths_to(owner)))
        return replace(self, arrays=dissoc(self.arrays, *gone), fresh=self.fresh - gone, gone=self.gone | gone)

    def without_model(self, path: str, new: Record) -> Draft:
        """The draft in which a new layer replaces the one at a path, if either of them is a model."""
        if path not in self.before.places or not (model_in(new) or model_in(self.record(path))):
            return self
        graphs = keyfilter(lambda scope: not within(scope, path), self.graphs)
        return replace(self, graphs=graphs, replaced=self.replaced | {path})

    def facts(self, scope: str) -> Facts:
        """The current shapes and dtypes of a model's tensors, as far as they are known."""
        return settled(self.graph(scope), self.weights, scope)

    def added(self, scope: str, layer: Snapshot, key: str = "", name: str | None = None) -> tuple[Draft, str]:
        """The draft with a new layer without calls, and the key of the layer in its model; arguments as in `Addition`.

        Args:
            scope: the path of the model.
        """
        draft, (new,) = self.with_additions(scope, [Addition(layer, key, name)])
        return draft, new

    def with_additions(self, scope: str, additions: Sequence[Addition]) -> tuple[Draft, list[str]]:
        """The draft with new layers without calls, and the keys of the layers in their model.

        Args:
            scope: the path of the model.
            additions: the layers.
        """
        graph = self.graph(scope)
        records = records_of(additions, graph)
        paths = {key: join_path(scope, key) for key in records}
        # What is stated of the outputs of a replaced layer does not hold for the new one.
        stated = {port: spec for port, spec in graph.stated.items() if port.layer not in records}
        graph = replace(
            graph, layers={**graph.layers, **records}, changed=graph.changed | records.keys(), stated=stated
        )
        draft = self.without(*paths.values())
        for key, record in records.items():
            draft = draft.without_model(paths[key], record)
        layers = dict(zip(paths.values(), (addition.layer for addition in additions), strict=True))
        arrays = {join_path(path, inner): a for path, layer in layers.items() for inner, a in layer.weights.items()}
        drawn = {path for path, layer in layers.items() if not (model_in(layer.record) or "" in layer.weights)}
        draft = draft.with_graph(scope, graph).with_arrays(arrays)
        return replace(draft, fresh=(draft.fresh - layers.keys()) | drawn, restarted=draft.restarted | layers.keys()), [
            *records
        ]

    def copied(self, scope: str, key: str, names: Sequence[str | None]) -> tuple[Draft, list[str]]:
        """The draft with copies of a layer in its current state, without calls, and the keys of the copies.

        Args:
            scope: the path of the model.
            key: the layer.
            names: the name of each copy; None for that of the layer with a number.
        """
        path = join_path(scope, key)

        def inside(inner: str) -> str:
            return inner.removeprefix(path).removeprefix("/")

        def of_copies(inner: str) -> list[str]:
            return [join_path(scope, new, inside(inner)) for new in keys]

        paths = [inner for inner in self.weights if within(inner, path)]
        layer = Snapshot(self.graph(scope).layers[key], {inside(inner): self.weights[inner] for inner in paths})
        draft, keys = self.with_additions(scope, [Addition(layer, "", name) for name in names])
        models = self.models_within(path) if any(within(changed, path) for changed in self.graphs) else []
        continued = [inner for inner in paths if not self.is_restarted(inner)]
        return replace(
            draft,
            graphs={**draft.graphs, **{copy: self.graph(model) for model in models for copy in of_copies(model)}},
            fresh=draft.fresh | {copy for inner in self.fresh if within(inner, path) for copy in of_copies(inner)},
            copies={**draft.copies, **{copy: inner for inner in [*models, *continued] for copy in of_copies(inner)}},
        ), keys

    def models_within(self, path: str) -> list[str]:
        """The paths of the models in a layer, including the layer itself, that no other layer replaces."""
        inside = [inner for inner in self.before.places if within(inner, path)]
        return [inner for inner in inside if model_in(self.record(inner)) and not self.is_replaced(inner)]

    def is_restarted(self, path: str) -> bool:
        """Whether the optimizer's state of a layer is dropped."""
        return not self.restarted.isdisjoint(paths_to(path))


def paths_to(path: str) -> list[str]:
    """The path of a layer, followed by the paths of the models around it.

    >>> paths_to("a/b/c")
    ['a/b/c', 'a/b', 'a']
    """
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]


def parted(path: str) -> tuple[str, str]:
    """The path of the model around a layer, and the key of the layer in that model.

    >>> parted("backbone/conv"), parted("conv")
    (('backbone', 'conv'), ('', 'conv'))
    """
    scope, _, key = path.rpartition("/")
    return scope, key


def within(path: str, outer: str) -> bool:
    """Whether a path is the path of a layer, or of a layer inside it.

    >>> within("a/b", "a"), within("ab", "a")
    (True, False)
    """
    return path == outer or path.startswith(f"{outer}/")


def chosen_calls(draft: Draft, path: str, calls: tuple[int, ...] | None) -> list[Node]:
    """The calls of a layer that an edit changes: all current calls, or those with some numbers.

    The numbers are those in the original snapshot.

    Raises:
        UnknownCall: the layer has no such call, or a number occurs twice.
    """
    scope, key = parted(path)
    graph = draft.graph(scope)
    nodes = graph.nodes(key)
    if calls is None:
        return nodes
    total = len(graph_at(draft.before, scope).nodes(key))
    numbers = [number % total if -total <= number < total else number for number in calls]
    if missing := [number for number in numbers if not 0 <= number < total]:
        raise UnknownCall(
            f"layer {graph.name(key)!r} is called {total} times (0 to {total - 1}), so it has no call {missing[0]}"
        )
    if len(set(numbers)) < len(numbers) or not numbers:
        raise UnknownCall(f"calls= of layer {graph.name(key)!r} must be different numbers, not {list(calls)}")
    if taken := [number for number in numbers if (key, number) not in nodes]:
        raise UnknownCall(
            f"call {taken[0]} of layer {graph.name(key)!r} belongs to another layer after an earlier edit of the same "
            "plan; change each call by one edit only"
        )
    return [(key, number) for number in sorted(numbers)]
