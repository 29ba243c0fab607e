"""Normalisations."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.registry import rule


@rule("BatchNormalization")
def batch_normalization(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    layer.weights(gamma="c", beta="c", moving_mean="c", moving_variance="c", c=x[layer["axis"]])
    return x


@rule("Normalization")
def normalization(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    axes = layer["axis"] if isinstance(layer["axis"], list) else [layer["axis"]]
    kept = tuple(x[axis] for axis in sorted(a % len(x) for a in axes if a is not None))
    if layer["mean"] is None:
        for name in ("mean", "variance"):
            layer.weight(name, kept)
        layer.weight("count", ())
    else:
        layer.pin(kept, "has its mean and variance in its config")
    return x
