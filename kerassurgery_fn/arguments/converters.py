"""Checks of arguments: each takes a value and the name of its parameter, and returns the converted value."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerassurgery_fn.arguments.decorator import Check
from kerassurgery_fn.arguments.suggestions import is_keras, items_of, kind_of, meant, shortened
from kerassurgery_fn.errors import BadFile, BadValue, NotAGraph, NotALayer, NotASnapshot, WrongShape
from kerassurgery_fn.values.snapshot import Snapshot


def as_snapshot(value: Any, name: str = "snapshot") -> Snapshot:
    """The snapshot.

    Raises:
        NotASnapshot: the value is not a snapshot; the message says how to get one.
    """
    if isinstance(value, Snapshot):
        return value
    if is_keras(value, "Model"):
        raise NotASnapshot(f"{name} is a Keras model, {value.name!r}, not a snapshot: call capture(model) first")
    if isinstance(value, (str, os.PathLike)):
        raise NotASnapshot(
            f"{name} is {str(value)!r}: if this is a file, load it with keras.models.load_model, then call "
            "capture(model)"
        )
    raise NotASnapshot(f"{name}: expected a Snapshot, got {kind_of(value)}; capture(model) gives one")


def as_model(value: Any, name: str = "model") -> Any:
    """The Keras model.

    Raises:
        NotAGraph: the value is not a model; the message says how to get one.
    """
    if is_keras(value, "Model"):
        return value
    if isinstance(value, (str, os.PathLike)):
        raise NotAGraph(
            f"{name}: expected a keras.Model, got {str(value)!r}; if this is a file, load it with "
            "keras.models.load_model"
        )
    hint = "; rebuild(snapshot) gives one" if isinstance(value, Snapshot) else ""
    raise NotAGraph(f"{name}: expected a keras.Model, got {kind_of(value)}{hint}")


def as_model_or_snapshot(value: Any, name: str = "model") -> Any:
    """A Keras model or a snapshot itself.

    Raises:
        NotAGraph: the value is neither.
    """
    return value if isinstance(value, Snapshot) else as_model(value, name)


def as_live_layer(value: Any, name: str = "layer") -> Any:
    """The Keras layer.

    Raises:
        NotALayer: the value is not a layer.
    """
    if is_keras(value, "Layer"):
        return value
    raise NotALayer(f"{name} must be a Keras layer, such as keras.layers.Dense(3), not {shortened(value)}")


def as_flag(value: Any, name: str) -> bool:
    """The value as a Python bool. numpy bools are also accepted.

    Raises:
        BadValue: the value is neither True nor False.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise BadValue(f"{name} must be True or False, not {shortened(value)}")


def as_count(value: Any, name: str) -> int:
    """The value as a positive int.

    Raises:
        BadValue: the value is not a positive integer.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0:
        return int(value)
    raise BadValue(f"{name} must be a positive integer, not {shortened(value)}")


def as_string(value: Any, name: str) -> str:
    """The string.

    Raises:
        BadValue: the value is not a string.
    """
    if isinstance(value, str):
        return value
    raise BadValue(f"{name} must be a string, not {shortened(value)}")


def as_mapping(value: Any, name: str) -> Mapping[Any, Any]:
    """The mapping.

    Raises:
        BadValue: the value is not a mapping.
    """
    if isinstance(value, Mapping):
        return value
    raise BadValue(f"{name} must be a mapping, such as a dict, not {shortened(value)}")


def as_function(value: Any, name: str) -> Callable[..., Any]:
    """The function, or another callable.

    Raises:
        BadValue: the value is not callable.
    """
    if callable(value):
        return value
    raise BadValue(f"{name} must be a function, not {shortened(value)}")


def as_shape(value: Any, name: str = "shape") -> tuple[int | None, ...]:
    """The value as a tuple of sizes; None for a variable size.

    Raises:
        WrongShape: the value is not a shape.

    >>> as_shape([None, np.int64(3)])
    (None, 3)
    """
    sizes = None if isinstance(value, Mapping) else items_of(value)
    if sizes is not None and all(size is None or _is_size(size) for size in sizes):
        return tuple(None if size is None else int(size) for size in sizes)
    raise WrongShape(f"{name} must be a tuple of sizes, such as (None, 32, 32, 3), not {shortened(value)}")


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 0)


def as_file(value: Any, name: str = "path") -> str:
    """The value as the path of a file.

    Raises:
        BadFile: the value is not a path of a file.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else b""
    if isinstance(text, str) and "\0" not in text and Path(text).name:
        return text
    raise BadFile(f"{name} must be the path of a file, not {shortened(value)}")


def as_file_or_folder(value: Any, name: str = "path") -> str:
    """The value as the path of a file or a folder, which can be the folder `.`.

    Raises:
        BadFile: the value is not a path.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else b""
    is_here = isinstance(text, str) and text != "" and Path(text) == Path()
    return str(text) if is_here else as_file(value, name)


def optional(check: Check) -> Check:
    """The same check, which also accepts None."""
    return lambda value, name: None if value is None else check(value, name)


def one_of(names: Collection[str]) -> Check:
    """The check that a value is one of some names.

    >>> one_of(("global", "local"))("local", "scope")
    'local'
    """

    def check(value: Any, name: str) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise BadValue(f"{name}: no {name} {shortened(value)}; {meant(value, names)}")

    return check
