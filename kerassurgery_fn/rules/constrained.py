"""The constraints that Keras applies to weights after every training step, as functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Projection = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]
EPSILON = 1e-7  # Keras adds it to norms


class Constraint(NamedTuple):
    """The constraint of a weight.

    - `field`: the field of the layer's config that contains the constraint;
    - `record`: the record of the constraint;
    - `wrapped`: whether the layer is inside a wrapper.
    """

    field: str
    record: Any
    wrapped: bool = False

    @property
    def title(self) -> str:
        """The name of the class or function of the constraint.

        >>> Constraint("kernel_constraint", {"class_name": "UnitNorm", "config": {"axis": 0}}).title
        'UnitNorm'
        """
        name = self.record.get("class_name") if isinstance(self.record, dict) else None
        return str(self.record["config"] if name == "function" else name or self.record)

    @property
    def shrinks(self) -> bool:
        """Whether a weight that fulfils the constraint still fulfils it when it is scaled down."""
        if not _is_keras(self.record) or self.title == "UnitNorm":
            return False
        return self.title != "MinMaxNorm" or not self.record["config"]["min_value"]


def constraint_of(config: Mapping[str, Any], weight: str, wrapped: bool = False) -> Constraint | None:
    """The constraint of a weight. `recurrent_constraint` is the constraint of the `recurrent_kernel`, and the
    `kernel_constraint` of attention is the constraint of each of its kernels.

    >>> constraint_of({"kernel_constraint": {"class_name": "NonNeg"}, "recurrent_constraint": None}, "recurrent_kernel")
    >>> constraint_of({"kernel_constraint": {"class_name": "NonNeg"}}, "query_kernel").field
    'kernel_constraint'
    """
    for field in fields_of_constraint(weight):
        if field in config:
            return Constraint(field, config[field], wrapped) if config[field] else None
    return None


@cache
def fields_of_constraint(weight: str) -> tuple[str, ...]:
    """The config fields that can have the constraint of a weight; the first that a config has counts.

    >>> fields_of_constraint("recurrent_kernel")
    ('recurrent_kernel_constraint', 'recurrent_constraint', 'kernel_constraint')
    """
    names = [weight, weight.removesuffix("_kernel"), weight.rpartition("_")[2]]
    names += ["depthwise"] * (weight == "kernel")  # the kernel of a DepthwiseConv
    return tuple(f"{name}_constraint" for name in dict.fromkeys(names))


def projected(constraint: Constraint, array: np.ndarray) -> np.ndarray | None:
    """A weight after its constraint has been applied, float64; None if the constraint is not one of Keras.

    >>> unit = Constraint("kernel_constraint", {"module": "keras.constraints", "class_name": "UnitNorm", "config": {
    ...     "axis": 0}})
    >>> projected(unit, np.array([[3.0], [4.0]])).round(3)
    array([[0.6],
           [0.8]])
    """
    if not _is_keras(constraint.record):
        return None
    return PROJECTIONS[constraint.record["class_name"]](array.astype(np.float64), constraint.record.get("config", {}))


def stays(constraint: Constraint | None, array: np.ndarray, edit: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether a constraint keeps the edit of a weight at the next training step.

    There are two cases: the constraint does not change the edited weight, or it makes the same change to the weight
    with and without the edit. (A kernel that was never trained does not fulfil its constraint yet.) An unknown
    constraint never keeps an edit.

    >>> never_negative = Constraint("bias_constraint", {"module": "keras.constraints", "class_name": "NonNeg"})
    >>> stays(never_negative, np.ones(2), lambda bias: bias / 2), stays(never_negative, np.ones(2), lambda bias: -bias)
    (True, False)
    """
    if constraint is None:
        return True
    edited, before = edit(array), projected(constraint, array)
    after = projected(constraint, edited)
    if before is None or after is None:
        return edited is array
    return close(after, edited) or close(after, edit(before))


def close(array: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal up to rounding, in the precision of the second array."""
    relative = 1e-2 if other.dtype.itemsize == 2 else 1e-4
    other = other.astype(np.float64)
    return bool(np.allclose(array, other, rtol=relative, atol=relative * 1e-2 * np.abs(other).max(initial=0)))


def undone(path: str, weight: str, constraint: Constraint | None) -> str:
    """The message that a constraint would undo an edit of a weight, with the way out."""
    assert constraint is not None
    setting = f"SetConfig({path!r}, {constraint.field}=None)"
    way = "remove it from the layer inside the wrapper" if constraint.wrapped else f"remove it first, as in {setting}"
    return (
        f"the {constraint.title} constraint on the {weight} of layer {path!r} would undo this edit at the next "
        f"training step; {way}"
    )


def _is_keras(record: Any) -> bool:
    module = str(record.get("module")) if isinstance(record, dict) else ""
    return module.startswith(("keras.constraints", "keras.src.constraints")) and record["class_name"] in PROJECTIONS


def _with_norm(array: np.ndarray, config: Mapping[str, Any], new_norms: Callable[[np.ndarray], Any]) -> np.ndarray:
    """An array that is scaled so that its norms along some axes become `new_norms(norms)`."""
    axes = config.get("axis", 0)
    axis = tuple(axes) if isinstance(axes, (list, tuple)) else axes
    norms = np.sqrt(np.square(array).sum(axis=axis, keepdims=True))
    scaled: np.ndarray = array * (new_norms(norms) / (EPSILON + norms))
    return scaled


def _between(norms: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    rate = config.get("rate", 1.0)
    return rate * norms.clip(config.get("min_value", 0.0), config.get("max_value", 1.0)) + (1 - rate) * norms


PROJECTIONS: dict[str, Projection] = {
    "NonNeg": lambda array, config: np.maximum(array, 0),
    "UnitNorm": lambda array, config: _with_norm(array, config, np.ones_like),
    "MaxNorm": lambda array, config: _with_norm(array, config, lambda norms: norms.clip(0, config.get("max_value", 2))),
    "MinMaxNorm": lambda array, config: _with_norm(array, config, lambda norms: _between(norms, config)),
}
