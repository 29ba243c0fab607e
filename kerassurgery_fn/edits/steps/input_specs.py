"""Changes the shapes of inputs, and everything that depends on them: the inputs of nested models, config fields that
count positions, and weights and constants with a value for each position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.draft_writing import written
from kerassurgery_fn.edits.steps.met_positions import settled_with_met_sizes
from kerassurgery_fn.edits.steps.position_values import arrays_in, with_fitting_arrays, with_fitting_weights
from kerassurgery_fn.edits.steps.size_changes import SizeChanges
from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import (
    Graph,
    Port,
    Record,
    Shape,
    Spec,
    bound,
    given_to_model,
    is_model,
    join_path,
    map_leaves,
    model_in,
    with_layer,
)
from kerassurgery_fn.rules.counted_positions import Grid
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.values.frozen import Location, freeze, get_in, set_all, set_in

# The places at which the record of a model repeats the shapes of its inputs.
STRUCTURES = (("config", "build_input_shape"), ("build_config", "input_shape"))


def with_input_specs(draft: Draft, scope: str, specs: Mapping[str, Spec], method: str | None) -> Draft:
    """The draft in which inputs of a model have new specs, and all layers after them are updated.

    Args:
        draft: the model.
        scope: the path of the model, or of a nested model.
        specs: key of an input -> its new spec.
        method: how values for positions are interpolated; with None, values that do not fit raise an error.

    Raises:
        MisfitTensor: a layer cannot take its new input, or has values for another number of positions.
    """
    old = draft.graph(scope)
    before = settled(old, {}, scope).specs
    draft = draft.with_graph(scope, begun_with(old, specs))
    for key in dict.fromkeys(key for key, _ in old.live):
        if may_depend_on_sizes(old, key):
            draft = _with_updated_layer(draft, scope, key, before, method)
    return with_fitting_weights(draft, scope, before, method)


def begun_with(graph: Graph, specs: Mapping[str, Spec]) -> Graph:
    """A model whose inputs have new specs, also in its record."""
    stated = {**graph.stated, **{Port(key): spec for key, spec in specs.items()}}
    layers = {**graph.layers, **{key: with_spec(graph.layers[key], spec) for key, spec in specs.items()}}
    shapes = map_leaves(lambda port: list(stated[port].shape), graph.inputs)
    repeated: dict[Location, Any] = {
        (outer, field): shapes
        for outer, field in STRUCTURES
        if isinstance((graph.record.get(outer) or {}).get(field), list)
    }
    return replace(graph, record=set_all(graph.record, repeated), layers=layers, stated=stated)


def with_spec(record: Record, spec: Spec) -> Record:
    """The record of an InputLayer with another shape and dtype."""
    fields = {"batch_shape": list(spec.shape), "dtype": spec.dtype}
    return freeze(set_in(record, ("config",), {**record["config"], **fields}))


def may_depend_on_sizes(graph: Graph, key: str) -> bool:
    """Whether the record or the calls of a layer can contain something that depends on the sizes of tensors."""
    record = graph.layers[key]
    return bool(model_in(record) or rule_for(record).counts_positions) or any(arrays_in(graph, key))


def _with_updated_layer(draft: Draft, scope: str, key: str, before: Mapping[Port, Spec], method: str | None) -> Draft:
    """The draft in which one layer is updated for the new sizes of the tensors that it reads."""
    graph = draft.graph(scope)
    live = set(graph.live)
    nodes = [node for node in graph.nodes(key) if node in live]
    reads = [port for node in nodes for port in graph.reads(node)]
    draft, facts = settled_with_met_sizes(draft, scope, before, reads)
    graph, changes = draft.graph(scope), SizeChanges(draft.graph(scope), before, facts.specs)
    if all(changes.before[port] == changes.after[port] for port in reads):
        return draft
    if model_in(graph.layers[key]):
        return _with_inner(draft, scope, key, changes, method)
    old, new = changes.shapes(reads[0])
    record = recounted(graph.layers[key], old, new, lambda axis: changes.runs(reads[0], axis))
    graph = graph if record == graph.layers[key] else with_layer(graph, key, record)
    return draft.with_graph(scope, with_fitting_arrays(graph, key, changes, join_path(scope, key), method))


def recounted(record: Record, old: Shape, new: Shape, grid: Grid) -> Record:
    """The record of a layer with updated config fields that count positions.

    Args:
        record: the record of the layer.
        old, new: the shape of the tensor that the layer reads, before and after the edit.
        grid: axis of this tensor -> the grids that were flattened to its positions.
    """
    counts = rule_for(record).counts_positions
    if counts is None or not old:  # tensors of other ranks cannot be compared axis by axis
        return record
    fields = counts(record["config"], old, new, grid)
    return freeze(set_in(record, ("config",), {**record["config"], **fields}))


# --- nested models


def _with_inner(draft: Draft, scope: str, key: str, changes: SizeChanges, method: str | None) -> Draft:
    """The draft in which the inputs of a nested or wrapped model have the shapes of the tensors on which it is called.

    Variable sizes stay variable.
    """
    path, graph = join_path(scope, key), draft.graph(scope)
    inner = draft.graph(path)
    specs: dict[str, Spec] = {}
    for name, spec in _called_on(graph, inner, key, changes):
        old = inner.stated[Port(name)]
        new = Spec(_with_variable_sizes(old, spec), old.dtype)
        if specs.setdefault(name, new) != new:
            raise MisfitTensor(
                f"model {path!r} would be called on tensors of the shapes {specs[name].shape} and {spec.shape}; give "
                f"both inputs one shape, or give each call a model of its own with UnshareLayer({path!r})"
            )
    changed = {name: spec for name, spec in specs.items() if spec != inner.stated[Port(name)]}
    if not changed:
        return draft
    draft = with_input_specs(draft, path, changed, method)
    inner = draft.graph(path)
    _, place = model_in(graph.layers[key]) or ({}, ())
    record = {**get_in(graph.layers[key], place), **written(inner, settled(inner, {}, path), path)}
    return draft.with_graph(scope, with_layer(graph, key, freeze(set_in(graph.layers[key], place, record))))


def _called_on(graph: Graph, inner: Graph, key: str, changes: SizeChanges) -> Iterator[tuple[str, Spec]]:
    """The key of an input of a nested model, and the spec of the tensor that a call passes to it, for all inputs and
    calls."""
    live = set(graph.live)
    for node in filter(live.__contains__, graph.nodes(key)):
        call = graph.calls[node]
        if is_model(graph.layers[key]):
            for name, use in bound(inner.inputs, given_to_model(*call)).items():
                yield name, changes.after[use.port]
        else:
            shape, dtype = changes.after[graph.reads(node)[0]]
            yield inner.inputs.layer, Spec((shape[0], *shape[2:]), dtype)  # one step of a sequence


def _with_variable_sizes(old: Spec, new: Spec) -> tuple[int | None, ...]:
    """The new shape of an input; sizes that were variable stay variable."""
    if len(old.shape) != len(new.shape):
        return new.shape
    return tuple(None if before is None else after for before, after in zip(old.shape, new.shape, strict=True))
