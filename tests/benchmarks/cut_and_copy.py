"""The cut beside a plain copy of the weights that it keeps, and the memory that it takes."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
from end_to_end import half_of_all
from networks import network
from timing import Settings, in_turns, markdown, milliseconds, named, times_as_long

from kerassurgery_fn import Snapshot, analyse, capture

NAMES = ("ResNet50", "VGG16", "InceptionV3", "DenseNet121")


def new_arrays(snapshot: Snapshot, smaller: Snapshot) -> list[np.ndarray]:
    """The arrays that a cut has made. All others are shared."""
    known = {id(array) for arrays in snapshot.weights.values() for array in arrays}
    return [array for arrays in smaller.weights.values() for array in arrays if id(array) not in known]


def row_of(name: str, settings: Settings) -> list[str]:
    """The times of a cut of half of all channels and of a copy of what is kept, and the memory of the cut."""
    snapshot = capture(network(name))
    edit = half_of_all(snapshot)
    analyse(snapshot)
    kept = new_arrays(snapshot, edit(snapshot))
    times = in_turns({"cut": lambda: edit(snapshot), "copy": lambda: [np.copy(array) for array in kept]}, settings)
    tracemalloc.start()
    smaller = edit(snapshot)
    peak = tracemalloc.get_traced_memory()[1] / sum(array.nbytes for array in new_arrays(snapshot, smaller))
    tracemalloc.stop()
    ratio = times_as_long(times["cut"], times["copy"])
    return [name, milliseconds(times["cut"]), milliseconds(times["copy"]), ratio, f"{peak:.2f} x"]


def main(settings: Settings) -> Iterator[str]:
    """The table of this benchmark."""
    head = ["half of all channels", "cut", "np.copy of what is kept", "ratio", "peak of new memory / kept bytes"]
    yield markdown(head, [row_of(name, settings) for name in named(NAMES, settings)])
