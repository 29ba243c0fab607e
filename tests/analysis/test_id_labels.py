"""Labels of ids: equal for ids that occur equally often in every axis, and are in the same sets."""

import numpy as np

from kerassurgery_fn.analysis.id_labels import keys_by_label, labels_of, pairs_of, positions_by_label

RNG = np.random.default_rng(0)


def classes(labels):
    """The ids of each label, the label 0 apart."""
    return {tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels) if label}


def expected(count, axes, sets):
    """By the definition: ids with the same numbers in all axes and the same sets."""
    marks: dict = {}
    for i in range(count):
        counts = tuple(int((axis == i).sum()) for axis in axes)
        if any(counts):
            marks.setdefault((counts, tuple(i in one for one in sets)), []).append(i)
    return {tuple(ids) for ids in marks.values()}


def test_labels_follow_the_definition():
    for _ in range(200):
        count = int(RNG.integers(1, 12))
        axes = [
            np.sort(RNG.choice(count, RNG.integers(1, count + 1), replace=False))
            if RNG.random() < 0.6
            else RNG.integers(0, count, RNG.integers(1, 9))
            for _ in range(RNG.integers(1, 6))
        ]
        sets = [np.unique(RNG.integers(0, count, 3)) for _ in range(RNG.integers(0, 3))]
        maps = [pairs_of(axis[None]) for axis in axes]
        labels = labels_of(count, maps, sets)
        assert classes(labels) == expected(count, axes, sets)
        for ids, positions in maps:
            for label, rows in positions_by_label(ids, positions, labels).items():
                owners = np.flatnonzero((labels == label) & np.isin(np.arange(count), ids))
                assert len(rows) == len(owners)
        keys = keys_by_label(dict(enumerate(sets)), labels)
        for i in range(count):
            if labels[i]:
                assert keys.get(int(labels[i]), []) == [key for key, ids in enumerate(sets) if i in ids]


def test_axes_of_equal_ids_split_nothing():
    ids = np.arange(4)
    once, thrice = labels_of(6, [pairs_of(ids[None])], []), labels_of(6, [pairs_of(ids[None])] * 3, [])
    assert once.tolist() == thrice.tolist() == [1, 1, 1, 1, 0, 0]
