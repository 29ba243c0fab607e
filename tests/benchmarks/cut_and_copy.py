"""The cut beside a plain copy of the weights that it keeps, and beside `np.take` of the same positions; its memory."""

import tracemalloc
from collections.abc import Iterator
from functools import reduce

import numpy as np
from end_to_end import half_of_all
from networks import network
from timing import Settings, in_turns, markdown, milliseconds, named, times_as_long

from kerassurgery_fn import DeleteChannels, Snapshot, analyse, capture
from kerassurgery_fn.edits.steps.branches import removed

Gather = tuple[np.ndarray, list[tuple[int, np.ndarray]]]  # an array, and the positions that are kept of its axes

NAMES = ("ResNet50", "VGG16", "InceptionV3", "DenseNet121")


def new_arrays(snapshot: Snapshot, smaller: Snapshot) -> list[np.ndarray]:
    """The arrays that a cut has made. All others are shared."""
    known = {id(array) for arrays in snapshot.weights.values() for array in arrays}
    return [array for arrays in smaller.weights.values() for array in arrays if id(array) not in known]


def gathers_of(snapshot: Snapshot, edit: DeleteChannels) -> list[Gather]:
    """The arrays that a cut changes, with the positions that it keeps."""
    flow = analyse(snapshot)
    keep = removed(flow, edit.ids_to_delete(snapshot, flow)).keep
    gathers = [
        (array, [(axis, kept) for axis, ids in enumerate(weight.axes) if (kept := keep(ids)) is not None])
        for path, weights in flow.weights.items()
        for array, weight in zip(snapshot.weights.get(path, ()), weights, strict=False)
    ]
    return [(array, axes) for array, axes in gathers if axes]


def gathered(array: np.ndarray, axes: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """The kept positions of an array, by NumPy alone."""
    return reduce(lambda part, one: np.take(part, one[1], axis=one[0]), axes, array)


def row_of(name: str, settings: Settings) -> list[str]:
    """The times of a cut of half of all channels and of a copy of what is kept, and the memory of the cut."""
    snapshot = capture(network(name))
    edit = half_of_all(snapshot)
    analyse(snapshot)
    kept = new_arrays(snapshot, edit(snapshot))
    gathers = gathers_of(snapshot, edit)
    subjects = {
        "cut": lambda: edit(snapshot),
        "copy": lambda: [np.copy(array) for array in kept],
        "take": lambda: [gathered(*gather) for gather in gathers],
    }
    times = in_turns(subjects, settings)
    tracemalloc.start()
    smaller = edit(snapshot)
    peak = tracemalloc.get_traced_memory()[1] / sum(array.nbytes for array in new_arrays(snapshot, smaller))
    tracemalloc.stop()
    against = [
        each
        for what in ("copy", "take")
        for each in (milliseconds(times[what]), times_as_long(times["cut"], times[what]))
    ]
    return [name, milliseconds(times["cut"]), *against, f"{peak:.2f} x"]


def main(settings: Settings) -> Iterator[str]:
    """The table of this benchmark."""
    head = [
        "half of all channels", "cut", "np.copy of what is kept", "ratio", "np.take of what is kept", "ratio",
        "peak of new memory / kept bytes",
    ]  # fmt: skip
    yield markdown(head, [row_of(name, settings) for name in named(NAMES, settings)])
