"""The edit that inserts layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.call_tensors import PRECEDED, tensor_after, tensor_before
from kerassurgery_fn.edits.steps.draft import Draft, chosen_calls, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.steps.indices import Calls, as_calls, is_index
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
    with_call,
)
from kerassurgery_fn.keras_io.layer_conversion import as_layer
from kerassurgery_fn.values.snapshot import Snapshot


@edit
@dataclass(frozen=True)
class InsertLayer(GraphEdit):
    """Inserts a layer before or after other layers.

    `before` a layer, only the input of that layer passes through the new layer; other readers of the same tensor do not
    change. `after` a layer, all readers of its output, including the output of the model, read the new layer instead.
    Several calls of one layer share the new layer. Each of several layers gets a new layer of its own.

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
        graph, output = with_call(graph, new, new_call(graph, new, [read, *others]))
        places = [i for i, port in enumerate(graph.reads(node)) if port == read]
        return reread(graph, node, dict.fromkeys(places if self.operand is None else [self.operand], output))

    def put_after(self, graph: Graph, before: Graph, path: str, node: Node, new: str, others: list[Port]) -> Graph:
        """The graph with a new layer after one call; `before` is the graph before the edit."""
        output = tensor_after(before, path, node, "followed by another")
        graph, inserted = with_call(graph, new, new_call(graph, new, [output, *others]))
        return redirected(graph, {output: inserted}, but={inserted.node})
