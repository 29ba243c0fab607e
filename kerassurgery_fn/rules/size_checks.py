"""What layers require of the sizes of their tensors, so that Keras can build and call them.

A function here is one of the checks in the field `requires` of a record: the layer's call on shapes instead of tensors.
It takes the layer's config and the arguments of the call, with a tuple of sizes in place of every tensor, and raises
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
    """Sizes that do not go together, in words."""


def check_groups(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit where the groups of a convolution do not divide its channels and its filters."""
    channels = inputs[1 if config.get("data_format") == "channels_first" else -1]
    refuse_unequal_groups(config, "channels", channels)
    refuse_unequal_groups(config, "filters", config["filters"])


def check_normalised_groups(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit where the groups of a normalisation do not divide its channels."""
    refuse_unequal_groups(config, "channels", inputs[config["axis"]])


def refuse_unequal_groups(config: Config, noun: str, n: int | None) -> None:
    groups = config.get("groups") or 1
    if n is None and groups > 1:
        raise Misfit(
            f"its {groups} groups part a number of {noun} that is not known; give the model an input of fixed size"
        )
    if n is not None and groups > 1 and n % groups:
        raise Misfit(f"its {groups} groups do not divide {n} {noun}; set `groups`, or change the number of {noun}")


def check_space(config: Config, sequences: Sizes, **_: Any) -> None:
    """Raises Misfit where a layer whose states have axes of space does not know their sizes."""
    first = config.get("data_format") == "channels_first"
    if None in (sequences[3:] if first else sequences[2:-1]):
        raise Misfit("it needs known sizes of all axes but batch and time")


def check_states(config: Config, sequences: Sizes, initial_state: Any = None, **_: Any) -> None:
    """Raises Misfit where a state is not one vector a sample."""
    for state in leaves(initial_state):
        if isinstance(state, tuple) and len(state) != 2:
            raise Misfit(f"its initial_state is of 2 axes, not of shape {state}")


def check_step_mask(
    config: Config, sequences: Sizes, initial_state: Any = None, mask: Any = None, **_: Any
) -> None:  # fmt: skip
    """Raises Misfit where a mask is not one number for each step of a sample."""
    if isinstance(mask, tuple) and len(mask) != 2:
        raise Misfit(f"its mask is of 2 axes, batch and time, not of shape {mask}")


def check_order(config: Config, x: Sizes) -> None:
    """Raises Misfit where the new order of axes is not that of all axes of a tensor."""
    if config.get("axes") and len(config["axes"]) != len(x):
        raise Misfit(f"its axes {list(config['axes'])} are not those of a tensor of {len(x)} axes")


def check_noise_rank(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit where noise has more axes than a tensor."""
    noise = tuple(config.get("noise_shape") or ())
    if len(noise) > len(inputs):
        raise Misfit(f"its noise_shape {noise} is for tensors of more than {len(inputs)} axes")


def check_noise(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit where noise cannot be broadcast to a tensor: Keras finds out only in a run."""
    check_noise_rank(config, inputs)
    refuse_unbroadcast("noise_shape", config.get("noise_shape") or (), inputs)


def check_scale(config: Config, inputs: Sizes, **_: Any) -> None:
    """Raises Misfit where `scale` or `offset` cannot be broadcast to a tensor: Keras finds out only in a run."""
    for field in ("scale", "offset"):
        value = config.get(field)
        array = value["config"]["value"] if isinstance(value, Mapping) else value or 0.0
        refuse_unbroadcast(field, np.shape(array), inputs)


def refuse_unbroadcast(field: str, sizes: Sequence[int | None], shape: Sizes) -> None:
    met = zip(reversed(sizes), reversed(shape), strict=False)
    if len(sizes) > len(shape) or any(n not in (None, 1, other) for n, other in met if other is not None):
        raise Misfit(f"its {field} of shape {tuple(sizes)} cannot be broadcast to that; set `{field}`")


def equal_parts_along(axis: int | None = None) -> Callable[..., None]:
    """The check that an axis, or that of the config, can be split into so many equal parts."""

    def check_parts(config: Config, x: Sizes) -> None:
        split, parts = config["axis"] if axis is None else axis, config["indices_or_sections"]
        n = x[split] if -len(x) <= split < len(x) else None
        if isinstance(parts, int) and n is not None and n % parts:
            raise Misfit(f"axis {split} has {n} positions, which are not {parts} equal parts")

    return check_parts


def check_joined(config: Config, inputs: Sequence[Sizes], **_: Any) -> None:
    """Raises Misfit where tensors that are joined along one axis differ in another."""
    if len(set(map(len, inputs))) > 1:
        raise Misfit("tensors that are joined have the same number of axes")
    axis = config["axis"] % len(inputs[0])
    rest = [[n for i, n in enumerate(shape) if i != axis] for shape in inputs]
    for sizes, others in pairwise(rest):
        if any(a != b and None not in (a, b) for a, b in zip(sizes, others, strict=True)):
            raise Misfit(f"tensors that are joined along axis {axis} have the same sizes along all other axes")


def check_dot(config: Config, inputs: Sequence[Sizes], **_: Any) -> None:
    """Raises Misfit where the axes that are summed over do not exist, or differ."""
    axes = config["axes"] if isinstance(config["axes"], list) else [config["axes"]] * 2
    for axis, shape in zip(axes, inputs, strict=True):
        if not -len(shape) <= axis < len(shape):
            raise Misfit(f"it sums over axis {axis}, which a tensor of {len(shape)} axes does not have")
    n, other = (shape[axis] for axis, shape in zip(axes, inputs, strict=True))
    if n != other:
        raise Misfit(f"it sums over axes of sizes {n} and {other}, which must be the same")
