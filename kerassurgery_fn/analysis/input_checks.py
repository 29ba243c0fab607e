"""Checks whether a layer can be called on some tensors, and the error if it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from math import prod
from typing import Any

import numpy as np
from toolz import unique

from kerassurgery_fn.analysis.call_keywords import misuse
from kerassurgery_fn.channels import Axis, Constraints, Reason, size
from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import Arguments, Record, Spec
from kerassurgery_fn.rules.layer import Weight
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.rule_checks import source_of
from kerassurgery_fn.rules.size_checks import Misfit


class CheckedConstraints(Constraints):
    """Constraints that raise Misfit if two sizes must be equal and are not."""

    def tie(self, a: Axis, b: Axis, reason: Reason) -> None:
        if None not in (size(a), size(b)) and size(a) != size(b):
            raise Misfit(f"sizes {size(a)} and {size(b)} must be equal")

    def reshape(self, axes: Sequence[Axis], sizes: Sequence[int | None], reason: Reason) -> list[Axis]:
        old, new = product([size(axis) for axis in axes]), product(list(sizes))
        if None not in (old, new) and old != new:
            raise Misfit(f"{old} elements cannot be reshaped to {list(sizes)}")
        return super().reshape(axes, sizes, reason)


def product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else prod(sizes)  # type: ignore[arg-type]


def check_arguments(record: Record, call: Arguments) -> None:
    """Raises Misfit if a layer would be called with arguments that it does not take."""
    if words := misuse(record, call.args, call.kwargs):
        raise Misfit(words)


def check_axes(axes: Sequence[Any]) -> None:
    """Raises Misfit if a rule has taken a list of tensors for one tensor, and returns tensors in place of axes."""
    if any(isinstance(axis, tuple) for tensor in axes for axis in tensor):
        raise Misfit("its rule is not for a list of tensors")


def check_weights(spelled: Sequence[Weight], arrays: Sequence[np.ndarray] | None) -> None:
    """Raises Misfit if the arrays of a layer differ from the weights that its rule states.

    Args:
        spelled: the weights in the rule.
        arrays: the arrays of the layer. Empty if the weights are drawn at rebuild, None if the layer has no weights.
    """
    if arrays is not None and not len(arrays):
        return
    expected = [tuple(map(size, weight.axes)) for weight in spelled]
    for weight, shape, array in zip_longest(spelled, expected, arrays or ()):
        if weight is None or array is None:
            raise Misfit(f"it has {len(arrays or ())} weights, but would need {len(spelled)}")
        if len(shape) != array.ndim or any(a not in (None, b) for a, b in zip(shape, array.shape, strict=True)):
            raise Misfit(f"its {weight.name} has the shape {array.shape}, but would need the shape {shape}")


def misfit(path: str, record: Record, call: Arguments, reads: Sequence[Spec], error: Exception) -> MisfitTensor:
    """The error for a call that a rule cannot follow.

    Args:
        path, record: the layer.
        call: its call.
        reads: the shapes and dtypes of the tensors that it would read.
        error: the exception of the rule or of a check.
    """
    before = [use.spec.shape if use.spec else None for use in call.uses]
    after = [spec.shape for spec in reads]
    source = source_of(rule_for(record).channels)
    rule = f"its rule cannot follow this call ({type(error).__name__}: {error}; {source})"
    why = str(error) if isinstance(error, Misfit) else rule
    if before == after:
        return MisfitTensor(
            f"layer {path!r} ({record['class_name']}) could no longer be called on {_shapes(after)}: {why}"
        )
    was = "" if None in before else f" in place of {_shapes(before)}"
    return MisfitTensor(
        f"layer {path!r} ({record['class_name']}) would be called on {_shapes(after)}{was}{_made_by(call)}, which it "
        f"cannot take: {why}. Change that layer first, or insert a layer before it that adapts the tensor"
    )


def _made_by(call: Arguments) -> str:
    """The layers that compute the tensors of a call, in words; empty if it is only one layer."""
    layers = list(unique(port.layer for port in call.ports))
    return f" (of {' and '.join(map(repr, layers))})" if len(layers) > 1 else ""


def _shapes(shapes: Sequence[Any]) -> str:
    noun = "a tensor of shape" if len(shapes) == 1 else "tensors of shapes"
    return f"{noun} {', '.join(map(str, shapes))}"


def shown(spec: Spec) -> str:
    return str(tuple(spec.shape))
