"""The constraints that Keras applies to weights after every training step, as functions on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Projection = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]
EPSILON = 1e-7  # that of Keras, added to norms


class Constraint(NamedTuple):
    """The constraint of a weight: the field of the layer's config that has it, its record, and whether that config is
    of a layer inside a wrapper."""

    field: str
    record: Any
    wrapped: bool = False

    @property
    def title(self) -> str:
        """Its class, or what else the config says.

        >>> Constraint("kernel_constraint", {"class_name": "UnitNorm", "config": {"axis": 0}}).title
        'UnitNorm'
        """
        name = self.record.get("class_name") if isinstance(self.record, dict) else None
        return str(self.record["config"] if name == "function" else name or self.record)

    @property
    def shrinks(self) -> bool:
        """Whether the constraint leaves alone a weight that it has been applied to and that is then made smaller."""
        if not _is_keras(self.record) or self.title == "UnitNorm":
            return False
        return self.title != "MinMaxNorm" or not self.record["config"]["min_value"]


def constraint_of(config: Mapping[str, Any], weight: str, wrapped: bool = False) -> Constraint | None:
    """The constraint of a weight by the names of Keras: `recurrent_constraint` is that of the `recurrent_kernel`, and
    the `kernel_constraint` of attention that of every kernel in it.

    >>> constraint_of({"kernel_constraint": {"class_name": "NonNeg"}, "recurrent_constraint": None}, "recurrent_kernel")
    >>> constraint_of({"kernel_constraint": {"class_name": "NonNeg"}}, "query_kernel").field
    'kernel_constraint'
    """
    names = [weight, weight.removesuffix("_kernel"), weight.rpartition("_")[2]]
    names += ["depthwise"] * (weight == "kernel")  # that of a DepthwiseConv
    field = next((f"{name}_constraint" for name in names if f"{name}_constraint" in config), None)
    return Constraint(field, config[field], wrapped) if field and config[field] else None


def projected(constraint: Constraint, array: np.ndarray) -> np.ndarray | None:
    """A weight after its constraint has been applied, float64; None for a constraint that is not one of Keras' own.

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
    """Whether the next training step leaves alone what an edit made of a weight.

    The constraint may change nothing of the edited weight, or just what it would have changed without the edit: a
    kernel that was never trained does not fulfil its constraint yet. Of a constraint that is not known nothing is
    assumed.

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


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal but for rounding, in the precision of the second one."""
    relative = 1e-2 if other.dtype.itemsize == 2 else 1e-4
    other = other.astype(np.float64)
    return bool(np.allclose(one, other, rtol=relative, atol=relative * 1e-2 * np.abs(other).max(initial=0)))


def undone(path: str, weight: str, constraint: Constraint | None) -> str:
    """That a constraint would undo an edit of a weight, and the way out, in words."""
    assert constraint is not None
    setting = f"SetConfig({path!r}, {constraint.field}=None)"
    way = "remove it from the layer inside the wrapper" if constraint.wrapped else f"remove it first, as in {setting}"
    return (
        f"the {constraint.title} constraint on the {weight} of layer {path!r} would undo that at the next training "
        f"step; {way}"
    )


def _is_keras(record: Any) -> bool:
    module = str(record.get("module")) if isinstance(record, dict) else ""
    return module.startswith(("keras.constraints", "keras.src.constraints")) and record["class_name"] in PROJECTIONS


def _with_norm(array: np.ndarray, config: Mapping[str, Any], wanted: Callable[[np.ndarray], Any]) -> np.ndarray:
    """An array scaled so that its norms along some axes are as a function of these norms says."""
    axes = config.get("axis", 0)
    axis = tuple(axes) if isinstance(axes, (list, tuple)) else axes
    norms = np.sqrt(np.square(array).sum(axis=axis, keepdims=True))
    scaled: np.ndarray = array * (wanted(norms) / (EPSILON + norms))
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
