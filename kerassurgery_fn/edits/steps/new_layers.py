"""New layers of a model: what a draft is given, and the records of these layers in the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from toolz import dissoc

from kerassurgery_fn.graph import FreeNames, Graph, Record, own_record, with_name
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.snapshot import Snapshot


class Addition(NamedTuple):
    """A layer that a model gets.

    - `layer`: the layer;
    - `key`: its key in the model, which may be that of a layer that it replaces; empty for a new one;
    - `name`: its name; None for the name that it has, with a number if another layer has that name.
    """

    layer: Snapshot
    key: str = ""
    name: str | None = None


def records_of(additions: Sequence[Addition], graph: Graph) -> dict[str, Record]:
    """Key in the graph -> the record of each new layer, with its name there."""
    names, keys = FreeNames(map(graph.name, graph.layers)), FreeNames(graph.layers)
    records: dict[str, Record] = {}
    for layer, key, name in additions:
        if key in graph.layers:
            names.release(graph.name(key))
        if name:
            names.reserve(name)
        name = name or names.take(layer.name)
        own = with_name(dissoc(own_record(layer.record), "compile_config"), name)
        records[key or keys.take(name)] = freeze(own)
    return records
