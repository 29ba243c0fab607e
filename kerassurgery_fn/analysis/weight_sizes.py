"""Weights without a rule: the bytes of their numbers, and which of them are trainable."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from kerassurgery_fn.graph import STATE_WEIGHTS, TRAINED, Record


def trained_of_opaque(record: Record, arrays: Sequence[np.ndarray]) -> list[bool]:
    """Which weights of an opaque layer are trainable: those that its record lists; otherwise all that it does not list
    as state; otherwise all except integers.

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
    """The bytes of one number of a weight under a layer's dtype policy.

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
