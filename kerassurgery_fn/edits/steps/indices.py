"""Numbers as people give them to edits: of Python or of numpy, one or several."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import items_of
from kerassurgery_fn.errors import BadValue


def is_index(value: Any) -> bool:
    """Whether something is a whole number that counts or numbers things.

    >>> is_index(3), is_index(np.int64(3)), is_index(True), is_index(3.0)
    (True, True, False, False)
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def as_indices(given: Any) -> tuple[int, ...] | None:
    """One number or several as a tuple; None for what is no numbers.

    >>> as_indices(1), as_indices(range(2)), as_indices(np.array([4])), as_indices("ab"), as_indices(0.5)
    ((1,), (0, 1), (4,), None, None)
    """
    listed = [given] if is_index(given) else items_of(given)
    return tuple(map(int, listed)) if listed is not None and all(map(is_index, listed)) else None


def as_seed(given: Any, name: str = "a seed") -> int:
    """A seed of what is drawn.

    Raises:
        BadValue: it is no whole number from 0 on.
    """
    if not is_index(given) or given < 0:
        raise BadValue(f"{name} is a whole number from 0 on, not {given!r}")
    return int(given)


def as_amount(given: Any, name: str) -> float:
    """A number that is not negative.

    Raises:
        BadValue: it is none.

    >>> as_amount(1, "noise")
    1.0
    """
    if isinstance(given, (int, float, np.integer, np.floating)) and 0 <= given < math.inf:
        return float(given)
    raise BadValue(f"{name} is a number from 0 on, not {given!r}")
