"""The weights of custom layers that consist of layers, in a file.

    layers/block/vars/0               the weights of the layer itself
    layers/block/first/vars/0         those of the layer that its attribute `first` holds
    layers/block/steps/dense_1/vars/0 those of a layer in a list, or of a layer inside a layer

A record states the groups, and the indices of their weights in `get_weights()`: {"first": [2, 3], "second": [0, 1]}.
`capture` asks the class. A file of Keras has the groups only, so their weights are read in the order of their names,
unless the rule of the class states the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kerassurgery_fn.archive.h5_weights import WeightFile
from kerassurgery_fn.archive.layer_groups import Arrays, LayerGroup, layer_groups
from kerassurgery_fn.errors import BadFile
from kerassurgery_fn.graph import WEIGHT_GROUPS, WEIGHTS_BY_NAME
from kerassurgery_fn.rules.registry import is_foreign, rule_for
from kerassurgery_fn.rules.weight_groups import weight_groups


def add_weight_groups(model: Any, weights: WeightFile) -> None:
    """Adds to the records of custom layers that consist of layers the groups of their weights in a file, in place."""
    for layer in layer_groups(model):
        for part in _parts(layer):
            if is_foreign(part.record) and not callable(rule_for(part.record).sublayers):
                _add(part, weights)


def _parts(layer: LayerGroup) -> Iterator[LayerGroup]:
    """A layer, and the layers in it whose records are in its config."""
    yield layer
    if not is_foreign(layer.record):
        for sublayer in weight_groups(layer.record).sublayers:
            yield from _parts(LayerGroup(layer.path, f"{layer.group}/{sublayer.group}", sublayer.record))


def _add(layer: LayerGroup, weights: WeightFile) -> None:
    record: Any = layer.record
    if WEIGHT_GROUPS in record:  # the file is one of ours
        _check(layer, record[WEIGHT_GROUPS])
        return
    counts = weights.counts(layer.group)
    order: Any = rule_for(record).sublayers or ()
    groups = sorted(counts, key=lambda group: (_place(group, order), _by_name(group)))
    if not any(groups):  # all weights are those of the layer itself
        return
    record[WEIGHT_GROUPS] = {}
    start = 0
    for group in groups:
        record[WEIGHT_GROUPS][group] = list(range(start, start := start + counts[group]))
    sublayers = [group for group in groups if group]
    if len(sublayers) > 1 and any(_place(group, order) == len(order) for group in sublayers):
        record[WEIGHTS_BY_NAME] = True


def _place(group: str, order: Any) -> int:
    """The place of a group in the order that a rule states; the layer's own weights come first.

    >>> _place("", ("b", "a")), _place("a/dense", ("b", "a")), _place("c", ("b", "a"))
    (-1, 1, 2)
    """
    if not group:
        return -1
    return next((place for place, name in enumerate(order) if f"{group}/".startswith(f"{name}/")), len(order))


def _by_name(group: str) -> list[Any]:
    """A key for sorting in which numbers count: Keras calls the layers of a list dense, dense_1, ..., dense_10.

    >>> sorted(["dense_10", "dense", "dense_2"], key=_by_name)
    ['dense', 'dense_2', 'dense_10']
    """
    return [(name, int(number or 0)) for name, number in re.findall(r"([^/]*?)(?:_(\d+))?(?:/|$)", group)]


def _check(layer: LayerGroup, groups: Any) -> None:
    """Raises BadFile if the groups of a record are not groups with indices 0, 1, ..."""
    is_mapping = isinstance(groups, Mapping) and all(isinstance(indices, list) for indices in groups.values())
    indices = [index for group in groups.values() for index in group] if is_mapping else [None]
    if not all(type(index) is int for index in indices) or {*indices} != {*range(len({*indices}))}:
        raise BadFile(f"layer {layer.path!r} ({layer.record['class_name']}) states groups of weights that are none")


def read_groups(layer: LayerGroup, weights: WeightFile) -> Arrays:
    """The arrays of a layer whose record states its groups, in the order of `get_weights()`.

    Raises:
        BadFile: the file has another number of arrays in a group, or none.
    """
    arrays: dict[int, Any] = {}
    for group, indices in layer.record[WEIGHT_GROUPS].items():
        found = weights.arrays(f"{layer.group}/{group}".rstrip("/"))
        if len(found) != len(indices):
            raise BadFile(
                f"layer {layer.path!r} ({layer.record['class_name']}) has {len(found)} weights in the group {group!r}, "
                f"and by its record it has {len(indices)}"
            )
        arrays |= zip(indices, found, strict=True)
    return tuple(arrays[index] for index in range(len(arrays)))
