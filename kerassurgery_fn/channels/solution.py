"""The solved constraints: the final ids of every channel, and why some of them cannot be deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kerassurgery_fn.channels.axes import FIXED


class Reason(NamedTuple):
    """Why ids are tied or pinned: the words, and the layer that is the cause, if there is one.

    >>> str(Reason("joins it with positions that are not channels", "sum_1", "Add"))
    "'sum_1' (Add) joins it with positions that are not channels"
    >>> str(Reason("its grid is tied to itself"))
    'its grid is tied to itself'
    """

    words: str
    layer: str = ""
    class_name: str = ""

    def __str__(self) -> str:
        class_name = f"({self.class_name})" if self.class_name else ""
        return " ".join(filter(None, [repr(self.layer) if self.layer else "", class_name, self.words]))


class Pin(NamedTuple):
    """Ids that cannot be deleted, and the reason. `output`, `input`: whether the reason is only that an output, or an
    input, of the model would change."""

    ids: np.ndarray
    reason: Reason
    output: bool = False
    input: bool = False

    def holds(self, *, output: bool, input: bool) -> bool:
        """Whether the pin forbids a deletion.

        Args:
            output, input: whether a change of outputs, or of inputs, of the model is forbidden.
        """
        return not (self.output or self.input) or (self.output and output) or (self.input and input)


class Tie(NamedTuple):
    """Two maps whose positions are deleted together, one by one, and the reason."""

    a: np.ndarray
    b: np.ndarray
    reason: Reason


def is_ascending(ids: np.ndarray) -> bool:
    """Whether each id is larger than the one before it."""
    return bool((ids[1:] > ids[:-1]).all())


@dataclass(frozen=True)
class Solution:
    """What the ties, grids and pins mean for each id.

    Ids that are deleted together have the same final id. The id of a channel that a grid splits has several final ids,
    one for each grid axis, and the channel is deleted when any of them is deleted.

    - `table`: the final ids of each id, shape (k, ids + 1); the last column is `FIXED`;
    - `pins`: the pins as they were added. A pin on an id is a pin on all its final ids;
    - `ties`: the ties as they were added.
    """

    table: np.ndarray
    pins: list[Pin] = field(repr=False)
    ties: list[Tie] = field(default_factory=list, repr=False)
    _pinned: dict[tuple[bool, bool], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def ids(self) -> int:
        """The number of ids. Final ids are some of them."""
        return self.table.shape[1] - 1

    @cached_property
    def reasons(self) -> dict[int, list[Pin]]:
        """Final id -> its pins, for pinned final ids."""
        reasons: dict[int, list[Pin]] = {}
        for pin in self.pins:
            for final in self.final_ids(pin.ids).tolist():
                reasons.setdefault(final, []).append(pin)
        return reasons

    def resolve(self, axis: np.ndarray) -> np.ndarray:
        """A channel map with final ids in place of ids. Shape (rows, n) -> (rows * k, n)."""
        return self.table[:, axis].reshape(len(self.table) * len(axis), axis.shape[1])

    def final_ids(self, axis: np.ndarray) -> np.ndarray:
        """The final ids on an axis, each once, sorted, without `FIXED`. Shape (n,)."""
        ids = self.resolve(axis)
        if len(ids) == 1 and ids.size and ids[0, 0] > FIXED and is_ascending(ids[0]):  # nearly always
            return ids[0]
        ids = np.unique(ids)
        return ids[ids != FIXED]

    def kept(self, axis: np.ndarray, dead: np.ndarray) -> np.ndarray:
        """The positions of an axis that stay when some final ids are deleted.

        Args:
            dead: boolean mask over the final ids, shape (ids + 1,). The last element, for `FIXED`, is False.
        """
        return np.flatnonzero(~dead[self.resolve(axis)].any(axis=0))

    def kept_ids(self, dead: np.ndarray) -> np.ndarray:
        """The boolean mask of the ids, not only the final ones, that stay when some final ids are deleted, shape
        (ids + 1,)."""
        return ~dead[self.table].any(axis=0)

    def none_dead(self) -> np.ndarray:
        """The boolean mask over the final ids that deletes nothing, shape (ids + 1,)."""
        return np.zeros(self.table.shape[1], bool)

    def pinned(self, *, output: bool = True, input: bool = True) -> np.ndarray:
        """The boolean mask of the pinned final ids, shape (ids + 1,), read-only.

        Args:
            output, input: whether ids also count as pinned if the only reason is that an output, or an input, of the
                model would change.
        """
        if (output, input) not in self._pinned:
            mask = self.none_dead()
            for pin in self.pins:
                if pin.holds(output=output, input=input):
                    mask[self.table[:, pin.ids]] = True
            mask[FIXED] = False
            mask.flags.writeable = False
            self._pinned[output, input] = mask
        return self._pinned[output, input]
