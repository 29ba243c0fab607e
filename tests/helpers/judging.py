"""The judge of the laws: what a smaller model should compute, told from its arrays alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

from kerassurgery_fn.graph import is_model, name_of
from kerassurgery_fn.values.frozen import Location, freeze, set_all
from kerassurgery_fn.values.snapshot import Snapshot


def judge(snapshot: Snapshot, smaller: Snapshot) -> Snapshot:
    """The original with every element of its weights set to zero that is not found in the smaller model.

    So it is with arrays among the arguments of calls. Elements are told apart by their bit patterns alone, array by
    array: what was cut is read off the result, and no mistake of the channel maps can be shared.
    """
    weights = {
        path: tuple(
            np.where(found(array, left), array, array.dtype.type(0))
            for array, left in zip(
                arrays, smaller.weights.get(path, [np.zeros(0, a.dtype) for a in arrays]), strict=True
            )
        )
        for path, arrays in snapshot.weights.items()
    }
    return Snapshot(without_constants(snapshot.record, smaller.record), weights)


def without_constants(record: Any, smaller: Any) -> Any:
    """The record with every element of an array in a call's arguments set to zero that is not found in the smaller."""
    left = {name_of(layer): layer for layer in (smaller or {"config": {"layers": []}})["config"]["layers"]}
    layers = []
    for layer in record["config"]["layers"]:
        other = left.get(name_of(layer))
        if is_model(layer):
            layer = without_constants(layer, other)
        elif any(constants(layer.get("inbound_nodes"))):
            theirs = constants(other["inbound_nodes"]) if other else repeat(((), np.zeros(0)))
            changes = {
                ("inbound_nodes", *place): np.where(np.isin(array, kept), array, 0).tolist()
                for (place, array), (_, kept) in zip(constants(layer["inbound_nodes"]), theirs, strict=False)
            }
            layer = set_all(freeze(layer), changes)
        layers.append(layer)
    return {**record, "config": {**record["config"], "layers": layers}}


def constants(tree: Any, place: Location = ()) -> Iterator[tuple[Location, np.ndarray]]:
    """The arrays in the arguments of a layer's calls, and where they stand."""
    match tree:
        case {"class_name": "__numpy__" | "__tensor__", "config": {"value": list(value)}}:
            if np.asarray(value).dtype.kind == "f":  # whole numbers are indices, which say where and not how much
                yield (*place, "config", "value"), np.asarray(value)
        case dict():
            for key, item in tree.items():
                yield from constants(item, (*place, key))
        case list():
            for index, item in enumerate(tree):
                yield from constants(item, (*place, index))


def found(array: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which elements of an array are among those left of it.

    Those left may all have been multiplied by the root of how much shorter an axis has become, as it is where a layer
    divides by the root of a size.

    >>> found(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0]))
    array([ True, False,  True])
    >>> found(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0]) * np.sqrt(2 / 3))
    array([ True, False,  True])
    """
    ratios = [b / a for a, b in zip(array.shape, left.shape, strict=False) if a > b]
    hit = plain = np.isin(bits(array), bits(left))
    while ratios and hit.sum() < left.size:
        hit = np.isin(bits((array * np.sqrt(ratios.pop(0))).astype(array.dtype)), bits(left))
    return hit if hit.sum() >= left.size else plain


def bits(array: np.ndarray) -> np.ndarray:
    """The bit patterns of an array as unsigned integers, in its shape."""
    return array.ravel().view(f"u{array.itemsize}").reshape(array.shape)
