"""Pooling over windows and over all of space."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.rules.convolution import slid
from kerassurgery_fn.rules.layer import Layer, Tensor, joined, parts, plain
from kerassurgery_fn.rules.registry import rule


BUILT, UNBUILT = {"equal_channels": True}, {"equal_channels": True, "built": False}


@rule("MaxPooling1D", "AveragePooling1D", rank=3, **UNBUILT)
@rule("MaxPooling2D", "AveragePooling2D", rank=4, **UNBUILT)
@rule("MaxPooling3D", "AveragePooling3D", rank=5, **UNBUILT)
def pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    return joined(layer, batch, slid(layer, space, layer["pool_size"]), channel)


@rule("GlobalAveragePooling1D", rank=3, arguments=("inputs", "mask"), added={"mask": None}, **UNBUILT)
@rule("GlobalMaxPooling1D", rank=3, **UNBUILT)
@rule("GlobalMaxPooling2D", "GlobalAveragePooling2D", rank=4, **UNBUILT)
@rule("GlobalMaxPooling3D", "GlobalAveragePooling3D", rank=5, **UNBUILT)
def global_pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    return joined(layer, batch, [1] * len(space), channel) if layer["keepdims"] else (batch, channel)


@rule("AdaptiveMaxPooling1D", "AdaptiveAveragePooling1D", rank=3, **BUILT)
@rule("AdaptiveMaxPooling2D", "AdaptiveAveragePooling2D", rank=4, **BUILT)
@rule("AdaptiveMaxPooling3D", "AdaptiveAveragePooling3D", rank=5, **BUILT)
def adaptive_pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    made = layer["output_size"]
    return joined(layer, batch, made if isinstance(made, list) else [made] * len(space), channel)
