"""Explains why a `call` cannot be recorded: the place in the user's code, and a function of Keras to use there."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from traceback import walk_tb
from types import FrameType, ModuleType, TracebackType
from typing import Any, NamedTuple

import keras

from kerassurgery_fn.errors import NotAGraph

# Packages whose frames in a traceback are not the user's code.
LIBRARIES = {"keras", "tensorflow", "numpy", "kerassurgery_fn", "optree", "contextlib"}

# TensorFlow function -> the function of keras.ops, if their names differ. Prefixes such as `math.` are removed.
COUNTERPARTS = {
    "add_n": "sum", "avg_pool": "average_pool", "avg_pool2d": "average_pool", "bias_add": "add",
    "clip_by_value": "clip", "concat": "concatenate", "conv1d": "conv", "conv2d": "conv", "conv3d": "conv",
    "conv2d_transpose": "conv_transpose", "depthwise_conv2d": "depthwise_conv", "fill": "full",
    "floordiv": "floor_divide", "floormod": "mod", "gather": "take", "identity": "copy", "is_finite": "isfinite",
    "is_inf": "isinf", "is_nan": "isnan", "l2_normalize": "normalize", "matvec": "matmul", "max_pool2d": "max_pool",
    "pow": "power", "range": "arange", "reduce_all": "all", "reduce_any": "any", "reduce_logsumexp": "logsumexp",
    "reduce_max": "max", "reduce_mean": "mean", "reduce_min": "min", "reduce_prod": "prod", "reduce_std": "std",
    "reduce_sum": "sum", "reduce_variance": "var", "resize_bilinear": "image.resize",
    "resize_nearest_neighbor": "image.resize", "reverse": "flip", "scatter_nd": "scatter", "swish": "silu",
    "tensor_scatter_nd_update": "scatter_update",
}  # fmt: skip
VALUES = ("boolean", "to an int", "to a float", "NumPy array", "Iterating over", "'numpy'", "'item'")


class Place(NamedTuple):
    """A place in the user's code: file, line, the expression that failed, and the frame with the values of its
    names."""

    file: str
    line: int
    code: str
    frame: FrameType


def described(layer: Any) -> str:
    """A layer or model in an error message."""
    kind = "model" if isinstance(layer, keras.Model) else "layer"
    return f"{kind} {layer.name!r} ({type(layer).__name__})"


def fault_of_call(layer: Any, error: Exception, inputs: Any, variables: str) -> NotAGraph:
    """The error for a `call` that fails on symbolic tensors.

    Args:
        layer: the layer or model.
        error: the exception of its code.
        inputs: the symbolic inputs of the call.
        variables: the names of the variables that the code had read before it failed.
    """
    place = place_of(error)
    where = f"in {place.file}, line {place.line}, `{place.code}`" if place else "in its call()"
    cause = (str(error).strip().splitlines() or [""])[0].partition(". ")[0][:200]
    return NotAGraph(
        f"{described(layer)} cannot be recorded on symbolic tensors: {where}, raises "
        f"{type(error).__name__}: {cause} {_remedy(error, place, inputs, variables)}"
    )


def _remedy(error: Exception, place: Place | None, inputs: Any, variables: str) -> str:
    """The way out, by the kind of failure."""
    text = str(error)
    function = tensorflow_function(place) if place else None
    if function is not None:
        counterpart = counterpart_of(function)
        advice = f"use keras.ops.{counterpart} instead" if counterpart else "keras.ops has no such function"
        return f"(tf.{function} is a function of TensorFlow, which does not take symbolic tensors; {advice})"
    if any(words in text for words in VALUES):
        return "(the code depends on the values of tensors; use keras.ops.where, keras.ops.cond or keras.ops.max)"
    has_open_sizes = any(None in tensor.shape for tensor in keras.tree.flatten(inputs))
    if has_open_sizes and ("NoneType" in text or "(None" in text):
        return (
            f"(the code computes with sizes, and some are variable: {_shapes(inputs)}; record it for fixed sizes, such "
            "as capture(model, inputs=(None, 128)); then the snapshot is only valid for these sizes)"
        )
    if variables and "KerasTensor" in text:
        return f"(the code computes with the variables {variables} directly; move them into a separate layer)"
    return (
        "(use keras.ops for all operations on tensors; if the inputs have another dtype or shape, pass them: "
        "capture(model, inputs=keras.Input((16,), dtype='int32')))"
    )


def _shapes(inputs: Any) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in keras.tree.flatten(inputs))


def place_of(error: Exception) -> Place | None:
    """The innermost place of a traceback that is not in a library."""
    places = [(frame, line) for frame, line in walk_tb(error.__traceback__) if _is_users(frame)]
    if not places:
        return None
    frame, line = places[-1]
    return Place(frame.f_code.co_filename, line, _expression(error.__traceback__, frame, line), frame)


def _is_users(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] not in LIBRARIES


def _expression(traceback: TracebackType | None, frame: FrameType, line: int) -> str:
    """The source of the expression that failed; the whole line if Python does not know its columns."""
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    for first, last, start, end in _positions(traceback, frame):
        if None not in (first, last, start, end) and last <= len(lines):
            text = [source.encode() for source in lines[first - 1 : last]]
            text[-1] = text[-1][:end]
            text[0] = text[0][start:]
            return " ".join(b"".join(text).decode().split())
    return lines[line - 1].strip() if line <= len(lines) else ""


def _positions(traceback: TracebackType | None, frame: FrameType) -> Iterator[tuple[Any, ...]]:
    """The first and last line and column of the expression that a frame of a traceback was computing."""
    while traceback is not None:
        if traceback.tb_frame is frame:
            yield list(frame.f_code.co_positions())[traceback.tb_lasti // 2]
        traceback = traceback.tb_next


def tensorflow_function(place: Place) -> str | None:
    """The name of the TensorFlow function that is called at a place, after `tf.`; None if there is none."""
    try:
        nodes = list(ast.walk(ast.parse(place.code.strip().rstrip(":"), mode="exec")))
    except SyntaxError:
        return None
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    return next((name for call in calls if (name := _tensorflow_name(ast.unparse(call), place.frame))), None)


def _tensorflow_name(dotted: str, frame: FrameType) -> str | None:
    """`image.resize` for `tf.image.resize`, if `tf` is TensorFlow in a frame; `shape` for an imported `shape`."""
    root, *attributes = dotted.split(".")
    value = frame.f_locals.get(root, frame.f_globals.get(root))
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
    if not str(module).startswith("tensorflow"):
        return None
    return ".".join(attributes) if attributes else root


def counterpart_of(function: str) -> str | None:
    """The function of `keras.ops` that is equivalent to a TensorFlow function; None if there is none.

    >>> counterpart_of("image.resize"), counterpart_of("math.reduce_mean"), counterpart_of("shape")
    ('image.resize', 'mean', 'shape')
    """
    last = function.rpartition(".")[2]
    if function.startswith("image.") and hasattr(keras.ops.image, last):
        return f"image.{last}"
    if last in COUNTERPARTS:
        return COUNTERPARTS[last]
    return last if hasattr(keras.ops, last) else None
