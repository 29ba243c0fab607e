"""The sources of reordered and widened axes: the old position from which each new position is copied.

After an edit, each id has an origin among the old ids. The k-th occurrence of an id on a new axis is copied from the
k-th occurrence of its origin on the old axis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from toolz import groupby

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, Axis
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.rules.layer import Producer

Key = tuple[int, ...]
Producers = Mapping[tuple[str, str], Producer]


class NotTogether(Exception):
    """A position of a new axis has an origin that the old axis does not have."""


def matched(old: np.ndarray, new: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """The old position of each new position.

    Args:
        old: the old axis in final ids, shape (k, n).
        new: the new axis in its own final ids, shape (k, m).
        origins: the origin of each new id, shape (ids + 1,); the last one is for `FIXED`.

    Raises:
        NotTogether: the old axis does not have the origin of a new position, or has it less often.

    >>> matched(np.array([[7, 8, 7, 8]]), np.array([[0, 1, 2, 0, 1, 2]]), np.array([7, 7, 8, FIXED]))
    array([0, 0, 1, 2, 2, 3])
    """
    keys = list(_keys(old))
    places = groupby(keys.__getitem__, range(len(keys)))
    seen: dict[Key, int] = defaultdict(int)
    sources = []
    for key in _keys(new):
        if any(new_id != FIXED and origins[new_id] == FIXED for new_id in key):  # an id without a known origin
            raise NotTogether
        candidates = places.get(tuple(sorted({int(origins[new_id]) for new_id in key})), [])
        if seen[key] >= len(candidates):
            raise NotTogether
        sources.append(candidates[seen[key]])
        seen[key] += 1
    return np.array(sources, int)


def _keys(axis: np.ndarray) -> Iterator[Key]:
    """The ids of each position, each once."""
    if len(axis) == 1:
        return zip(axis[0].tolist())
    return (tuple(sorted(set(column))) for column in axis.T.tolist())


def remembered(find: Callable[[np.ndarray], np.ndarray | None]) -> Sources:
    """A function of axes that is computed once for each axis. Axes without ids have no sources."""
    known: dict[int, tuple[Axis, np.ndarray | None]] = {}

    def sources(axis: Axis) -> np.ndarray | None:
        if not isinstance(axis, np.ndarray):
            return None
        if id(axis) not in known:
            known[id(axis)] = axis, find(axis)
        return known[id(axis)][1]

    return sources


# --- reordering


def reorderer(flow: Flow, origins: np.ndarray) -> Sources:
    """The sources of each axis if the final ids change places.

    Args:
        flow: the channels.
        origins: final id -> the id that takes its place, shape (ids + 1,); the last one is for `FIXED`.
    """

    same = np.arange(len(origins))
    same[FIXED] = FIXED

    def find(axis: np.ndarray) -> np.ndarray | None:
        old = flow.solution.resolve(axis)
        return None if (origins[old] == old).all() else matched(old, origins[old], same)

    return remembered(find)


# --- widening


def grower(flow: Flow, copies: np.ndarray) -> Sources:
    """The sources of each axis if each final id is repeated, with its copies in a row.

    The number of positions is right, also in a grid. Their order in a grid is not: it follows from the rules of the
    wider model, see `widener`.
    """

    def find(axis: np.ndarray) -> np.ndarray | None:
        times = repeats(flow.solution.resolve(axis), copies)
        return None if (times == 1).all() else np.repeat(np.arange(len(times)), times)

    return remembered(find)


def repeats(resolved: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """The number of positions that each position of an axis becomes: the product of the copies of its ids.

    >>> repeats(np.array([[0, 0], [1, 2]]), np.array([2, 3, 1, 1]))
    array([6, 2])
    """
    return np.array([np.prod(copies[list(key)], dtype=int) for key in _keys(resolved)], int)


def widener(flow: Flow, wider: Flow, copies: np.ndarray) -> Sources:
    """The sources of each axis, by the flow of the wider model.

    Raises:
        NotTogether: the two flows do not correspond.
    """
    origins = origins_of(flow, wider, copies)
    partners = dict(_partners(flow, wider))

    def find(axis: np.ndarray) -> np.ndarray | None:
        old = flow.solution.resolve(axis)
        new = partners.get(id(axis))
        if new is None or (repeats(old, copies) == 1).all():
            return None
        return matched(old, wider.solution.resolve(new), origins)

    return remembered(find)


def origins_of(flow: Flow, wider: Flow, copies: np.ndarray) -> np.ndarray:
    """Final id of the wider model -> the id of which it is a copy, shape (ids + 1,); the last one is for `FIXED`."""
    origins = np.full(wider.solution.ids + 1, FIXED)
    for axis, wider_axis in _alike(flow, wider):
        old, new = flow.solution.resolve(axis), wider.solution.resolve(wider_axis)
        for before, after in zip(old, new, strict=False):
            old_ids, new_ids = unique(before), unique(after)
            expected = np.repeat(old_ids, copies[old_ids])
            if len(expected) != len(new_ids) or len(old) != len(new):
                raise NotTogether
            known = origins[new_ids]
            if ((known != FIXED) & (known != expected)).any():
                raise NotTogether
            origins[new_ids] = expected
    origins[FIXED] = FIXED
    return origins


def unique(row: np.ndarray) -> np.ndarray:
    """The distinct ids of a row in order of appearance, without `FIXED`.

    >>> unique(np.array([5, 3, 5, FIXED]))
    array([5, 3])
    """
    _, first = np.unique(row, return_index=True)
    ids = row[np.sort(first)]
    return ids[ids != FIXED]


def _alike(flow: Flow, wider: Flow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of the same axis in both flows, for all axes on which ids appear first."""
    yield from _pairs(flow.producers, wider.producers)
    yield from _both([*flow.copies.values()], [wider.copies[place] for place in flow.copies])
    yield from _constants(flow, wider)
    yield from _held(flow, wider)


def _pairs(ours: Producers, theirs: Producers) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for key, producer in ours.items():
        yield from _both([producer.axis], [theirs[key].axis])


def _constants(flow: Flow, wider: Flow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for place, axes in flow.constants.items():
        yield from _both(axes, wider.constants[place])


def _held(flow: Flow, wider: Flow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of axes of the outputs of opaque layers. No producer has the ids of these axes."""
    for ref, axes in flow.tensors.items():
        if ref.path in flow.opaque and axes and (theirs := wider.tensors.get(ref)):
            yield from _both(axes, theirs)


def _both(ours: Sequence[Axis], theirs: Sequence[Axis]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    return [
        (a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    ]


def _partners(flow: Flow, wider: Flow) -> Iterator[tuple[int, np.ndarray]]:
    """The identity of each axis of a weight or constant, and the same axis of the wider model."""
    for path, weights in flow.weights.items():
        for weight, wider_weight in zip(weights, wider.weights[path], strict=True):
            ours, theirs = (*weight.axes, weight.root), (*wider_weight.axes, wider_weight.root)
            yield from ((id(a), b) for a, b in _both(ours, theirs))
    yield from ((id(a), b) for a, b in _constants(flow, wider))
