"""Edits that delete and replace layers, and that split layers with several calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from toolz import groupby

from kerassurgery_fn.analysis.call_keywords import exchanged_kwargs
from kerassurgery_fn.analysis.masks import automatic_kwargs
from kerassurgery_fn.analysis.residual_blocks import ResidualBlock, residual_blocks
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.blocks import without_blocks
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.call_tensors import refuse_input, tensor_after, tensor_before
from kerassurgery_fn.edits.steps.draft import Draft, chosen_calls, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.steps.indices import Calls, as_calls
from kerassurgery_fn.edits.steps.new_layers import Addition
from kerassurgery_fn.errors import MisfitTensor, UnknownCall
from kerassurgery_fn.graph import (
    Arguments,
    Graph,
    Node,
    Port,
    Record,
    Selector,
    Spec,
    as_selector,
    is_functional,
    moved,
    redirected,
)
from kerassurgery_fn.keras_io.layer_conversion import as_layer
from kerassurgery_fn.values.snapshot import Snapshot


class _OfCalls(GraphEdit):
    """The arguments that edits of calls of layers have in common."""

    layer: Selector
    calls: Calls

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        object.__setattr__(self, "calls", as_calls(self.calls))


@edit
@dataclass(frozen=True)
class DeleteLayer(_OfCalls):
    """Deletes layers. The readers of a deleted layer read its input instead. A layer with several calls is deleted at
    all calls, or at some of them.

    If all layers of a residual block are deleted, and some of them have weights, the sum at the end of the block is
    deleted, too, see `DeleteBlock`.

    Masks follow: without a Masking layer, the calls behind it have no mask. A mask that a person passed to a call
    stays.

    Args:
        layer: the layers, see `graph.selectors`.
        calls: the numbers of the calls; all calls by default. Negative numbers count from the end.
        allow_shape_change: whether a layer that changes the shape of its input can be deleted. Its readers must be able
            to take the other shape.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        UnknownCall: the layer has no such call, or it has several inputs or several outputs.
        MisfitTensor: the layer changes the shape of its input, or a reader cannot take the other shape.
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
        calls = {path: chosen_calls(draft, path, self.calls) for path in paths}
        blocks = deleted_blocks(draft.snapshot, calls)
        draft, in_blocks = without_blocks(draft, blocks), {(b.model, call) for b in blocks for call in b.calls}
        for path in paths:
            scope, key = parted(path)
            graph = draft.graph(scope)
            for node in calls[path]:
                if (scope, node) in in_blocks:
                    continue
                read, made = tensor_before(graph, path, node, "deleted"), tensor_after(graph, path, node, "deleted")
                if not self.allow_shape_change:
                    refuse_change(path, graph.layers[key], specs[scope].get(read), specs[scope].get(made))
                ports[scope][made] = read
        graphs = {scope: redirected(draft.graph(scope), ports[scope]) for scope in ports}
        return replace(draft, graphs={**draft.graphs, **graphs})


def deleted_blocks(snapshot: Snapshot, calls: Mapping[str, Sequence[Node]]) -> list[ResidualBlock]:
    """The residual blocks that are left without calls. Blocks without weights do not count: a sum of a tensor and the
    same tensor behind a Dropout layer stays a sum without the Dropout layer.

    Args:
        snapshot: the snapshot.
        calls: path of a layer -> its calls that are deleted.
    """
    deleted = {(parted(path)[0], node) for path, nodes in calls.items() for node in nodes}
    if not any(snapshot.weights.get(path) for path in calls):
        return []
    return [
        block
        for block in residual_blocks(snapshot)
        if {(block.model, call) for call in block.calls} <= deleted
        and any(snapshot.weights.get(path) for path in block.layers)
    ]


def refuse_change(path: str, record: Record, before_layer: Spec | None, output: Spec | None) -> None:
    """Raises MisfitTensor for a layer that changes the shape of its input, or might do so."""
    before, after = (spec.shape if spec else "unknown" for spec in (before_layer, output))
    if before_layer is None or before != after:
        raise MisfitTensor(
            f"layer {path!r} ({record['class_name']}) has an input of shape {before} and an output of shape {after}. "
            "Replace it, or pass allow_shape_change=True if all layers that read it can take the other shape"
        )


@edit
@dataclass(frozen=True)
class ReplaceLayer(_OfCalls):
    """Replaces layers by other layers, which get the same inputs.

    Args:
        layer: the layers, see `graph.selectors`.
        new: the new layer, in the forms of `InsertLayer`. Each of several layers gets a new layer of its own.
        calls: the numbers of the calls at which the layer is replaced; all calls by default. Negative numbers count
            from the end.
        name: the name of the new layer, in place of its own.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        UnknownCall: the layer has no such call, or is an input of the model.
        MisfitTensor: the new layer cannot take its inputs, or a reader cannot take the output of the new layer.
        NameTaken: the model has another layer with this name.
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
        for scope, inside in groupby(lambda path: parted(path)[0], paths).items():
            present = [path for path in inside if not draft.is_replaced(path)]  # together with the model around it
            if present:
                draft = self.replaced_in(draft, before, scope, present)
        return draft

    def replaced_in(self, draft: Draft, before: Draft, scope: str, paths: Sequence[str]) -> Draft:
        """The draft with replaced layers of one model; `before` is the draft before the edit."""
        old, keys = before.graph(scope), [parted(path)[1] for path in paths]
        for path, key in zip(paths, keys, strict=True):
            refuse_input(old, path, key, "replaced")
        nodes = [chosen_calls(before, path, self.calls) for path in paths]
        all_calls = [len(chosen) == len(old.nodes(key)) for key, chosen in zip(keys, nodes, strict=True)]
        additions = [
            Addition(self.new, key if whole else "", self.name) for key, whole in zip(keys, all_calls, strict=True)
        ]
        draft, new_keys = draft.with_additions(scope, additions)
        graph, calls = draft.graph(scope), dict[Node, Arguments]()
        for key, new, chosen in zip(keys, new_keys, nodes, strict=True):
            calls |= {node: exchanged(graph, graph.calls[node], old.layers[key], graph.layers[new]) for node in chosen}
        graph = replace(graph, calls={**graph.calls, **calls})
        replaced = zip(keys, new_keys, nodes, strict=True)
        owners = {node: new for key, new, chosen in replaced if new != key for node in chosen}
        return draft.with_graph(scope, moved(graph, owners) if owners else graph)


def exchanged(graph: Graph, call: Arguments, old: Record, new: Record) -> Arguments:
    """A call of a layer as a call of the layer that replaces it."""
    if not is_functional(graph.record):
        return Arguments(*call)
    return Arguments(call.args, automatic_kwargs(exchanged_kwargs(call.kwargs, old, new)))


@edit
@dataclass(frozen=True)
class UnshareLayer(_OfCalls):
    """Splits a layer with several calls into several layers with the same config and weights.

    Args:
        layer: the layers, see `graph.selectors`.
        calls: the numbers of the calls that share one copy of the layer. By default, each call except the first gets a
            copy of its own. Negative numbers count from the end.
        name: the name of the copy; by default the name of the layer with a number.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        UnknownCall: the layer has no such call, or it would be left without calls.
        NameTaken: the model has another layer with this name.

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
            selected = nodes[1:] if self.calls is None else chosen_calls(draft, path, self.calls)
            if len(selected) == len(nodes):
                raise UnknownCall(
                    f"the copy would take over all calls of layer {path!r}; leave one call to the layer itself, or use "
                    "RenameLayer"
                )
            shares = [[node] for node in selected] if self.calls is None else [selected]
            draft, copies = draft.copied(scope, key, [self.name] * len(shares))
            owners = {node: copy for copy, share in zip(copies, shares, strict=True) for node in share}
            draft = draft.with_graph(scope, moved(draft.graph(scope), owners))
        return draft
