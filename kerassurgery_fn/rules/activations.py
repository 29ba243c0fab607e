"""Activations: layers of their own and the `activation` of other layers."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis, select, size
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.registry import RULES, rule

ELEMENTWISE = {
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "hard_silu", "hard_swish",
    "mish", "sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "tanh_shrink", "hard_shrink", "soft_shrink", "threshold",
    "softplus", "softsign", "squareplus", "log_sigmoid", "exponential", "sparse_plus", "sparse_sigmoid",
}  # fmt: skip
ACROSS = {"softmax", "log_softmax", "sparsemax"}


@rule("ReLU", "LeakyReLU", "ELU", "ops.ReLU", "ops.Mish")
def elementwise(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    return x


@rule("PReLU")
def prelu(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    shared = layer.get("shared_axes") or ()
    layer.weight("alpha", tuple(1 if i in shared else axis for i, axis in enumerate(x) if i), summed=())
    return x


@rule("Softmax", approximate="over channels")
def softmax(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    axes = layer["axis"]
    for axis in axes if isinstance(axes, list) else [axes]:
        across(layer, x[axis])
    return x


@rule("Activation")
def activation(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    return activated(layer, x)


def across(layer: Layer, axis: Axis) -> None:
    """The layer normalises over this axis."""
    layer.inexact(axis, "normalises over the channels")


def activated(layer: Layer, x: Tensor, field: str = "activation") -> Tensor:
    """A tensor after the activation that a field of the layer's config names."""
    name = layer.get(field)
    if isinstance(name, dict) and name["class_name"] != "function":
        return layer.inner(field)(x)
    if isinstance(name, dict):
        name = name["config"]
    if name is None or name in ELEMENTWISE:
        return x
    if name in ACROSS:
        across(layer, x[-1])
        return x
    if name == "glu":
        half = (size(x[-1]) or 0) // 2
        values, gates = select(x[-1], slice(half)), select(x[-1], slice(half, None))
        layer.tie(values, gates)
        return (*x[:-1], values)
    if ">" in name and name in RULES:
        made: Tensor = RULES[name](layer, x)
        return made
    key = name if ">" in name else f"package>{name}"
    layer.pin(
        x,
        f"applies {name}, which is not known to treat every channel alone; if it does, register it and say so: "
        f'kerassurgery_fn.rule("{key}")(lambda layer, x: x)',
    )
    return x
