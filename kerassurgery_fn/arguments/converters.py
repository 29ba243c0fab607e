"""Checks of arguments: each takes a value and what to call it in an error, and gives the value in its form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerassurgery_fn.arguments.decorator import Check
from kerassurgery_fn.arguments.suggestions import is_keras, items_of, kind_of, shortened
from kerassurgery_fn.errors import BadFile, BadValue, NotAGraph, NotALayer, NotASnapshot, WrongShape
from kerassurgery_fn.values.snapshot import Snapshot


def as_snapshot(value: Any, name: str = "snapshot") -> Snapshot:
    """A snapshot itself.

    Raises:
        NotASnapshot: it is none; the message says how to get one.
    """
    if isinstance(value, Snapshot):
        return value
    if is_keras(value, "Model"):
        raise NotASnapshot(f"{name} is a keras model, {value.name!r}, not a snapshot of one: call capture(model) first")
    if isinstance(value, (str, os.PathLike)):
        raise NotASnapshot(
            f"{name} is {str(value)!r}: if that is a file, load it with keras.models.load_model, then call "
            "capture(model)"
        )
    raise NotASnapshot(f"{name}: expected a Snapshot, got {kind_of(value)}; capture(model) gives one")


def as_model(value: Any, name: str = "model") -> Any:
    """A Keras model itself.

    Raises:
        NotAGraph: it is none; the message says how to get one.
    """
    if is_keras(value, "Model"):
        return value
    if isinstance(value, (str, os.PathLike)):
        raise NotAGraph(
            f"{name}: expected a keras.Model, got {str(value)!r}; if that is a file, load it with "
            "keras.models.load_model"
        )
    hint = "; rebuild(snapshot) gives one" if isinstance(value, Snapshot) else ""
    raise NotAGraph(f"{name}: expected a keras.Model, got {kind_of(value)}{hint}")


def as_live_layer(value: Any, name: str = "layer") -> Any:
    """A Keras layer itself.

    Raises:
        NotALayer: it is none.
    """
    if is_keras(value, "Layer"):
        return value
    raise NotALayer(f"{name} is a Keras layer, such as keras.layers.Dense(3), not {shortened(value)}")


def as_flag(value: Any, name: str) -> bool:
    """True or False, of Python or of numpy.

    Raises:
        BadValue: it is neither.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise BadValue(f"{name} is True or False, not {shortened(value)}")


def as_count(value: Any, name: str) -> int:
    """A whole number from 1 on.

    Raises:
        BadValue: it is none.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise BadValue(f"{name} is a whole number from 1 on, not {shortened(value)}")


def as_string(value: Any, name: str) -> str:
    """A string.

    Raises:
        BadValue: it is none.
    """
    if isinstance(value, str):
        return value
    raise BadValue(f"{name} is a string, not {shortened(value)}")


def as_mapping(value: Any, name: str) -> Mapping[Any, Any]:
    """A mapping.

    Raises:
        BadValue: it is none.
    """
    if isinstance(value, Mapping):
        return value
    raise BadValue(f"{name} is a mapping, such as a dict, not {shortened(value)}")


def as_function(value: Any, name: str) -> Callable[..., Any]:
    """Something that can be called.

    Raises:
        BadValue: it cannot be.
    """
    if callable(value):
        return value
    raise BadValue(f"{name} is a function, not {shortened(value)}")


def as_shape(value: Any, name: str = "shape") -> tuple[int | None, ...]:
    """A shape: sizes from 0 on, None for one that is open.

    Raises:
        WrongShape: it is none.

    >>> as_shape([None, np.int64(3)])
    (None, 3)
    """
    sizes = None if isinstance(value, Mapping) else items_of(value)
    if sizes is not None and all(size is None or _is_size(size) for size in sizes):
        return tuple(None if size is None else int(size) for size in sizes)
    raise WrongShape(f"{name} is a tuple of sizes, such as (None, 32, 32, 3), not {shortened(value)}")


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 0)


def as_file(value: Any, name: str = "path") -> str:
    """The path of a file.

    Raises:
        BadFile: it is none.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else b""
    if isinstance(text, str) and "\0" not in text and Path(text).name:
        return text
    raise BadFile(f"{name} is the path of a file, not {shortened(value)}")


def optional(check: Check) -> Check:
    """A check that lets None pass."""
    return lambda value, name: None if value is None else check(value, name)
