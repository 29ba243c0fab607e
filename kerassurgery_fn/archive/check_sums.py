"""The check sum of a part of a file, by several threads at once.

A CRC-32 is a remainder of polynomials, so the sum of the whole follows from the sums of the parts:

    sum(a + b) = sum(a) * x ** (8 * length of b) + sum(b)        modulo the polynomial of CRC-32

A polynomial is an integer of 32 bits with the constant term in the highest bit, as zlib has it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from kerassurgery_fn.archive.file_regions import Region
from kerassurgery_fn.archive.known_sums import Piece

POLYNOMIAL = 0xEDB88320
ONE, X = 1 << 31, 1 << 30
CHUNK = 1 << 20  # bytes that are read at once
PART = 1 << 24  # bytes that are worth a thread
MAX_THREADS = 4


def check_sum(region: Region, known: Sequence[Piece] = ()) -> int:
    """The CRC-32 of a region. Pieces of which it is known are not read."""
    total = position = 0
    for piece in (*known, Piece(region.size, region.size, 0)):
        between = _sum_of_region(region, position, piece.start)
        for start, end, part in ((position, piece.start, between), piece):
            total = combined(total, part, end - start)
        position = piece.end
    return total


def _sum_of_region(region: Region, start: int, end: int) -> int:
    """The CRC-32 of a part of a region, of which several threads read a part each if it is large."""
    threads = min(MAX_THREADS, os.cpu_count() or 1, (end - start) // PART) if hasattr(os, "pread") else 1
    if threads < 2:
        return _sum_of(region, start, end)
    bounds = [start + (end - start) * index // threads for index in range(threads + 1)]
    region.file.flush()  # the threads read the file past its buffer
    with ThreadPoolExecutor(threads) as pool:
        sums = list(pool.map(_sum_of_descriptor, [region] * threads, bounds, bounds[1:]))
    total = 0
    for first, last, part in zip(bounds, bounds[1:], sums, strict=False):
        total = combined(total, part, last - first)
    return total


def combined(first: int, second: int, length: int) -> int:
    """The CRC-32 of two pieces of bytes, one behind the other, from their sums and the length of the second.

    >>> combined(zlib.crc32(b"one"), zlib.crc32(b"two"), 3) == zlib.crc32(b"onetwo")
    True
    """
    return _product(_power(8 * length), first) ^ second if length else first


def _product(a: int, b: int) -> int:
    """The product of two polynomials."""
    result = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            result ^= b
        b = b >> 1 ^ (POLYNOMIAL if b & 1 else 0)
    return result


def _power(exponent: int) -> int:
    """x ** exponent."""
    result = ONE
    for bit in range(exponent.bit_length()):
        result = _product(result, _square(bit)) if exponent >> bit & 1 else result
    return result


@cache
def _square(times: int) -> int:
    """x, squared a number of times."""
    return X if times == 0 else _product(_square(times - 1), _square(times - 1))


def _sum_of(region: Region, start: int, end: int) -> int:
    total = 0
    region.file.seek(region.start + start)
    while start < end and (chunk := region.file.read(min(CHUNK, end - start))):
        total, start = zlib.crc32(chunk, total), start + len(chunk)
    return total


def _sum_of_descriptor(region: Region, start: int, end: int) -> int:
    """As `_sum_of`, without a position in the file that threads would share."""
    total, descriptor = 0, region.file.fileno()
    while start < end and (chunk := os.pread(descriptor, min(CHUNK, end - start), region.start + start)):
        total, start = zlib.crc32(chunk, total), start + len(chunk)
    return total
