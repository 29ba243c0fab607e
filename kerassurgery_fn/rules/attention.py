"""Attention, and dense layers spelled as einsums."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.channels import Axis, merge
from kerassurgery_fn.frozen import Location
from kerassurgery_fn.rules.activations import activated
from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor
from kerassurgery_fn.rules.products import letters_of
from kerassurgery_fn.rules.registry import rule


@rule("MultiHeadAttention")
def multi_head_attention(
    layer: Layer, query: Tensor, value: Tensor, key: Tensor | None = None, *masks: Any, **options: Any
) -> Any:
    h, k, v = layer.fresh("num_heads"), layer.fresh("key_dim"), layer.fresh("value_dim")
    shape = layer["output_shape"]
    if isinstance(shape, list) and len(shape) > 1:
        raise NoRule("projects its output to several axes")
    o = layer.fresh("output_shape", ("output_shape", 0)) if shape else query[-1]
    project(layer, "query", "ihk", i=query[-1], h=h, k=k, root=k)
    project(layer, "key", "ihk", i=(key or value)[-1], h=h, k=k)
    if layer.get("use_gate"):
        project(layer, "gate", "ihv", i=query[-1], h=h, v=v)
    project(layer, "value", "ihv", i=value[-1], h=h, v=v)
    project(layer, "output", "hvo", inputs=2, h=h, v=v, o=o)
    return with_scores(options, (*query[:-1], o), (query[0], h, *query[1:-1], *value[1:-1]))


@rule("GroupQueryAttention")
def group_query_attention(
    layer: Layer, query: Tensor, value: Tensor, key: Tensor | None = None, *masks: Any, **options: Any
) -> Any:
    g, d = layer.fresh("num_key_value_heads"), layer.fresh("head_dim")
    h = query_heads(layer, g)
    o = query[-1]
    project(layer, "query", "ihd", i=query[-1], h=h, d=d, root=d)
    project(layer, "key", "igd", i=(key or value)[-1], g=g, d=d)
    if layer.get("use_gate"):
        project(layer, "gate", "ihd", i=query[-1], h=h, d=d)
    project(layer, "value", "igd", i=value[-1], g=g, d=d)
    project(layer, "output", "hdo", inputs=2, h=h, d=d, o=o)
    return with_scores(options, (*query[:-1], o), (query[0], h, *query[1:-1], *value[1:-1]))


def query_heads(layer: Layer, groups: Axis) -> Axis:
    """The query heads: as many in a row for each key and value head as share it."""
    each = layer["num_query_heads"] // layer["num_key_value_heads"]
    made = layer.made(
        "num_query_heads", lambda: merge([groups, layer.notes.ledger.fresh(each)]) if each > 1 else groups
    )
    layer.size("num_query_heads", made)
    return made


def project(layer: Layer, name: str, word: str, *, inputs: int = 1, root: Axis = None, **letters: Axis) -> None:
    """The kernel of one of attention's projections, and its bias over the axes that the projection makes."""
    layer.weight(f"{name}_kernel", tuple(letters[c] for c in word), root)
    if layer["use_bias"]:
        layer.weight(f"{name}_bias", tuple(letters[c] for c in word[inputs:]), root)


def with_scores(options: dict[str, Any], output: Tensor, scores: Tensor) -> Any:
    return [output, scores] if options.get("return_attention_scores") else output


@rule("Attention")
def attention(layer: Layer, inputs: list[Tensor], *_: Any, **options: Any) -> Any:
    for name, used in (("scale", layer["use_scale"]), ("concat_score_weight", layer["score_mode"] == "concat")):
        if used:
            layer.weight(name, ())
    return attended(layer, inputs, options)


@rule("AdditiveAttention")
def additive_attention(layer: Layer, inputs: list[Tensor], *_: Any, **options: Any) -> Any:
    if layer["use_scale"]:
        layer.weight("scale", (inputs[0][-1],))
    return attended(layer, inputs, options)


def attended(layer: Layer, inputs: list[Tensor], options: dict[str, Any]) -> Any:
    """Values weighed by how well keys fit queries, whose channels are summed over."""
    query, value = inputs[:2]
    key = inputs[2] if len(inputs) > 2 else value
    layer.tie(query[-1], key[-1])
    return with_scores(options, (*query[:-1], value[-1]), (*query[:-1], value[1]))


@rule("EinsumDense")
def einsum_dense(layer: Layer, x: Tensor, **_: Any) -> Tensor:
    ins, kernel, out = letters_of(layer["equation"], [len(x), None])
    axes: dict[str, Axis] = dict(zip(ins, x, strict=True))
    for i, letter in enumerate(out):
        place = output_place(layer, i - len(out))
        if letter not in axes:
            axes[letter] = layer.fresh(letter, place)
        elif place:
            layer.size(place, axes[letter])
    layer.weight("kernel", tuple(axes[letter] for letter in kernel))
    if layer["bias_axes"]:
        bias = [letter for letter in out if letter in layer["bias_axes"]]
        first = out.index(bias[0])
        layer.weight("bias", tuple(axes[letter] if letter in bias else 1 for letter in out[first:]))
    return activated(layer, tuple(axes[letter] for letter in out))


def output_place(layer: Layer, index: int) -> Location | None:
    """Where `output_shape` counts an axis of the output, numbered from the end; None where it leaves it open."""
    shape = layer["output_shape"]
    if not isinstance(shape, list):
        return ("output_shape",) if index == -1 else None
    place = index + len(shape)
    return ("output_shape", place) if place >= 0 and shape[place] is not None else None
