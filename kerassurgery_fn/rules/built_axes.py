"""The axes of the shapes in a layer's `build_config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerassurgery_fn.channels import Axis, has_ids
from kerassurgery_fn.rules.call_arguments import named
from kerassurgery_fn.rules.registry import NoRule
from kerassurgery_fn.rules.rule_fields import Channels
from kerassurgery_fn.values.frozen import Location


def built_axes(
    config: Mapping[str, Any], rule: Channels, args: Any, kwargs: Any, weighted: Callable[[Axis], bool]
) -> dict[Location, Any]:
    """The axes of the shapes in a `build_config`, by the place of each shape.

    `input_shape` is the shape of the first argument; other shapes have the name of their argument.

    Args:
        config: the `build_config`.
        rule: the rule of the layer.
        args, kwargs: the axes of the arguments of the call.
        weighted: axis -> whether a weight of the layer has channels of it.

    Raises:
        NoRule: see `built_for`.
    """
    if "shapes_dict" in config:
        shapes, axes = config["shapes_dict"], named(rule, args, kwargs)
        return {
            ("shapes_dict", key): built_for(shapes[key], axes.get(key.removesuffix("_shape")), weighted)
            for key in shapes
        }
    if not (shape := config.get("input_shape")):
        return {}
    first = args[0] if args else next(iter(kwargs.values()), None)
    return {("input_shape",): built_for(shape, first, weighted)}


def built_for(shape: Any, axes: Any, weighted: Callable[[Axis], bool] = has_ids) -> Any:
    """The axes of a shape in a `build_config`, for the axes of the tensor on which the layer is called.

    The rank of the shape can differ from the rank of the tensor, if a Dense layer was built by another call. Then only
    the last axis is the same, and the rest of the shape is unchanged.

    Raises:
        NoRule: the ranks differ, and weights have channels of another axis than the last.

    >>> built_for([None, 6], (None, 5, 6)), built_for([None, 5, 6], (None, 6)), built_for([None, 6], (None, 6))
    ((None, 6), (None, 5, 6), (None, 6))
    """
    if not isinstance(shape, list):
        return axes
    if isinstance(axes, list) and len(shape) == len(axes):
        return [built_for(*pair, weighted) for pair in zip(shape, axes, strict=True)]
    if not isinstance(axes, tuple) or len(shape) == len(axes) or not (shape and axes):
        return axes
    if any(map(weighted, axes[:-1])):
        raise NoRule(f"was built on a tensor of {len(shape)} axes, and reads channels of a tensor of {len(axes)} axes")
    return (*shape[:-1], axes[-1])
