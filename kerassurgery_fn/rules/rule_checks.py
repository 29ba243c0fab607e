"""Checks the axes that a rule states against the weights and shapes in the snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerassurgery_fn.channels import sizes_of
from kerassurgery_fn.rules.findings import Tensor, Weight
from kerassurgery_fn.rules.rule_fields import Channels

OWN = "kerassurgery_fn.rules"


def weights_fault(weights: Sequence[Weight], arrays: Sequence[np.ndarray]) -> str:
    """How the weights that a rule states differ from the arrays of the layer, in words; empty if they agree.

    >>> scale = Weight("scale", (None,), True)
    >>> weights_fault([scale], [np.zeros(8)])
    "its rule gives weight 'scale' axes of sizes (None,), but its shape is (8,)"
    """
    if len(weights) != len(arrays):
        names = ", ".join(weight.name for weight in weights) or "none"
        return f"its rule names {len(weights)} weights ({names}), but it has {len(arrays)}, {_shapes(arrays)}"
    for weight, array in zip(weights, arrays, strict=True):
        if (sizes := sizes_of(weight.axes)) != array.shape:
            return f"its rule gives weight {weight.name!r} axes of sizes {sizes}, but its shape is {array.shape}"
    return ""


def _shapes(arrays: Sequence[np.ndarray]) -> str:
    return f"of shapes {', '.join(str(array.shape) for array in arrays)}" if arrays else "none"


def tensor_fault(axes: Any) -> str:
    """Why the output of a rule is not a tensor, in words; empty if it is a tuple of axes.

    >>> tensor_fault((None, 8)), tensor_fault(8)
    ('', 'its rule returns 8, where a tuple with the axes of a tensor is expected')
    """
    if isinstance(axes, tuple) and all(map(_is_axis, axes)):
        return ""
    return f"its rule returns {axes!r}, where a tuple with the axes of a tensor is expected"


def _is_axis(axis: Any) -> bool:
    return axis is None or isinstance(axis, (int, np.integer)) or (isinstance(axis, np.ndarray) and axis.ndim == 2)


def shape_fault(axes: Tensor, recorded: Sequence[int | None]) -> str:
    """How the sizes that a rule states for an output differ from the recorded shape, in words; empty if they agree.

    >>> shape_fault((None, 4), (None, 8))
    'has an output of shape (None, 8), where its rule expects (None, 4)'
    """
    sizes = sizes_of(axes)
    pairs = zip(sizes, recorded, strict=False)
    if len(sizes) == len(recorded) and all(a == b or None in (a, b) for a, b in pairs):
        return ""
    return f"has an output of shape {tuple(recorded)}, where its rule expects {sizes}"


def source_of(rule: Channels | None) -> str:
    """The place of a rule, in words: function, module and line. For a rule of this library, the text asks for a report.

    >>> source_of(None)
    'it has no rule'
    """
    if rule is None:
        return "it has no rule"
    line = getattr(getattr(rule, "__code__", None), "co_firstlineno", "?")
    name, module = getattr(rule, "__qualname__", repr(rule)), getattr(rule, "__module__", "?")
    ours = ", and this is a defect of kerassurgery_fn: please report it" if is_own(rule) else ""
    return f"the rule is {name} ({module}, line {line}){ours}"


def is_own(rule: Channels) -> bool:
    """Whether a rule is one of this library, and not of a user."""
    return str(getattr(rule, "__module__", "")).startswith(OWN)
