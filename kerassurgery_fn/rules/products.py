"""Operations that multiply and sum: matrix products, einsums, convolutions on tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerassurgery_fn.channels import Axis, size
from kerassurgery_fn.rules.convolution import slid, spread
from kerassurgery_fn.rules.counts import InverseRoot
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor, joined, parts
from kerassurgery_fn.rules.merging import broadcast, meet, without
from kerassurgery_fn.rules.registry import rule


def letters_of(equation: str, ranks: Sequence[int | None]) -> list[list[str]]:
    """The letters of an einsum, operand by operand and then the output. An ellipsis becomes letters of its own, as many
    as the operand's rank asks for; an operand whose rank is None has none.

    >>> letters_of("...x,xy->...y", [3, None])
    [['...1', '...0', 'x'], ['x', 'y'], ['...1', '...0', 'y']]
    >>> letters_of("ij,jk", [2, 2])
    [['i', 'j'], ['j', 'k'], ['i', 'k']]
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    words = left.split(",")
    if not arrow:
        once = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    spans = [
        0 if rank is None else rank - len(word.replace("...", "")) for word, rank in zip(words, ranks, strict=True)
    ]
    return [_spelled(word, span) for word, span in zip([*words, right], [*spans, max(spans)], strict=True)]


def _spelled(word: str, span: int) -> list[str]:
    before, dots, after = word.partition("...")
    return [*before, *(f"...{i}" for i in range(span - 1, -1, -1) if dots), *after]


@rule("ops.Einsum")
def einsum(layer: Layer, *operands: Tensor) -> Tensor:
    if any(not isinstance(x, tuple) for x in operands):
        raise NoRule("multiplies by something that is no tensor")
    *words, out = letters_of(layer["subscripts"], [len(x) for x in operands])
    met: dict[str, list[Axis]] = {}
    for word, x in zip(words, operands, strict=True):
        for letter, axis in zip(word, x, strict=True):
            met.setdefault(letter, []).append(axis)
    axes = {letter: meet(layer, found) for letter, found in met.items()}
    return tuple(axes[letter] for letter in out)


@rule("ops.Matmul")
def matmul(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if not (isinstance(x1, tuple) and isinstance(x2, tuple)):
        raise NoRule("multiplies by something that is no tensor")
    row, column = x1 if len(x1) > 1 else (1, *x1), x2 if len(x2) > 1 else (*x2, 1)
    layer.tie(row[-1], column[-2])
    made = (*broadcast(layer, [row[:-2], column[:-2]]), row[-2], column[-1])
    made = without(made, len(made) - 1) if len(x2) == 1 else made
    return without(made, len(made) - 2 + (len(x2) == 1)) if len(x1) == 1 else made


@rule("ops.Dot", "ops.Inner")
def dot(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if not (isinstance(x1, tuple) and isinstance(x2, tuple) and x1 and x2):
        raise NoRule("multiplies by something that is no tensor")
    axis = len(x2) - 1 if len(x2) == 1 or layer.record["class_name"] == "Inner" else len(x2) - 2
    layer.tie(x1[-1], x2[axis])
    return (*x1[:-1], *without(x2, axis))


@rule("ops.Tensordot")
def tensordot(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    axes = layer["axes"]
    if isinstance(axes, int):
        axes = [list(range(len(x1) - axes, len(x1))), list(range(axes))]
    left, right = ([n] if isinstance(n, int) else n for n in axes)
    pairs = [(i % len(x1), j % len(x2)) for i, j in zip(left, right, strict=True)]
    for i, j in pairs:
        layer.tie(x1[i], x2[j])
    return (*without(x1, *(i for i, _ in pairs)), *without(x2, *(j for _, j in pairs)))


@rule("ops.Outer")
def outer(layer: Layer, x1: Tensor, x2: Tensor) -> Tensor:
    if len(x1) != 1 or len(x2) != 1:
        raise NoRule("flattens its operands")
    return (*x1, *x2)


@rule("ops.DotProductAttention")
def dot_product_attention(layer: Layer, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    layer.tie(query[-1], key[-1])
    layer.tie(key[-2], value[-2])
    if size(key[-2]) == size(query[-2]):
        layer.tie(query[-2], key[-2])
    else:
        layer.pin((query[-2], key[-2]), "attends from fewer heads to many")
    for name in ("bias", "mask"):
        if isinstance(options.get(name), tuple):
            layer.pin(options[name], "masks attention with it")
    if options.get("scale") is None:
        layer.argues(("kwargs", "scale"), InverseRoot(query[-1]))
    return (*query[:-1], value[-1])


@rule("ops.Conv")
def conv(layer: Layer, x: Tensor, kernel: Tensor) -> Tensor:
    batch, space, channel = parts(layer, x)
    if size(channel) != size(kernel[-2]):
        raise NoRule("convolves in groups")
    layer.tie(channel, kernel[-2])
    return joined(layer, batch, slid(layer, space, windows=windows(layer, kernel)), kernel[-1])


@rule("ops.ConvTranspose")
def transposed(layer: Layer, x: Tensor, kernel: Tensor) -> Tensor:
    batch, space, channel = parts(layer, x)
    layer.tie(channel, kernel[-1])
    return joined(layer, batch, spread(layer, space, windows=windows(layer, kernel)), kernel[-2])


@rule("ops.DepthwiseConv")
def depthwise(layer: Layer, x: Tensor, kernel: Tensor) -> Tensor:
    batch, space, channel = parts(layer, x)
    layer.tie(channel, kernel[-2])
    if size(kernel[-1]) != 1:
        raise NoRule("multiplies channels by a kernel that is a tensor")
    return joined(layer, batch, slid(layer, space, windows=windows(layer, kernel)), channel)


@rule("ops.SeparableConv")
def separable(layer: Layer, x: Tensor, kernel: Tensor, pointwise: Tensor) -> Tensor:
    made = depthwise(layer, x, kernel)
    layer.tie(parts(layer, made)[2], pointwise[-2])
    batch, space, _ = parts(layer, made)
    return joined(layer, batch, space, pointwise[-1])


def windows(layer: Layer, kernel: Tensor) -> list[int]:
    """The size of a kernel in space, none of which can be cut."""
    layer.pin(kernel[:-2], "slides it over space")
    return [size(axis) or 0 for axis in kernel[:-2]]
