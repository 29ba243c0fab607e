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

from typing import Any

import numpy as np
from toolz import valmap

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.edits.steps.axis_places import Sources, changed, places_of, rows_of
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.layer import Tensor, Weight
from kerassurgery_fn.values.frozen import FrozenList, Location, get_in, set_all
from kerassurgery_fn.values.gathering import gather, gather_all
from kerassurgery_fn.values.kept_results import kept_until_changed
from kerassurgery_fn.values.mapped_arrays import elementwise
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights


def copied(snapshot: Snapshot, flow: Flow, sources: Sources) -> Snapshot:
    """The snapshot whose positions are copied from their sources, with updated numbers in the config.

    Unchanged arrays and parts of the config are shared with the old snapshot.
    """
    record = set_all(snapshot.record, recounted(snapshot, flow, sources))
    return snapshot.with_arrays(record, *copied_arrays(snapshot, flow, sources))


def copied_arrays(snapshot: Snapshot, flow: Flow, sources: Sources) -> tuple[Weights, Training | None]:
    """The weights of the layers that change, and the optimizer's state, with positions copied from their sources."""
    touched = changed(places_of(flow).weights, sources)
    places = [(path, slot) for path, slot in touched if snapshot.weights.get(path)]
    weights = [flow.weights[path][slot] for path, slot in places]
    before = [snapshot.weights[path][slot] for path, slot in places]
    gathered = gather_all(before, [[sources(axis) for axis in weight.axes] for weight in weights])
    after = {path: list(snapshot.weights[path]) for path, _ in places}
    for (path, slot), weight, array in zip(places, weights, gathered, strict=True):
        after[path][slot] = scaled(array, weight, sources)
    training = cut_training(snapshot.training, flow, sources)
    return valmap(tuple, after), training


def keeper(flow: Flow, dead: np.ndarray, before: np.ndarray | None = None) -> Sources:
    """The sources of a deletion: axis -> the kept positions, None if all positions are kept. The result is computed
    once for each axis, and kept until the next deletion, because a plan is checked with the sources of its cut.

    Args:
        flow: the channels of the model.
        dead: boolean mask over the final ids that are deleted, as `flow.solution.none_dead()`.
        before: boolean mask over the final ids that earlier deletions have deleted. Positions are counted among those
            that the earlier deletions left.
    """
    state = dead.tobytes(), None if before is None else before.tobytes()
    return kept_until_changed(flow, "keeper", state, lambda: _keeper(flow, dead, before))


def _keeper(flow: Flow, dead: np.ndarray, before: np.ndarray | None) -> Sources:
    kept_ids = flow.solution.kept_ids(dead)
    left_ids = np.ones_like(kept_ids) if before is None else flow.solution.kept_ids(before)
    rows = rows_of(flow)
    kept, left = kept_ids[rows.ids], left_ids[rows.ids]
    known: dict[int, tuple[Axis, np.ndarray | None]] = {id(axis): (axis, None) for axis in rows.maps}
    for number in np.flatnonzero(np.logical_or.reduceat(kept != left, rows.starts)) if rows.maps else ():
        axis, start = rows.maps[number], rows.starts[number]
        part = slice(start, start + axis.size)
        known[id(axis)] = axis, kept[part][left[part]].nonzero()[0]

    def keep(axis: Axis) -> np.ndarray | None:
        if (found := known.get(id(axis))) is None:
            if not isinstance(axis, np.ndarray):
                return None
            kept_here, left_here = (np.logical_and.reduce(ids[axis]) for ids in (kept_ids, left_ids))
            positions = kept_here[left_here]
            found = known[id(axis)] = axis, None if positions.all() else np.flatnonzero(positions)
        return found[1]

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
    places = places_of(flow)
    counts = [(place, flow.sizes[place]) for place in changed(places.sizes, keep)]
    sizes = {place: count.after(keep(count.axis)) for place, count in counts}  # type: ignore[arg-type]
    shapes = {
        place: reshaped(shape, places.tensors[place], keep)
        for place in changed(places.shapes, keep)
        if (shape := _stated_shape(snapshot.record, place))
    }
    return {**sizes, **copied_constants(snapshot, flow, keep), **shapes}


def copied_constants(snapshot: Snapshot, flow: Flow, keep: Sources) -> dict[Location, Any]:
    """Place in the record -> its new value, for all arrays in the record that change."""
    return {
        place: cut_array(np.asarray(get_in(snapshot.record, place)), flow.constants[place], keep).tolist()
        for place in changed(places_of(flow).constants, keep)
    }


def reshaped(shape: list[Any], axes: Tensor, keep: Sources) -> FrozenList:
    """A shape in the record after a cut. Sizes that the record does not state stay open.

    Args:
        shape: the shape.
        axes: the axes of its tensor.
        keep: axis -> its kept positions.
    """
    sizes = list(shape)
    for i, axis in enumerate(axes[: len(shape)]):
        if isinstance(axis, np.ndarray) and sizes[i] is not None and (kept := keep(axis)) is not None:
            sizes[i] = len(kept)
    return FrozenList(sizes)


def _stated_shape(record: Record, place: Location) -> list[Any]:
    """The shape at a place in a record, empty if there is none. The record of a file may have anything there."""
    try:
        shape = get_in(record, place)
    except (LookupError, TypeError):
        return []
    return shape if isinstance(shape, list) else []
