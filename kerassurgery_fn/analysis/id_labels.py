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

from kerassurgery_fn.channels import FIXED


def labels_of(count: int, maps: Iterable[tuple[np.ndarray, np.ndarray]], sets: Iterable[np.ndarray]) -> np.ndarray:
    """A label for each id, shape (count,). Ids that occur in no axis have the label 0.

    Args:
        count: the number of ids.
        maps: for each axis, the ids on it, see `pairs_of`.
        sets: sets of ids, as arrays.
    """
    labels = np.zeros(count, int)
    top = 0
    for ids, _ in maps:
        distinct, counts = np.unique(ids, return_counts=True)
        top = refined(labels, distinct, counts, top)
    for ids in sets:
        seen = ids[labels[ids] > 0]
        top = refined(labels, seen, np.ones(len(seen), int), top)
    return labels


def pairs_of(resolved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of an axis and their positions, sorted by ids. If a position has an id twice, the pair is listed once.

    >>> pairs_of(np.array([[7, 5, 7], [7, 8, FIXED]]))
    (array([5, 7, 7, 8]), array([1, 0, 2, 1]))
    """
    rows, n = resolved.shape
    if rows == 1:
        order = np.argsort(resolved[0], kind="stable")
        ids, positions = resolved[0][order], order
    else:
        ids, positions = np.divmod(np.unique(resolved * n + np.arange(n)), n)
    live = np.searchsorted(ids, FIXED, side="right")
    return ids[live:], positions[live:]


def refined(labels: np.ndarray, ids: np.ndarray, counts: np.ndarray, top: int) -> int:
    """Gives new labels above `top` to ids, by their old labels and their counts, and returns the new top."""
    if not len(ids):
        return top
    _, inverse = np.unique(labels[ids] * (counts.max() + 1) + counts, return_inverse=True)
    labels[ids] = top + 1 + inverse
    return int(labels[ids].max())


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
    order = np.argsort(labels[ids], kind="stable")
    values, starts = np.unique(labels[ids][order], return_index=True)
    chunks = zip(np.split(ids[order], starts[1:]), np.split(positions[order], starts[1:]), strict=True)
    rows = [place.reshape(1 + np.count_nonzero(np.diff(ids_of_chunk)), -1) for ids_of_chunk, place in chunks]
    for row in rows:
        row.flags.writeable = False
    return dict(zip(values.tolist(), rows, strict=True))


def keys_with(sets: Mapping[Any, np.ndarray], final_id: int) -> list[Any]:
    """The keys of the sets, each a sorted array, that contain an id."""
    places = {key: np.searchsorted(ids, final_id) for key, ids in sets.items()}
    return [key for key, ids in sets.items() if places[key] < len(ids) and ids[places[key]] == final_id]
