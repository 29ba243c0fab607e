"""Numbers in a config or a call that depend on an axis, and their values after positions of the axis are deleted."""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple, Protocol

import numpy as np

from kerassurgery_fn.channels import Axis


class Count(Protocol):
    """A number that depends on an axis. `after` is its value when only some positions are kept."""

    @property
    def axis(self) -> Axis: ...

    def after(self, kept: np.ndarray) -> Any: ...


class Size(NamedTuple):
    """The number of positions of an axis.

    >>> Size(np.array([[7, 8, 9]])).after(np.array([0, 2]))
    2
    """

    axis: Axis

    def after(self, kept: np.ndarray) -> int:
        return len(kept)


class Before(NamedTuple):
    """The number of positions before a position: its index, or the start or stop of a slice.

    >>> Before(np.array([[5, 6, 7, 8]]), 3).after(np.array([0, 2, 3]))
    2
    """

    axis: Axis
    position: int

    def after(self, kept: np.ndarray) -> int:
        return int(np.searchsorted(kept, self.position))


class BlockStart(NamedTuple):
    """The start of a slice with a step. Its axis is divided into blocks of `step` positions, which stay or go together.

    >>> BlockStart(np.arange(6)[None], 3, 2).after(np.array([2, 3, 4, 5])), BlockStart(np.arange(6)[None], 3, 1).after(
    ...     np.array([2, 4, 5])
    ... )
    (1, 1)
    """

    axis: Axis
    position: int
    step: int

    def after(self, kept: np.ndarray) -> int:
        within = self.position % self.step
        return int(np.searchsorted(kept, self.position - within)) + within


class Bounds(NamedTuple):
    """The sections into which an axis is split: their number if they are equal, otherwise their first positions.

    >>> sections = Bounds(np.arange(6)[None], (2, 4))
    >>> sections.after(np.array([0, 2, 4])), sections.after(np.array([0, 1, 2]))
    (3, [2, 3])
    """

    axis: Axis
    positions: tuple[int, ...]

    def after(self, kept: np.ndarray) -> int | list[int]:
        starts = np.searchsorted(kept, self.positions).tolist()
        equal = len({b - a for a, b in zip([0, *starts], [*starts, len(kept)], strict=True)}) == 1
        return len(starts) + 1 if equal else starts


class Among(NamedTuple):
    """The indices of positions that are read one by one, as by `ops.take`.

    >>> Among(np.arange(4)[None], (3, 0, 1, 3)).after(np.array([1, 3]))
    [1, 0, 1]
    """

    axis: Axis
    positions: tuple[int, ...]

    def after(self, kept: np.ndarray) -> list[int]:
        number = {position: i for i, position in enumerate(kept.tolist())}
        return [number[position] for position in self.positions if position in number]


class Squeezed(NamedTuple):
    """The axes of a squeeze whose config does not name them. The config must name them as soon as another axis is cut
    to one position.

    - `axis`: the other axes, joined to one axis;
    - `ends`: the end of each of them in the joined axis;
    - `gone`: the numbers of the squeezed axes.

    >>> two = Squeezed(np.arange(5)[None], (3, 5), (1,))
    >>> two.after(np.array([0, 2, 3, 4])), two.after(np.array([0, 3, 4]))
    (None, [1])
    """

    axis: Axis
    ends: tuple[int, ...]
    gone: tuple[int, ...]

    def after(self, kept: np.ndarray) -> list[int] | None:
        sizes = np.diff(np.searchsorted(kept, (0, *self.ends)))
        return list(self.gone) if 1 in sizes else None


class InverseRoot(NamedTuple):
    """The scale of attention scores if the call does not state it: 1 / sqrt(n) for the size n before the cut.

    >>> InverseRoot(np.arange(4)[None]).after(np.array([0]))
    0.5
    """

    axis: Axis

    def after(self, kept: np.ndarray) -> float:
        assert isinstance(self.axis, np.ndarray)
        return 1 / sqrt(self.axis.shape[1])
