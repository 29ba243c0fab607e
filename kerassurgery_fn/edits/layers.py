"""Layers taken out, put in, replaced, and told apart where several calls share one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import reduce

from kerassurgery_fn.analysis.call_keywords import exchanged_kwargs
from kerassurgery_fn.analysis.masks import automatic_kwargs
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.extraction import as_functional
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.call_tensors import (
    PRECEDED,
    refuse_change,
    refuse_input,
    tensor_after,
    tensor_before,
)
from kerassurgery_fn.edits.steps.draft import Draft, chosen_calls, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.steps.indices import Calls, as_calls, is_index
from kerassurgery_fn.edits.steps.operands import new_call, operands_at, refuse_cycle
from kerassurgery_fn.errors import BadValue, UnknownCall
from kerassurgery_fn.graph import (
    Arguments,
    Graph,
    Node,
    Port,
    Selector,
    as_selector,
    is_functional,
    moved,
    redirected,
    reread,
    selectors,
    with_call,
)
from kerassurgery_fn.keras_io.layer_conversion import as_layer
from kerassurgery_fn.values.snapshot import Snapshot


class _OfCalls(GraphEdit):
    """What edits of all or chosen calls of some layers have in common."""

    layer: Selector
    calls: Calls

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        object.__setattr__(self, "calls", as_calls(self.calls))


@edit
@dataclass(frozen=True)
class DeleteLayer(_OfCalls):
    """Layers taken out: what has read what they make reads what they have read. One that is called several times goes
    at all calls, or at those that are chosen.

    Masks are found again as Keras finds them: without a Masking layer the calls behind it have none. A mask that was
    given to a call by hand stays.

    Args:
        layer: which layers, see `graph.selectors`.
        calls: the numbers of the calls, all by default; negative ones count from the end.
        allow_shape_change: whether a layer may go that changes shapes. What reads the tensor must then be able to take
            it as it is.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several where one is meant, of that name.
        UnknownCall: the layer has no such call, or it reads several tensors, or makes several.
        MisfitTensor: the layer changes the shape of what it reads, or what reads it cannot take another shape.
        NothingLeft: a Sequential model would be left without layers.

    >>> DeleteLayer("*@Dropout")
    DeleteLayer(layer='*@Dropout', calls=None, allow_shape_change=False)
    """

    layer: Selector
    calls: Calls = None
    allow_shape_change: bool = False

    def redraw(self, draft: Draft) -> Draft:
        paths = draft.find(self.layer)
        draft = reduce(Draft.exposed, paths, draft)
        scopes = {parted(path)[0] for path in paths} if not self.allow_shape_change else set()
        specs = {scope: draft.facts(scope).specs for scope in scopes}
        ports: dict[str, dict[Port, Port]] = defaultdict(dict)  # path of a model -> output -> what is read instead
        for path in paths:
            scope, key = parted(path)
            graph = draft.graph(scope)
            for node in chosen_calls(draft, path, self.calls):
                read, made = tensor_before(graph, path, node, "deleted"), tensor_after(graph, path, node, "deleted")
                if not self.allow_shape_change:
                    refuse_change(path, graph.layers[key], specs[scope].get(read), specs[scope].get(made))
                ports[scope][made] = read
        graphs = {scope: redirected(draft.graph(scope), ports[scope]) for scope in ports}
        return replace(draft, graphs={**draft.graphs, **graphs})


@edit
@dataclass(frozen=True)
class InsertLayer(GraphEdit):
    """A layer put before or after others.

    `before` a layer, only what that layer reads passes through the new one, and other readers of the same tensor read
    on what they did. `after` a layer, all readers of what it makes, the model's output among them, read what the new
    one makes of it. At several calls of one layer the new layer is shared; each of several layers gets a new one of its
    own.

    Args:
        layer: a Keras layer, its record or a snapshot, which may also be one of a model. A built layer brings its
            weights; those of others are drawn at rebuild by their initializers. It keeps its name, with a number added
            where the model has a layer of that name.
        before, after: which layers, see `graph.selectors`; one of the two.
        calls: the numbers of the calls of that layer, all by default; negative ones count from the end.
        operand: before a layer that reads several tensors, the number of the one that is meant.
        name: the new layer's name, in place of its own.
        also: other tensors that the new layer reads, behind the one at its place, by the names of the layers that make
            them, as `ExtractModel` takes them (`"conv_5"`, `"tower:1"`): `InsertLayer(Add(), after="b", also=["a"])` is
            a skip connection. A Sequential model becomes a Functional one.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several where one is meant, of that name.
        UnknownCall: the layer has no such call, or it reads several tensors, or makes several.
        MisfitTensor: the new layer cannot take what it reads, or what reads it cannot take what it makes.
        NameTaken: the model has another layer of that name.
        BadValue: a tensor in `also` is in another model, or is computed from what the new layer makes.
    """

    layer: Snapshot
    before: Selector | None = None
    after: Selector | None = None
    calls: Calls = None
    operand: int | None = None
    name: str | None = None
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_layer(self.layer))
        object.__setattr__(self, "also", selectors(self.also))
        object.__setattr__(self, "calls", as_calls(self.calls))
        if (self.before is None) == (self.after is None):
            raise BadValue(f"give before= or after= to say where {self.layer.name!r} goes, and not both")
        if self.operand is not None:
            if self.before is None or not is_index(self.operand):
                raise BadValue(
                    f"operand= is the number of a tensor that the layer in before= reads, not {self.operand!r}"
                    + " and a layer in after=" * (self.before is None)
                )
            object.__setattr__(self, "operand", int(self.operand))
        for side in ("before", "after"):
            if getattr(self, side) is not None:
                object.__setattr__(self, side, as_selector(getattr(self, side)))
        if self.name is not None:
            check_name(self.name)

    def redraw(self, draft: Draft) -> Draft:
        beside = self.after if self.before is None else self.before
        paths = draft.find(() if beside is None else beside)
        before = draft = reduce(Draft.exposed, paths, draft)
        for path in paths:
            draft = self.beside(draft, before, path)
        return draft

    def beside(self, draft: Draft, before: Draft, path: str) -> Draft:
        """The draft with the new layer before or after one layer; `before` is the draft before the edit."""
        scope, _ = parted(path)
        others = operands_at(draft, scope, self.also)
        draft, new = draft.added(scope, self.layer, name=self.name)
        graph, unchanged = draft.graph(scope), before.graph(scope)
        for node in chosen_calls(before, path, self.calls):
            refuse_cycle(graph, path, node, [port for port in others if self.before or port != Port(*node)])
            put = self.put_after if self.before is None else self.put_before
            graph = put(graph, unchanged, path, node, new, others)
        return draft.with_graph(scope, as_functional(graph) if others else graph)

    def put_before(self, graph: Graph, before: Graph, path: str, node: Node, new: str, others: list[Port]) -> Graph:
        """The graph with a new layer before one call; `before` is the graph before the edit."""
        read = tensor_before(graph, path, node, PRECEDED, self.operand)
        graph, made = with_call(graph, new, new_call(graph, new, [read, *others]))
        places = [i for i, port in enumerate(graph.reads(node)) if port == read]
        return reread(graph, node, dict.fromkeys(places if self.operand is None else [self.operand], made))

    def put_after(self, graph: Graph, before: Graph, path: str, node: Node, new: str, others: list[Port]) -> Graph:
        """The graph with a new layer after one call; `before` is the graph before the edit."""
        made = tensor_after(before, path, node, "followed by another")
        graph, ours = with_call(graph, new, new_call(graph, new, [made, *others]))
        return redirected(graph, {made: ours}, but={ours.node})


@edit
@dataclass(frozen=True)
class ReplaceLayer(_OfCalls):
    """Layers replaced by others, which are called on just what the old ones were called on.

    Args:
        layer: which layers, see `graph.selectors`.
        new: what takes their place, as `InsertLayer` takes its `layer`. Each of several layers gets one of its own.
        calls: the numbers of the calls at which it is replaced, all by default; negative ones count from the end.
        name: the new layer's name, in place of its own.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several where one is meant, of that name.
        UnknownCall: the layer has no such call, or is an input of the model.
        MisfitTensor: the new layer cannot take what it reads, or what reads it cannot take what it makes.
        NameTaken: the model has another layer of that name.
    """

    layer: Selector
    new: Snapshot
    calls: Calls = None
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "new", as_layer(self.new))
        if self.name is not None:
            check_name(self.name)

    def redraw(self, draft: Draft) -> Draft:
        paths = draft.find(self.layer)
        before = draft = reduce(Draft.exposed, paths, draft)
        for path in paths:
            if draft.is_replaced(path):  # with the model that it is in
                continue
            scope, key = parted(path)
            graph = before.graph(scope)
            refuse_input(graph, path, key, "replaced")
            nodes = chosen_calls(before, path, self.calls)
            if len(nodes) == len(graph.nodes(key)):
                draft, new = draft.added(scope, self.new, key, self.name)
            else:
                draft, new = draft.added(scope, self.new, name=self.name)
            record, graph = graph.layers[key], draft.graph(scope)
            for node in nodes:
                args, kwargs = graph.calls[node]
                if is_functional(graph.record):
                    kwargs = automatic_kwargs(exchanged_kwargs(kwargs, record, graph.layers[new]))
                graph = replace(graph, calls={**graph.calls, node: Arguments(args, kwargs)})
                graph = graph if new == key else moved(graph, node, new)
            draft = draft.with_graph(scope, graph)
        return draft


@edit
@dataclass(frozen=True)
class UnshareLayer(_OfCalls):
    """A layer that is called several times, made several layers with the same config and weights.

    Args:
        layer: which layers, see `graph.selectors`.
        calls: the numbers of the calls that get a copy, which they share; each call but the first gets one of its own
            by default. Negative numbers count from the end.
        name: the copy's name; the layer's own with a number by default.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several where one is meant, of that name.
        UnknownCall: the layer has no such call, or none would be left for it itself.
        NameTaken: the model has another layer of that name.

    >>> UnshareLayer("tower", calls=[1], name="right_tower")
    UnshareLayer(layer='tower', calls=(1,), name='right_tower')
    """

    layer: Selector
    calls: Calls = None
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None:
            check_name(self.name)

    def redraw(self, draft: Draft) -> Draft:
        for path in draft.find(self.layer):
            scope, key = parted(path)
            draft = draft.exposed(path)
            nodes = draft.graph(scope).nodes(key)
            chosen = nodes[1:] if self.calls is None else chosen_calls(draft, path, self.calls)
            if len(chosen) == len(nodes):
                raise UnknownCall(
                    f"layer {path!r} is called {len(nodes)} times, and a copy would take them all; leave one call to "
                    "the layer itself, or use RenameLayer"
                )
            for shared in [[node] for node in chosen] if self.calls is None else [chosen]:
                draft = self.copied(draft, scope, key, shared)
        return draft

    def copied(self, draft: Draft, scope: str, key: str, nodes: list[Node]) -> Draft:
        """The draft with a copy of a layer that takes over some of its calls."""
        draft, new = draft.copied(scope, key, self.name)
        return draft.with_graph(scope, reduce(lambda graph, node: moved(graph, node, new), nodes, draft.graph(scope)))
