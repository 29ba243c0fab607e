"""Interpolates weights and constants that have a value for each position, for another number of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.channels import size
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.interpolation import interpolated
from kerassurgery_fn.edits.steps.met_positions import first_misfit, settled_with_met_sizes
from kerassurgery_fn.edits.steps.size_changes import Change, SizeChanges
from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import Arguments, Graph, Node, Port, Record, Spec, is_input, join_path, leaves
from kerassurgery_fn.rules.findings import Weight
from kerassurgery_fn.values.frozen import freeze, set_in


def with_fitting_weights(draft: Draft, scope: str, before: Mapping[Port, Spec], method: str | None) -> Draft:
    """The draft in which weights with a value for each position are interpolated, if a method is given.

    Raises:
        MisfitTensor: a weight has values for another number of positions, or a layer cannot take what it reads.
    """
    try:
        draft, facts = settled_with_met_sizes(draft, scope, before, leaves(draft.graph(scope).outputs))
    except MisfitTensor as error:
        raise MisfitTensor(f"{error}{_origin_of_misfit(draft.graph(scope), scope, before)}") from error
    graph = draft.graph(scope)
    changes = SizeChanges(graph, before, facts.specs)
    for key, weights in facts.weights.items():
        path = join_path(scope, key)
        arrays = draft.weights.get(path, ())
        if len(arrays) != len(weights or ()):
            continue
        fitting = tuple(
            _fitting(array, weight, _Owner(path, graph.layers[key], graph.nodes(key)[0], changes), method)
            for array, weight in zip(arrays, weights or (), strict=True)
        )
        if any(new is not old for new, old in zip(fitting, arrays, strict=True)):
            draft = replace(draft.with_arrays({path: fitting}), restarted=draft.restarted | {path})
    return draft


def _origin_of_misfit(graph: Graph, scope: str, before: Mapping[Port, Spec]) -> str:
    """The layer from which the changed size of the first call that fails comes, in words; empty if there is none."""
    node = first_misfit(graph, scope)
    changes = SizeChanges(graph, before, settled(replace(graph, outputs=[*graph.reads(node)]), {}, scope).specs)
    changed = [change for change in changes.changes(graph.reads(node)[0]) if change[0] != change[1]]
    key, _ = changes.origin(node, changed[-1]) if changed else node
    if key == node[0] or is_input(graph.layers[key]):
        return ""
    return f". The size that changes comes from {key!r} ({graph.layers[key]['class_name']})"


class _Owner(NamedTuple):
    """A layer with values for positions: its path, record and first call, and how sizes change around it."""

    path: str
    record: Record
    node: Node
    changes: SizeChanges

    @property
    def title(self) -> str:
        return f"layer {self.path!r} ({self.record['class_name']})"


def _fitting(array: np.ndarray, weight: Weight, owner: _Owner, method: str | None) -> np.ndarray:
    """A weight in the shape that its layer needs; the same array if it already has this shape."""
    shape = tuple(map(size, weight.axes))
    if len(shape) != array.ndim:
        return array
    for axis, change in enumerate(zip(array.shape, shape, strict=True)):
        if change[0] != change[1] and change[1] is not None:
            is_summed = axis in (weight.summed or ())
            array = _resized(array, axis, change, f"its {weight.name}", owner, None if is_summed else method, is_summed)
    return array


def _resized(
    array: np.ndarray, axis: int, change: Change, what: str, owner: _Owner, method: str | None, is_summed: bool = False
) -> np.ndarray:
    """An array with interpolated values along one axis of positions.

    Raises:
        MisfitTensor: `method` is None, the layer sums over the axis, or no tensor that the layer reads has an axis with
            this change of size.
    """
    place = owner.changes.with_change(owner.node, change)
    if place is None or is_summed:
        raise MisfitTensor(_unfit(owner, change, what, array.shape))
    if method is None:
        raise MisfitTensor(
            f"{owner.title}: {what} of shape {array.shape} has a value for each of {change[0]} positions, and there "
            f"would be {change[1]} positions; pass resize='bilinear' to interpolate the values"
        )
    return interpolated(array, axis, owner.changes.runs(*place), method)


def _unfit(owner: _Owner, change: Change, what: str, shape: tuple[int, ...]) -> str:
    """Why a kernel no longer fits, and the way out, in words."""
    graph, (key, _) = owner.changes.graph, owner.changes.origin(owner.node, change)
    start = f"{owner.title} would read {change[1]} values in place of {change[0]}, and {what} has the shape {shape}"
    if is_input(graph.layers[key]) or key == owner.node[0]:
        return (
            f"{start}. To change the number of channels, use DeleteChannels or WidenChannels, or replace layer "
            f"{owner.path!r} first"
        )
    layer, read = graph.layers[key], owner.changes.before[graph.reads(owner.changes.origin(owner.node, change))[0]]
    way_out = f"insert a layer before {key!r} whose output has the old shape, {read.shape}"
    if len(read.shape) == 4 and layer["config"].get("data_format", "channels_last") == "channels_last":
        resizing = f"keras.layers.Resizing({read.shape[1]}, {read.shape[2]})"
        way_out = f"resize the input of {key!r} to its old shape, by InsertLayer({resizing}, before={key!r})"
    return (
        f"{start}: the values come from {key!r} ({layer['class_name']}), which turns positions into channels. "
        f"{way_out[0].upper()}{way_out[1:]}, or replace both layers"
    )


# --- constants among the arguments of calls


def arrays_in(graph: Graph, key: str) -> Iterator[Any]:
    """The arrays among the arguments of the calls of a layer."""
    return (leaf for node in graph.nodes(key) for leaf in _array_records(graph.calls.get(node, ())))


def _array_records(tree: Any) -> Iterator[Any]:
    match tree:
        case {"class_name": "__numpy__" | "__tensor__"}:
            yield tree
        case dict():
            for item in tree.values():
                yield from _array_records(item)
        case list() | Arguments():
            for item in tree:
                yield from _array_records(item)


def with_fitting_arrays(graph: Graph, key: str, changes: SizeChanges, path: str, method: str | None) -> Graph:
    """The model in which the constant arrays of a layer have the size of the tensor with which the layer combines them
    position by position."""
    calls = dict(graph.calls)
    for node in graph.nodes(key):
        owner = _Owner(path, graph.layers[key], node, changes)
        args, kwargs = graph.calls[node]
        calls[node] = Arguments(_fitted_arrays(args, owner, method), _fitted_arrays(kwargs, owner, method))
    return graph if calls == graph.calls else replace(graph, calls=calls, changed=graph.changed | {key})


def _fitted_arrays(tree: Any, owner: _Owner, method: str | None) -> Any:
    match tree:
        case {"class_name": "__numpy__" | "__tensor__", "config": {"value": [*_] as value, "dtype": str(dtype)}}:
            array = np.asarray(value, np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype))
            resized = _aligned(array, owner, method)
            return tree if resized is array else freeze(set_in(tree, ("config", "value"), resized.tolist()))
        case dict():
            return {name: _fitted_arrays(item, owner, method) for name, item in tree.items()}
        case list():
            return [_fitted_arrays(item, owner, method) for item in tree]
    return tree


def _aligned(array: np.ndarray, owner: _Owner, method: str | None) -> np.ndarray:
    """An array with as many positions as the tensor with which it is combined. Their last axes are aligned, as in
    broadcasting."""
    changes = owner.changes.changes(owner.changes.graph.reads(owner.node)[0])
    for axis, change in zip(range(-1, -array.ndim - 1, -1), reversed(changes), strict=False):
        if change[0] != change[1] and change[0] == array.shape[axis] and change[1] is not None:
            array = _resized(array, array.ndim + axis, change, "an array among its arguments", owner, method)
    return array
