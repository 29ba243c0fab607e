"""Where the channel maps of a model stand: in weights, and in numbers, shapes and arrays of the record.

They are found once for each model. An edit then looks only at the places of the maps that it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from toolz import concat

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.graph import map_leaves
from kerassurgery_fn.rules.findings import Tensor
from kerassurgery_fn.values.frozen import Location
from kerassurgery_fn.values.kept_results import computed_once

Place = TypeVar("Place", bound=Hashable)
Sources = Callable[[Axis], np.ndarray | None]  # axis -> the old position of each new position; None if nothing changes
ByAxis = list[tuple[np.ndarray, list[Place]]]  # each channel map, with the places where it stands


class Places(NamedTuple):
    """The places of the channel maps of a model.

    - `weights`: the path of a layer and the number of its weight;
    - `sizes`: the place of a number in the record;
    - `constants`: the place of an array in the record;
    - `shapes`: the place of a shape in the record;
    - `tensors`: place of a shape -> the axes of its tensor.
    """

    weights: ByAxis[tuple[str, int]]
    sizes: ByAxis[Location]
    constants: ByAxis[Location]
    shapes: ByAxis[Location]
    tensors: dict[Location, Tensor]


class Rows(NamedTuple):
    """The channel maps of a model with one row, laid end to end, so that all of them are looked at in one operation.

    - `maps`: the maps with one row and at least one position;
    - `ids`: their ids, shape (positions of all maps,);
    - `starts`: the first position of each map;
    - `others`: the other maps of the model.
    """

    maps: list[np.ndarray]
    ids: np.ndarray
    starts: np.ndarray
    others: list[np.ndarray]


def changed(places: ByAxis[Place], sources: Sources) -> list[Place]:
    """The places at which an axis changes, each once."""
    return list(dict.fromkeys(concat([stands for axis, stands in places if sources(axis) is not None])))


@computed_once()
def places_of(flow: Flow) -> Places:
    """The places of all channel maps."""
    weights = {
        (path, number): (*weight.axes, weight.root)
        for path, several in flow.weights.items()
        for number, weight in enumerate(several)
    }
    tensors = {place: axes for place, axes in _shapes(flow) if isinstance(axes, tuple)}
    sizes = {place: (count.axis,) for place, count in flow.sizes.items()}
    return Places(by_axis(weights), by_axis(sizes), by_axis(flow.constants), by_axis(tensors), tensors)


@computed_once()
def rows_of(flow: Flow) -> Rows:
    """The channel maps with one row, each once."""
    places = places_of(flow)
    standing = (axis for axis, _ in concat([places.weights, places.sizes, places.constants, places.shapes]))
    distinct = {id(axis): axis for axis in concat([flow.axes, standing])}
    maps = [axis for axis in distinct.values() if len(axis) == 1 and axis.size]
    ids = np.concatenate([np.zeros(0, int), *(axis[0] for axis in maps)])
    others = [axis for axis in distinct.values() if len(axis) != 1 or not axis.size]
    return Rows(maps, ids, np.cumsum([0, *(axis.size for axis in maps)])[:-1], others)


def least_left(flow: Flow, sources: Sources) -> int:
    """The fewest positions that an edit leaves on an axis that it changes; a large number if it changes none."""
    rows = rows_of(flow)
    return min(
        [len(kept) for axis in (*rows.maps, *rows.others) if (kept := sources(axis)) is not None], default=1 << 62
    )


def by_axis(axes_of: Mapping[Place, Iterable[Axis]]) -> ByAxis[Place]:
    """The channel maps in a mapping from places to axes, each with its places.

    >>> a, b = np.array([[1]]), np.array([[2]])
    >>> by_axis({"x": (None, a), "y": (a, b)})
    [(array([[1]]), ['x', 'y']), (array([[2]]), ['y'])]
    """
    places: dict[int, tuple[np.ndarray, list[Place]]] = {}
    for place, axes in axes_of.items():
        for axis in axes:
            if isinstance(axis, np.ndarray):
                places.setdefault(id(axis), (axis, []))[1].append(place)
    return list(places.values())


def _shapes(flow: Flow) -> Iterator[tuple[Location, Any]]:
    """The places of shapes in the record with the axes of their tensors."""
    for place, ref in flow.trace.shapes.items():
        yield place, flow.tensors.get(ref)
    for place, refs in flow.trace.structures.items():
        yield from _leaves(place, map_leaves(flow.tensors.get, refs))
    for place, built in flow.builds.items():
        for inner, axes in built.items():
            yield from _leaves((*place, *inner), axes)


def _leaves(place: Location, tree: Any) -> Iterable[tuple[Location, Any]]:
    """The places of the tensors in nested lists and dicts."""
    if not isinstance(tree, (list, dict)):
        return [(place, tree)]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return concat(_leaves((*place, key), item) for key, item in items)
