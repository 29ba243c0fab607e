"""Layers that only one network of `keras.applications` uses."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.merging import broadcast
from kerassurgery_fn.rules.registry import rule

CONVNEXT = "keras.src.applications.convnext"
INCEPTION_RESNET = "keras.src.applications.inception_resnet_v2"


@rule(f"{CONVNEXT}>LayerScale")
def layer_scale(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    layer.weight("gamma", (x[-1],))
    layer.size("projection_dim", x[-1])
    return x


@rule(f"{CONVNEXT}>StochasticDepth")
def stochastic_depth(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    return x


@rule(f"{INCEPTION_RESNET}>CustomScaleLayer")
def scaled_sum(layer: Layer, inputs: list[Tensor], **_: Any) -> Tensor:
    return broadcast(layer, inputs)
