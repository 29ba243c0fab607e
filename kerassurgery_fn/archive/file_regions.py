"""A part of a file, read as a file or mapped into memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np

from kerassurgery_fn.archive.known_sums import KnownSums
from kerassurgery_fn.errors import BadFile
from kerassurgery_fn.values.mapped_arrays import map_bytes

STRIDE = 1 << 26  # bytes that are worth being stored while more are computed


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

    def mapped(self) -> Callable[[int, int], np.ndarray]:
        """The function (offset, count) -> bytes of the region, read from the file when they are used.

        The whole region is mapped once: each mapping takes a file descriptor, and a process may have about 1,000.
        """
        whole = map_bytes(self.file, self.start, self.size)

        def part(offset: int, count: int) -> np.ndarray:
            self._check(offset, count)
            return whole[offset : offset + count]

        return part

    def _check(self, offset: int, count: int) -> None:
        if offset < 0 or offset + count > self.size:
            raise BadFile(f"it should have {count:,} bytes at {offset:,}, and ends at {self.size:,}")


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
    """The end of a file as a file of its own, to write. `sums` gets the check sums of what is written.

    HDF5 calls `write` and `truncate`, and does not get over an exception of theirs, such as that of a full disk or of
    Ctrl-C. So `failure` keeps the first one, nothing is written after it, and `growing_window` raises it at the end.
    """

    def __init__(self, file: IO[bytes], sums: KnownSums | None = None) -> None:
        super().__init__(Region(file, file.tell(), 0))
        self.failure: BaseException | None = None
        self._sums, self._stored = sums, 0

    @property
    def region(self) -> Region:
        return self._region

    def check(self) -> None:
        """Raises what a write has raised."""
        if self.failure is not None:
            raise self.failure

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        view = memoryview(content).cast("B")  # type: ignore[arg-type]
        if self.failure is None:
            try:
                self._region.file.seek(self._region.start + self._position)
                self._region.file.write(view)
                self._start_storing(self._region.start + self._position + len(view))
                if self._sums is not None:
                    self._sums.written(self._position, view)
            except BaseException as error:
                self.failure = error
        self._position += len(view)
        self._grow(self._position)
        return len(view)

    def _start_storing(self, end: int) -> None:
        """Lets the system store on the disk what it has, while the rest is computed: `fsync` then has less to do.

        The advice says that bytes are not needed soon; the system stores those at once that are not on the disk yet.
        """
        if end - self._stored >= STRIDE and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._region.file.fileno(), self._stored, end - self._stored, os.POSIX_FADV_DONTNEED)
            self._stored = end

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        if self.failure is None:
            try:
                self._region.file.truncate(self._region.start + size)
            except BaseException as error:
                self.failure = error
        self._region = self._region._replace(size=size)
        if self._sums is not None:
            self._sums.forget(size)
        return size

    def _grow(self, size: int) -> None:
        self._region = self._region._replace(size=max(self._region.size, size))


@contextmanager
def growing_window(file: IO[bytes], sums: KnownSums | None = None) -> Iterator[GrowingWindow]:
    """A window to write at the end of a file. It raises at the end what a write has raised."""
    window = GrowingWindow(file, sums)
    try:
        yield window
    except Exception:
        if window.failure is None:
            raise
    window.check()
