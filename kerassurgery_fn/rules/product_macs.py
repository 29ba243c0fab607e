"""Counts the multiply-accumulates of attention, einsums, and operations that multiply tensors with each other."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from kerassurgery_fn.rules.equations import letters_of
from kerassurgery_fn.rules.macs import Shape, Use


def macs_of_heads(use: Use, query: Shape, value: Shape, key: Shape | None = None, *_: Any, **__: Any) -> int:
    """Each projection counts once for each position of its input; the scores and weighted sums of each query head are
    added."""
    read = {"query": query, "gate": query, "key": key or value, "value": value, "output": query}
    projections = sum(
        prod(shape) * prod(read[name.removesuffix("_kernel")][:-1])
        for name, shape in use.weights
        if name.endswith("_kernel")
    )
    axes = use.get("attention_axes") or range(1, len(query) - 1)
    attended = {axis % len(query) for axis in ([axes] if isinstance(axes, int) else axes)}
    batch = prod(n for axis, n in enumerate(query[:-1]) if axis not in attended)
    pairs = prod(query[axis] * value[axis] for axis in attended)
    heads, width = use.weight("query_kernel")[1:]
    return projections + batch * pairs * heads * (width + use.weight("value_kernel")[-1])


def attention_macs(use: Use, inputs: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Weighted sums for each pair of query and value, and scores if they are products of vectors."""
    return pairs_macs(inputs, use["score_mode"] == "dot")


def additive_attention_macs(use: Use, inputs: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Weighted sums for each pair of query and value, and scores if they are products with a trained vector."""
    return pairs_macs(inputs, use["use_scale"])


def pairs_macs(inputs: Sequence[Shape], scored: bool) -> int:
    query, value = inputs[:2]
    return prod(query[:-1]) * value[-2] * (value[-1] + query[-1] * scored)


def dot_product_attention_macs(use: Use, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return prod(query[:-1]) * key[1] * (query[-1] + value[-1])


def einsum_dense_macs(use: Use, inputs: Shape, *_: Any, **__: Any) -> int:
    """One multiplication for each combination of the letters' values. A quantized kernel can be packed, so its sizes
    are read from the input and the output; its LoRA applies both factors at each position."""
    ins, kernel, out = letters_of(use["equation"], [len(inputs), None])
    if any(name for name, _ in use.weights):
        return spelled([ins, kernel], [inputs, use.weights[0][1]])
    stated, rank = use["output_shape"], use.get("lora_rank") or 0
    sizes = {letter: n for letter, n in zip(out[-len(stated) :], stated, strict=True) if n} | dict(
        zip(ins, inputs, strict=True)
    )
    macs = prod(sizes.values())
    return macs + rank * (macs // sizes[kernel[-1]] + prod(sizes[letter] for letter in out))


def einsum_macs(use: Use, *operands: Shape, **_: Any) -> int:
    """The products of the operands from left to right, without a better order that a backend may choose."""
    return spelled(letters_of(use["subscripts"], list(map(len, operands)))[:-1], operands)


def spelled(words: Sequence[Sequence[str]], shapes: Sequence[Shape]) -> int:
    """One multiplication for each combination of the letters' values and each operand after the first.

    >>> spelled(["ij", "jk"], [(2, 3), (3, 5)])
    30
    """
    sizes: dict[str, int] = {}
    for word, shape in zip(words, shapes, strict=True):
        sizes |= {letter: max(n, sizes.get(letter, 1)) for letter, n in zip(word, shape, strict=True)}
    return prod(sizes.values()) * (len(words) - 1)


def product_macs(use: Use, x1: Shape, x2: Shape, *_: Any, **__: Any) -> int:
    """Each element of the output is a sum over the last axis of the first operand. A number as an operand only scales,
    which does not count."""
    scales = not (isinstance(x1, tuple) and isinstance(x2, tuple) and x1 and x2)
    return 0 if scales else prod(use.outputs[0]) * x1[-1]


def pairwise_macs(use: Use, x1: Shape, x2: Shape, *_: Any, **__: Any) -> int:
    return max(prod(x1), prod(use.outputs[0]))


def tensordot_macs(use: Use, x1: Shape, x2: Shape, *_: Any, **__: Any) -> int:
    axes = use["axes"]
    left = range(-axes, 0) if isinstance(axes, int) else axes[0]
    return prod(use.outputs[0]) * prod(x1[axis] for axis in ([left] if isinstance(left, int) else left))


def convolution_macs(use: Use, inputs: Shape, *kernels: Any, **_: Any) -> int:
    return elements_of(kernels) * use.positions(use.outputs[0])


def transposed_convolution_macs(use: Use, inputs: Shape, *kernels: Any, **_: Any) -> int:
    return elements_of(kernels) * use.positions(inputs)


def elements_of(kernels: Sequence[Any]) -> int:
    """The number of elements of the tensors among the further arguments of a call."""
    return sum(prod(kernel) for kernel in kernels if isinstance(kernel, tuple))
