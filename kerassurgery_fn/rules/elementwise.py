"""Operations on each element of one tensor, or on the elements of several tensors."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import select, size
from kerassurgery_fn.rules.activations import across
from kerassurgery_fn.rules.constants import operand, stored
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.merging import broadcast
from kerassurgery_fn.rules.normalization import normalised_over
from kerassurgery_fn.rules.registry import rule

ALONE = (
    # arithmetic and rounding
    "Fabs", "Sign", "Signbit", "Square", "Sqrt", "Cbrt", "Ceil", "Floor", "Round", "Trunc", "NanToNum", "Cast",
    "SaturateCast", "ConvertToTensor", "Array",
    # transcendental functions
    "Exp", "Exp2", "Expm1", "Log", "Log10", "Log1p", "Log2", "Erfc", "Erfinv", "Sin", "Cos", "Tan", "Arcsin",
    "Arccos", "Arctan", "Sinh", "Cosh", "Tanh", "Arcsinh", "Arccosh", "Arctanh", "Sinc", "I0", "Deg2rad", "Rad2deg",
    # complex numbers, bits and tests
    "Real", "Imag", "Conj", "Conjugate", "Angle", "BitwiseInvert", "BitwiseNot", "LogicalNot", "Isfinite", "Isinf",
    "Isnan", "Isneginf", "Isposinf", "Isreal", "EmptyLike", "Clip",
    # activations
    "Relu", "Relu6", "LeakyRelu", "Threshold",
)  # fmt: skip

ALONE_OF_FLOATS = (
    "Rsqrt", "Reciprocal", "Erf", "Elu", "Celu", "Selu", "Gelu", "Silu", "Sigmoid", "LogSigmoid", "HardSigmoid",
    "HardSilu", "HardTanh", "HardShrink", "SoftShrink", "TanhShrink", "Softplus", "Softsign", "Squareplus",
    "SparsePlus", "SparseSigmoid",
)  # fmt: skip

TOGETHER = (
    "Divide", "TrueDivide", "DivideNoNan", "FloorDivide", "Mod", "Fmod", "Power",
    "Fmax", "Fmin", "Arctan2", "Hypot", "Logaddexp", "Logaddexp2", "Ldexp", "Nextafter",
    "Heaviside", "Gcd", "Lcm", "Greater", "GreaterEqual", "Less", "LessEqual", "Isclose",
    "LogicalAnd", "LogicalOr", "LogicalXor", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseLeftShift",
    "BitwiseRightShift", "LeftShift", "RightShift", "Polar",
)  # fmt: skip


@rule(*(f"ops.{name}" for name in ALONE), equal_channels=True)
@rule(*(f"ops.{name}" for name in ALONE_OF_FLOATS), equal_channels=True, needs_floats=True)
@rule("ops.Abs", "ops.Absolute", "ops.Negative", equal_channels=True, dtype="promoted")
@rule("ops.Copy", equal_channels=True, dtype="moved")
@rule("ops.OnesLike", "ops.ZerosLike", equal_channels=True, dtype="moved", values="ignored")
def alone(layer: Layer, x: Tensor, dtype: Any = None) -> Tensor:  # an argument of the call before Keras 3.11
    return broadcast(layer, [x, *stored(layer)])


@rule("ops.StopGradient", equal_channels=True, dtype="moved")
def stop_gradient(layer: Layer, variable: Tensor) -> Tensor:
    return variable


ELEMENTWISE: dict[str, Any] = {"equal_channels": True, "broadcasts": True}


@rule("ops.Equal", "ops.NotEqual", values="compared", **ELEMENTWISE)
@rule(*(f"ops.{name}" for name in TOGETHER), **ELEMENTWISE)
@rule("ops.Subtract", "ops.Multiply", "ops.Maximum", "ops.Minimum", dtype="promoted", **ELEMENTWISE)
@rule("ops.Where", dtype="selects", **ELEMENTWISE)
def together(layer: Layer, *operands: Any) -> Tensor:
    return broadcast(layer, [operand(layer, ("args", i), x) for i, x in enumerate(operands) if x is not None])


@rule("ops.Add", merges="sums", dtype="promoted", **ELEMENTWISE)
def add(layer: Layer, x1: Any, x2: Any) -> Tensor:
    terms = [operand(layer, ("args", i), x) for i, x in enumerate((x1, x2))]
    layer.adds(terms[0], terms[1], "its second operand")
    return broadcast(layer, terms)


@rule("ops.FullLike")
def full_like(layer: Layer, x: Tensor, fill_value: Any, dtype: Any = None) -> Tensor:
    return together(layer, x, fill_value)


@rule("ops.Select")
def select_(layer: Layer, condlist: list[Tensor], choicelist: list[Tensor], default: Any = 0) -> Tensor:
    return broadcast(layer, [*condlist, *choicelist, operand(layer, ("args", 2), default)])


@rule("ops.Digitize")
def digitize(layer: Layer, x: Tensor, bins: Any) -> Tensor:
    layer.pin(operand(layer, ("args", 1), bins), "looks values up in it")
    return x


@rule("ops.IsIn")
def is_in(layer: Layer, x1: Tensor, x2: Any) -> Tensor:
    return digitize(layer, x1, x2)


@rule("ops.Glu", needs_floats=True)
def glu(layer: Layer, x: Tensor) -> Tensor:
    axis = layer["axis"] % len(x)
    half = (size(x[axis]) or 0) // 2
    values, gates = select(x[axis], slice(half)), select(x[axis], slice(half, None))
    layer.tie(values, gates)
    return (*x[:axis], values, *x[axis + 1 :])


# --- over an axis


@rule("ops.Softmax", "ops.LogSoftmax", "ops.Sparsemax", approximate="over channels", needs_floats=True)
def over_an_axis(layer: Layer, x: Tensor) -> Tensor:
    axes = layer["axis"]
    for axis in range(len(x)) if axes is None else axes if isinstance(axes, list) else [axes]:
        across(layer, x[axis])
    return x


@rule("ops.Normalize", needs_floats=True)
def to_unit_norm(layer: Layer, x: Tensor) -> Tensor:
    """The operation is exact: a deleted channel adds nothing to a norm, like a channel that is zero."""
    return x


@rule("ops.LayerNorm", approximate="over channels")
def layer_norm(layer: Layer, x: Tensor, gamma: Any = None, beta: Any = None) -> Tensor:
    axes = layer["axis"] if isinstance(layer["axis"], list) else [layer["axis"]]
    normalised = normalised_over(layer, x, sorted(axis % len(x) for axis in axes))
    for i, vector in enumerate((gamma, beta)):
        scaled_by(layer, x, normalised, operand(layer, ("args", 1 + i), vector))
    return x


@rule("ops.RMSNorm", approximate="over channels")
def rms_norm(layer: Layer, x: Tensor, scale: Any = None) -> Tensor:
    normalised_over(layer, x, layer["axis"])
    return broadcast(layer, [x, operand(layer, ("kwargs", "scale"), scale)])


def scaled_by(layer: Layer, x: Tensor, normalised: Tensor, vector: Tensor) -> None:
    """Ties a vector of scales to the axes that are normalised, or to all axes if it has as many."""
    broadcast(layer, [x if len(vector) == len(x) else normalised, vector])


@rule("ops.BatchNorm")
def batch_norm(layer: Layer, x: Tensor, *vectors: Tensor | None, **named: Tensor | None) -> Tensor:
    for vector in [*vectors, *named.values()]:
        if vector is not None:
            layer.tie(x[layer["axis"]], vector[0])
    return x
