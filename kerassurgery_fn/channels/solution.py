"""What has become of every channel id: which ids it stands for, and why some cannot be cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Pin(NamedTuple):
    """Ids that cannot be cut and the reason in words; `output` if it is only that the model's output would change."""

    ids: np.ndarray
    reason: str
    output: bool = False


class Tie(NamedTuple):
    """Maps that live and die together position by position, and what ties them in words."""

    a: np.ndarray
    b: np.ndarray
    reason: str


@dataclass(frozen=True)
class Solution:
    """What has become of each id after all ties, grids and pins.

    `table` has, for each id, the final ids it stands for: shape (k, ids + 1), the last column for `FIXED`. `reasons`
    has the pins of each final id that has any. `ties` has all that was said to live and die together.
    """

    table: np.ndarray
    reasons: dict[int, list[Pin]]
    ties: list[Tie] = field(default_factory=list, repr=False)

    @property
    def ids(self) -> int:
        """How many ids there are; final ids are among them."""
        return self.table.shape[1] - 1

    def resolve(self, axis: np.ndarray) -> np.ndarray:
        """A map in final ids, shape (k, n)."""
        return self.table[:, axis].reshape(len(self.table) * len(axis), axis.shape[1])

    def kept(self, axis: np.ndarray, dead: np.ndarray) -> np.ndarray:
        """The positions of an axis that survive, given which final ids are dead (bool, one an id and a last False)."""
        return np.flatnonzero(~dead[self.resolve(axis)].any(axis=0))

    def none_dead(self) -> np.ndarray:
        """The `dead` of a world in which every id lives."""
        return np.zeros(self.table.shape[1], bool)

    def pinned(self, *, output: bool = True) -> np.ndarray:
        """Which final ids are pinned, like `nobody`; if not `output`, without those that only an output holds."""
        mask = self.none_dead()
        mask[[final for final, pins in self.reasons.items() if output or not all(pin.output for pin in pins)]] = True
        return mask
