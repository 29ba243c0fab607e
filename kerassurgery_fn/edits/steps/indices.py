"""Reads the numbers in the arguments of edits: Python or numpy numbers, one or several, or a boolean mask."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import items_of, shortened
from kerassurgery_fn.errors import BadValue, ChannelOutOfRange, UnknownCall

Calls = tuple[int, ...] | None  # numbers of calls of a layer; None for all of them


def is_index(value: Any) -> bool:
    """Whether a value is an integer of Python or numpy, and not a boolean.

    >>> is_index(3), is_index(np.int64(3)), is_index(True), is_index(3.0)
    (True, True, False, False)
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def as_indices(value: Any) -> tuple[int, ...] | None:
    """One integer or several as a tuple; None for anything else.

    >>> as_indices(1), as_indices(range(2)), as_indices(np.array([4])), as_indices("ab"), as_indices(0.5)
    ((1,), (0, 1), (4,), None, None)
    """
    listed = [value] if is_index(value) else items_of(value)
    return tuple(map(int, listed)) if listed is not None and all(map(is_index, listed)) else None


def as_calls(calls: object) -> Calls:
    """Numbers of calls as a tuple.

    >>> as_calls([0, 2]), as_calls(1), as_calls(None)
    ((0, 2), (1,), None)
    """
    numbers = as_indices(calls) if calls is not None else ()
    if numbers is None:
        raise UnknownCall(f"calls= takes numbers, as [0, 2], or None for all calls, not {calls!r}")
    return None if calls is None else numbers


def as_seed(value: Any, name: str = "a seed") -> int:
    """A seed of random numbers.

    Raises:
        BadValue: the argument is not an integer, or it is negative.
    """
    if not is_index(value) or value < 0:
        raise BadValue(f"{name} is an integer from 0 on, not {value!r}")
    return int(value)


def as_amount(value: Any, name: str) -> float:
    """A number that is not negative.

    Raises:
        BadValue: the argument is something else.

    >>> as_amount(1, "noise")
    1.0
    """
    if isinstance(value, (int, float, np.integer, np.floating)) and 0 <= value < math.inf:
        return float(value)
    raise BadValue(f"{name} is a number from 0 on, not {value!r}")


class Masked(tuple[int, ...]):
    """The indices at which a boolean mask is true. `of` is the length of the mask, which documents also store."""

    of: int

    @classmethod
    def by(cls, mask: np.ndarray) -> Masked:
        return cls.at(np.flatnonzero(mask).tolist(), mask.size)

    @classmethod
    def at(cls, positions: Iterable[int], of: int) -> Masked:
        """The mask of length `of` that is true at some positions.

        >>> Masked.at([0, 2], 3), Masked.at([0, 2], 3).of
        ((0, 2), 3)
        """
        masked = cls(positions)
        masked.of = of
        return masked

    def __reduce__(self) -> tuple[Any, ...]:
        return Masked.at, (tuple(self), self.of)


def indices(channels: Any) -> tuple[int, ...]:
    """Channel indices as a tuple of ints; a boolean mask becomes the indices at which it is true.

    >>> indices([3, -1]), indices([True, False, True])
    ((3, -1), (0, 2))
    """
    if isinstance(channels, Masked):
        return channels
    listed = channels if isinstance(channels, np.ndarray) or is_index(channels) else items_of(channels)
    try:
        array = np.atleast_1d(np.asarray(listed))
    except (ValueError, TypeError) as error:
        raise ChannelOutOfRange(f"channels are indices or a boolean mask, not {shortened(channels)}") from error
    if array.dtype == bool:
        return Masked.by(array)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ChannelOutOfRange(f"channels are indices or a boolean mask, not {array.dtype}: {shortened(channels)}")
    return tuple(array.ravel().tolist())
