"""The groups of a weight file in which Keras saves the weights of a custom layer that consists of layers.

The config of such a layer does not say of which layers it consists, and Keras names their groups by the attributes that
hold them, so Keras is asked: it saves the layer to a store that only notes what it gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.saving import saving_lib
from toolz import valmap

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph import WEIGHT_GROUPS, WEIGHTS_BY_NAME, Record
from kerassurgery_fn.rules.registry import is_foreign, rule_for

Arrays = tuple[np.ndarray, ...]
Groups = dict[str, list[int]]  # group -> the indices of its weights in `layer.weights`
INNER = ("layer", "cell")  # config fields with the record of a layer, which is the attribute of this name


class _NotingStore(saving_lib.H5IOStore):
    """A store of Keras that notes the group and the number of each variable that is saved."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Any]] = {}
        self._group = ""

    def __bool__(self) -> bool:
        return True

    def make(self, path: str, metadata: Any = None) -> _NotingStore:
        self._group = path
        return self

    def __setitem__(self, number: str, variable: Any) -> None:
        self.groups.setdefault(self._group, {})[number] = variable


def add_weight_groups(layer: keras.layers.Layer, record: Any) -> None:
    """Adds to the record of a custom layer that consists of layers, at any depth of wrappers, the groups of its
    weights."""
    for part, part_record in _parts(layer, record):
        has_sublayers = any(sublayer.weights for sublayer in part._flatten_layers(include_self=False))
        if is_foreign(part_record) and has_sublayers and not callable(rule_for(part_record).sublayers):
            part_record[WEIGHT_GROUPS] = groups_of(part)


def _parts(layer: Any, record: Any) -> Iterator[tuple[Any, Any]]:
    """A layer, and the layer that it wraps, if any, with their records."""
    yield layer, record
    for field in INNER:
        inner = record["config"].get(field)
        if isinstance(inner, dict) and "class_name" in inner and hasattr(layer, field):
            yield from _parts(getattr(layer, field), inner)


def groups_of(layer: keras.layers.Layer) -> Groups:
    """The groups in which Keras saves the weights of a layer. Empty if the class saves them by code of its own, or if
    Keras does not save all of them."""
    store = _NotingStore()
    saving_lib._save_state(layer, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    indices = {id(weight): index for index, weight in enumerate(layer.weights)}
    groups: Groups = {}
    for group, variables in store.groups.items():
        if variables.keys() != set(map(str, range(len(variables)))):
            return {}
        numbers = [indices.get(id(variables[str(number)])) for number in range(len(variables))]
        groups[group] = [index for index in numbers if index is not None]
        if None in numbers:
            return {}
    return groups if {index for group in groups.values() for index in group} == set(indices.values()) else {}


def in_order_of_weights(layer: Any, record: Record, arrays: Arrays) -> Arrays:
    """The arrays of a layer in the order of its weights. A file has them in the order of its groups.

    Raises:
        BrokenSnapshot: the class of the layer has other groups.
    """
    for part, part_record in _parts(layer, record):
        if part_record.get(WEIGHTS_BY_NAME) and len(part.weights) == len(arrays):
            return _reordered(part, part_record, arrays)
    return arrays


def _reordered(layer: Any, record: Record, arrays: Arrays) -> Arrays:
    named, groups = record[WEIGHT_GROUPS], groups_of(layer)
    if valmap(len, named) != valmap(len, groups):
        raise BrokenSnapshot(
            f"layer {layer.name!r} ({record['class_name']}) has weights in {', '.join(groups)}, and the file had them "
            f"in {', '.join(named)}; use the class with which the file was written"
        )
    source = {new: old for group in groups for new, old in zip(groups[group], named[group], strict=True)}
    return tuple(arrays[source[index]] for index in range(len(arrays)))
