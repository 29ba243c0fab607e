"""A record as sheets: one for each layer, by its path, and one for the model itself, under the empty path.

A sheet is the record of a layer. In that of a model, or of a layer that wraps one, the names of its layers
stand in place of their records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph import Record, join_path, model_in, name_of
from kerassurgery_fn.values.frozen import Location, freeze, get_in, set_in

Sheets = Mapping[str, Record]


def sheets_of(record: Record, path: str = "") -> dict[str, Record]:
    """The sheets of a model's record, every model before its layers.

    >>> inner = {"class_name": "Dense", "config": {"name": "a"}}
    >>> sheets_of({"config": {"layers": [inner]}})
    {'': {'config': {'layers': ['a']}}, 'a': {'class_name': 'Dense', 'config': {'name': 'a'}}}
    """
    try:
        layers = get_in(record, layers_place(record) or ("config", "layers"))
        names = [name_of(layer) for layer in layers]
    except (KeyError, TypeError, AttributeError) as error:
        raise BrokenSnapshot(f"{path or 'the record'} lists no layers that have names; use capture()") from error
    if len({*names}) < len(names):
        raise BrokenSnapshot(f"two layers of {path or 'the model'} have one name; give them different names")
    sheets = {path: _with_layers(record, names)}
    for name, layer in zip(names, layers, strict=True):
        own = join_path(path, name)
        sheets |= sheets_of(layer, own) if layers_place(layer) else {own: layer}
    return sheets


def record_of(path: str, sheet: Callable[[str], Record]) -> Record:
    """The record of a model or layer whose sheets a function gives by their paths."""
    own = sheet(path)
    if (names := layers_of(own)) is None:
        return own
    return _with_layers(own, [record_of(join_path(path, name), sheet) for name in names])


def layers_of(sheet: Record) -> list[str] | None:
    """The names of a model's layers, None if the sheet is of no model."""
    place = layers_place(sheet)
    return None if place is None else get_in(sheet, place)


def layers_place(record: Record) -> Location | None:
    """Where the layers stand in the record of a model, or of a layer that wraps one; None for any other layer.

    >>> model = {"class_name": "Sequential", "config": {"layers": []}}
    >>> layers_place(model), layers_place({"class_name": "TimeDistributed", "config": {"layer": model}})
    (('config', 'layers'), ('config', 'layer', 'config', 'layers'))
    """
    inside = model_in(record)
    return inside and (*inside[1], "config", "layers")


def parent(path: str) -> str | None:
    """The path of the model that a layer is in, None for the model itself.

    >>> parent("backbone/conv"), parent("conv"), parent("")
    ('backbone', '', None)
    """
    return path.rpartition("/")[0] if path else None


def _with_layers(record: Record, layers: list[Any]) -> Record:
    return set_in(freeze(record), layers_place(record) or ("config", "layers"), freeze(layers))
