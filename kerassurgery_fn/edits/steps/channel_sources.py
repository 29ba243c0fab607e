"""Where the positions of reordered and widened axes come from.

After an edit each id that is left has an origin among the old ones, and the k-th occurrence of an id on a new axis is
copied from the k-th occurrence of its origin on the old axis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, Axis
from kerassurgery_fn.edits.steps.cutting import Sources
from kerassurgery_fn.rules.layer import Producer

Key = tuple[int, ...]
Producers = Mapping[tuple[str, str], Producer]


class NotTogether(Exception):
    """A position of a new axis whose origin is not on the old one."""


def matched(old: np.ndarray, new: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """The old position of each new one.

    Args:
        old: the old axis in final ids, shape (k, n).
        new: the new axis in its own final ids, shape (k, m).
        origins: the origin of each new id, as an array by id with a last one for `FIXED`.

    Raises:
        NotTogether: a new position has an origin that the old axis has not, or not as often.

    >>> matched(np.array([[7, 8, 7, 8]]), np.array([[0, 1, 2, 0, 1, 2]]), np.array([7, 7, 8, FIXED]))
    array([0, 0, 1, 2, 2, 3])
    """
    places: dict[Key, list[int]] = defaultdict(list)
    for position, key in enumerate(_keys(old)):
        places[key].append(position)
    seen: dict[Key, int] = defaultdict(int)
    found = []
    for key in _keys(new):
        if any(one != FIXED and origins[one] == FIXED for one in key):  # an id of which nobody knows the origin
            raise NotTogether
        own = places.get(tuple(sorted({int(origins[one]) for one in key})), [])
        if seen[key] >= len(own):
            raise NotTogether
        found.append(own[seen[key]])
        seen[key] += 1
    return np.array(found, int)


def _keys(axis: np.ndarray) -> Iterator[Key]:
    """The ids of each position, each once."""
    if len(axis) == 1:
        return ((one,) for one in axis[0].tolist())
    return (tuple(sorted(set(column))) for column in axis.T.tolist())


def remembered(find: Callable[[np.ndarray], np.ndarray | None]) -> Sources:
    """A function of axes that looks at each map once; axes without ids stay as they are."""
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
    """Where positions come from when each final id takes the place of another.

    Args:
        flow: the channels.
        origins: for each final id the one that stands where it stood, and a last one for `FIXED`.
    """

    same = np.arange(len(origins))
    same[FIXED] = FIXED

    def find(axis: np.ndarray) -> np.ndarray | None:
        old = flow.solution.resolve(axis)
        return None if (origins[old] == old).all() else matched(old, origins[old], same)

    return remembered(find)


# --- widening


def grower(flow: Flow, copies: np.ndarray) -> Sources:
    """Where positions come from when each final id stands several times in a row.

    The positions of lines that cross each other are as many as they will be, but not in the order in which they will
    be: for that the rules must look at the wider model.
    """

    def find(axis: np.ndarray) -> np.ndarray | None:
        times = repeats(flow.solution.resolve(axis), copies)
        return None if (times == 1).all() else np.repeat(np.arange(len(times)), times)

    return remembered(find)


def repeats(resolved: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """How many positions each position of a map becomes: the product over its ids of how often each will stand.

    >>> repeats(np.array([[0, 0], [1, 2]]), np.array([2, 3, 1, 1]))
    array([6, 2])
    """
    return np.array([np.prod(copies[list(key)], dtype=int) for key in _keys(resolved)], int)


def widener(flow: Flow, wider: Flow, copies: np.ndarray) -> Sources:
    """Where positions come from, given the flow of the wider model.

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
    """For each final id of the wider model the one that it is a copy of, or still is; a last one for `FIXED`."""
    origins = np.full(wider.solution.ids + 1, FIXED)
    for one, other in _alike(flow, wider):
        old, new = flow.solution.resolve(one), wider.solution.resolve(other)
        for before, after in zip(old, new, strict=False):
            lines, made = unique(before), unique(after)
            expected = np.repeat(lines, copies[lines])
            if len(expected) != len(made) or len(old) != len(new):
                raise NotTogether
            known = origins[made]
            if ((known != FIXED) & (known != expected)).any():
                raise NotTogether
            origins[made] = expected
    origins[FIXED] = FIXED
    return origins


def unique(row: np.ndarray) -> np.ndarray:
    """The different ids of a row in the order in which they come, none for `FIXED`.

    >>> unique(np.array([5, 3, 5, FIXED]))
    array([5, 3])
    """
    _, first = np.unique(row, return_index=True)
    found = row[np.sort(first)]
    return found[found != FIXED]


def _alike(flow: Flow, wider: Flow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same axis in both flows, for all axes on which ids appear first."""
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
    """The axes of what opaque layers make, whose ids no layer has made."""
    for ref, axes in flow.tensors.items():
        if ref.path in flow.opaque and axes and (theirs := wider.tensors.get(ref)):
            yield from _both(axes, theirs)


def _both(ours: Sequence[Axis], theirs: Sequence[Axis]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    return [
        (a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    ]


def _partners(flow: Flow, wider: Flow) -> Iterator[tuple[int, np.ndarray]]:
    """The identity of each axis of a weight or a constant, and the same axis of the wider model."""
    for path, weights in flow.weights.items():
        for one, other in zip(weights, wider.weights[path], strict=True):
            yield from ((id(a), b) for a, b in _both((*one.axes, one.root), (*other.axes, other.root)))
    yield from ((id(a), b) for a, b in _constants(flow, wider))
