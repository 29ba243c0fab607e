"""Which slices of an array another array is made of, found from the elements alone.

Three ways, from cheap to careful. Elements whose bit pattern stands once in the old array tell by themselves which
positions they come from: a few for each position of each axis are looked up. Where that does not solve an axis,
positions that were found for another axis of the same sizes are tried. The last axis left open is settled by whole
slices. All of it takes time in proportion to the size of the arrays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice, product

import numpy as np

from kerassurgery_fn.differences.changes import NEW as NEW

PROBES = 3  # elements looked up for each position of an axis
CHUNK = 1 << 20  # elements looked at in one go
SPARSE = 6  # bits by which a table of hashes is larger than what is in it
TRIALS = 8  # positions of other axes that are tried

Positions = np.ndarray
Sizes = tuple[int, int]


class Known:
    """Positions found so far, by the sizes of the axis before and after, the latest first."""

    def __init__(self) -> None:
        self._found: dict[Sizes, list[Positions]] = defaultdict(list)

    def add(self, before: int, positions: Positions) -> None:
        same = self._found[before, len(positions)]
        same[:] = [positions, *(one for one in same if not np.array_equal(one, positions))][:TRIALS]

    def __call__(self, before: int, after: int) -> Iterator[Positions]:
        """The whole axis if the sizes are equal, then what was found for axes of these sizes."""
        if before == after:
            yield np.arange(after)
        yield from self._found[before, after]


def bits(array: np.ndarray) -> np.ndarray | None:
    """The bit patterns of an array's elements, None if they are longer than 8 bytes.

    >>> bits(np.array([0.0, -0.0], "float32"))
    array([         0, 2147483648], dtype=uint32)
    """
    if array.itemsize not in (1, 2, 4, 8):
        return None
    return np.ascontiguousarray(array).view(f"u{array.itemsize}").reshape(array.shape)


def found(old: np.ndarray, new: np.ndarray, known: Known) -> list[Positions] | None:
    """For each axis of `new` which positions of `old` its positions come from, `NEW` for those from nowhere.

    None if the arrays have nothing to do with each other. Both are bit patterns.

    >>> a = np.arange(12, dtype="uint8").reshape(3, 4)
    >>> found(a, a[[2, 0]][:, [1, 3]], Known())
    [array([2, 0]), array([1, 3])]
    """
    if old.ndim != new.ndim or old.dtype != new.dtype or not old.ndim or not old.size or not new.size:
        return None
    axes = _settled(old, new, _votes(old, new), known)
    if axes is None or any((positions == NEW).all() for positions in axes):
        return None
    for before, positions in zip(old.shape, axes, strict=True):
        if (positions != NEW).all():
            known.add(before, positions)
    return axes


def taken(old: np.ndarray, axes: Sequence[Positions]) -> np.ndarray:
    """The slices of an array at positions of each axis; anything at positions that are `NEW`."""
    for axis, positions in enumerate(axes):
        if not is_whole(positions, old.shape[axis]):
            old = np.take(old, positions, axis=axis, mode="clip")
    return old


def from_nowhere(axes: Sequence[Positions]) -> np.ndarray:
    """Which elements of an array come from nowhere along some axis.

    >>> from_nowhere([np.array([0, NEW]), np.array([1, 2])]).tolist()
    [[False, False], [True, True]]
    """
    mask = np.zeros([len(positions) for positions in axes], bool)
    for axis, positions in enumerate(axes):
        mask |= np.expand_dims(positions == NEW, tuple(i for i in range(len(axes)) if i != axis))
    return mask


def is_whole(positions: Positions, before: int) -> bool:
    """Whether positions are all of an axis in their order.

    >>> is_whole(np.arange(3), 3), is_whole(np.arange(3), 4)
    (True, False)
    """
    return len(positions) == before and bool((positions == np.arange(before)).all())


def _votes(old: np.ndarray, new: np.ndarray) -> list[Positions]:
    """For each axis the positions that elements found once in `old` tell, `NEW` where they tell nothing."""
    rng = np.random.default_rng(0)
    asked: list[np.ndarray] = []
    for axis, length in enumerate(new.shape):
        for _ in range(PROBES):
            index = [rng.integers(n, size=length) for n in new.shape]
            index[axis] = np.arange(length)
            asked.append(new[tuple(index)])
    where = _once(old.reshape(-1), np.concatenate(asked))
    votes: list[Positions] = []
    start = 0
    for axis, length in enumerate(new.shape):
        answers = where[start : start + PROBES * length].reshape(PROBES, length)
        start += PROBES * length
        coordinates = np.where(answers == NEW, NEW, np.unravel_index(np.maximum(answers, 0), old.shape)[axis])
        votes.append(coordinates[(coordinates != NEW).argmax(axis=0), np.arange(length)])
    return votes


def _once(flat: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The index of each value in a flat array that has it just once, `NEW` for all other values."""
    values, inverse = np.unique(asked, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    where = np.full(len(values), NEW, np.int64)
    width = min(8 * values.itemsize, len(values).bit_length() + SPARSE)
    wanted = np.zeros(1 << width, bool)
    wanted[_hash(values, width)] = True
    for start in range(0, len(flat), CHUNK):
        part = flat[start : start + CHUNK]
        likely = np.flatnonzero(wanted[_hash(part, width)])
        slots = np.minimum(np.searchsorted(values, part[likely]), len(values) - 1)
        hits = values[slots] == part[likely]
        counts += np.bincount(slots[hits], minlength=len(values))
        where[slots[hits]] = likely[hits] + start
    where[counts != 1] = NEW
    return where[inverse.reshape(-1)]


def _hash(values: np.ndarray, width: int) -> np.ndarray:
    """A number of so many bits for each value, that differs for most that differ."""
    kind = values.dtype.type
    return (values * kind(0x9E3779B97F4A7C15 & np.iinfo(kind).max)) >> kind(8 * values.itemsize - width)


def _settled(old: np.ndarray, new: np.ndarray, votes: Sequence[Positions], known: Known) -> list[Positions] | None:
    """The axes with open positions settled by whole slices; None if nothing is known of some axis.

    Where several axes are open altogether, positions known of other axes are tried for all but one of them.
    """
    nowhere = [axis for axis, positions in enumerate(votes) if (positions == NEW).all()]
    if not nowhere:
        return _closed(old, new, list(votes))
    for last in sorted(nowhere, key=lambda axis: -new.shape[axis]):
        guessed = [axis for axis in nowhere if axis != last]
        guesses = product(*(known(old.shape[axis], new.shape[axis]) for axis in guessed))
        for guess in islice(guesses, TRIALS):
            axes = list(votes)
            for axis, positions in zip(guessed, guess, strict=True):
                axes[axis] = positions
            if (closed := _last(old, new, axes, last, known)) is not None:
                return closed
    return None


def _last(old: np.ndarray, new: np.ndarray, axes: list[Positions], last: int, known: Known) -> list[Positions] | None:
    """The axes with the last one settled: as it is known of another axis if that fits, else slice by slice."""
    for positions in known(old.shape[last], new.shape[last]):
        tried = [positions if axis == last else own for axis, own in enumerate(axes)]
        if all((own != NEW).all() for own in tried) and np.array_equal(taken(old, tried), new):
            return tried
    axes[last] = _by_slices(old, new, axes, last)
    return _closed(old, new, axes) if (axes[last] != NEW).any() else None


def _closed(old: np.ndarray, new: np.ndarray, axes: list[Positions]) -> list[Positions]:
    """The axes with open positions settled where a slice of the old array fits."""
    for axis, positions in enumerate(axes):
        if (positions == NEW).any():
            axes[axis] = np.where(positions == NEW, _by_slices(old, new, axes, axis), positions)
    return axes


def _by_slices(old: np.ndarray, new: np.ndarray, axes: Sequence[Positions], axis: int) -> Positions:
    """The positions of an axis, slice by slice, at those positions of the other axes that are known; in order where
    several slices are equal."""
    for other, positions in enumerate(axes):
        if other != axis:
            sure = np.flatnonzero(positions != NEW)
            old, new = np.take(old, positions[sure], axis=other), np.take(new, sure, axis=other)
    places: dict[bytes, list[int]] = defaultdict(list)
    for index, row in enumerate(np.moveaxis(old, axis, 0)):
        places[row.tobytes()].append(index)
    chosen: list[int] = []
    for row in np.moveaxis(new, axis, 0):
        candidates = places.get(row.tobytes(), [NEW])
        latest = max(chosen[-1:], default=NEW)
        chosen.append(next((one for one in candidates if one > latest), candidates[0]))
    return np.array(chosen, np.int64)
