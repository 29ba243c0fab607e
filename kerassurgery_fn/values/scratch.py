"""Memory that is used again and again."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np


class Scratch:
    """Memory for arrays that are only needed for a short time, one for each key.

    Fresh memory is several times slower than memory that was used before: the system clears it page by page.

    >>> scratch = Scratch()
    >>> first = scratch.array("rows", (2, 3), np.float32)
    >>> np.shares_memory(first, scratch.array("rows", (3, 2), np.int16))
    True
    """

    def __init__(self) -> None:
        self._buffers: dict[Any, np.ndarray] = {}

    def array(self, key: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with any content, in the memory of the last array of this key."""
        dtype = np.dtype(dtype)
        count = prod(shape) * dtype.itemsize
        if (buffer := self._buffers.get(key)) is None or buffer.size < count:
            buffer = self._buffers[key] = np.empty(count, np.uint8)
        return buffer[:count].view(dtype).reshape(shape)
