"""Operations that treat every element alone, or combine tensors element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerassurgery_fn.rules.activations import across, elementwise
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.merging import broadcast
from kerassurgery_fn.rules.normalization import normalised_over
from kerassurgery_fn.rules.registry import rule

ALONE = (
    # arithmetic and rounding
    "Abs", "Absolute", "Fabs", "Negative", "Sign", "Signbit", "Square", "Sqrt", "Cbrt", "Rsqrt", "Reciprocal", "Ceil",
    "Floor", "Round", "Trunc", "NanToNum", "Copy", "Cast", "SaturateCast", "StopGradient", "ConvertToTensor", "Array",
    # transcendental functions
    "Exp", "Exp2", "Expm1", "Log", "Log10", "Log1p", "Log2", "Erf", "Erfc", "Erfinv", "Sin", "Cos", "Tan", "Arcsin",
    "Arccos", "Arctan", "Sinh", "Cosh", "Tanh", "Arcsinh", "Arccosh", "Arctanh", "Sinc", "I0", "Deg2rad", "Rad2deg",
    # complex numbers, bits and tests
    "Real", "Imag", "Conj", "Conjugate", "Angle", "BitwiseInvert", "BitwiseNot", "LogicalNot", "Isfinite", "Isinf",
    "Isnan", "Isneginf", "Isposinf", "Isreal", "OnesLike", "ZerosLike", "EmptyLike",
    # activations
    "Relu", "Relu6", "LeakyRelu", "Elu", "Celu", "Selu", "Gelu", "Silu", "Sigmoid", "LogSigmoid", "HardSigmoid",
    "HardSilu", "HardTanh", "HardShrink", "SoftShrink", "TanhShrink", "Threshold", "Softplus", "Softsign", "Squareplus",
    "SparsePlus", "SparseSigmoid",
)  # fmt: skip

TOGETHER = (
    "Add", "Subtract", "Multiply", "Divide", "TrueDivide", "DivideNoNan", "FloorDivide", "Mod", "Fmod", "Power",
    "Maximum", "Minimum", "Fmax", "Fmin", "Arctan2", "Hypot", "Logaddexp", "Logaddexp2", "Ldexp", "Nextafter",
    "Heaviside", "Gcd", "Lcm", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Isclose",
    "LogicalAnd", "LogicalOr", "LogicalXor", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseLeftShift",
    "BitwiseRightShift", "LeftShift", "RightShift", "Where",
)  # fmt: skip

rule(*(f"ops.{name}" for name in ALONE))(elementwise)


@rule(*(f"ops.{name}" for name in TOGETHER))
def together(layer: Layer, *operands: Any) -> Tensor:
    return broadcast(layer, [operand(x) for x in operands if x is not None])


@rule("ops.Clip")
def clip(layer: Layer, x: Tensor, *_: Any) -> Tensor:
    return broadcast(layer, [x, *(operand(layer[name]) for name in ("x_min", "x_max") if layer[name] is not None)])


def operand(value: Any) -> Tensor:
    """The axes of an operand that may be a number or a nested list of numbers, neither of which can be cut."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, dict):
        raise NoRule("combines it with something that is no tensor")
    return tuple(np.shape(value))


@rule("ops.Softmax", "ops.LogSoftmax", "ops.Sparsemax", "ops.Normalize")
def over_an_axis(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    axes = layer.get("axis", -1)
    for axis in range(len(x)) if axes is None else axes if isinstance(axes, list) else [axes]:
        across(layer, x[axis])
    return x


@rule("ops.LayerNorm", "ops.RMSNorm")
def norm(layer: Layer, x: Tensor, *vectors: Any, **named: Any) -> Tensor:
    axes = normalised_over(layer, x, layer["axis"])
    for vector in [*vectors, *named.values()]:
        if isinstance(vector, tuple):
            for kept, own in zip(axes[len(axes) - len(vector) :], vector, strict=True):
                layer.tie(kept, own)
    return x


@rule("ops.BatchNorm")
def batch_norm(layer: Layer, x: Tensor, *vectors: Any, **named: Any) -> Tensor:
    for vector in [*vectors, *named.values()]:
        if isinstance(vector, tuple):
            layer.tie(x[layer["axis"]], vector[0])
    return x
