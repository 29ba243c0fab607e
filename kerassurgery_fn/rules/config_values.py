"""Reads values of config fields that can have several forms."""

from __future__ import annotations

from typing import Any


def listed(value: Any) -> list[Any]:
    """A field that has one value or a list of values, as a list.

    >>> listed(2), listed([0, 1])
    ([2], [0, 1])
    """
    return list(value) if isinstance(value, (list, tuple)) else [value]


def quantized(dtype: Any) -> str:
    """The quantization mode of a dtype policy, or of any policy in a mapping; empty if there is none.

    >>> quantized("float32"), quantized({"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}})
    ('', 'int8')
    """
    if not isinstance(dtype, dict) or dtype.get("class_name") == "DTypePolicy":
        return ""
    if mode := dtype.get("mode"):
        return str(mode)
    for item in dtype.values():
        if isinstance(item, dict) and (mode := quantized(item)):
            return str(mode)
    return ""
