"""A record as sheets: one for each layer, by its path, and one for the model itself, under the empty path.

A sheet is the record of a layer. In that of a model the names of its layers stand in place of their records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.frozen import FrozenDict, FrozenList
from kerassurgery_fn.graph import Record, is_model, join_path, name_of

Sheets = Mapping[str, Record]


def sheets_of(record: Record, path: str = "") -> dict[str, Record]:
    """The sheets of a model's record, every model before its layers.

    >>> inner = {"class_name": "Dense", "config": {"name": "a"}}
    >>> sheets_of({"config": {"layers": [inner]}})
    {'': {'config': {'layers': ['a']}}, 'a': {'class_name': 'Dense', 'config': {'name': 'a'}}}
    """
    layers = record["config"]["layers"]
    names = [name_of(layer) for layer in layers]
    if len({*names}) < len(names):
        raise BrokenSnapshot(f"two layers of {path or 'the model'} have one name; give them different names")
    sheets = {path: _with_layers(record, names)}
    for name, layer in zip(names, layers, strict=True):
        own = join_path(path, name)
        sheets |= sheets_of(layer, own) if is_model(layer) else {own: layer}
    return sheets


def record_of(path: str, sheet: Callable[[str], Record]) -> Record:
    """The record of a model or layer whose sheets a function gives by their paths."""
    own = sheet(path)
    if not is_model(own):
        return own
    return _with_layers(own, [record_of(join_path(path, name), sheet) for name in own["config"]["layers"]])


def layers_of(sheet: Record) -> list[str] | None:
    """The names of a model's layers, None if the sheet is of no model."""
    return sheet["config"]["layers"] if is_model(sheet) else None


def parent(path: str) -> str | None:
    """The path of the model that a layer is in, None for the model itself.

    >>> parent("backbone/conv"), parent("conv"), parent("")
    ('backbone', '', None)
    """
    return path.rpartition("/")[0] if path else None


def _with_layers(record: Record, layers: list[Any]) -> Record:
    config = FrozenDict({**record["config"], "layers": FrozenList(layers)})
    return FrozenDict({**record, "config": config})
