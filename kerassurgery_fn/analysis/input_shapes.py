"""Replaces the variable sizes of a model's inputs by sizes from the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerassurgery_fn.arguments import as_shape
from kerassurgery_fn.errors import UnknownLayer, WrongShape
from kerassurgery_fn.graph import read_graph
from kerassurgery_fn.values.frozen import get_in, set_all
from kerassurgery_fn.values.snapshot import Snapshot

Shapes = Sequence[int | None] | Mapping[str, Sequence[int | None]]


def as_shapes(value: Any, name: str = "shapes") -> Shapes:
    """The shape of one sample, or a mapping from the name of each input to a shape."""
    if isinstance(value, Mapping):
        return {key: as_shape(shape, name) for key, shape in value.items()}
    return as_shape(value)


def with_shapes(snapshot: Snapshot, shapes: Shapes) -> Snapshot:
    """The snapshot with fixed sizes in place of the variable sizes of its inputs.

    Raises:
        WrongShape: a shape does not match the input.
        UnknownLayer: the model has no input with this name.
    """
    graph = read_graph(snapshot)
    places = {key: (*graph.places[key], "config", "batch_shape") for key, _ in graph.sources}
    if not isinstance(shapes, Mapping):
        if len(places) > 1:
            raise WrongShape(f"the model has {len(places)} inputs; give a mapping of {', '.join(places)} to shapes")
        shapes = dict.fromkeys(places, shapes)
    if unknown := shapes.keys() - places.keys():
        raise UnknownLayer(f"the model has no input named {min(unknown, key=str)!r}; there are {', '.join(places)}")
    stated = {name: get_in(snapshot.record, places[name]) for name in shapes}
    return Snapshot(
        set_all(snapshot.record, {places[name]: _fitted(name, stated[name], shape) for name, shape in shapes.items()}),
        snapshot.weights,
    )


def _fitted(name: str, stated: Sequence[int | None], sample: Sequence[int | None]) -> list[int | None]:
    """The shape of an input whose variable sizes are replaced by those of a sample."""
    if len(sample) != len(stated) - 1 or any(
        a != b and None not in (a, b) for a, b in zip(stated[1:], sample, strict=True)
    ):
        raise WrongShape(
            f"one sample of input {name!r} has the shape {tuple(stated[1:])} in the config, not {tuple(sample)}; give "
            "a size for each None and repeat the other sizes"
        )
    return [stated[0], *(b if a is None else a for a, b in zip(stated[1:], sample, strict=True))]
