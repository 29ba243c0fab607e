"""The edit that inserts layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from toolz import first, groupby

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.call_tensors import PRECEDED, tensor_after, tensor_before
from kerassurgery_fn.edits.steps.draft import Draft, chosen_calls, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.steps.indices import Calls, as_calls, is_index
from kerassurgery_fn.edits.steps.new_layers import Addition
from kerassurgery_fn.edits.steps.operands import new_call, operands_at, refuse_cycle
from kerassurgery_fn.edits.steps.stated_calls import as_functional
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.graph import (
    Graph,
    Node,
    Port,
    Selector,
    as_selector,
    redirected,
    reread,
    selectors,
    with_calls,
)
from kerassurgery_fn.keras_io.layer_conversion import as_layer
from kerassurgery_fn.values.snapshot import Snapshot


@edit
@dataclass(frozen=True)
class InsertLayer(GraphEdit):
    """Inserts a layer before or after other layers.

    With `before`, only the input of that layer passes through the new layer; other readers of the same tensor do not
    change. With `after`, all readers of the output of that layer, including the output of the model, read the new layer
    instead. Several calls of one layer share the new layer. Each of several layers gets a new layer of its own.

    Args:
        layer: a Keras layer or model, its record, or a snapshot. A built layer brings its weights; other weights are
            drawn when the model is rebuilt. The layer keeps its name, with a number if the model has a layer with that
            name.
        before, after: the layers, see `graph.selectors`; give one of the two.
        calls: the numbers of the calls of that layer; all calls by default. Negative numbers count from the end.
        operand: the number of the input, if the layer in `before` has several inputs.
        name: the name of the new layer, in place of its own.
        also: other tensors that the new layer reads after the tensor at its place, as in `ExtractModel` (`"conv_5"`,
            `"tower:1"`). `InsertLayer(Add(), after="b", also=["a"])` is a skip connection. A Sequential model becomes
            Functional.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        UnknownCall: the layer has no such call, or it has several inputs or several outputs.
        MisfitTensor: the new layer cannot take its input, or a reader cannot take the output of the new layer.
        NameTaken: the model has another layer with this name.
        BadValue: a tensor in `also` belongs to another model, or depends on the output of the new layer.
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
            raise BadValue(f"give either before= or after= as the place of {self.layer.name!r}")
        if self.operand is not None:
            if self.before is None or not is_index(self.operand):
                raise BadValue(
                    f"operand= is the number of an input of the layer in before=, not {self.operand!r}"
                    + " with a layer in after=" * (self.before is None)
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
        return self.beside(draft, before, dict.fromkeys(paths, self.layer))

    def beside(self, draft: Draft, before: Draft, layers: Mapping[str, Snapshot]) -> Draft:
        """The draft with new layers.

        Args:
            draft: the draft to change.
            before: the draft before the edit.
            layers: path of a layer -> the layer that is inserted before or after it.
        """
        # A layer that reads other tensors may read one that another new layer follows: then one at a time.
        batches = [[path] for path in layers] if self.also else groupby(lambda path: parted(path)[0], layers).values()
        for paths in batches:
            draft = self.beside_of_model(draft, before, {path: layers[path] for path in paths})
        return draft

    def beside_of_model(self, draft: Draft, before: Draft, layers: Mapping[str, Snapshot]) -> Draft:
        """The draft with new layers in one model; arguments as for `beside`."""
        scope = parted(first(layers))[0]
        others = operands_at(draft, scope, self.also)
        draft, keys = draft.with_additions(scope, [Addition(layer, name=self.name) for layer in layers.values()])
        graph = draft.graph(scope)
        places = [
            Place(path, node, key)
            for path, key in zip(layers, keys, strict=True)
            for node in chosen_calls(before, path, self.calls)
        ]
        for path, node, _ in places:
            refuse_cycle(graph, path, node, [port for port in others if self.before or port != Port(*node)])
        put = self.put_after if self.before is None else self.put_before
        graph = put(graph, before.graph(scope), places, others)
        return draft.with_graph(scope, as_functional(graph) if others else graph)

    def put_before(self, graph: Graph, before: Graph, places: Sequence[Place], others: list[Port]) -> Graph:
        """The graph with new layers before some calls; `before` is the graph before the edit."""
        read = [tensor_before(graph, path, node, PRECEDED, self.operand) for path, node, _ in places]
        graph, outputs = self.called(graph, places, read, others)
        changes = {
            node: dict.fromkeys(self.operands(graph.reads(node), port), output)
            for (_, node, _), port, output in zip(places, read, outputs, strict=True)
        }
        return reread(graph, changes)

    def operands(self, reads: Sequence[Port], port: Port) -> list[int]:
        """The numbers of the inputs of a call that pass through the new layer."""
        return [i for i, other in enumerate(reads) if other == port] if self.operand is None else [self.operand]

    def put_after(self, graph: Graph, before: Graph, places: Sequence[Place], others: list[Port]) -> Graph:
        """The graph with new layers after some calls; `before` is the graph before the edit."""
        followed = [tensor_after(before, path, node, "followed by another") for path, node, _ in places]
        graph, inserted = self.called(graph, places, followed, others)
        return redirected(graph, dict(zip(followed, inserted, strict=True)), but={port.node for port in inserted})

    def called(
        self, graph: Graph, places: Sequence[Place], read: Sequence[Port], others: list[Port]
    ) -> tuple[Graph, list[Port]]:
        """The graph with the calls of new layers on the tensors that they read, and the outputs of these calls."""
        keys = [place.new for place in places]
        calls = [new_call(graph, key, [port, *others]) for key, port in zip(keys, read, strict=True)]
        return with_calls(graph, list(zip(keys, calls, strict=True)))


class Place(NamedTuple):
    """Where a layer is inserted: the path and the call of the layer beside it, and the key of the new layer."""

    path: str
    node: Node
    new: str
