"""Labels ids: two ids get the same label if they occur equally often in every axis and are in the same sets.

All ids start with one label. Each axis and each set splits the labels further:

    axis a: 0 1 2 2     axis b: 0 1     set: {1}        labels after a: 0 and 1 differ from 2 (once, twice)
                                                        labels after b: no further split
                                                        labels after the set: 0, 1 and 2 all differ
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kerassurgery_fn.channels import FIXED, is_ascending

Map = tuple[np.ndarray, np.ndarray]  # the ids on an axis and their positions, see `pairs_of`


def labels_of(count: int, maps: Iterable[Map], sets: Iterable[np.ndarray]) -> np.ndarray:
    """A label for each id, shape (count,). Ids that occur in no axis have the label 0.

    Args:
        count: the number of ids.
        maps: for each axis, the ids on it.
        sets: sets of ids, as arrays.
    """
    labels = Labels(count)
    for ids, _ in maps:
        if is_ascending(ids):
            labels.split(ids)
        else:
            labels.split(*np.unique(ids, return_counts=True))
    for ids in sets:
        labels.split(ids[labels.of[ids] > 0])
    return labels.of


class Labels:
    """The label of each id, and the number of ids with each label."""

    def __init__(self, count: int) -> None:
        self.of = np.zeros(count, int)
        self.sizes = {0: count}
        self.top = 0

    def split(self, ids: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Gives new labels to different ids, by their old labels and their counts. A label of which all ids are among
        these ids, with equal counts, stays.

        Args:
            ids: each id once.
            counts: how often each occurs, by default equally often.
        """
        if not len(ids):
            return
        old = self.of[ids]
        if counts is None and (old == old[0]).all():  # nearly always: the channels of one layer
            label = int(old[0])
            if label == 0 or self.sizes[label] > len(ids):
                self.top += 1
                self.of[ids] = self.top
                self.sizes[label] -= len(ids)
                self.sizes[self.top] = len(ids)
            return
        marks = old if counts is None else old * (counts.max() + 1) + counts
        self._relabel(ids, np.unique(marks, return_inverse=True)[1], old)

    def _relabel(self, ids: np.ndarray, numbers: np.ndarray, old: np.ndarray) -> None:
        """Gives each id the new label of its number, from 0 on."""
        for label, n in zip(*(each.tolist() for each in np.unique(old, return_counts=True)), strict=True):
            self.sizes[label] -= n
        self.of[ids] = self.top + 1 + numbers
        sizes = np.bincount(numbers).tolist()
        self.sizes |= zip(range(self.top + 1, self.top + 1 + len(sizes)), sizes, strict=True)
        self.top += len(sizes)


def pairs_of(resolved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of an axis and their positions, sorted by ids. If a position has an id twice, the pair is listed once.

    >>> pairs_of(np.array([[7, 5, 7], [7, 8, FIXED]]))
    (array([5, 7, 7, 8]), array([1, 0, 2, 1]))
    """
    rows, n = resolved.shape
    if rows == 1 and n and resolved[0, 0] > FIXED and is_ascending(resolved[0]):
        return resolved[0], np.arange(n)
    if rows == 1:
        order = np.argsort(resolved[0], kind="stable")
        ids, positions = resolved[0][order], order
    else:
        ids, positions = np.divmod(np.unique(resolved * n + np.arange(n)), n)
    live = np.searchsorted(ids, FIXED, side="right")
    return ids[live:], positions[live:]


def ids_by_label(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Label -> its ids, sorted."""
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0, side="right") :]
    values, starts = np.unique(labels[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(values) else {}


def positions_by_label(ids: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> dict[int, np.ndarray]:
    """The positions of the ids in a map: label -> a row for each id with the label, shape (ids, n)."""
    if not len(ids):
        return {}
    if (labels[ids] == (label := labels[ids[0]])).all():
        return {int(label): _rows(ids, positions)}
    order = np.argsort(labels[ids], kind="stable")
    ids, positions = ids[order], positions[order]
    values, starts = np.unique(labels[ids], return_index=True)
    bounds = [*starts.tolist(), len(ids)]
    return {
        label: _rows(ids[start:end], positions[start:end])
        for label, start, end in zip(values.tolist(), bounds, bounds[1:], strict=False)
    }


def _rows(ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A row of positions for each of some sorted ids, which occur equally often, read-only."""
    rows = positions.reshape(1 + np.count_nonzero(ids[1:] != ids[:-1]), -1)
    rows.flags.writeable = False
    return rows


def keys_by_label(sets: Mapping[Any, np.ndarray], labels: np.ndarray) -> dict[int, list[Any]]:
    """Label -> the keys of the sets that contain its ids.

    The labels must have been split by these sets: each set contains all ids of a label, or none of them.

    >>> keys_by_label({"a": np.array([0, 1]), "b": np.array([1])}, np.array([3, 4, 4]))
    {3: ['a'], 4: ['a', 'b']}
    """
    keys: dict[int, list[Any]] = {}
    for key, ids in sets.items():
        for label in _distinct(labels[ids]):
            keys.setdefault(label, []).append(key)
    return keys


def _distinct(labels: np.ndarray) -> list[int]:
    """The different labels, sorted."""
    if len(labels) and (labels == labels[0]).all():  # nearly always
        return [int(labels[0])]
    return np.unique(labels).tolist()
