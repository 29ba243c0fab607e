"""A part of a file, read as a file or mapped into memory."""

from __future__ import annotations

import io
import mmap
from typing import IO, Any, NamedTuple

import numpy as np

from kerassurgery_fn.errors import BadFile


class MappedBytes(np.memmap):
    """Bytes of a file that are mapped to be read only."""


class Region(NamedTuple):
    """`size` bytes of an open file from `start` on."""

    file: IO[bytes]
    start: int
    size: int

    def read(self, offset: int, count: int) -> np.ndarray:
        """Bytes of the region, as an array of uint8.

        Raises:
            BadFile: the region has fewer bytes.
        """
        self._check(offset, count)
        buffer = np.empty(count, np.uint8)
        self.file.seek(self.start + offset)
        if self.file.readinto(buffer.data) != count:  # type: ignore[attr-defined]
            raise BadFile(f"the file ends within {count:,} bytes that it should have")
        return buffer

    def map(self, offset: int, count: int) -> np.ndarray:
        """Bytes of the region, as an array of uint8 whose elements are read from the file when they are used."""
        self._check(offset, count)
        if not count:
            return np.empty(0, np.uint8)
        return MappedBytes(self.file, np.uint8, "r", self.start + offset, (count,)).view(np.ndarray)

    def _check(self, offset: int, count: int) -> None:
        if offset < 0 or offset + count > self.size:
            raise BadFile(f"it should have {count:,} bytes at {offset:,}, and ends at {self.size:,}")


def release(array: np.ndarray) -> None:
    """Gives back the memory that an array of `Region.map` takes; it is read from the file again when it is used again.

    Other arrays are left as they are: a mapping that was written to would lose what was written.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, MappedBytes):
        owner = owner.base
    pages: Any = getattr(owner, "base", None) if isinstance(owner, MappedBytes) else None
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


class Window(io.RawIOBase):
    """A region as a file of its own, to read."""

    def __init__(self, region: Region) -> None:
        self._region, self._position = region, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._region.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = max(min(len(view), self._region.size - self._position), 0)
        self._region.file.seek(self._region.start + self._position)
        read = self._region.file.readinto(view[:count])  # type: ignore[attr-defined]
        self._position += read
        return read


class GrowingWindow(Window):
    """The end of a file as a file of its own, to write."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(Region(file, file.tell(), 0))

    @property
    def region(self) -> Region:
        return self._region

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        view = memoryview(content).cast("B")  # type: ignore[arg-type]
        self._region.file.seek(self._region.start + self._position)
        self._region.file.write(view)
        self._position += len(view)
        self._grow(self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        self._region.file.truncate(self._region.start + size)
        self._region = self._region._replace(size=size)
        return size

    def _grow(self, size: int) -> None:
        self._region = self._region._replace(size=max(self._region.size, size))
