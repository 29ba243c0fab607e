"""Pooling over windows and over all of space."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.rules.convolution import slid
from kerassurgery_fn.rules.layer import Layer, Tensor, joined, parts, plain
from kerassurgery_fn.rules.registry import rule


@rule("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    return joined(layer, batch, slid(layer, space, layer["pool_size"]), channel)


@rule("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D")
@rule("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
def global_pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    return joined(layer, batch, [1] * len(space), channel) if layer["keepdims"] else (batch, channel)


@rule("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D")
@rule("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D")
def adaptive_pooling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    plain(layer, space, "pools")
    made = layer["output_size"]
    return joined(layer, batch, made if isinstance(made, list) else [made] * len(space), channel)
