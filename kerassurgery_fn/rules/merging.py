"""Layers that merge several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kerassurgery_fn.channels import Axis, has_ids, join, size, sizes_of
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.macs import dot_macs
from kerassurgery_fn.rules.mask_rules import joined_masks, merged_masks
from kerassurgery_fn.rules.registry import rule
from kerassurgery_fn.rules.size_checks import check_dot, check_joined

# All merging layers take a list of tensors, and the masks of these tensors.
MERGING: dict[str, Any] = {"takes": "list", "keywords": ("mask",)}


@rule("Subtract", "Multiply", "Maximum", "Minimum", equal_channels=True, masks=merged_masks, **MERGING)
def elementwise(layer: Layer, inputs: list[Tensor], **_: Any) -> Tensor:
    return merged(layer, aligned(inputs))


@rule("Add", merges="sums", equal_channels=True, masks=merged_masks, **MERGING)
@rule("Average", equal_channels=True, masks=merged_masks, **MERGING)
def summed(layer: Layer, inputs: list[Tensor], **_: Any) -> Tensor:
    terms = aligned(inputs)
    total = terms[0]
    for term in terms[1:]:
        layer.adds(total, term, "an operand")
        total = tuple([b if n == 1 else a for n, a, b in zip(sizes_of(total), total, term, strict=True)])
    return merged(layer, terms)


def merged(layer: Layer, terms: Sequence[Tensor]) -> Tensor:
    """The output of a merge layer for tensors of one rank.

    Keras treats the size of an axis as unknown if it is unknown in any term. Operations use the known size instead.
    """
    sizes = zip(*map(sizes_of, terms), strict=True)
    pairs = zip(broadcast(layer, terms), sizes, strict=True)
    return tuple([None if None in of_terms else axis for axis, of_terms in pairs])


def aligned(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one rank: the highest. New axes of one position are inserted after the batch axis."""
    rank = max(map(len, inputs))
    return [(x[0], *[1] * (rank - len(x)), *x[1:]) for x in inputs]


@rule("Concatenate", merges="joins", equal_channels=True, masks=joined_masks, requires=(check_joined,), **MERGING)
def concatenate(layer: Layer, inputs: list[Tensor], **_: Any) -> Tensor:
    return concatenated(layer, inputs, layer["axis"])


@rule("Dot", approximate="if it normalises", macs=dot_macs, requires=(check_dot,), **MERGING)
def dot(layer: Layer, inputs: list[Tensor], **_: Any) -> Tensor:
    x, y = inputs
    axes = layer["axes"]
    i, j = axes if isinstance(axes, list) else (axes, axes)
    i, j = i % len(x), j % len(y)
    layer.tie(x[i], y[j])
    if layer["normalize"]:
        layer.inexact(x[i], "normalises over the channels")
    rest = (*without(x, i), *without(y, j)[1:])
    return rest if len(rest) > 1 else (*rest, 1)


def without(x: Tensor, *axes: int) -> Tensor:
    """The tensor without some axes."""
    return tuple(axis for i, axis in enumerate(x) if i not in axes)


def concatenated(layer: Layer, inputs: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors joined along one axis; all other axes are tied."""
    if len({len(x) for x in inputs}) > 1:
        raise NoRule("joins tensors of different ranks")
    axis %= len(inputs[0])
    joined = join([x[axis] for x in inputs])
    if joined is None:
        layer.pin([x[axis] for x in inputs], "joins it with an axis of unknown size")
    others = agreeing(layer, [without(x, axis) for x in inputs])
    return (*others[:axis], joined, *others[axis:])


def agreeing(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """The axes of tensors of the same shape, which are tied. Keras only uses the sizes of the first tensor."""
    shared = [tied(layer, axes) for axes in zip(*inputs, strict=True)]
    return tuple(None if size(first) is None else axis for first, axis in zip(inputs[0], shared, strict=True))


def broadcast(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """The result of combining tensors element by element, aligned at their last axes.

    Aligned axes are tied. An axis of size 1 is broadcast, so it is not tied to a longer axis.
    """
    rank = max(map(len, inputs))
    of_rank = [(1,) * (rank - len(x)) + tuple(x) for x in inputs]
    return tuple([meet(layer, axes) for axes in zip(*of_rank, strict=True)])


def meet(layer: Layer, axes: Sequence[Axis]) -> Axis:
    """One axis of a broadcast result: the aligned axes with several positions are tied, or all if there are none."""
    if len(set(map(id, axes))) == 1:
        return axes[0]
    sizes = sizes_of(axes)
    wide = [axis for axis, n in zip(axes, sizes, strict=True) if n != 1]
    for axis, n in zip(axes, sizes, strict=True) if wide else ():
        if n == 1:
            layer.narrow(axis)
    return tied(layer, wide or axes)


def tied(layer: Layer, axes: Sequence[Axis]) -> Axis:
    """One axis for several axes of the same size, which are tied to each other."""
    known = [axis for axis in axes if axis is not None]
    first = next(filter(has_ids, known), known[0] if known else None)
    for axis in axes:
        layer.tie(first, axis)
    return first
