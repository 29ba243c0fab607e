"""Attention, and dense layers spelled as einsums."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import Axis, has_ids, merge
from kerassurgery_fn.frozen import Location
from kerassurgery_fn.rules.activations import across, activated
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.products import letters_of
from kerassurgery_fn.rules.registry import rule


@rule("MultiHeadAttention")
def multi_head_attention(
    layer: Layer, query: Tensor, value: Tensor, key: Tensor | None = None, *masks: Any, **options: Any
) -> Any:
    key = key or value
    h, k, v = layer.fresh("num_heads"), layer.fresh("key_dim"), layer.fresh("value_dim")
    made = projected_to(layer, query[-1])
    project(layer, "query", (query[-1], h, k), root=k)
    project(layer, "key", (key[-1], h, k))
    if layer.get("use_gate"):
        project(layer, "gate", (query[-1], h, v))
    project(layer, "value", (value[-1], h, v))
    project(layer, "output", (h, v, *made), inputs=2)
    over = [axis % len(query) for axis in layer.get("attention_axes") or range(1, len(query) - 1)]
    scores = scored(layer, query, value, key, over, h)
    mask(layer, [query[i] for i in over] + [value[i] for i in over], [*masks, *options.values()], options)
    return with_scores(options, (*query[:-1], *made), scores)


def projected_to(layer: Layer, default: Axis) -> list[Axis]:
    """The axes that attention projects its heads to: those of `output_shape`, or one like the query's channels."""
    shape = layer["output_shape"]
    if not shape:
        return [default]
    kinds = ["output_shape"] if len(shape) == 1 else [f"output_shape.{i}" for i in range(len(shape))]
    return [layer.fresh(kind, ("output_shape", i)) for i, kind in enumerate(kinds)]


@rule("GroupQueryAttention")
def group_query_attention(
    layer: Layer, query: Tensor, value: Tensor, key: Tensor | None = None, *masks: Any, **options: Any
) -> Any:
    key = key or value
    g, d = layer.fresh("num_key_value_heads"), layer.fresh("head_dim")
    h = query_heads(layer, g)
    layer.tie(query[-1], value[-1])  # Keras wants as many channels in both
    project(layer, "query", (query[-1], h, d), root=d)
    project(layer, "key", (key[-1], g, d))
    if layer.get("use_gate"):
        project(layer, "gate", (query[-1], h, d))
    project(layer, "value", (value[-1], g, d))
    project(layer, "output", (h, d, query[-1]), inputs=2)
    scores = scored(layer, query, value, key, [1], h)
    mask(layer, [query[1], value[1]], [*masks, *options.values()], options)
    return with_scores(options, query, scores)


def query_heads(layer: Layer, groups: Axis) -> Axis:
    """The query heads: as many in a row for each key and value head as share it."""
    each = layer["num_query_heads"] // layer["num_key_value_heads"]
    made = layer.made(
        "num_query_heads", lambda: merge([groups, layer.notes.ledger.fresh(each)]) if each > 1 else groups
    )
    layer.size("num_query_heads", made)
    return made


def project(layer: Layer, name: str, axes: Tensor, *, inputs: int = 1, root: Axis = None) -> None:
    """The kernel of one of attention's projections, and its bias over the axes that the projection makes."""
    layer.weight(f"{name}_kernel", axes, root, summed=range(inputs))
    if layer["use_bias"]:
        layer.weight(f"{name}_bias", axes[inputs:], root, summed=())


def scored(layer: Layer, query: Tensor, value: Tensor, key: Tensor, over: list[int], *heads: Axis) -> Tensor:
    """The axes of the scores: positions of the query against positions of key and value, which they sum over.

    Keras states the sizes of queries for those of values, so that sizes are left to what it states.
    """
    apart = [i for i in range(1, len(query) - 1) if i not in over]
    for i in range(1, len(query) - 1):
        layer.tie(value[i], key[i]) if has_ids(value[i]) or has_ids(key[i]) else None
        if i in over:
            across(layer, value[i])
        elif has_ids(query[i]) or has_ids(value[i]):
            layer.tie(query[i], value[i])
    axes = [query[i] for i in apart], heads, [query[i] for i in over], [value[i] for i in over]
    return (query[0], *(axis if has_ids(axis) else None for part in axes for axis in part))


def mask(layer: Layer, positions: list[Axis], masks: list[Any], options: dict[str, Any]) -> None:
    """Masks hold the positions that they are of; those that look at the order of positions hold all of them."""
    layer.pin(masks, "masks attention with it")
    if any(isinstance(one, tuple) for one in masks) or options.get("use_causal_mask") or layer.get("sliding_window"):
        layer.pin(positions, "masks its positions by their order")


def with_scores(options: dict[str, Any], output: Tensor, scores: Tensor) -> Any:
    return [output, scores] if options.get("return_attention_scores") else output


@rule("Attention")
def attention(layer: Layer, inputs: list[Tensor], *masks: Any, **options: Any) -> Any:
    for name, used in (("scale", layer["use_scale"]), ("concat_score_weight", layer["score_mode"] == "concat")):
        if used:
            layer.weight(name, ())
    return attended(layer, inputs, [*masks, *options.values()], options)


@rule("AdditiveAttention")
def additive_attention(layer: Layer, inputs: list[Tensor], *masks: Any, **options: Any) -> Any:
    if layer["use_scale"]:
        layer.weight("scale", (inputs[0][-1],))
    return attended(layer, inputs, [*masks, *options.values()], options)


def attended(layer: Layer, inputs: list[Tensor], masks: list[Any], options: dict[str, Any]) -> Any:
    """Values weighed by how well keys fit queries, whose channels are summed over."""
    query, value = inputs[:2]
    key = inputs[2] if len(inputs) > 2 else value
    layer.tie(query[-1], key[-1])
    scores = scored(layer, query, value, key, [len(query) - 2])
    mask(layer, [query[-2], value[-2]], masks, options)
    return with_scores(options, (*query[:-1], value[-1]), scores)


@rule("EinsumDense", last=itemgetter("activation"))
def einsum_dense(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    ins, kernel, out = letters_of(layer["equation"], [len(x), None])
    axes: dict[str, Axis] = dict(zip(ins, x, strict=True))
    for i, letter in enumerate(out):
        place = output_place(layer, i, len(out))
        if letter not in axes:
            axes[letter] = layer.fresh(letter, place)
        elif place:
            layer.size(place, axes[letter])
    summed = [i for i, letter in enumerate(kernel) if letter not in out]
    layer.weight("kernel", tuple(axes[letter] for letter in kernel), summed=summed)
    if layer["bias_axes"]:
        bias = [letter for letter in out if letter in layer["bias_axes"]]
        first = out.index(bias[0])
        layer.weight("bias", tuple(axes[letter] if letter in bias else 1 for letter in out[first:]), summed=())
    return activated(layer, tuple(axes[letter] for letter in out))


def output_place(layer: Layer, index: int, rank: int) -> Location | None:
    """Where `output_shape` counts an axis of the output, None where it does not.

    It leaves out the batch, and what an ellipsis stands for: on the left of the equation Keras counts from the end.
    """
    shape = layer["output_shape"]
    place = index - rank + len(shape) if "..." in layer["equation"].partition(",")[0][:3] else index - 1
    return ("output_shape", place) if 0 <= place < len(shape) and shape[place] is not None else None
