"""Attention layers, and EinsumDense.

Multi-head attention projects queries, keys and values to a grid of heads and places in a head, and projects the result
back. Its kinds of channels are the axes of that grid:

    query  (batch, steps, channels)  ->  query_kernel   (channels, num_heads, key_dim)
    value  (batch, steps, channels)  ->  value_kernel   (channels, num_heads, value_dim)
    heads  (num_heads, value_dim)    ->  output_kernel  (num_heads, value_dim, output channels)
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import Axis, has_ids, merge
from kerassurgery_fn.graph import Shape, leaves
from kerassurgery_fn.rules.activations import across, activated
from kerassurgery_fn.rules.config_values import listed
from kerassurgery_fn.rules.counted_positions import Grid
from kerassurgery_fn.rules.equations import letters_of
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.mask_rules import attention_masks, passed
from kerassurgery_fn.rules.product_macs import additive_attention_macs, attention_macs, einsum_dense_macs, macs_of_heads
from kerassurgery_fn.rules.registry import NoRule, rule
from kerassurgery_fn.rules.rule_fields import Config
from kerassurgery_fn.rules.weight_groups import in_projections
from kerassurgery_fn.values.frozen import Location

# Queries, values and keys are separate arguments, each with its own mask.
HEADS: dict[str, Any] = {
    "macs": macs_of_heads,
    "masks": passed,
    "arguments": ("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask"),
    "keywords": ("return_attention_scores", "use_causal_mask"),
    "built": ("query", "value", "key"),
}


def attended_axes(config: Mapping[str, Any], query: Tensor) -> dict[str, Any]:
    """The attention axes that Keras derives if the config names none: all axes between batch and channels."""
    return {"attention_axes": listed(config["attention_axes"] or list(range(1, len(query) - 1)))}


@rule(
    "MultiHeadAttention", equal_channels=True, derived_config=attended_axes,
    sublayers=in_projections("query_dense", "key_dense", "value_dense", "output_dense"), **HEADS,
)  # fmt: skip
def multi_head_attention(
    layer: Layer, query: Tensor, value: Tensor, key: Tensor | None = None, query_mask: Any = None,
    value_mask: Any = None, key_mask: Any = None, attention_mask: Any = None, return_attention_scores: bool = False,
    training: Any = None, use_causal_mask: bool = False,
) -> Any:  # fmt: skip
    key = key or value
    h, k, v = layer.fresh("num_heads"), layer.fresh("key_dim"), layer.fresh("value_dim")
    channels = projected_to(layer, query[-1])
    project(layer, "query", query, (query[-1], h, k), root=k)
    project(layer, "key", key, (key[-1], h, k))
    if layer.get("use_gate"):
        project(layer, "gate", query, (query[-1], h, v))
    project(layer, "value", value, (value[-1], h, v))
    project(layer, "output", query, (h, v, *channels), inputs=2)
    over = [axis % len(query) for axis in layer.get("attention_axes") or range(1, len(query) - 1)]
    scores = scored(layer, query, value, key, over, h)
    masks = [query_mask, value_mask, key_mask, attention_mask]
    masked(layer, [query[i] for i in over] + [value[i] for i in over], masks, use_causal_mask)
    output = (*query[:-1], *channels)
    return [output, scores] if return_attention_scores else output


def projected_to(layer: Layer, default: Axis) -> list[Axis]:
    """The axes to which the heads are projected: the axes of `output_shape`, or by default the query's channels."""
    shape = layer["output_shape"]
    if not shape:
        return [default]
    kinds = ["output_shape"] if len(shape) == 1 else [f"output_shape.{i}" for i in range(len(shape))]
    return [layer.fresh(kind, ("output_shape", i)) for i, kind in enumerate(kinds)]


@rule(
    "GroupQueryAttention",
    sublayers=in_projections("_query_dense", "_key_dense", "_value_dense", "_output_dense"), **HEADS,
)  # fmt: skip
def group_query_attention(
    layer: Layer, query: Tensor, value: Tensor, key: Tensor | None = None, query_mask: Any = None,
    value_mask: Any = None, key_mask: Any = None, attention_mask: Any = None, return_attention_scores: bool = False,
    training: Any = None, use_causal_mask: bool = False,
) -> Any:  # fmt: skip
    key = key or value
    g, d = layer.fresh("num_key_value_heads"), layer.fresh("head_dim")
    h = query_heads(layer, g)
    layer.tie(query[-1], value[-1])  # Keras requires equally many channels in both
    project(layer, "query", query, (query[-1], h, d), root=d)
    project(layer, "key", key, (key[-1], g, d))
    if layer.get("use_gate"):
        project(layer, "gate", query, (query[-1], h, d))
    project(layer, "value", value, (value[-1], g, d))
    project(layer, "output", query, (h, d, query[-1]), inputs=2)
    scores = scored(layer, query, value, key, [1], h)
    masked(layer, [query[1], value[1]], [query_mask, value_mask, key_mask, attention_mask], use_causal_mask)
    return [query, scores] if return_attention_scores else query


def query_heads(layer: Layer, groups: Axis) -> Axis:
    """The query heads. Equally many neighbours share each key and value head: 4 heads and 2 groups are 0 0 1 1."""
    each = layer["num_query_heads"] // layer["num_key_value_heads"]
    heads = layer.made(
        "num_query_heads", lambda: merge([groups, layer.findings.constraints.fresh(each)]) if each > 1 else groups
    )
    layer.size("num_query_heads", heads)
    return heads


def project(layer: Layer, name: str, x: Tensor, axes: Tensor, *, inputs: int = 1, root: Axis = None) -> None:
    """States the weights of one projection of attention.

    Args:
        layer: the attention layer.
        name: the prefix of its weights, such as "query".
        x: the tensor that is projected.
        axes: the axes of the kernel.
        inputs: the number of axes of the kernel that are summed over. The bias has the other axes.
        root: see `Layer.weight`.
    """
    layer.weight(f"{name}_kernel", axes, root, summed=range(inputs))
    if layer["use_bias"]:
        layer.weight(f"{name}_bias", axes[inputs:], root, summed=())
        layer.adds((*x[:-1], *axes[inputs:]), axes[inputs:], f"its {name}_bias")


def scored(layer: Layer, query: Tensor, value: Tensor, key: Tensor, over: list[int], *heads: Axis) -> Tensor:
    """The axes of the attention scores: positions of the query, and positions of the value, which are summed over.

    Axes without channels have no size here, because Keras records the sizes of the query as those of the value.
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


def masked(layer: Layer, positions: list[Axis], masks: Any, causal: bool) -> None:
    """Pins masks, and the positions of queries and values if a mask or the layer depends on their order."""
    layer.pin(masks, "masks attention with it")
    if any(isinstance(mask, tuple) for mask in leaves(masks)) or causal or layer.get("sliding_window"):
        layer.pin(positions, "masks its positions by their order")


WITHOUT_HEADS: dict[str, Any] = {
    "masks": attention_masks,
    "takes": "list",
    "arguments": ("inputs", "mask"),
    "keywords": ("return_attention_scores", "use_causal_mask"),
    "needs_floats": True,
}


@rule("Attention", macs=attention_macs, **WITHOUT_HEADS)
def attention(
    layer: Layer, inputs: list[Tensor], mask: Any = None, training: Any = False, return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:  # fmt: skip
    for name, used in (("scale", layer["use_scale"]), ("concat_score_weight", layer["score_mode"] == "concat")):
        if used:
            layer.weight(name, ())
    outputs = attended(layer, inputs, mask, use_causal_mask)
    return outputs if return_attention_scores else outputs[0]


@rule("AdditiveAttention", macs=additive_attention_macs, **WITHOUT_HEADS)
def additive_attention(
    layer: Layer, inputs: list[Tensor], mask: Any = None, training: Any = False, return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:  # fmt: skip
    if layer["use_scale"]:
        layer.weight("scale", (inputs[0][-1],))
    outputs = attended(layer, inputs, mask, use_causal_mask)
    return outputs if return_attention_scores else outputs[0]


def attended(layer: Layer, inputs: list[Tensor], mask: Any, causal: bool) -> list[Tensor]:
    """The output of attention without heads, and its scores. The scores sum over the channels of queries and keys."""
    query, value = inputs[:2]
    key = inputs[2] if len(inputs) > 2 else value
    layer.tie(query[-1], key[-1])
    scores = scored(layer, query, value, key, [len(query) - 2])
    masked(layer, [query[-2], value[-2]], mask, causal)
    return [(*query[:-1], value[-1]), scores]


def sizes_of_output(config: Config, old: Shape, new: Shape, grid: Grid) -> dict[str, Any]:
    ins, _, out = letters_of(config["equation"], [len(new), None])
    shape = listed(config["output_shape"])
    for i, letter in enumerate(out):
        place = output_place(config, i, len(out))
        if place and letter in ins:
            shape[int(place[1])] = new[ins.index(letter)]
    return {"output_shape": shape if isinstance(config["output_shape"], list) else shape[0]}


def stated_by_einsum(config: Config, shape: Shape) -> Shape:
    """The output shape as Keras records it: sizes that the config does not contain are None.

    >>> stated_by_einsum({"output_shape": [None, 8], "equation": "abc,cd->abd"}, (None, 5, 8))
    (None, None, 8)
    """
    counted = listed(config["output_shape"])
    first = 1 if config["equation"].partition(",")[0].endswith("...") else len(shape) - len(counted)
    open_axes = {first + i for i, n in enumerate(counted) if n is None}
    return tuple(None if i in open_axes else n for i, n in enumerate(shape))


@rule(
    "EinsumDense", last=itemgetter("activation"), equal_channels=True, macs=einsum_dense_macs, fixed_rank=True,
    stated_shape=stated_by_einsum, counts_positions=sizes_of_output,
)  # fmt: skip
def einsum_dense(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    ins, kernel, out = letters_of(layer["equation"], [len(inputs), None])
    if len(ins) != len(inputs):
        raise NoRule(f"has an equation for tensors of {len(ins)} axes, and reads a tensor of {len(inputs)} axes")
    axes: dict[str, Axis] = dict(zip(ins, inputs, strict=True))
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
        axes_of_bias = tuple(axes[letter] if letter in bias else 1 for letter in out[first:])
        layer.weight("bias", axes_of_bias, summed=())
        layer.adds(tuple(axes[letter] for letter in out), axes_of_bias, "its bias")
    return activated(layer, tuple(axes[letter] for letter in out))


def output_place(layer: Layer | Mapping[str, Any], index: int, rank: int) -> Location | None:
    """The place in `output_shape` of the size of an axis of the output; None if it has no place there.

    `output_shape` does not contain the batch size, nor the sizes of the axes of an ellipsis. If the equation starts
    with an ellipsis, Keras counts from the last axis.
    """
    shape = layer["output_shape"]
    place = index - rank + len(shape) if "..." in layer["equation"].partition(",")[0][:3] else index - 1
    return ("output_shape", place) if 0 <= place < len(shape) and shape[place] is not None else None
