"""Memory for many new arrays.

A page of memory is cleared by the system when it is first written, which takes longer than to copy the page. Large
blocks get large pages, a five-hundredth as many. So arrays of middle size that are made together share blocks:

    arrays    | a | b |  c  | d |  e  |
    blocks    |      block      | block |

A block is freed with the last of its arrays. It is small beside a model, so that little memory is held by arrays that
an edit shares with an older snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

LEAST = 1 << 15  # bytes; smaller arrays are in pages that are in use
HUGE = 1 << 22  # bytes; from this size on, NumPy asks for large pages
BLOCK = 1 << 23  # bytes of a block, or a little more
ALIGNMENT = 64  # bytes, a line of the cache


def allocated(shapes: Sequence[Sequence[int]], dtypes: Sequence[np.dtype]) -> list[np.ndarray]:
    """Contiguous arrays with any content.

    >>> [array.shape for array in allocated([(2, 3), (4,)], [np.dtype("float32"), np.dtype("int8")])]
    [(2, 3), (4,)]
    """
    sizes = [prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True)]
    shared = [i for i, size in enumerate(sizes) if LEAST <= size < HUGE]
    if sum(sizes[i] for i in shared) < HUGE:
        shared = []
    views: dict[int, np.ndarray] = {}
    for numbers in _blocks(shared, sizes):
        starts = np.cumsum([0, *(-(-sizes[i] // ALIGNMENT) * ALIGNMENT for i in numbers)])
        block = np.empty(starts[-1], np.uint8)
        views |= {i: block[start : start + sizes[i]] for i, start in zip(numbers, starts.tolist(), strict=False)}
    return [
        views[i].view(dtype).reshape(shape) if i in views else np.empty(shape, dtype)
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]


def _blocks(numbers: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """The arrays of each block."""
    block: list[int] = []
    filled = 0
    for i in numbers:
        block.append(i)
        filled += sizes[i]
        if filled >= BLOCK:
            yield block
            block, filled = [], 0
    if block:
        yield block
