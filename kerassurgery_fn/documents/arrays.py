"""Writes arrays as JSON: the bytes in base64 in the document, or a name in a separate file of arrays."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from kerassurgery_fn.errors import BadDocument, NotEncodable

# The dtypes that a document can name. No other name is looked up, because a document must not choose what code runs.
NUMPY = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    "complex64", "complex128",
)  # fmt: skip
OTHERS = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
DTYPES = {name: np.dtype(name) for name in NUMPY} | {name: np.dtype(getattr(ml_dtypes, name)) for name in OTHERS}


def array_to_data(array: np.ndarray, place: str) -> dict[str, Any]:
    """An array as JSON: dtype, shape, and its bytes (little-endian, last axis fastest) in base64.

    >>> array_to_data(np.array([1, 2], "uint8"), "$")
    {'dtype': 'uint8', 'shape': [2], 'base64': 'AQI='}
    """
    name = dtype_name(array, place)
    raw = np.ascontiguousarray(array).astype(DTYPES[name].newbyteorder("<"), copy=False).tobytes()
    return {"dtype": name, "shape": list(array.shape), "base64": base64.b64encode(raw).decode("ascii")}


def dtype_name(array: np.ndarray, place: str) -> str:
    """The name of an array's dtype in a document.

    Raises:
        NotEncodable: weights cannot have this dtype.
    """
    if array.dtype.name not in DTYPES or array.dtype.hasobject:
        raise NotEncodable(f"{place}: an array of dtype {array.dtype} cannot be written; use numbers or booleans")
    return array.dtype.name


def array_from_data(data: Mapping[str, Any], beside: Mapping[str, np.ndarray], place: str) -> np.ndarray:
    """The array from the data that `array_to_data` returned. It is read-only.

    Args:
        data: the array in the document; it has `name` instead of `base64` if the bytes are in a separate file.
        beside: name -> array, from the separate file.
        place: the place in the document, for errors.

    Raises:
        BadDocument: the bytes are not base64, or their number does not match the dtype and shape.
    """
    dtype, shape = DTYPES[data["dtype"]], tuple(data["shape"])
    raw = _beside(data["name"], beside, place) if "name" in data else _decoded(data["base64"], place)
    expected = prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise BadDocument(
            f"{place}: an array of dtype {data['dtype']} and shape {list(shape)} has {expected} bytes, not {len(raw)}"
        )
    try:
        array = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)
    except ValueError as error:
        raise BadDocument(f"{place}: an array cannot have the shape {list(shape)} ({error})") from None
    array.flags.writeable = False
    return array


def _beside(name: str, beside: Mapping[str, np.ndarray], place: str) -> bytes:
    if name not in beside:
        raise BadDocument(f"{place}: the .npz file has no array {name!r}; keep the document and its .npz file together")
    return beside[name].tobytes()


def _decoded(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadDocument(f"{place}: this is not base64 ({error})") from None
