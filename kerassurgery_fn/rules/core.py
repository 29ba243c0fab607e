"""Dense, embeddings and layers that leave every channel where it is."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from kerassurgery_fn.channels import size
from kerassurgery_fn.rules.activations import activated
from kerassurgery_fn.rules.layer import Layer, Tensor
from kerassurgery_fn.rules.registry import pins, rule

pins("runs a Python function, which may do anything with channels", "Lambda")
pins("runs a model of another framework, whose insides no config tells", "FlaxLayer", "JaxLayer", "TorchModuleWrapper")
pins("runs a SavedModel, whose insides no config tells", "TFSMLayer")
pins("is a base class of layers, and says nothing of what they do", "Layer", "Wrapper")


@rule("InputLayer")
def input_layer(layer: Layer) -> Tensor:
    return tuple(layer["batch_shape"])


@rule("Dense", last=itemgetter("activation"))
def dense(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    o = layer.fresh("units")
    layer.weights(kernel="i>o", bias="o", i=inputs[-1], o=o)
    return activated(layer, (*inputs[:-1], o))


@rule("Embedding")
def embedding(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    o = layer.fresh("output_dim")
    layer.weights(embeddings=">vo", v=layer["input_dim"], o=o)
    return (*inputs, o)


@rule("ReversibleEmbedding")
def reversible_embedding(layer: Layer, inputs: Tensor, reverse: bool = False, **_: Any) -> Tensor:
    v, o = layer["input_dim"], layer.fresh("output_dim")
    layer.weights(embeddings="vo", v=v, o=o)
    if not layer["tie_weights"]:
        layer.weights(reverse_embeddings="ov", v=v, o=o)
    if not reverse:
        return (*inputs, o)
    layer.tie(inputs[-1], o)
    return (*inputs[:-1], v)


@rule("Identity", "ActivityRegularization", "GaussianNoise", "GaussianDropout", "AlphaDropout")
@rule("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
def unchanged(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    return inputs


@rule("Dropout")
def dropout(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    for i, n in enumerate(layer.get("noise_shape") or ()):
        if n == size(inputs[i]) and n != 1:
            layer.size(("noise_shape", i), inputs[i])
    return inputs


@rule("Rescaling")
def rescaling(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    if any(isinstance(layer[name], (list, dict)) for name in ("scale", "offset")):
        layer.pin(inputs[-1], "scales it by constants of its config")
    return inputs


@rule("Masking", approximate="where channels that go would have told a masked step from another")
def masking(layer: Layer, inputs: Tensor, **_: Any) -> Tensor:
    layer.inexact(inputs[-1], "masks a step in which all channels have one value")
    return inputs
