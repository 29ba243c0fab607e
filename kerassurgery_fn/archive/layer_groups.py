"""The h5 group of every layer in the weights of a `.keras` file.

    layers/conv2d                              the first Conv2D of the model, whatever its name
    layers/conv2d_1                            the second
    layers/functional/layers/dense             a layer of a nested model
    layers/time_distributed/layer/layers/dense a layer of a model in a wrapper

Operations have no group, and an input layer has one in a Functional model only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph import WEIGHT_GROUPS, Record, is_functional, is_input, join_path, model_in, name_of
from kerassurgery_fn.rules.registry import is_operation
from kerassurgery_fn.rules.weight_groups import WeightGroups, unique_names, weight_groups

SHARED_ID = "shared_object_id"
Arrays = tuple[np.ndarray, ...]


class LayerGroup(NamedTuple):
    """A layer and the group that has its weights.

    - `path`: the path of the layer in the snapshot;
    - `group`: the name of the group;
    - `record`: the record of the layer;
    - `identity`: equal for places of one layer, if it belongs to several models.
    """

    path: str
    group: str
    record: Record
    identity: str = ""


def layer_groups(model: Record, path: str = "", group: str = "layers", shared: str = "") -> Iterator[LayerGroup]:
    """The layers of a model, those of nested models in place of the models, in the order of the file.

    Keras marks a layer, or a nested model, that stands in a config twice; what is inside is marked at one place only.

    >>> dense = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "a"}}
    >>> [layer.group for layer in layer_groups({"class_name": "Sequential", "config": {"layers": [dense]}})]
    ['layers/dense']
    """
    for layer, layer_group in members(model, group):
        layer_path, mark = join_path(path, name_of(layer)), layer.get(SHARED_ID)
        place = f"{shared}/{name_of(layer)}" if shared else f"object {mark}" if mark is not None else ""
        if inner := model_in(layer):
            record, location = inner  # the location is ("config", "layer") once for each wrapper
            wrappers = "/layer" * (len(location) // 2)
            yield from layer_groups(record, layer_path, f"{layer_group}{wrappers}/layers", place)
        else:
            yield LayerGroup(layer_path, layer_group, layer, place or layer_path)


def members(model: Record, group: str) -> list[tuple[Record, str]]:
    """The layers of a model that have a group, nested models among them, and their groups."""
    layers = [layer for layer in model["config"]["layers"] if not is_operation(layer)]
    if not is_functional(model):
        layers = layers[1:] if layers and is_input(layers[0]) else layers
    names = unique_names(layer["class_name"] for layer in layers)
    return [(layer, f"{group}/{name}") for layer, name in zip(layers, names, strict=True)]


def groups_of_members(model: Record, group: str = "") -> Iterator[tuple[str, Record]]:
    """The group and the record of a model, of all its layers, and of the layers of nested models."""
    yield group, model
    for layer, layer_group in members(model, f"{group}/layers".lstrip("/")):
        inner, location = model_in(layer) or (None, ())
        if location or inner is None:
            yield layer_group, layer
        if inner is not None:
            yield from groups_of_members(inner, layer_group + "/layer" * (len(location) // 2))


def split_arrays(layer: LayerGroup, arrays: Arrays) -> Iterator[tuple[LayerGroup, Arrays]]:
    """The arrays of a layer by group: a group for the layer itself, and a group for each of its sublayers.

    Raises:
        BrokenSnapshot: the layer cannot have so many weights, or it is not known how its class saves them.
    """
    if WEIGHT_GROUPS in layer.record:
        yield from _stated_groups(layer, arrays)
        return
    groups = weight_groups(layer.record)
    start = len(arrays) if groups.count is None else groups.count
    first, rest = arrays[:start], arrays[start:]
    yield layer, first
    for sublayer, count in zip(groups.sublayers, _counts(layer, groups, len(arrays)), strict=True):
        inner = LayerGroup(layer.path, f"{layer.group}/{sublayer.group}", sublayer.record)
        yield from split_arrays(inner, (*first[: sublayer.shared], *rest[:count]))
        rest = rest[count:]


def _stated_groups(layer: LayerGroup, arrays: Arrays) -> Iterator[tuple[LayerGroup, Arrays]]:
    """The arrays of a custom layer that consists of layers, by the groups that its record states."""
    stated: Mapping[str, Sequence[int]] = layer.record[WEIGHT_GROUPS]
    if not stated:
        raise BrokenSnapshot(
            f"layer {layer.path!r} ({layer.record['class_name']}) saves its weights by code of its own; save "
            "rebuild(snapshot) with Keras"
        )
    indices = {index for group in stated.values() for index in group}
    if indices != set(range(len(arrays))):
        raise BrokenSnapshot(
            f"layer {layer.path!r} ({layer.record['class_name']}) has {len(arrays)} arrays in the snapshot, and its "
            f"record states groups for {len(indices)}"
        )
    plain = {"module": "keras.layers", "class_name": "sublayer", "config": {}}
    for group, numbers in stated.items():
        part = LayerGroup(layer.path, f"{layer.group}/{group}".rstrip("/"), plain)
        yield part, tuple(arrays[number] for number in numbers)


def _counts(layer: LayerGroup, groups: WeightGroups, total: int) -> list[int]:
    """The number of weights of each sublayer that are not weights of the layer itself."""
    if groups.count is None:
        return []
    known = groups.count + sum(sublayer.count or 0 for sublayer in groups.sublayers)
    unknown = sum(sublayer.count is None for sublayer in groups.sublayers)
    share, surplus = divmod(total - known, unknown or 1)
    if total < known or surplus or (share and not unknown):
        raise BrokenSnapshot(
            f"layer {layer.path!r} ({layer.record['class_name']}) has {total} arrays in the snapshot, and its config "
            "is of a layer with another number of weights"
        )
    return [share if sublayer.count is None else sublayer.count for sublayer in groups.sublayers]
