"""The axes that the shapes in a layer's `build_config` repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerassurgery_fn.channels import Axis, has_ids
from kerassurgery_fn.rules.registry import NoRule
from kerassurgery_fn.values.frozen import Location


def built_axes(
    config: Mapping[str, Any], named: Mapping[str, Any], args: Any, kwargs: Any, weighted: Callable[[Axis], bool]
) -> dict[Location, Any]:
    """The axes that the shapes in a `build_config` repeat, by the place of each shape: `input_shape` is the first
    argument's, others go by the argument's name.

    Args:
        config: the `build_config`.
        named: the axes of the arguments of the call by the names that the rule gives them.
        args, kwargs: the axes of the arguments as the call gives them.
        weighted: whether a weight of the layer has ids of an axis.

    Raises:
        NoRule: see `built_for`.
    """
    if "shapes_dict" in config:
        shapes = config["shapes_dict"]
        return {
            ("shapes_dict", key): built_for(shapes[key], named.get(key.removesuffix("_shape")), weighted)
            for key in shapes
        }
    if not (shape := config.get("input_shape")):
        return {}
    return {("input_shape",): built_for(shape, next(iter([*args, *kwargs.values()]), None), weighted)}


def built_for(shape: Any, axes: Any, weighted: Callable[[Axis], bool] = has_ids) -> Any:
    """The axes that a shape in a `build_config` repeats, given those of the tensor that the layer is called on.

    A layer may be built on a tensor of another rank than it is called on: a Dense layer called elsewhere before, or
    whose first call is gone. Then only the last axes of both are the same one, and the rest of the shape stays.

    Raises:
        NoRule: the ranks differ, and weights have channels of another axis than the last.

    >>> built_for([None, 6], (None, 5, 6)), built_for([None, 5, 6], (None, 6)), built_for([None, 6], (None, 6))
    ((None, 6), (None, 5, 6), (None, 6))
    """
    if isinstance(axes, list) and isinstance(shape, list) and len(shape) == len(axes):
        return [built_for(*pair, weighted) for pair in zip(shape, axes, strict=True)]
    if not (isinstance(axes, tuple) and isinstance(shape, list)) or len(shape) == len(axes) or not (shape and axes):
        return axes
    if any(map(weighted, axes[:-1])):
        raise NoRule(f"was built on a tensor of {len(shape)} axes and reads channels of one of {len(axes)} axes")
    return (*shape[:-1], axes[-1])
