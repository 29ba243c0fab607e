"""Weights without a rule: the size of their elements in bytes, and which weights are trainable."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from kerassurgery_fn.graph import STATE_WEIGHTS, TRAINED, Record


def trained_of_opaque(record: Record, arrays: Sequence[np.ndarray]) -> list[bool]:
    """Whether each weight of an opaque layer is trainable. If the record of the layer lists trainable weights, these
    are trainable; if it lists state, all other weights; otherwise, all weights except integers.

    >>> trained_of_opaque({"config": {}}, [np.zeros(2), np.zeros(2, "int8")])
    [True, False]
    """
    trainable, listed = record["config"].get("trainable", True), record.get(TRAINED)
    if listed is not None:
        return [index in listed for index in range(len(arrays))]
    if (state := record.get(STATE_WEIGHTS)) is not None:
        return [bool(trainable) and index not in state for index in range(len(arrays))]
    return [bool(trainable) and array.dtype.kind not in "iub" for array in arrays]


def item_size(record: Record) -> int:
    """The size in bytes of one element of a weight under a layer's dtype policy.

    >>> item_size({"config": {"dtype": "mixed_float16"}}), item_size({"config": {"dtype": "bfloat16"}})
    (4, 2)
    """
    match record["config"].get("dtype"):
        case str(name) | {"config": {"name": str(name)}} | {"config": {"source_name": str(name)}}:
            pass
        case {"config": {"default_policy": str(name)}}:
            pass
        case _:
            name = "float32"
    bits = re.findall(r"\d+", name)
    return 4 if name.startswith("mixed_") or not bits else int(bits[-1]) // 8
