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

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from toolz import merge

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis, has_ids
from kerassurgery_fn.graph import Record, map_leaves
from kerassurgery_fn.rules.layer import Tensor, Weight
from kerassurgery_fn.values.frozen import Location, get_in, set_all
from kerassurgery_fn.values.gathering import gather
from kerassurgery_fn.values.mapped_arrays import elementwise
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights

# Large layers are copied in threads: NumPy copies without the lock of the interpreter, and one core alone does not use
# all of the bandwidth of the memory.
LARGE = 1 << 20  # bytes
THREADS = min(8, os.cpu_count() or 1)

Sources = Callable[[Axis], np.ndarray | None]  # axis -> the old position of each new position; None if nothing changes


def copied(snapshot: Snapshot, flow: Flow, sources: Sources) -> Snapshot:
    """The snapshot whose positions are copied from their sources, with updated numbers in the config.

    Unchanged arrays and parts of the config are shared with the old snapshot.
    """
    record = set_all(snapshot.record, recounted(snapshot, flow, sources))
    return Snapshot(record, *copied_arrays(snapshot, flow, sources))


def copied_arrays(snapshot: Snapshot, flow: Flow, sources: Sources) -> tuple[Weights, Training | None]:
    """The weights and the optimizer's state with positions copied from their sources."""
    arrays = snapshot.weights
    in_threads = [path for path in arrays if sum(array.nbytes for array in arrays[path]) >= LARGE]
    with ThreadPoolExecutor(THREADS) as pool:  # it starts no thread before the first layer
        cuts = {path: pool.submit(cut_layer, flow, path, arrays[path], sources) for path in in_threads}
        small = {path: cut_layer(flow, path, arrays[path], sources) for path in arrays if path not in cuts}
        weights = {path: small[path] if path in small else cuts[path].result() for path in arrays}
    return weights, cut_training(snapshot.training, flow, sources)


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
            kept = np.flatnonzero(kept_ids[axis].all(axis=0))
            known[id(axis)] = axis, None if len(kept) == axis.shape[1] else kept
        return known[id(axis)][1]

    return keep


def cut_array(array: np.ndarray, axes: Tensor, keep: Sources) -> np.ndarray:
    """An array with the kept positions along each of its axes; the same array if all positions are kept."""
    return gather(array, [keep(axis) for axis in axes])


def cut_weight(array: np.ndarray, weight: Weight, keep: Sources) -> np.ndarray:
    """A weight with the kept positions. If the layer scales its output by 1/sqrt(n) for an axis that gets shorter, the
    weight is scaled to make up for it."""
    smaller, kept = cut_array(array, weight.axes, keep), keep(weight.root)
    if kept is None:
        return smaller
    factor = np.sqrt(len(kept) / weight.root.shape[1])  # type: ignore[union-attr]
    return elementwise(smaller, lambda part: (part * factor).astype(part.dtype))


def cut_layer(flow: Flow, path: str, arrays: tuple[np.ndarray, ...], keep: Sources) -> tuple[np.ndarray, ...]:
    """The weights of one layer with the kept positions; the same tuple if all positions are kept."""
    if path not in flow.weights or not arrays:
        return arrays
    smaller = tuple(cut_weight(a, weight, keep) for a, weight in zip(arrays, flow.weights[path], strict=True))
    return arrays if all(new is old for new, old in zip(smaller, arrays, strict=True)) else smaller


def cut_training(training: Training | None, flow: Flow, keep: Sources) -> Training | None:
    """The state of the optimizer. Each slot is cut like its weight."""
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
    """Place in the record -> its new value, for all sizes, shapes and constants that a cut changes."""
    changes: dict[Location, Any] = {}
    for place, count in flow.sizes.items():
        if (kept := keep(count.axis)) is not None:
            changes[place] = count.after(kept)
    shapes: dict[Location, Any] = {}
    for place, ref in flow.trace.shapes.items():
        shapes |= reshaped(place, flow.tensors.get(ref), keep)
    for place, refs in flow.trace.structures.items():
        shapes |= reshaped(place, map_leaves(flow.tensors.get, refs), keep)
    for place, built in flow.builds.items():
        for inner, axes in built.items():
            shapes |= reshaped((*place, *inner), axes, keep)
    stated = {place: n for place, n in shapes.items() if _is_stated(snapshot.record, place)}
    return {**changes, **copied_constants(snapshot, flow, keep), **stated}


def _is_stated(record: Record, place: Location) -> bool:
    """Whether a record has a size at a place. The record of a file may have anything there."""
    try:
        return get_in(record, place) is not None
    except (LookupError, TypeError):
        return False


def copied_constants(snapshot: Snapshot, flow: Flow, keep: Sources) -> dict[Location, Any]:
    """Place in the record -> its new value, for all arrays in the record that change."""
    return {
        place: cut_array(np.asarray(get_in(snapshot.record, place)), axes, keep).tolist()
        for place, axes in flow.constants.items()
        if any(keep(axis) is not None for axis in axes)
    }


def reshaped(place: Location, axes: Any, keep: Sources) -> dict[Location, Any]:
    """Place in the record -> new size, for the shapes of tensors at a place.

    Args:
        place: the place of a shape, or of nested lists and dicts of shapes.
        axes: the axes of the tensors, in the same structure.
        keep: axis -> its kept positions.
    """
    if isinstance(axes, (list, dict)):
        inner = axes.items() if isinstance(axes, dict) else enumerate(axes)
        return merge(reshaped((*place, key), tensor, keep) for key, tensor in inner)
    return {
        (*place, i): len(kept)
        for i, axis in enumerate(axes if isinstance(axes, tuple) else ())
        if has_ids(axis) and (kept := keep(axis)) is not None
    }
