"""Finds the slices of an old array that a new array consists of, from the elements alone.

A pruned kernel is `old[rows][:, columns]`:

    old   .1  .2  .3  .4        new   .2  .4        rows [0, 1], columns [1, 3]
          .5  .6  .7  .8              .6  .8

Rows and columns are found in three steps, the cheapest first:

1. Unique elements. A bit pattern that occurs once in the old array determines its row and column: .8 comes from row 1
   and column 3. A few elements of each row and of each column are looked up.
2. Positions of other arrays. If all elements occur several times (zeros, int8), the positions of earlier arrays with
   axes of the same sizes are tried: the bias has the columns of its kernel.
3. Whole slices. For positions that are still unknown, whole slices are compared, at the known positions of the other
   axes.

The time is proportional to the sizes of the arrays. The result is a guess: the caller compares all elements and stores
the elements that differ, so a wrong guess needs more space, but the difference is always exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice, product
from math import prod

import numpy as np

from kerassurgery_fn.differences.changes import NEW as NEW
from kerassurgery_fn.values.mapped_arrays import take

PROBES = 3  # elements to look up for each position of an axis
CHUNK = 1 << 20  # elements to compare at once
SPARSE = 6  # the hash table has 2 ** 6 slots for each value, so that few different values have the same slot
TRIALS = 8  # known positions to try

Positions = np.ndarray
Sizes = tuple[int, int]


class KnownPositions:
    """Positions of earlier arrays, by the size of the axis before and after; the latest positions come first."""

    def __init__(self) -> None:
        self._by_sizes: dict[Sizes, list[Positions]] = defaultdict(list)

    def add(self, before: int, positions: Positions) -> None:
        sizes = before, len(positions)
        others = [known for known in self._by_sizes[sizes] if not np.array_equal(known, positions)]
        self._by_sizes[sizes] = [positions, *others][:TRIALS]

    def candidates(self, before: int, after: int) -> Iterator[Positions]:
        """The whole axis if the sizes are equal, then the positions of other axes of these sizes."""
        if before == after:
            yield np.arange(after)
        yield from self._by_sizes[before, after]


def bits(array: np.ndarray) -> np.ndarray | None:
    """The bit patterns of the elements of an array; None if an element has more than 8 bytes.

    >>> bits(np.array([0.0, -0.0], "float32"))
    array([         0, 2147483648], dtype=uint32)
    """
    if array.itemsize not in (1, 2, 4, 8):
        return None
    return np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(array.shape)


def find_slices(old: np.ndarray, new: np.ndarray, known: KnownPositions) -> list[Positions] | None:
    """For each axis of `new`, the positions of `old` that it consists of; `NEW` for a position that `old` does not
    have.

    Args:
        old, new: bit patterns, see `bits`.
        known: positions of other arrays; the positions found here are added.

    Returns:
        One array of positions for each axis; None if the arrays have nothing in common.

    >>> a = np.arange(12, dtype="uint8").reshape(3, 4)
    >>> find_slices(a, a[[2, 0]][:, [1, 3]], KnownPositions())
    [array([2, 0]), array([1, 3])]
    """
    if old.ndim != new.ndim or old.dtype != new.dtype or not old.ndim or not old.size or not new.size:
        return None
    axes = _complete(old, new, _positions_of_unique_elements(old, new), known)
    # If all positions of an axis are new, the arrays have nothing in common.
    if axes is None or any((positions == NEW).all() for positions in axes):
        return None
    for before, positions in zip(old.shape, axes, strict=True):
        if (positions != NEW).all():
            known.add(before, positions)
    return axes


def take_slices(old: np.ndarray, axes: Sequence[Positions]) -> np.ndarray:
    """The slices of an array at some positions of each axis. The elements at `NEW` positions are arbitrary."""
    for axis, positions in enumerate(axes):
        if not is_whole(positions, old.shape[axis]):
            old = take(old, positions, axis)
    return old


def new_elements(axes: Sequence[Positions]) -> np.ndarray:
    """A boolean mask of the elements at `NEW` positions of any axis.

    >>> new_elements([np.array([0, NEW]), np.array([1, 2])]).tolist()
    [[False, False], [True, True]]
    """
    mask = np.zeros([len(positions) for positions in axes], bool)
    for axis, positions in enumerate(axes):
        mask |= np.expand_dims(positions == NEW, tuple(i for i in range(len(axes)) if i != axis))
    return mask


def is_whole(positions: Positions, before: int) -> bool:
    """Whether the positions are all positions of the axis, in order.

    >>> is_whole(np.arange(3), 3), is_whole(np.arange(3), 4)
    (True, False)
    """
    return len(positions) == before and bool((positions == np.arange(before)).all())


# --- step 1: unique elements


def _positions_of_unique_elements(old: np.ndarray, new: np.ndarray) -> list[Positions]:
    """For each axis, the old positions of elements that occur once in `old`; `NEW` if none of the probes is unique."""
    places = _place_of_unique(old.reshape(-1), np.concatenate(list(_probes(new))))
    axes: list[Positions] = []
    start = 0
    for axis, length in enumerate(new.shape):
        flat = places[start : start + PROBES * length].reshape(PROBES, length)
        start += PROBES * length
        # A place in the flat array has a coordinate on every axis; here, only the coordinate on the probed axis is
        # used.
        coordinates = np.where(flat == NEW, NEW, np.unravel_index(np.maximum(flat, 0), old.shape)[axis])
        first_hit = (coordinates != NEW).argmax(axis=0)
        axes.append(coordinates[first_hit, np.arange(length)])
    return axes


def _probes(new: np.ndarray) -> Iterator[np.ndarray]:
    """For each axis, `PROBES` times an element of each of its positions, at random positions of the other axes."""
    rng = np.random.default_rng(0)  # a fixed seed, so that the same models give the same difference
    for axis, length in enumerate(new.shape):
        for _ in range(PROBES):
            index = [rng.integers(n, size=length) for n in new.shape]
            index[axis] = np.arange(length)
            yield new[tuple(index)]


def _place_of_unique(flat: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """For each probe that occurs exactly once in a flat array, its index in the array; `NEW` for all other probes.

    The flat array can have many millions of elements, and there are few probes. So a table of hashes first excludes
    nearly all elements, and only the other elements are searched for.
    """
    values, inverse = np.unique(probes, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    places = np.full(len(values), NEW, np.int64)
    width = min(8 * values.itemsize, len(values).bit_length() + SPARSE)
    is_hash_of_probe = np.zeros(1 << width, bool)
    is_hash_of_probe[_hash(values, width)] = True
    for start in range(0, len(flat), CHUNK):
        chunk = flat[start : start + CHUNK]
        # Different values can have the same hash, so the likely elements are compared in full.
        likely = np.flatnonzero(is_hash_of_probe[_hash(chunk, width)])
        slots = np.minimum(np.searchsorted(values, chunk[likely]), len(values) - 1)
        hits = values[slots] == chunk[likely]
        counts += np.bincount(slots[hits], minlength=len(values))
        places[slots[hits]] = likely[hits] + start
    places[counts != 1] = NEW
    return places[inverse.reshape(-1)]


def _hash(values: np.ndarray, width: int) -> np.ndarray:
    """A hash of `width` bits for each value: the upper bits of a product with a constant (Fibonacci hashing)."""
    dtype = values.dtype.type
    return (values * dtype(0x9E3779B97F4A7C15 & np.iinfo(dtype).max)) >> dtype(8 * values.itemsize - width)


# --- steps 2 and 3: known positions, and whole slices


def _complete(
    old: np.ndarray, new: np.ndarray, partial: Sequence[Positions], known: KnownPositions
) -> list[Positions] | None:
    """The axes with all positions; None if an axis stays unknown.

    The slices along one axis can be compared when all other axes are known. If several axes are unknown, all but one
    get known positions as a trial. The last axis is then matched by its slices, which shows whether the trial was
    right.
    """
    unknown = [axis for axis, positions in enumerate(partial) if (positions == NEW).all()]
    if not unknown:
        return _fill_gaps(old, new, list(partial))
    # The shorter axes get trial positions, because a trial for the longest axis is the most likely to be wrong.
    for last in sorted(unknown, key=lambda axis: -new.shape[axis]):
        others = [axis for axis in unknown if axis != last]
        trials = product(*(known.candidates(old.shape[axis], new.shape[axis]) for axis in others))
        for trial in islice(trials, TRIALS):
            axes = list(partial)
            for axis, positions in zip(others, trial, strict=True):
                axes[axis] = positions
            if (completed := _complete_last(old, new, axes, last, known)) is not None:
                return completed
    return None


def _complete_last(
    old: np.ndarray, new: np.ndarray, axes: list[Positions], last: int, known: KnownPositions
) -> list[Positions] | None:
    """The axes with positions for the last unknown axis: known positions if all elements agree, otherwise by slices."""
    for candidate in known.candidates(old.shape[last], new.shape[last]):
        trial = [candidate if axis == last else positions for axis, positions in enumerate(axes)]
        if all((positions != NEW).all() for positions in trial) and np.array_equal(take_slices(old, trial), new):
            return trial
    axes[last] = _match_slices(old, new, axes, last)
    return _fill_gaps(old, new, axes) if (axes[last] != NEW).any() else None


def _fill_gaps(old: np.ndarray, new: np.ndarray, axes: list[Positions]) -> list[Positions]:
    """The axes in which unknown positions are replaced by the positions of equal slices of the old array."""
    for axis, positions in enumerate(axes):
        if (positions == NEW).any():
            axes[axis] = np.where(positions == NEW, _match_slices(old, new, axes, axis), positions)
    return axes


def _match_slices(old: np.ndarray, new: np.ndarray, axes: Sequence[Positions], axis: int) -> Positions:
    """The positions of an axis by its slices, compared at the known positions of the other axes.

    If several slices of the old array are equal (channels that are all zeros), the first slice after the previous
    position is used, because pruning keeps the order.
    """
    for other, positions in enumerate(axes):
        if other != axis:
            known = np.flatnonzero(positions != NEW)
            old, new = np.take(old, positions[known], axis=other), np.take(new, known, axis=other)
    old_labels, new_labels = _labels(np.moveaxis(old, axis, 0), np.moveaxis(new, axis, 0))
    by_label = np.argsort(old_labels, kind="stable")
    starts, ends = (np.searchsorted(old_labels[by_label], new_labels, side) for side in ("left", "right"))
    counts = ends - starts
    matches = np.full(len(new_labels), NEW, np.int64)
    matches[counts > 0] = by_label[starts[counts > 0]]
    for row in np.flatnonzero(counts > 1):
        candidates = by_label[starts[row] : ends[row]]
        previous = matches[row - 1] if row else NEW
        matches[row] = candidates[np.searchsorted(candidates, previous, "right") % len(candidates)]
    return matches


def _labels(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each row of two arrays of one type, along their first axes: equal rows have the same number.

    >>> _labels(np.array([[3, 4], [1, 2]]), np.array([[1, 2], [3, 4], [3, 4]]))
    (array([1, 0]), array([0, 1, 1]))
    """
    rows = np.concatenate([part.reshape(len(part), prod(part.shape[1:])) for part in (old, new)])
    if not rows.size:
        labels = np.zeros(len(rows), np.intp)
    else:
        keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows[:1].nbytes)))
        labels = np.unique(keys.reshape(-1), return_inverse=True)[1].reshape(-1)
    return labels[: len(old)], labels[len(old) :]
