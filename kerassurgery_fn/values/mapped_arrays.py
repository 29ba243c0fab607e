"""Arrays that stay in a file until they are used, and selections of their positions that are read block by block.

    file ---- mapped array ---- take(rows) ---- take(columns) ---- blocks()
              no memory         no memory        no memory         1 MB at a time

A model file can then be cut in the memory of a few blocks: the edit notes the positions, and the writer reads them.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise
from typing import IO, Any

import numpy as np
from toolz import pipe

from kerassurgery_fn.values.scratch import Scratch

Step = Callable[[np.ndarray], np.ndarray]
BLOCK = 1 << 20  # bytes that are read at once
SMALL = 1 << 14  # bytes; smaller arrays are read at once
SPARSE = 4  # times the rows that are used may be read
SEEK = 1 << 14  # bytes that are read in the time of another call


class Descriptor:
    """A file that stays open as long as an array needs it, under whatever name it has then."""

    def __init__(self, number: int) -> None:
        self.number = os.dup(number)

    def __del__(self) -> None:
        os.close(self.number)


class MappedBytes(np.memmap):
    """Bytes of a file that are mapped to be read only. `read_file` reads them without the mapping, which is faster."""

    descriptor: Descriptor


def map_bytes(file: IO[bytes], start: int, count: int) -> np.ndarray:
    """Bytes of a file, as an array of uint8 whose elements are read from the file when they are used."""
    if not count:
        return np.empty(0, np.uint8)
    mapping = MappedBytes(file, np.uint8, "r", start, (count,))
    mapping.descriptor = Descriptor(file.fileno())
    return mapping.view(np.ndarray)


def mapping_of(array: np.ndarray) -> MappedBytes | None:
    """The mapping that an array is a view of, None for other arrays."""
    owner: Any = _source(array)
    while isinstance(owner, np.ndarray):
        if type(owner) is MappedBytes:
            return owner
        owner = owner.base
    return None


def is_read_lazily(array: np.ndarray) -> bool:
    """Whether the elements of an array are in a file until they are used."""
    return mapping_of(array) is not None


def read_file(array: np.ndarray, scratch: Scratch | None = None) -> np.ndarray:
    """A copy of a part of a mapped array. Where that is possible, it is read from the file and not through the mapping:
    pages of a mapping come one by one, and stay in memory."""
    place = _place_in_file(array)
    if place is None:
        return array
    copy = (scratch or Scratch()).array("file", array.shape, array.dtype)
    return copy if os.preadv(place[0], [_bytes_of(copy)], place[1]) == copy.nbytes else array


def _place_in_file(array: np.ndarray) -> tuple[int, int] | None:
    """The descriptor of the file of a mapped array, and its position there; None if it cannot be read from the file."""
    mapping = mapping_of(array)
    if mapping is None or not hasattr(os, "preadv") or not array.flags.c_contiguous or not array.size:
        return None
    return mapping.descriptor.number, mapping.offset + _address(array) - _address(mapping)


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def release(array: np.ndarray) -> None:
    """Gives back the memory that a mapped array takes; it is read from the file again when it is used again.

    Other arrays are left as they are: a mapping that was written to would lose what was written.
    """
    mapping = mapping_of(array)
    pages: Any = None if mapping is None else mapping.base
    if mapping is None or not isinstance(pages, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    source = _source(array)
    start = _address(source) - _address(mapping) + mapping.offset % mmap.ALLOCATIONGRANULARITY
    first, end = -(-start // mmap.PAGESIZE), (start + source.nbytes) // mmap.PAGESIZE
    if first < end:
        pages.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (end - first) * mmap.PAGESIZE)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def take(array: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """The positions of an array along an axis. Of a large mapped array, they are read when they are used.

    >>> take(np.array([[1, 2, 3], [4, 5, 6]]), np.array([2, 0]), axis=1)
    array([[3, 1],
           [6, 4]])
    """
    if (selected := _selected(array)) is None:
        return array.take(positions, axis, mode="clip")
    return selected.taken(np.clip(positions, 0, array.shape[axis] - 1), axis)  # type: ignore[return-value]


def elementwise(array: np.ndarray, function: Step) -> np.ndarray:
    """The result of a function that changes each element by itself. Of a large mapped array, it is computed when used.

    >>> elementwise(np.array([1, 4]), np.sqrt)
    array([1., 2.])
    """
    if (selected := _selected(array)) is None:
        return function(array)
    return SelectedArray(selected.source, selected.positions, (*selected.steps, function))  # type: ignore[return-value]


def _selected(array: Any) -> SelectedArray | None:
    """The array as a selection of a mapped array; None if it is in memory, or small."""
    if type(array) is SelectedArray:
        return array
    is_large = array.nbytes >= SMALL and mapping_of(array) is not None
    return SelectedArray(array, (None,) * array.ndim) if is_large else None


def blocks(array: np.ndarray, scratches: Sequence[Scratch] = ()) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """The place and the content of each block of an array, in the order of the elements, about a megabyte each.

    A mapped array is read from its file, so that it takes the memory of a few blocks. A block is in the memory of a
    scratch, and is overwritten by the next block that takes its turn in it.

    >>> [(place, block.shape) for place, block in blocks(np.zeros((2, 512, 1024), np.float32))]
    [((0, slice(0, 256, None)), (256, 1024)), ((0, slice(256, 512, None)), (256, 1024)),
     ((1, slice(0, 256, None)), (256, 1024)), ((1, slice(256, 512, None)), (256, 1024))]
    """
    selected = _selected(array)
    for place, scratch in zip(places(array.shape, array.dtype.itemsize), cycle(scratches or [Scratch()]), strict=False):
        yield place, array[place] if selected is None else selected.read(place, scratch)
    release(array)


def places(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[Any, ...]]:
    """The indices of the blocks of an array: a number for each leading axis, and a slice of the next.

    >>> list(places((3, 4), 8))
    [(slice(0, 3, None),)]
    """
    inner = [itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    split = next((axis for axis, size in enumerate(inner) if size <= BLOCK), 0)
    height = max(1, BLOCK // max(1, inner[split])) if shape else 1
    for leading in np.ndindex(*shape[:split]):
        if not shape:
            yield ()
        for start in range(0, shape[split] if shape else 0, height):
            yield (*leading, slice(start, min(start + height, shape[split])))


class SelectedArray(np.lib.mixins.NDArrayOperatorsMixin):
    """Positions of a mapped array along its axes, and functions of each element, which are computed when they are used.

    It behaves as the read-only array of these positions: an operator, a function of NumPy, an index or a method reads
    it, and gives an ordinary array. `isinstance(..., np.ndarray)` is true. It pickles as an ordinary array.

    Args:
        source: the mapped array.
        positions: for each axis, the positions in the source; None for all.
        steps: functions of each element by itself, the first one first.
    """

    def __init__(
        self, source: np.ndarray, positions: tuple[np.ndarray | None, ...], steps: tuple[Step, ...] = ()
    ) -> None:
        self.source, self.positions, self.steps = source, positions, steps
        self.shape = tuple(n if p is None else len(p) for n, p in zip(source.shape, positions, strict=True))
        self.dtype, self.ndim = pipe(np.empty(0, source.dtype), *steps).dtype, source.ndim
        self.itemsize = self.dtype.itemsize
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.itemsize

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # it is used as an array
        return np.ndarray

    @property
    def flags(self) -> Any:
        return _READ_ONLY.flags

    def taken(self, positions: np.ndarray, axis: int) -> SelectedArray:
        """The positions of these positions along an axis."""
        old = self.positions[axis]
        new = positions if old is None else old[positions]
        return SelectedArray(self.source, (*self.positions[:axis], new, *self.positions[axis + 1 :]), self.steps)

    def read(self, place: tuple[Any, ...], scratch: Scratch) -> np.ndarray:
        """The elements of a block, as `places` has them: numbers for leading axes, then a slice."""
        *leading, part = place
        numbers = [n if p is None else p[n] for n, p in zip(leading, self.positions, strict=False)]
        source, (rows, *others) = self.source[tuple(numbers)], self.positions[len(numbers) :]
        block = read_file(source[part], scratch) if rows is None else _rows(source, rows[part], scratch)
        for axis, positions in enumerate(others, start=1):
            block = block if positions is None else _taken(block, positions, axis, scratch)
        return pipe(block, *self.steps)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.empty(self.shape, self.dtype)
        for place, block in blocks(self):  # type: ignore[arg-type]
            array[place] = block
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*map(_read, inputs), **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that an array of NumPy answers by itself
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(np.asarray(self))

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (np.asarray(self),)

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __str__(self) -> str:
        return str(np.asarray(self))

    __hash__ = None  # type: ignore[assignment]


def _rows(array: np.ndarray, rows: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Rows of a mapped array, read run by run, or with the rows between them if that is less work."""
    row, runs, place = array[:1].nbytes, _runs(rows), _place_in_file(array)
    needed, start, end = row * len(rows), rows.min(), rows.max() + 1
    if row * (end - start) <= min(SPARSE * needed, needed + SEEK * len(runs)):
        return _taken(read_file(array[start:end], scratch), rows - start, 0, scratch)
    if place is None or needed < mmap.PAGESIZE * len(runs):
        return _taken(array, rows, 0, scratch)
    copy = scratch.array(0, (len(rows), *array.shape[1:]), array.dtype)
    content, read = _bytes_of(copy), 0
    for first, last in runs:
        read += os.preadv(place[0], [content[row * first : row * last]], place[1] + row * int(rows[first]))
    return copy if read == needed else _taken(array, rows, 0, scratch)


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """The first and the last index of each run of consecutive rows.

    >>> _runs(np.array([4, 5, 6, 9, 2]))
    [(0, 3), (3, 4), (4, 5)]
    """
    bounds = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    return list(pairwise(bounds))


def _taken(array: np.ndarray, positions: np.ndarray, axis: int, scratch: Scratch) -> np.ndarray:
    """Positions along an axis, which are known to be there: NumPy then writes into the memory of the scratch itself."""
    shape = (*array.shape[:axis], len(positions), *array.shape[axis + 1 :])
    return np.take(array, positions, axis=axis, out=scratch.array(axis, shape, array.dtype), mode="clip")


_READ_ONLY = np.frombuffer(b"", np.uint8)


def _source(array: Any) -> Any:
    return array.source if type(array) is SelectedArray else array


def _read(value: Any) -> Any:
    return np.asarray(value) if type(value) is SelectedArray else value
