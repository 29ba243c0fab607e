"""Revives Keras models from records, without weights."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.saving.serialization_lib import in_safe_mode

from kerassurgery_fn.values.snapshot import Snapshot


def revive(snapshot: Snapshot, custom_objects: Any, safe_mode: bool) -> keras.Model:
    """The model that Keras creates from a snapshot's record, without the snapshot's weights, not compiled."""
    record = {key: with_tuples(value) for key, value in snapshot.record.items() if key != "compile_config"}
    return keras.saving.deserialize_keras_object(record, custom_objects=dict(custom_objects or {}), safe_mode=safe_mode)


def is_in_safe_mode(safe_mode: bool) -> bool:
    """Whether Python lambdas raise an error: a SafeModeScope of the caller overrides the argument, as in Keras."""
    scope = in_safe_mode()
    return safe_mode if scope is None else scope


def with_tuples(record: Any) -> Any:
    """A deep copy of a record with ordinary dicts and lists, in which build shapes are tuples, because layers compare
    these shapes with tuples.

    >>> with_tuples({"config": {"axes": [1, 2]}, "build_config": {"input_shape": [[None, 8], [None, 4]]}})
    {'config': {'axes': [1, 2]}, 'build_config': {'input_shape': [(None, 8), (None, 4)]}}
    """
    if isinstance(record, dict):
        return {
            key: _shapes_as_tuples(item) if key == "build_config" else with_tuples(item) for key, item in record.items()
        }
    if isinstance(record, list):
        return [with_tuples(item) for item in record]
    return record


def _shapes_as_tuples(shapes: Any) -> Any:
    match shapes:
        case dict():
            return {key: _shapes_as_tuples(item) for key, item in shapes.items()}
        case list() if any(isinstance(item, (list, dict)) for item in shapes):
            return [_shapes_as_tuples(item) for item in shapes]
        case list():
            return tuple(shapes)
    return shapes


TRACE = (
    "Detected at node",
    "File ",
    "Stack trace",
    "Original stack",
    "<stack",
    "[[",
    "(",
)  # lines of TensorFlow errors


def root_cause(error: BaseException) -> str:
    """The first error of a chain, in one line. The later errors, which Keras raises, contain the whole config."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {_first_line(str(error))[:300]}"


def _first_line(message: str) -> str:
    """The first line of an error message; of an error of TensorFlow in a compiled function, the first after its trace.

    >>> _first_line("Graph execution error:\\n\\nDetected at node add\\n  File x.py\\n\\nNo label 7\\n [[{{node}}]]")
    'No label 7'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    if lines[0] != "Graph execution error:":
        return lines[0]
    return next((line for line in reversed(lines) if not line.startswith(TRACE)), lines[0])
