"""Pooling over windows and over all of space."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.rules.convolution import slid
from kerassurgery_fn.rules.data_formats import joined, parts, plain
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.registry import rule

# Keras has nothing to build in these layers.
POOLING: dict[str, Any] = {"equal_channels": True, "built": False}
AVERAGING: dict[str, Any] = {**POOLING, "needs_floats": True}


@rule("MaxPooling1D", rank=3, **POOLING)
@rule("MaxPooling2D", rank=4, **POOLING)
@rule("MaxPooling3D", rank=5, **POOLING)
@rule("AveragePooling1D", rank=3, **AVERAGING)
@rule("AveragePooling2D", rank=4, **AVERAGING)
@rule("AveragePooling3D", rank=5, **AVERAGING)
def pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    return joined(layer, batch, slid(layer, space, layer["pool_size"]), channel)


@rule("GlobalAveragePooling1D", rank=3, arguments=("inputs", "mask"), added={"mask": None}, **POOLING)
@rule("GlobalMaxPooling1D", rank=3, **POOLING)
@rule("GlobalMaxPooling2D", "GlobalAveragePooling2D", rank=4, **POOLING)
@rule("GlobalMaxPooling3D", "GlobalAveragePooling3D", rank=5, **POOLING)
def global_pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    return joined(layer, batch, [1] * len(space), channel) if layer["keepdims"] else (batch, channel)


@rule("AdaptiveMaxPooling1D", "AdaptiveAveragePooling1D", rank=3, equal_channels=True)
@rule("AdaptiveMaxPooling2D", "AdaptiveAveragePooling2D", rank=4, equal_channels=True)
@rule("AdaptiveMaxPooling3D", "AdaptiveAveragePooling3D", rank=5, equal_channels=True)
def adaptive_pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    sizes = layer["output_size"]
    return joined(layer, batch, sizes if isinstance(sizes, list) else [sizes] * len(space), channel)
