"""Dense, embeddings and layers that do not move channels."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import select, size
from kerassurgery_fn.rules.activations import activated
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.macs import dense_macs, embedding_macs, reversible_embedding_macs
from kerassurgery_fn.rules.mask_rules import mask_of_steps, mask_of_zeros, passed
from kerassurgery_fn.rules.registry import pins, rule
from kerassurgery_fn.rules.rule_fields import Kernel
from kerassurgery_fn.rules.size_checks import check_noise, check_noise_rank, check_scale

pins("runs a Python function, which may do anything with channels", "Lambda", arguments=None, added={"mask": None})
pins(
    "runs a model of another framework, which the config does not describe",
    "FlaxLayer",
    "JaxLayer",
    "TorchModuleWrapper",
)
pins("runs a SavedModel, which the config does not describe", "TFSMLayer")
pins("is a base class, which does not define a computation", "Layer", "Wrapper")


@rule("InputLayer", equal_channels=True)
def input_layer(layer: Layer) -> Tensor:
    shape = tuple(layer["batch_shape"])
    axis = layer.findings.opened.get((layer.path, "channels"), 0)
    if not axis or shape[axis] is None:
        return shape
    channels = layer.fresh("channels", ("batch_shape", axis))
    layer.findings.constraints.pin(channels, layer.reason("is an input of the model"), input=True)
    return (*shape[:axis], channels, *shape[axis + 1 :])


@rule(
    "Dense", last=itemgetter("activation"), equal_channels=True, macs=dense_macs, deepens=True,
    folds=Kernel(slot=0, axes=(-1,)), masks=passed, least_rank=2,
)  # fmt: skip
def dense(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    o = layer.fresh("units")
    layer.weights(kernel="i>o", bias="o", i=inputs[-1], o=o)
    return activated(layer, (*inputs[:-1], o))


@rule(
    "Embedding", rows="input_dim", equal_channels=True, macs=embedding_macs, masks=mask_of_zeros,
    makes_mask=lambda config: bool(config.get("mask_zero")),
)  # fmt: skip
def embedding(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    o, v = layer.fresh("output_dim"), layer.rows("input_dim")
    if layer["mask_zero"]:
        layer.pin(select(v, slice(1)), "masks the first value")
    layer.weights(embeddings=">vo", v=v, o=o)
    return (*inputs, o)


def has_adapters_and_two_tables(config: Mapping[str, Any]) -> str:
    """Why Keras cannot build a ReversibleEmbedding, in words; empty if it can.

    Embedding.build enables LoRA, which locks the layer. After that, ReversibleEmbedding.build adds its second table,
    which raises an error in a locked layer.
    """
    if not config.get("lora_rank") or config.get("tie_weights") is not False:
        return ""
    return (
        "has LoRA weights and tie_weights=False, and Keras cannot build such a layer from its config; merge the LoRA "
        "weights into the embeddings first"
    )


@rule(
    "ReversibleEmbedding", rows="input_dim", macs=reversible_embedding_macs, keywords=("reverse",),
    unbuildable=has_adapters_and_two_tables,
)  # fmt: skip
def reversible_embedding(layer: Layer, inputs: Tensor, reverse: bool = False, **_: Any) -> Tensor:
    o, v = layer.fresh("output_dim"), layer.rows("input_dim")
    if layer["mask_zero"]:
        layer.pin(select(v, slice(1)), "masks the first value")
    layer.weights(embeddings="vo", v=v, o=o)
    if not layer["tie_weights"]:
        layer.weights(reverse_embeddings="ov", v=v, o=o)
    if not reverse:
        return (*inputs, o)
    layer.tie(inputs[-1], o)
    return (*inputs[:-1], v)


# Layers that do not change tensors in inference. Keras does not need to build them.
UNCHANGED: dict[str, Any] = {"equal_channels": True, "masks": passed, "built": False}
NOISE: dict[str, Any] = {**UNCHANGED, "added": {"training": False}, "needs_floats": True}


@rule("Identity", takes="either", dtype="input", **UNCHANGED)
@rule("ActivityRegularization", **UNCHANGED)
@rule("GaussianNoise", "GaussianDropout", **NOISE)
@rule("AlphaDropout", requires=(check_noise_rank,), **NOISE)
@rule("SpatialDropout1D", rank=3, states_dtype=True, **NOISE)
@rule("SpatialDropout2D", rank=4, states_dtype=True, **NOISE)
@rule("SpatialDropout3D", rank=5, states_dtype=True, **NOISE)
def unchanged(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return inputs


@rule("Dropout", requires=(check_noise,), **NOISE)
def dropout(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    for i, n in enumerate(layer.get("noise_shape") or ()):
        if n == size(inputs[i]) and n != 1:
            layer.size(("noise_shape", i), inputs[i])
    return inputs


@rule("Rescaling", equal_channels=True, masks=passed, requires=(check_scale,))
def rescaling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    for name in ("scale", "offset"):
        match layer[name]:
            case [*_]:
                layer.constant((name,), inputs)
            case {"config": {"value": [*_]}}:
                layer.constant((name, "config", "value"), inputs)
    return inputs


@rule(
    "Masking", approximate="where only the deleted channels distinguish a step from a masked step",
    masks=mask_of_steps, makes_mask=lambda config: True, built=False,
)  # fmt: skip
def masking(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    layer.inexact(inputs[-1], "masks a step in which all channels have one value")
    return inputs
