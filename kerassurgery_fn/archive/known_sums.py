"""Check sums of large arrays, taken while they are written, so that they need not be read again.

written    [ array ]         [ array ]
read    head        headers           headers
"""

from __future__ import annotations

import sys
import zlib
from bisect import bisect_left, bisect_right
from typing import NamedTuple

LARGE = 1 << 19  # bytes whose sum is worth noting
HEADERS = 1 << 16  # bytes; what HDF5 writes beside arrays is smaller


class Piece(NamedTuple):
    """A part of a region whose check sum is known."""

    start: int
    end: int
    sum: int


class KnownSums:
    """The check sums of the large pieces of what is written to a region.

    >>> known = KnownSums()
    >>> known.written(100, memoryview(bytes(1 << 20)))
    >>> known.written(100 + (1 << 20), memoryview(bytes(1 << 17)))
    >>> known.written(0, memoryview(bytes(50)))
    >>> [(piece.start, piece.end) for piece in known.pieces]
    [(100, 1179748)]
    >>> known.written(200, memoryview(bytes(3)))
    >>> known.pieces
    []
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []  # in the order of their places, without overlaps

    def written(self, start: int, content: memoryview) -> None:
        """Notes that bytes have been written. They continue the piece before them, or start one if they are many.

        A piece in which something is written again is not known any more. A few bytes never continue a piece: they are
        headers, which HDF5 writes again later.
        """
        end = start + len(content)
        self.forget(start, end)
        index = bisect_left(self.pieces, (start,))
        before = self.pieces[index - 1] if index else None
        if before and before.end == start and len(content) >= HEADERS:
            self.pieces[index - 1] = Piece(before.start, end, zlib.crc32(content, before.sum))
        elif len(content) >= LARGE:
            self.pieces.insert(index, Piece(start, end, zlib.crc32(content)))

    def forget(self, start: int, end: int = sys.maxsize) -> None:
        """Forgets the pieces that overlap with a range."""
        first = bisect_right(self.pieces, start, key=lambda piece: piece.end)
        last = bisect_left(self.pieces, end, key=lambda piece: piece.start)
        del self.pieces[first:last]
