"""The one generic step behind every edit of channels: each position of an axis is copied from one of the old axis, and
what counts positions is counted again.

Where positions are copied from is a function from the old axis to old positions. Deleting keeps those whose ids
survive; reordering and repeating are the same step with another function, see `sources.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis, has_ids
from kerassurgery_fn.graph import map_leaves
from kerassurgery_fn.rules.layer import Tensor, Weight
from kerassurgery_fn.values.frozen import Location, get_in, set_all
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights

Sources = Callable[[Axis], np.ndarray | None]  # an axis -> the old position of each new one; None where all stay


def cut(snapshot: Snapshot, flow: Flow, dead: np.ndarray) -> Snapshot:
    """The snapshot without every position of every axis that a dead id makes die.

    Arrays and parts of the config that lose nothing are shared with the old snapshot.

    Args:
        snapshot: the model.
        flow: its channels.
        dead: which final ids die, shaped as by `flow.solution.none_dead()`.
    """
    return copied(snapshot, flow, keeper(flow, dead))


def copied(snapshot: Snapshot, flow: Flow, sources: Sources) -> Snapshot:
    """The snapshot whose axes have the positions that some function says, and whose config counts them.

    Arrays and parts of the config that stay as they are are shared with the old snapshot.
    """
    record = set_all(snapshot.record, recounted(snapshot, flow, sources))
    return Snapshot(record, *copied_arrays(snapshot, flow, sources))


def copied_arrays(snapshot: Snapshot, flow: Flow, sources: Sources) -> tuple[Weights, Training | None]:
    """The weights and the optimizer's state with the positions that some function says."""
    weights = {path: cut_layer(flow, path, arrays, sources) for path, arrays in snapshot.weights.items()}
    return weights, cut_training(snapshot.training, flow, sources)


def keeper(flow: Flow, dead: np.ndarray) -> Sources:
    """A function from an axis to the positions that survive, None where all do; each map is looked at once."""
    known: dict[int, tuple[Axis, np.ndarray | None]] = {}

    def keep(axis: Axis) -> np.ndarray | None:
        if not isinstance(axis, np.ndarray):
            return None
        if id(axis) not in known:
            kept = flow.solution.kept(axis, dead)
            known[id(axis)] = axis, None if len(kept) == axis.shape[1] else kept
        return known[id(axis)][1]

    return keep


def cut_array(array: np.ndarray, axes: Tensor, keep: Sources) -> np.ndarray:
    """The positions of an array that survive along each of its axes; the very array if all do."""
    for index, axis in enumerate(axes):
        kept = keep(axis)
        if kept is not None:
            array = np.take(array, kept, axis=index, mode="clip")
    return array


def cut_weight(array: np.ndarray, weight: Weight, keep: Sources) -> np.ndarray:
    """A weight, cut; multiplied where the layer will divide by the root of a smaller size than before."""
    made, kept = cut_array(array, weight.axes, keep), keep(weight.root)
    return made if kept is None else (made * np.sqrt(len(kept) / weight.root.shape[1])).astype(array.dtype)  # type: ignore[union-attr]


def cut_layer(flow: Flow, path: str, arrays: tuple[np.ndarray, ...], keep: Sources) -> tuple[np.ndarray, ...]:
    """The weights of one layer, cut; the very tuple if nothing of them goes."""
    if path not in flow.weights or not arrays:
        return arrays
    made = tuple(cut_weight(a, weight, keep) for a, weight in zip(arrays, flow.weights[path], strict=True))
    return arrays if all(new is old for new, old in zip(made, arrays, strict=True)) else made


def cut_training(training: Training | None, flow: Flow, keep: Sources) -> Training | None:
    """The state of the optimizer, each slot cut like the weight that it belongs to."""
    if training is None:
        return None
    values = tuple(
        cut_slot(value, owner, flow, keep) for value, owner in zip(training.values, training.slots, strict=True)
    )
    return Training(training.slots, values)


def cut_slot(value: np.ndarray, owner: tuple[str, int] | None, flow: Flow, keep: Sources) -> np.ndarray:
    if owner is None or owner[0] not in flow.weights:
        return value
    axes = flow.weights[owner[0]][owner[1]].axes
    return cut_array(value, axes, keep) if value.ndim == len(axes) else value


def recounted(snapshot: Snapshot, flow: Flow, keep: Sources) -> dict[Location, Any]:
    """The new value of every place in the record that states a size, a shape or a constant that a cut changes."""
    changes: dict[Location, Any] = {}
    for place, what in flow.sizes.items():
        if (kept := keep(what.axis)) is not None:
            changes[place] = what.after(kept)
    shapes: dict[Location, Any] = {}
    for place, ref in flow.trace.shapes.items():
        shapes |= reshaped(place, flow.tensors.get(ref), keep)
    for place, refs in flow.trace.structures.items():
        shapes |= reshaped(place, map_leaves(flow.tensors.get, refs), keep)
    for place, built in flow.builds.items():
        for inner, axes in built.items():
            shapes |= reshaped((*place, *inner), axes, keep)
    stated = {place: n for place, n in shapes.items() if get_in(snapshot.record, place) is not None}
    return {**changes, **copied_constants(snapshot, flow, keep), **stated}


def copied_constants(snapshot: Snapshot, flow: Flow, keep: Sources) -> dict[Location, Any]:
    """The new value of every array that stands in the record and changes."""
    return {
        place: cut_array(np.asarray(get_in(snapshot.record, place)), axes, keep).tolist()
        for place, axes in flow.constants.items()
        if any(keep(axis) is not None for axis in axes)
    }


def reshaped(place: Location, axes: Any, keep: Sources) -> dict[Location, Any]:
    """What changes of the shapes that stand at a place, for tensors with these axes."""
    if isinstance(axes, (list, dict)):
        inner = axes.items() if isinstance(axes, dict) else enumerate(axes)
        return {where: n for key, one in inner for where, n in reshaped((*place, key), one, keep).items()}
    return {
        (*place, i): len(kept)
        for i, axis in enumerate(axes or ())
        if has_ids(axis) and (kept := keep(axis)) is not None
    }
