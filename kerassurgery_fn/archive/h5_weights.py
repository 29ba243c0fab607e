"""The arrays of a weight file, read and written with h5py.

A group of the file has its arrays under `vars`, as `vars/0`, `vars/1`, ... in the order of the variables. h5py does not
know bfloat16: it is stored as two bytes with an attribute `dtype`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import h5py
import ml_dtypes
import numpy as np

from kerassurgery_fn.archive.file_regions import GrowingWindow, Region, Window
from kerassurgery_fn.archive.layer_groups import Arrays
from kerassurgery_fn.errors import BadFile
from kerassurgery_fn.values.mapped_arrays import BLOCK, blocks, is_read_lazily
from kerassurgery_fn.values.scratch import Scratch

MAX_RATIO = 100  # of the bytes of an array to its bytes in the file
RATIO_FLOOR = 1 << 26  # bytes; smaller arrays may have any ratio
LARGE = 1 << 16  # bytes; smaller arrays are written by HDF5
Item = TypeVar("Item")
Load = Callable[[int, int], np.ndarray]  # offset, number of bytes -> the bytes
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class WeightFile:
    """The groups and arrays of an open weight file, which can be split into several HDF5 files.

    Each file comes with a function that has the bytes of an array at an offset of the file.
    """

    def __init__(self, files: Sequence[tuple[h5py.File, Load]], source: str) -> None:
        self._files, self._source = files, source

    def arrays(self, group: str) -> Arrays:
        """The numbered arrays of a group; none if the group does not exist.

        Raises:
            BadFile: the arrays are not numbered, or see `array`.
        """
        names = self._names(f"{group}/vars")
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise BadFile(f"{self._source}: {group}/vars has {', '.join(sorted(names)[:4])}, not arrays 0, 1, ...")
        return tuple(self.array(f"{group}/vars/{index}") for index in range(len(names)))

    def array(self, name: str) -> np.ndarray:
        """One array of the file.

        Raises:
            BadFile: the dataset is not an array of numbers, it is in another file, or it is larger than its data in the
            file.
        """
        dataset, load = next(self._found(name), (None, None))
        if not isinstance(dataset, h5py.Dataset) or load is None:
            raise BadFile(f"{self._source}: {name} is no array")
        with self._readable(name):
            if fault := _fault(dataset):
                raise BadFile(f"{self._source}: the array {name} {fault}")
            return _native(_content(dataset, load), dataset.attrs.get("dtype"))

    def has(self, name: str) -> bool:
        return next(self._found(name), None) is not None

    def counts(self, group: str) -> dict[str, int]:
        """The number of arrays in a group, and in the groups below it that have any, by the rest of their names.

        Raises:
            BadFile: a group is in several places, for example in itself, or too deep.
        """
        counts: dict[str, int] = {}
        for file, _ in self._files:
            if isinstance(found := self._find(file, group), h5py.Group):
                with self._readable(group):
                    self._count(found, group, "", counts, set())
        return counts

    def _count(self, found: h5py.Group, name: str, rest: str, counts: dict[str, int], seen: set[int]) -> None:
        address = h5py.h5o.get_info(found.id).addr
        if address in seen or name.count("/") > MAX_GROUPS:
            raise BadFile(f"{self._source}: the group {name[:100]} is in several places, or too deep")
        seen.add(address)
        for part in found:
            inner = self._find(found, part)
            if part == "vars":
                counts[rest] = counts.get(rest, 0) + (len(inner) if isinstance(inner, h5py.Group) else 1)
            elif isinstance(inner, h5py.Group):
                self._count(inner, f"{name}/{part}", f"{rest}/{part}".lstrip("/"), counts, seen)
        if not counts.get(rest, 1):
            del counts[rest]

    def subgroups(self, group: str) -> list[str]:
        """The names of the groups of sublayers in a group that have arrays, at any depth."""
        return list(dict.fromkeys(rest.partition("/")[0] for rest in self.counts(group) if rest))

    def _names(self, group: str) -> list[str]:
        names: dict[str, None] = {}
        for found, _ in self._found(group):
            with self._readable(group):
                names |= dict.fromkeys(found if isinstance(found, h5py.Group) else ())
        return list(names)

    def _found(self, name: str) -> Iterator[tuple[Any, Load]]:
        """What the files have under a name: groups, datasets."""
        for file, load in self._files:
            if (found := self._find(file, name)) is not None:
                yield found, load

    def _find(self, file: h5py.File, name: str) -> Any:
        """A group or a dataset of a file, None if there is none. Links to other places are not followed."""
        found = file
        for part in name.split("/"):
            with self._readable(name):
                link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    raise BadFile(f"{self._source}: {name} is a link to another place")
                found = found[part]
        return found

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        """Turns the errors of h5py for damaged files into BadFile: OSError, KeyError, RuntimeError, ValueError, ..."""
        try:
            yield
        except BadFile:
            raise
        except Exception as error:
            message = (str(error).strip().splitlines() or [""])[0]
            raise BadFile(f"{self._source}: {name} cannot be read: {message}") from error


MAX_GROUPS = 100  # levels of groups


@contextmanager
def open_weights(regions: Sequence[Region], source: str, lazy: bool = False) -> Iterator[WeightFile]:
    """The arrays of a weight file, of which `lazy` ones stay in the file.

    Raises:
        BadFile: it is no HDF5 file.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(_open(region, source)) for region in regions]
        loads = [region.mapped() if lazy else region.read for region in regions]
        yield WeightFile(list(zip(opened, loads, strict=True)), source)


def _open(region: Region, source: str) -> h5py.File:
    try:
        return h5py.File(Window(region), "r")
    except Exception as error:
        raise BadFile(f"{source} is no HDF5 file: {error}") from error


def _content(dataset: h5py.Dataset, load: Load) -> np.ndarray:
    """The content of a dataset: bytes of the file where it is stored in one piece, as Keras does."""
    offset = dataset.id.get_offset()
    if offset is None:  # chunks, or too small to have a place of its own, or never written
        return np.asarray(dataset[()])
    count = math.prod(dataset.shape) * dataset.dtype.itemsize
    return load(offset, count).view(dataset.dtype).reshape(dataset.shape)


class WeightWriter:
    """A new weight file. An array that stays in another file takes the memory of a few blocks while it is written."""

    def __init__(self, file: h5py.File, window: GrowingWindow) -> None:
        self.file, self._window, self._scratches = file, window, (Scratch(), Scratch())
        self._at_once = h5py.h5p.create(h5py.h5p.DATASET_CREATE)  # a dataset has its place when it is created
        self._at_once.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self._at_once.set_fill_time(h5py.h5d.FILL_TIME_NEVER)

    def write(self, group: str, arrays: Sequence[np.ndarray]) -> None:
        """Writes the numbered arrays of a group."""
        written = self.file.require_group(f"{group}/vars")
        for index, array in enumerate(arrays):
            if array.nbytes < LARGE:
                dataset = written.create_dataset(str(index), data=np.asarray(array))
            else:
                dataset = written.create_dataset(str(index), array.shape, array.dtype, dcpl=self._at_once)
                self._write_content(dataset.id.get_offset(), array)
            if array.dtype == BFLOAT16:
                dataset.attrs["dtype"] = "bfloat16"

    def _write_content(self, offset: int, array: np.ndarray) -> None:
        """Writes an array to its place in the file, block by block. HDF5 need not see the content.

        A thread reads the next block while one is written, each in a scratch of its own.
        """
        parts = blocks(array, self._scratches)
        self._window.seek(offset)
        for _, block in read_ahead(parts) if is_read_lazily(array) and array.nbytes > BLOCK else parts:
            self._window.write(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
            self._window.check()


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items; another thread computes each item while the item before it is used.

    >>> list(read_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item


def _fault(dataset: h5py.Dataset) -> str:
    """Why a dataset is not read, in words; empty if it is fine."""
    if dataset.shape is None or not (dataset.dtype.kind in "fiub" or _is_bfloat16(dataset)):
        return f"is no array of numbers, but of {dataset.dtype}"
    if dataset.external:
        return "is in another file"
    if dataset.is_virtual:
        return "is put together from other arrays"
    count, stored = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if count > max(RATIO_FLOOR, MAX_RATIO * stored):
        return f"has the shape {dataset.shape}, {count:,} bytes, but the file has only {stored:,} bytes of it"
    return ""


def _is_bfloat16(dataset: h5py.Dataset) -> bool:
    return dataset.dtype == np.dtype("V2") and dataset.attrs.get("dtype") == "bfloat16"


def _native(array: np.ndarray, dtype: Any) -> np.ndarray:
    """An array in a form for NumPy: with the dtype bfloat16, and with the byte order of the machine."""
    if dtype == "bfloat16":
        return array.view(BFLOAT16) if array.dtype.itemsize == 2 else array.astype(BFLOAT16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
