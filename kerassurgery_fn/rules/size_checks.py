"""The requirements of layers on the sizes of their inputs, so that Keras can build and call the layers.

A function here is one of the checks in the field `requires` of a record: the layer's call on shapes instead of tensors.
It takes the layer's config and the arguments of the call, with a tuple of sizes in place of every tensor. It raises
`Misfit` if Keras could not build or call the layer. The requirements are those of `build`, `input_spec` and
`compute_output_shape` of the classes in Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kerassurgery_fn.graph import leaves
from kerassurgery_fn.rules.rule_fields import Config

Sizes = tuple[int | None, ...]


class Misfit(Exception):
    """Sizes that a layer cannot read. The message follows the name of the layer."""


def check_groups(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit if the groups of a convolution do not divide its channels and its filters."""
    channels = inputs[1 if config.get("data_format") == "channels_first" else -1]
    refuse_unequal_groups(config, "channels", channels)
    refuse_unequal_groups(config, "filters", config["filters"])


def check_normalised_groups(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit if the groups of a normalisation do not divide its channels."""
    refuse_unequal_groups(config, "channels", inputs[config["axis"]])


def refuse_unequal_groups(config: Config, noun: str, n: int | None) -> None:
    groups = config.get("groups") or 1
    if n is None and groups > 1:
        raise Misfit(
            f"its {groups} groups cannot divide an unknown number of {noun}; give the model an input of fixed size"
        )
    if n is not None and groups > 1 and n % groups:
        raise Misfit(f"its {groups} groups do not divide {n} {noun}; set `groups`, or change the number of {noun}")


def check_space(config: Config, sequences: Sizes, **_: Any) -> None:
    """Raises Misfit if the states of a layer have spatial axes, and a spatial size is variable."""
    first = config.get("data_format") == "channels_first"
    if None in (sequences[3:] if first else sequences[2:-1]):
        raise Misfit("it needs fixed sizes of all axes except batch and time")


def check_states(config: Config, sequences: Sizes, initial_state: Any = None, **_: Any) -> None:
    """Raises Misfit if an initial state is not one vector for each sample."""
    for state in leaves(initial_state):
        if isinstance(state, tuple) and len(state) != 2:
            raise Misfit(f"its initial_state has 2 axes, not the shape {state}")


def check_step_mask(
    config: Config, sequences: Sizes, initial_state: Any = None, mask: Any = None, **_: Any
) -> None:  # fmt: skip
    """Raises Misfit if a mask is not one number for each step of a sample."""
    if isinstance(mask, tuple) and len(mask) != 2:
        raise Misfit(f"its mask has 2 axes, batch and time, not the shape {mask}")


def check_order(config: Config, x: Sizes) -> None:
    """Raises Misfit if the new order of axes does not list all axes of the tensor."""
    if config.get("axes") and len(config["axes"]) != len(x):
        raise Misfit(f"its axes {list(config['axes'])} do not match a tensor with {len(x)} axes")


def check_one_open(config: Config, x: Sizes) -> None:
    """Raises Misfit if several sizes of a new shape are -1."""
    shape = config["newshape"]
    if isinstance(shape, list) and shape.count(-1) > 1:
        raise Misfit(f"its newshape {shape} has several unknown sizes; give the model an input of fixed size")


def check_noise_rank(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit if the noise has more axes than the tensor."""
    noise = tuple(config.get("noise_shape") or ())
    if len(noise) > len(inputs):
        raise Misfit(f"its noise_shape {noise} is for tensors with more than {len(inputs)} axes")


def check_noise(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit if the noise cannot be broadcast to the tensor. Keras raises an error only when the model runs."""
    check_noise_rank(config, inputs)
    refuse_unbroadcast("noise_shape", config.get("noise_shape") or (), inputs)


def check_scale(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit if `scale` or `offset` cannot be broadcast to the tensor. Keras raises an error only when the model
    runs."""
    for field in ("scale", "offset"):
        value = config.get(field)
        array = value["config"]["value"] if isinstance(value, Mapping) else value or 0.0
        refuse_unbroadcast(field, np.shape(array), inputs)


def refuse_unbroadcast(field: str, sizes: Sequence[int | None], shape: Sizes) -> None:
    met = zip(reversed(sizes), reversed(shape), strict=False)
    if len(sizes) > len(shape) or any(n not in (None, 1, other) for n, other in met if other is not None):
        raise Misfit(f"its {field} of shape {tuple(sizes)} cannot be broadcast to this tensor; set `{field}`")


def equal_parts_along(axis: int | None = None) -> Callable[..., None]:
    """The check that an axis, by default the axis in the config, can be split into equal parts."""

    def check_parts(config: Config, x: Sizes) -> None:
        split, parts = config["axis"] if axis is None else axis, config["indices_or_sections"]
        n = x[split] if -len(x) <= split < len(x) else None
        if isinstance(parts, int) and n is not None and n % parts:
            raise Misfit(f"axis {split} has {n} positions, which cannot be split into {parts} equal parts")

    return check_parts


def check_joined(config: Config, inputs: Sequence[Sizes], **_: Any) -> None:
    """Raises Misfit if tensors that are joined along one axis differ in another axis."""
    if len(set(map(len, inputs))) > 1:
        raise Misfit("it joins tensors, which must have the same number of axes")
    axis = config["axis"] % len(inputs[0])
    rest = [[n for i, n in enumerate(shape) if i != axis] for shape in inputs]
    for sizes, others in pairwise(rest):
        if any(a != b and None not in (a, b) for a, b in zip(sizes, others, strict=True)):
            raise Misfit(f"it joins tensors along axis {axis}, which must have the same sizes along all other axes")


def check_dot(config: Config, inputs: Sequence[Sizes], **_: Any) -> None:
    """Raises Misfit if there are not two tensors, or the axes that are summed over do not exist or differ in size."""
    if len(inputs) != 2:
        raise Misfit(f"it multiplies two tensors, not {len(inputs)}")
    axes = config["axes"] if isinstance(config["axes"], list) else [config["axes"]] * 2
    for axis, shape in zip(axes, inputs, strict=True):
        if not -len(shape) <= axis < len(shape):
            raise Misfit(f"it sums over axis {axis}, which a tensor of {len(shape)} axes does not have")
    n, other = (shape[axis] for axis, shape in zip(axes, inputs, strict=True))
    if n != other:
        raise Misfit(f"it sums over axes of sizes {n} and {other}, which must be equal")
