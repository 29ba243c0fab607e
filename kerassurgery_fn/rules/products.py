"""Operations that multiply and sum: matrix products, einsums, convolutions of two tensors."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis, has_ids, merge, size
from kerassurgery_fn.rules.activations import across
from kerassurgery_fn.rules.convolution import slid, spread
from kerassurgery_fn.rules.counts import InverseRoot
from kerassurgery_fn.rules.data_formats import joined, parts
from kerassurgery_fn.rules.equations import letters_of
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.merging import broadcast, meet, without
from kerassurgery_fn.rules.product_macs import (
    convolution_macs,
    dot_product_attention_macs,
    einsum_macs,
    pairwise_macs,
    product_macs,
    tensordot_macs,
    transposed_convolution_macs,
)  # fmt: skip
from kerassurgery_fn.rules.registry import rule


@rule("ops.Einsum", macs=einsum_macs)
def einsum(layer: Layer, *operands: Tensor) -> Tensor:
    if any(not isinstance(x, tuple) for x in operands):
        raise NoRule("multiplies by something that is not a tensor")
    *words, out = letters_of(layer["subscripts"], [len(x) for x in operands])
    met: dict[str, list[Axis]] = {}
    for word, x in zip(words, operands, strict=True):
        for letter, axis in zip(word, x, strict=True):
            met.setdefault(letter, []).append(axis)
    axes = {letter: meet(layer, aligned) for letter, aligned in met.items()}
    return tuple(axes[letter] for letter in out)


@rule("ops.Matmul", macs=product_macs)
def matmul(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if not (isinstance(x1, tuple) and isinstance(x2, tuple)):
        raise NoRule("multiplies by something that is not a tensor")
    row, column = x1 if len(x1) > 1 else (1, *x1), x2 if len(x2) > 1 else (*x2, 1)
    layer.tie(row[-1], column[-2])
    product = (*broadcast(layer, [row[:-2], column[:-2]]), row[-2], column[-1])
    product = without(product, len(product) - 1) if len(x2) == 1 else product
    return without(product, len(product) - 2 + (len(x2) == 1)) if len(x1) == 1 else product


@rule("ops.Dot", "ops.Inner", macs=product_macs)
def dot(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if not (isinstance(x1, tuple) and isinstance(x2, tuple) and x1 and x2):
        raise NoRule("multiplies by something that is not a tensor")
    axis = len(x2) - 1 if len(x2) == 1 or layer.record["class_name"] == "Inner" else len(x2) - 2
    layer.tie(x1[-1], x2[axis])
    return (*x1[:-1], *without(x2, axis))


@rule("ops.Tensordot", macs=tensordot_macs)
def tensordot(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    axes = layer["axes"]
    if isinstance(axes, int):
        axes = [list(range(len(x1) - axes, len(x1))), list(range(axes))]
    left, right = ([n] if isinstance(n, int) else n for n in axes)
    pairs = [(i % len(x1), j % len(x2)) for i, j in zip(left, right, strict=True)]
    for i, j in pairs:
        layer.tie(x1[i], x2[j])
    return (*without(x1, *(i for i, _ in pairs)), *without(x2, *(j for _, j in pairs)))


@rule("ops.Outer", macs=pairwise_macs)
def outer(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if len(x1) != 1 or len(x2) != 1:
        raise NoRule("flattens its operands")
    return (*x1, *x2)


@rule("ops.Vdot", macs=pairwise_macs)
def vdot(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if len(x1) != len(x2):
        raise NoRule("flattens tensors of different ranks")
    for a, b in zip(x1, x2, strict=True):
        layer.tie(a, b)
    return ()


@rule("ops.CDist")
def distances(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    layer.tie(x[-1], y[-1])
    return (*broadcast(layer, [x[:-2], y[:-2]]), x[-2], y[-2])


@rule("ops.Trace")
def trace(layer: Layer, x: Tensor) -> Tensor:
    return diagonal(layer, x)[:-1]


@rule("ops.Diagonal", dtype="moved")
def diagonal(layer: Layer, x: Tensor) -> Tensor:
    i, j = layer["axis1"] % len(x), layer["axis2"] % len(x)
    rows, columns, offset = size(x[i]), size(x[j]), layer["offset"]
    rest = without(x, i, j)
    if offset == 0 and rows == columns:
        layer.tie(x[i], x[j])
        return (*rest, x[i] if has_ids(x[i]) else x[j])
    layer.pin((x[i], x[j]), "reads a diagonal of it")
    if rows is None or columns is None:
        return (*rest, None)
    return (*rest, max(0, min(rows, columns, columns - offset if offset > 0 else rows + offset)))


@rule("ops.DotProductAttention", macs=dot_product_attention_macs)
def dot_product_attention(
    layer: Layer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
    flash_attention: Any = None,  # before Keras 3.11, these two are arguments of the call
    attn_logits_soft_cap: Any = None,
) -> Tensor:
    layer.tie(query[-1], key[-1])
    layer.tie(query[-1], value[-1])  # Keras assumes that the output has the shape of the query
    layer.tie(key[-2], value[-2])
    many, few = size(query[-2]) or 0, size(key[-2]) or 1
    if many == few:
        layer.tie(query[-2], key[-2])
    else:
        layer.tie(layer.grid(query[-2], [few, many // few])[0], key[-2])
        layer.pin(key[-2], "repeats heads, which Keras only does if there are two or more")
    for scores in (bias, mask):
        if isinstance(scores, tuple):
            broadcast(layer, [(query[0], query[-2], query[1], key[1]), scores])
    across(layer, key[1])
    if scale is None:
        layer.argues(("kwargs", "scale"), InverseRoot(query[-1]))
    elif isinstance(scale, tuple):
        layer.pin(scale, "scales scores by it")
    return query


@rule("ops.Conv", macs=convolution_macs, needs_floats=True)
def conv(layer: Layer, inputs: Tensor, kernel: Tensor) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    if size(channel) != size(kernel[-2]):
        raise NoRule("computes a grouped convolution")
    layer.tie(channel, kernel[-2])
    return joined(layer, batch, slid(layer, space, windows=windows(layer, kernel)), kernel[-1])


@rule("ops.ConvTranspose", macs=transposed_convolution_macs, needs_floats=True)
def transposed(layer: Layer, inputs: Tensor, kernel: Tensor) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    layer.tie(channel, kernel[-1])
    return joined(layer, batch, spread(layer, space, windows=windows(layer, kernel)), kernel[-2])


@rule("ops.DepthwiseConv", macs=convolution_macs, needs_floats=True)
def depthwise(layer: Layer, inputs: Tensor, kernel: Tensor) -> Tensor:
    batch, space, channel = parts(layer, inputs)
    layer.tie(channel, kernel[-2])
    return joined(layer, batch, slid(layer, space, windows=windows(layer, kernel)), merge([channel, kernel[-1]]))


@rule("ops.SeparableConv", macs=convolution_macs, needs_floats=True)
def separable(layer: Layer, inputs: Tensor, depthwise_kernel: Tensor, pointwise_kernel: Tensor) -> Tensor:
    batch, space, filtered = parts(layer, depthwise(layer, inputs, depthwise_kernel))
    layer.tie(filtered, pointwise_kernel[-2])
    return joined(layer, batch, space, pointwise_kernel[-1])


def windows(layer: Layer, kernel: Tensor) -> list[int]:
    """The spatial sizes of a kernel that is a tensor. Its spatial axes are pinned."""
    layer.pin(kernel[:-2], "slides it over space")
    return [size(axis) or 0 for axis in kernel[:-2]]
