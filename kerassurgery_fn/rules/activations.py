"""Activations: activation layers, and the field `activation` of other layers."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import Axis, select, size
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.macs import no_macs
from kerassurgery_fn.rules.mask_rules import passed
from kerassurgery_fn.rules.registry import RULES, key_of, rule, rule_for

ELEMENTWISE = {
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "hard_silu", "hard_swish",
    "mish", "sigmoid", "hard_sigmoid", "tanh", "hard_tanh", "tanh_shrink", "hard_shrink", "soft_shrink", "threshold",
    "softplus", "softsign", "squareplus", "log_sigmoid", "exponential", "sparse_plus", "sparse_sigmoid",
}  # fmt: skip
ACROSS = {"softmax", "log_softmax", "sparsemax"}
IDEMPOTENT = {"linear", "relu", "relu6", "hard_tanh"}  # activations f with f(f(x)) = f(x)
OF_INTEGERS = {"linear", "relu", "relu6", "leaky_relu", "tanh", "exponential"}  # TensorFlow also computes on integers
# Operations are named like the activations: ops.LogSoftmax is log_softmax.
OPERATIONS = {name.replace("_", ""): name for name in (ELEMENTWISE | ACROSS | {"glu"}) - {"linear"}}


def relu_name(config: Mapping[str, Any]) -> str:
    """The name of the activation that a ReLU with these options computes.

    >>> relu_name({"max_value": 6}), relu_name({"negative_slope": 0.1}), relu_name({"max_value": 2.0})
    ('relu6', 'leaky_relu', 'relu up to 2.0')
    """
    if config.get("negative_slope") or config.get("threshold"):
        return "leaky_relu"
    highest = config.get("max_value")
    return {None: "relu", 6: "relu6"}.get(highest, f"relu up to {highest}")


# Keras does not need to build these layers. They pass on the mask of their input.
ALONE: dict[str, Any] = {"equal_channels": True, "masks": passed, "built": False}


@rule("ReLU", last=relu_name, **ALONE)
@rule("LeakyReLU", last=lambda config: "leaky_relu", **ALONE)
@rule("ELU", last=lambda config: "elu", needs_floats=True, **ALONE)
def elementwise(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return inputs


@rule("ops.ReLU", last=relu_name)
@rule("ops.Mish")
def elementwise_operation(layer: Layer, x: Tensor) -> Tensor:
    return x


def rank_of_shared_axes(config: Mapping[str, Any]) -> int:
    """The smallest rank of a tensor that has all the axes in the `shared_axes` of a PReLU."""
    return 1 + max(listed(config.get("shared_axes") or 0))


@rule(
    "PReLU", last=lambda config: "prelu", equal_channels=True, needs_floats=True,
    macs=no_macs, masks=passed, least_rank=rank_of_shared_axes, fixed_rank=True,
)  # fmt: skip
def prelu(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    shared = layer.get("shared_axes") or ()
    layer.weight("alpha", tuple(1 if i in shared else axis for i, axis in enumerate(inputs) if i), summed=())
    return inputs


@rule(
    "Softmax", approximate="over channels", last=lambda config: "softmax", masks=passed, needs_floats=True,
    arguments=("inputs", "mask"), added={"mask": None}, built=False,
)  # fmt: skip
def softmax(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    axes = layer["axis"]
    for axis in axes if isinstance(axes, list) else [axes]:
        across(layer, inputs[axis])
    return inputs


def is_of_floats(config: Mapping[str, Any]) -> bool:
    return config.get("activation") not in OF_INTEGERS


@rule("Activation", last=itemgetter("activation"), needs_floats=is_of_floats, **ALONE)
def activation(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return activated(layer, inputs)


def applied_last(record: Record) -> str | None:
    """The name of the activation that a layer or operation applies last to all of its output.

    The name is `linear` if the layer applies none, and None if it is not known. It is not always the config field
    `activation`: an LSTM, for example, does not apply its activation last.

    >>> dense = {"module": "keras.layers", "class_name": "Dense", "config": {"activation": "relu"}}
    >>> applied_last(dense), applied_last({"module": "keras.layers", "class_name": "TimeDistributed", "config": {
    ...     "layer": dense}}), applied_last({"module": "mine", "class_name": "Block", "config": {"activation": "relu"}})
    ('relu', 'relu', None)
    """
    key, last = key_of(record), rule_for(record).last
    if last is None:
        return OPERATIONS.get(key.removeprefix("ops.").lower()) if key.startswith("ops.") else None
    activation = last(record["config"])
    if not isinstance(activation, dict):
        return activation if activation is None else str(activation)
    return str(activation["config"]) if activation["class_name"] == "function" else applied_last(activation)


def across(layer: Layer, axis: Axis) -> None:
    """States that the layer normalises over this axis."""
    layer.inexact(axis, "normalises over the channels")


def activated(layer: Layer, x: Tensor, field: str = "activation") -> Tensor:
    """The axes of a tensor after the activation in a field of the layer's config."""
    name = layer.get(field)
    if isinstance(name, dict) and name["class_name"] != "function":
        return layer.inner(field)(x)
    if isinstance(name, dict):
        name = name["config"]
    if name is None or name in ELEMENTWISE or name in layer.measured.get("elementwise", ()):
        return x
    if name in ACROSS:
        across(layer, x[-1])
        return x
    if name == "glu":
        half = (size(x[-1]) or 0) // 2
        values, gates = select(x[-1], slice(half)), select(x[-1], slice(half, None))
        layer.tie(values, gates)
        return (*x[:-1], values)
    if ">" in name and name in RULES and (channels := RULES[name].channels):
        output: Tensor = channels(layer, x)
        return output
    key = name if ">" in name else f"package>{name}"
    layer.pin(
        x,
        f"applies {name}, which is not known to treat every channel alone; if it does, register it by "
        f'kerassurgery_fn.rule("{key}")(lambda layer, x: x)',
    )
    return x
