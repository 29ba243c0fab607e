"""The order in which channels are removed: scores of all groups in one ranking, in steps between allowed widths."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from toolz import groupby

from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.pruning.group_limits import Limits

SCOPES = ("global", "local", "isomorphic")


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps in the order in which they are taken: each takes a group from its last width to a smaller one.

    How far the removal is, is said by `counts`: how many steps each group has taken, int, shape (groups,).

    - `groups`: the number of each step's group; `widths`: its width after the step; int, shape (steps,);
    - `full`: the widths before the first step, `least`: the counts of the steps that must be taken; shape (groups,).
    """

    groups: np.ndarray
    widths: np.ndarray
    full: np.ndarray
    least: np.ndarray

    @cached_property
    def _by_group(self) -> np.ndarray:
        """The numbers of all steps; the steps of the first group come first."""
        return np.argsort(self.groups, kind="stable")

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where the steps of each group start in `_by_group`."""
        return np.searchsorted(self.groups[self._by_group], np.arange(len(self.full)))

    def __len__(self) -> int:
        return len(self.groups)

    def counts(self, taken: int) -> np.ndarray:
        """The counts after the first steps of the sequence."""
        return np.bincount(self.groups[:taken], minlength=len(self.full))

    def last(self, counts: np.ndarray) -> np.ndarray:
        """The number of the last step that each group has taken, -1 for none."""
        at = np.minimum(self._starts + np.maximum(counts, 1) - 1, max(0, len(self) - 1))
        return np.where(counts > 0, self._by_group[at], -1) if len(self) else np.full(len(counts), -1)

    def widths_at(self, counts: np.ndarray) -> np.ndarray:
        """The widths of all groups, shape (groups,)."""
        if not len(self):
            return self.full
        return np.where(counts > 0, self.widths[self.last(counts)], self.full)


def priorities(scores: Mapping[str, np.ndarray], scope: str, kind: Callable[[str], Hashable]) -> dict[str, np.ndarray]:
    """The ranking of channels over all groups: lower goes first.

    - `global`: the scores themselves;
    - `local`: the rank of a channel in its group, as a fraction, so that every group loses the same ratio;
    - `isomorphic`: its rank among all groups of one structure, so that every structure loses the same ratio.
      Fang et al. 2024, Isomorphic Pruning for Vision Models, arXiv:2407.04616.

    Args:
        scores: name of a group -> scores of its channels.
        scope: one of `SCOPES`.
        kind: name of a group -> its structure.

    >>> priorities({"a": np.array([5.0, 1.0]), "b": np.array([9.0, 7.0])}, "local", str)
    {'a': array([1. , 0.5]), 'b': array([1. , 0.5])}
    >>> priorities({"a": np.array([5.0, 1.0]), "b": np.array([9.0, 7.0])}, "isomorphic", lambda name: "conv")
    {'a': array([0.5 , 0.25]), 'b': array([1.  , 0.75])}
    """
    if scope == "global":
        return dict(scores)
    ranked: dict[str, np.ndarray] = {}
    for names in groupby(kind if scope == "isomorphic" else str, scores).values():
        together = np.concatenate([scores[name] for name in names])
        ranks = np.empty(len(together))
        ranks[np.argsort(together, kind="stable")] = np.arange(1, len(together) + 1) / len(together)
        ranked |= zip(names, np.split(ranks, np.cumsum([len(scores[name]) for name in names])[:-1]), strict=True)
    return {name: ranked[name] for name in scores}


def structure(group: Group, classes: Mapping[str, str]) -> tuple[tuple[str, str, int], ...]:
    """The structure of a group, equal for isomorphic groups: the classes of layers, and the weights and axes that carry
    the channels."""
    return tuple(sorted((classes.get(c.path, ""), c.name, c.axis) for c in group.carried))


def removal_steps(order: Sequence[np.ndarray], limits: Sequence[Limits]) -> Steps:
    """All possible steps of groups: first the mandatory steps, then by priority.

    A step has the mean priority of the channels that it removes, and at least that of the step before it in its group.

    Args:
        order: the priorities of each group's channels, sorted; shape (channels,).
        limits: the widths that each group may have.
    """
    groups, widths, ranks, optional = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)], [np.zeros(0, bool)]
    for number, (sorted_priorities, limit) in enumerate(zip(order, limits, strict=True)):
        removed = limit.widths[0] - limit.widths
        if len(removed) > 1:
            sums = np.concatenate([[0.0], np.cumsum(sorted_priorities)])[removed]
            groups.append(np.full(len(removed) - 1, number))
            widths.append(limit.widths[1:])
            ranks.append(np.maximum.accumulate(np.diff(sums) / np.diff(removed)))
            optional.append(np.arange(len(removed) - 1) >= limit.mandatory)
    sequence = np.lexsort((np.concatenate(ranks), np.concatenate(optional)))
    full, least = ([getattr(limit, name) for limit in limits] for name in ("full", "mandatory"))
    return Steps(
        np.concatenate(groups)[sequence], np.concatenate(widths)[sequence], np.array(full, int), np.array(least, int)
    )
