"""Splits the record of a model into one record for each layer, by path. The model itself has the empty path.

The record of a model, or of a layer that wraps a model, has the names of its layers in place of their records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph import Record, join_path, model_in, name_of
from kerassurgery_fn.values.frozen import Location, freeze, get_in, set_in

LayerRecords = Mapping[str, Record]


def split_record(record: Record, path: str = "") -> dict[str, Record]:
    """The record of each layer by path; every model comes before its layers.

    Raises:
        BrokenSnapshot: the record has no layers, layers without names, or two layers with the same name.

    >>> dense = {"class_name": "Dense", "config": {"name": "a"}}
    >>> split_record({"config": {"layers": [dense]}})
    {'': {'config': {'layers': ['a']}}, 'a': {'class_name': 'Dense', 'config': {'name': 'a'}}}
    """
    layers, names = _named_layers(record, path)
    records = {path: _with_layers(record, names)}
    for name, layer in zip(names, layers, strict=True):
        layer_path = join_path(path, name)
        records |= split_record(layer, layer_path) if layers_place(layer) else {layer_path: layer}
    return records


def _named_layers(record: Record, path: str) -> tuple[list[Record], list[str]]:
    """The records of the layers of a model, and their names."""
    try:
        layers = get_in(record, layers_place(record) or ("config", "layers"))
        names = [name_of(layer) for layer in layers]
    except (KeyError, TypeError, AttributeError) as error:
        raise BrokenSnapshot(
            f"{path or 'the record'} has no list of layers with names; capture(model) gives a valid snapshot"
        ) from error
    if len({*names}) < len(names):
        raise BrokenSnapshot(f"two layers of {path or 'the model'} have the same name; give them different names")
    return layers, names


def join_records(path: str, record_at: Callable[[str], Record]) -> Record:
    """The record of a model or layer, joined from the records that a function returns for each path."""
    record = record_at(path)
    if (names := layers_of(record)) is None:
        return record
    return _with_layers(record, [join_records(join_path(path, name), record_at) for name in names])


def layers_of(record: Record) -> list[str] | None:
    """The names of the layers of a model in its split record; None for a layer that is not a model."""
    place = layers_place(record)
    return None if place is None else get_in(record, place)


def layers_place(record: Record) -> Location | None:
    """The location of the layers in the record of a model, or of a layer that wraps a model; None for other layers.

    >>> model = {"class_name": "Sequential", "config": {"layers": []}}
    >>> layers_place(model), layers_place({"class_name": "TimeDistributed", "config": {"layer": model}})
    (('config', 'layers'), ('config', 'layer', 'config', 'layers'))
    """
    inside = model_in(record)
    return inside and (*inside[1], "config", "layers")


def parent(path: str) -> str | None:
    """The path of the model that contains a layer; None for the outermost model.

    >>> parent("backbone/conv"), parent("conv"), parent("")
    ('backbone', '', None)
    """
    return path.rpartition("/")[0] if path else None


def _with_layers(record: Record, layers: list[Any]) -> Record:
    return set_in(freeze(record), layers_place(record) or ("config", "layers"), freeze(layers))
