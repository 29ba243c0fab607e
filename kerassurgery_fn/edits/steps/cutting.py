"""The step behind every edit of channels: each new position of an axis is copied from an old position, and the numbers
in the config that count positions are updated.

The sources are a function from an axis to the old position of each new position. If channel 1 of a layer with 3 units
is deleted, the sources of every axis that carries these channels are [0, 2], whichever layer has the axis:

    Dense a: kernel (4, 3) -> (4, 2)   bias (3,) -> (2,)   units 3 -> 2     its output axis carries the channels
    Dense b: kernel (3, 5) -> (2, 5)                                        its input axis carries them, too

A deletion keeps the positions whose ids are kept. Reordering ([2, 0, 1]) and widening ([0, 1, 2, 2]) are the same step
with other sources, see `channel_sources`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import is_not
from typing import Any

import numpy as np
from toolz import merge

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.graph import Record, map_leaves
from kerassurgery_fn.rules.layer import Tensor, Weight
from kerassurgery_fn.values.frozen import FrozenList, Location, get_in, set_all
from kerassurgery_fn.values.gathering import gather, gather_all
from kerassurgery_fn.values.mapped_arrays import elementwise
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights

Sources = Callable[[Axis], np.ndarray | None]  # axis -> the old position of each new position; None if nothing changes


def copied(snapshot: Snapshot, flow: Flow, sources: Sources) -> Snapshot:
    """The snapshot whose positions are copied from their sources, with updated numbers in the config.

    Unchanged arrays and parts of the config are shared with the old snapshot.
    """
    record = set_all(snapshot.record, recounted(snapshot, flow, sources))
    return Snapshot(record, *copied_arrays(snapshot, flow, sources))


def copied_arrays(snapshot: Snapshot, flow: Flow, sources: Sources) -> tuple[Weights, Training | None]:
    """The weights and the optimizer's state with positions copied from their sources."""
    places = [
        (path, slot)
        for path, arrays in snapshot.weights.items()
        if arrays
        for slot in range(len(flow.weights.get(path, ())))
    ]
    weights = [flow.weights[path][slot] for path, slot in places]
    before = [snapshot.weights[path][slot] for path, slot in places]
    gathered = gather_all(before, [[sources(axis) for axis in weight.axes] for weight in weights])
    after: dict[str, list[np.ndarray]] = {}
    for (path, _), weight, array in zip(places, weights, gathered, strict=True):
        after.setdefault(path, []).append(scaled(array, weight, sources))
    new = {path: arrays for path, arrays in after.items() if any(map(is_not, arrays, snapshot.weights[path]))}
    training = cut_training(snapshot.training, flow, sources)
    return {path: tuple(new.get(path, arrays)) for path, arrays in snapshot.weights.items()}, training


def keeper(flow: Flow, dead: np.ndarray) -> Sources:
    """The sources of a deletion: axis -> the kept positions, None if all positions are kept. The result is computed
    once for each axis.

    Args:
        flow: the channels of the model.
        dead: boolean mask over the final ids that are deleted, as `flow.solution.none_dead()`.
    """
    known: dict[int, tuple[Axis, np.ndarray | None]] = {}
    kept_ids = flow.solution.kept_ids(dead)

    def keep(axis: Axis) -> np.ndarray | None:
        if not isinstance(axis, np.ndarray):
            return None
        if id(axis) not in known:
            kept = np.flatnonzero(kept_ids[axis[0]] if len(axis) == 1 else kept_ids[axis].all(axis=0))
            known[id(axis)] = axis, None if len(kept) == axis.shape[1] else kept
        return known[id(axis)][1]

    return keep


def cut_array(array: np.ndarray, axes: Tensor, keep: Sources) -> np.ndarray:
    """An array with the kept positions along each of its axes; the same array if all positions are kept."""
    return gather(array, [keep(axis) for axis in axes])


def cut_weight(array: np.ndarray, weight: Weight, keep: Sources) -> np.ndarray:
    """A weight with the kept positions, scaled if need be."""
    return scaled(cut_array(array, weight.axes, keep), weight, keep)


def scaled(array: np.ndarray, weight: Weight, keep: Sources) -> np.ndarray:
    """A weight that has been cut. If the layer scales its output by 1/sqrt(n) for an axis that gets shorter, the weight
    is scaled to make up for it."""
    if (kept := keep(weight.root)) is None:
        return array
    factor = np.sqrt(len(kept) / weight.root.shape[1])  # type: ignore[union-attr]
    return elementwise(array, lambda part: (part * factor).astype(part.dtype))


def cut_training(training: Training | None, flow: Flow, keep: Sources) -> Training | None:
    """The state of the optimizer. Each slot is cut like its weight."""
    if training is None:
        return None
    axes = [_axes_of_slot(*pair, flow) for pair in zip(training.values, training.slots, strict=True)]
    return Training(training.slots, tuple(gather_all(training.values, [[*map(keep, each)] for each in axes])))


def _axes_of_slot(value: np.ndarray, owner: tuple[str, int] | None, flow: Flow) -> Tensor:
    """The axes of a variable of the optimizer: those of its weight if it has its rank."""
    axes = flow.weights[owner[0]][owner[1]].axes if owner is not None and owner[0] in flow.weights else ()
    return axes if value.ndim == len(axes) else (None,) * value.ndim


def recounted(snapshot: Snapshot, flow: Flow, keep: Sources) -> dict[Location, Any]:
    """Place in the record -> its new value, for all sizes, shapes and constants that a cut changes."""
    changes: dict[Location, Any] = {}
    for place, count in flow.sizes.items():
        if (kept := keep(count.axis)) is not None:
            changes[place] = count.after(kept)
    record, shapes = snapshot.record, dict[Location, Any]()
    for place, ref in flow.trace.shapes.items():
        shapes |= reshaped(record, place, flow.tensors.get(ref), keep)
    for place, refs in flow.trace.structures.items():
        shapes |= reshaped(record, place, map_leaves(flow.tensors.get, refs), keep)
    for place, built in flow.builds.items():
        for inner, axes in built.items():
            shapes |= reshaped(record, (*place, *inner), axes, keep)
    return {**changes, **copied_constants(snapshot, flow, keep), **shapes}


def copied_constants(snapshot: Snapshot, flow: Flow, keep: Sources) -> dict[Location, Any]:
    """Place in the record -> its new value, for all arrays in the record that change."""
    return {
        place: cut_array(np.asarray(get_in(snapshot.record, place)), axes, keep).tolist()
        for place, axes in flow.constants.items()
        if any(keep(axis) is not None for axis in axes)
    }


def reshaped(record: Record, place: Location, axes: Any, keep: Sources) -> dict[Location, Any]:
    """Place in the record -> the new shape, for the shapes of tensors at a place. Sizes that the record does not state
    stay open.

    Args:
        record: the record of the model.
        place: the place of a shape, or of nested lists and dicts of shapes.
        axes: the axes of the tensors, in the same structure.
        keep: axis -> its kept positions.
    """
    if isinstance(axes, (list, dict)):
        inner = axes.items() if isinstance(axes, dict) else enumerate(axes)
        return merge(reshaped(record, (*place, key), tensor, keep) for key, tensor in inner)
    if not isinstance(axes, tuple):
        return {}
    maps = [(i, axis) for i, axis in enumerate(axes) if isinstance(axis, np.ndarray)]
    kept = {i: len(positions) for i, axis in maps if (positions := keep(axis)) is not None}
    shape = _stated_shape(record, place) if kept else []
    return {place: FrozenList([n if n is None else kept.get(i, n) for i, n in enumerate(shape)])} if shape else {}


def _stated_shape(record: Record, place: Location) -> list[Any]:
    """The shape at a place in a record, empty if there is none. The record of a file may have anything there."""
    try:
        shape = get_in(record, place)
    except (LookupError, TypeError):
        return []
    return shape if isinstance(shape, list) else []
