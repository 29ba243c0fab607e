"""A snapshot under way: the graphs of its models, changed by one edit or by several, and written at the end.

Layers go by their paths in the snapshot that the work began with, whatever becomes of their names and calls, so that
several edits of one draft all mean what that snapshot has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from kerassurgery_fn.analysis.masks import with_masks, without_masks
from kerassurgery_fn.analysis.shape_collector import Facts
from kerassurgery_fn.analysis.shapes import settled
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
    own_record,
    read_graph,
    unused,
    with_name,
)
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.snapshot import Snapshot, Weights

SpecsOf = Callable[[str], Mapping[Port, Spec]]  # path of a model -> the specs of its tensors


@dataclass(frozen=True)
class Draft:
    """A snapshot under way.

    - `snapshot`: what the work began with;
    - `graphs`: path of a model ("" at the top) -> its graph now, for the models that have changed;
    - `arrays`: path -> weights, for the layers whose weights have changed and for new ones;
    - `fresh`: paths of new layers whose weights are yet to be drawn;
    - `copies`: path of a copy of a layer or a model -> that of the original, with whose optimizer state it begins;
    - `restarted`: paths of layers whose optimizer state is no longer that of their weights;
    - `gone`: paths of weights of layers that others have taken the place of;
    - `replaced`: paths of models that other layers have taken the place of, and of layers that models have;
    - `output_origins`: for each output of the model, which one of the snapshot's it is, or None for a new one; None in
      place of them all where they are the same.
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
    # Path of a model -> its graph when the work began, without masks. All drafts that `replace` makes of one share it.
    _unmasked: dict[str, Graph] = field(default_factory=dict, repr=False, compare=False)

    @property
    def before(self) -> Graph:
        """The graph of the snapshot that the work began with."""
        return read_graph(self.snapshot)

    @cached_property
    def weights(self) -> Weights:
        kept = {path: own for path, own in self.snapshot.weights.items() if path not in self.gone}
        return {**kept, **self.arrays, **dict.fromkeys(self.fresh, ())}

    def record(self, path: str) -> Record:
        """The record of a layer as it was when the work began."""
        return self.before.records[path]

    def find(self, selector: Selector) -> list[str]:
        """The paths of the layers that a selector names.

        Raises:
            UnknownLayer, AmbiguousLayer: it names none, or several where one is meant; another edit has replaced it.
        """
        return self.present(find_layers(self.before, selector))

    def present(self, paths: list[str]) -> list[str]:
        """The paths less those of models that another edit has replaced, and of layers in them.

        Raises:
            UnknownLayer: none is left.
        """
        left = [path for path in paths if not self.is_replaced(path)]
        if paths and not left:
            raise UnknownLayer(
                f"layer {paths[0]!r} is not there any more: at once with this edit, another one replaces it, or the "
                "model that it is in; do one edit after the other, in a Plan"
            )
        return left

    def is_replaced(self, path: str) -> bool:
        """Whether a layer has gone with a model that another layer has replaced."""
        return any(within(path, model) for model in self.replaced)

    def find_one(self, selector: Selector) -> str:
        """The path of the one layer that a selector names.

        Raises:
            UnknownLayer, AmbiguousLayer: it names none, or several.
        """
        return self.present([find_one(self.before, selector)])[0]

    def within(self, selector: Selector) -> list[str]:
        """The paths of the layers that a selector names, and of those in them if they are models."""
        chosen = dict.fromkeys(self.find(selector))
        inside = tuple(f"{path}/" for path in chosen)
        return self.present([path for path in self.before.places if path in chosen or path.startswith(inside)])

    def graph(self, scope: str) -> Graph:
        """The graph of a model now, by its path or that of the layer that wraps it. Its masks are yet to be found."""
        if scope in self.graphs:
            return self.graphs[scope]
        if scope not in self._unmasked:
            self._unmasked[scope] = without_masks(graph_at(self.before, scope))
        return self._unmasked[scope]

    def exposed(self, path: str) -> Draft:
        """The draft in which calls state their masks, if a layer is an operation that only masks are computed by: an
        edit of the operation is one of these masks, which Keras does not find any more."""
        scope, key = parted(path)
        graph = self.graph(scope)
        if not key_of(graph.layers[key]).startswith("ops.") or key in {key for key, _ in graph.live}:
            return self
        return self.with_graph(scope, with_masks(graph, self.facts(scope).specs)[0])

    def with_graph(self, scope: str, graph: Graph) -> Draft:
        return replace(self, graphs={**self.graphs, scope: graph})

    def with_output_origins(self, origins: Sequence[int | None]) -> Draft:
        """The draft whose outputs are some of those that it had, by their indices, and new ones, each a None."""
        before = self.output_origins
        known = [index if before is None or index is None else before[index] for index in origins]
        return replace(self, output_origins=tuple(known))

    def with_arrays(self, arrays: Weights) -> Draft:
        return replace(self, arrays={**self.arrays, **arrays})

    def without(self, path: str) -> Draft:
        """The draft without the weights of a layer, or of those in it."""
        inside = f"{path}/"
        gone = frozenset(one for one in self.weights if one == path or one.startswith(inside))
        arrays = {one: own for one, own in self.arrays.items() if one not in gone}
        return replace(self, arrays=arrays, fresh=self.fresh - gone, gone=self.gone | gone)

    def without_model(self, path: str, new: Record) -> Draft:
        """The draft in which a layer takes a path, if a model had that path or the layer is a model."""
        if path not in self.before.places or not (model_in(new) or model_in(self.record(path))):
            return self
        graphs = {scope: graph for scope, graph in self.graphs.items() if not within(scope, path)}
        return replace(self, graphs=graphs, replaced=self.replaced | {path})

    def facts(self, scope: str) -> Facts:
        """The specs of a model's tensors as far as they are known now."""
        return settled(self.graph(scope), self.weights, scope)

    def added(self, scope: str, layer: Snapshot, key: str = "", name: str | None = None) -> tuple[Draft, str]:
        """The draft with a new layer, which is not called yet, and the layer's key in its model.

        Args:
            scope: the path of the model.
            layer: the layer.
            key: that of a layer which it takes the place of.
            name: the layer's name; its own by default, with a number if another layer has that.
        """
        graph = self.graph(scope)
        taken = {graph.name(other) for other in graph.layers if other != key}
        name = name or unused(layer.name, taken)
        key = key or unused(name, graph.layers)
        path = join_path(scope, key)
        record = {key: value for key, value in own_record(layer.record).items() if key != "compile_config"}
        record = freeze(with_name(record, name))
        stated = {port: spec for port, spec in graph.stated.items() if port.layer != key}  # what a layer before it made
        graph = replace(graph, layers={**graph.layers, key: record}, changed=graph.changed | {key}, stated=stated)
        draft = self.without(path).without_model(path, record).with_graph(scope, graph)
        draft = draft.with_arrays({join_path(path, own): a for own, a in layer.weights.items()})
        fresh = frozenset(() if model_in(record) or "" in layer.weights else [path])
        return replace(draft, fresh=(draft.fresh - {path}) | fresh, restarted=draft.restarted | {path}), key

    def copied(self, scope: str, key: str, name: str | None = None) -> tuple[Draft, str]:
        """The draft with a copy of a layer as it is now, which is not called yet, and the copy's key in its model."""
        path = join_path(scope, key)

        def inside(inner: str) -> str:
            return inner.removeprefix(path).removeprefix("/")

        def of_copy(inner: str) -> str:
            return join_path(scope, new, inside(inner))

        paths = [inner for inner in self.weights if within(inner, path)]
        layer = Snapshot(self.graph(scope).layers[key], {inside(inner): self.weights[inner] for inner in paths})
        draft, new = self.added(scope, layer, name=name)
        models = self.models_within(path) if any(within(changed, path) for changed in self.graphs) else []
        continued = [inner for inner in paths if not self.is_restarted(inner)]
        return replace(
            draft,
            graphs={**draft.graphs, **{of_copy(model): self.graph(model) for model in models}},
            fresh=draft.fresh | {of_copy(inner) for inner in self.fresh if within(inner, path)},
            copies={**draft.copies, **{of_copy(inner): inner for inner in [*models, *continued]}},
        ), new

    def models_within(self, path: str) -> list[str]:
        """The paths of the models in a layer, its own included, that no other layer has replaced."""
        return [
            one for one in self.before.places
            if within(one, path) and model_in(self.record(one)) and not self.is_replaced(one)
        ]  # fmt: skip

    def is_restarted(self, path: str) -> bool:
        """Whether the optimizer's state of a layer is no longer that of its weights."""
        return any(within(path, one) for one in self.restarted)


def parted(path: str) -> tuple[str, str]:
    """The path of the model that a layer is in, and the layer's key there.

    >>> parted("backbone/conv"), parted("conv")
    (('backbone', 'conv'), ('', 'conv'))
    """
    scope, _, key = path.rpartition("/")
    return scope, key


def within(path: str, outer: str) -> bool:
    """Whether a path is that of a layer or leads into it.

    >>> within("a/b", "a"), within("ab", "a")
    (True, False)
    """
    return path == outer or path.startswith(f"{outer}/")


def chosen_calls(draft: Draft, path: str, calls: tuple[int, ...] | None) -> list[Node]:
    """The calls of a layer that an edit is for: all that it still has, or those of some numbers.

    Calls are counted as in the snapshot that the work began with, whatever has become of others.

    Raises:
        UnknownCall: the layer has no such call, or one is named twice.
    """
    scope, key = parted(path)
    graph = draft.graph(scope)
    nodes = graph.nodes(key)
    if calls is None:
        return nodes
    total = len(graph_at(draft.before, scope).nodes(key))
    numbers = [number % total if -total <= number < total else number for number in calls]
    if odd := [number for number in numbers if not 0 <= number < total]:
        raise UnknownCall(
            f"layer {graph.name(key)!r} is called {total} times (0 to {total - 1}), so it has no call {odd[0]}"
        )
    if len(set(numbers)) < len(numbers) or not numbers:
        raise UnknownCall(f"calls of layer {graph.name(key)!r} are to be different numbers, not {list(calls)}")
    if taken := [number for number in numbers if (key, number) not in nodes]:
        raise UnknownCall(
            f"call {taken[0]} of layer {graph.name(key)!r} has become one of another layer by an edit before this one; "
            "give each call to one edit"
        )
    return [(key, number) for number in sorted(numbers)]
