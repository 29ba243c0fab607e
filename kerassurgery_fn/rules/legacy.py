"""Layers of Keras 1 and 2 that `tf.keras.layers` still has (`keras._legacy.layers`)."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.mask_rules import passed
from kerassurgery_fn.rules.registry import rule


@rule("ThresholdedReLU", last=lambda config: "thresholded_relu", equal_channels=True, masks=passed)
def thresholded(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return inputs


@rule("RandomHeight", equal_channels=True, keywords=("data",), added={"training": True})
def random_height(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return resized_at(layer, inputs, -3)


@rule("RandomWidth", equal_channels=True, keywords=("data",), added={"training": True})
def random_width(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return resized_at(layer, inputs, -2)


def resized_at(layer: Layer, inputs: Tensor, axis: int) -> Tensor:
    """A tensor with an axis that is resized in training, so its size is open."""
    layer.pin(inputs[axis], "resizes it")
    axes = list(inputs)
    axes[axis] = None
    return tuple(axes)
