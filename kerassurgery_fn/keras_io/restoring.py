"""What Keras forgets of a model's layers when it reads their config, given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from kerassurgery_fn.graph import TRAINED, Record, is_model, name_of
from kerassurgery_fn.keras_io.older_keras import keep_structures
from kerassurgery_fn.keras_io.sublayers import inside, layers_of, members_of
from kerassurgery_fn.rules.layer import STATE
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.frozen import thaw


def restore(model: keras.Model, record: Record) -> None:
    """Gives a model that Keras has made of a record what Keras has forgotten of it."""
    name_operations(model, record)
    keep_frozen(model, record)
    keep_structures(model, record)
    for _, layer, own in layers_of(model, record, ""):
        scale_adapters(layer, own)
        train(layer, own)


def keep_frozen(model: keras.Model, record: Record) -> None:
    """Keeps Sequential models frozen that were, and their precision: Keras forgets both when it reads their config."""
    if isinstance(model, keras.Sequential):
        model._trainable = record["config"].get("trainable", True)
        if policy := record["config"].get("dtype"):
            model.dtype_policy = keras.dtype_policies.get(thaw(policy))
    for layer, one in zip(members_of(model), record["config"]["layers"], strict=True):
        inner, own = inside(layer, one)
        if is_model(own):
            keep_frozen(inner, own)


def name_operations(model: keras.Model, record: Record) -> None:
    """Gives layers and operations whose class writes no name into its config the name that they had."""
    for operation, one in zip(members_of(model), record["config"]["layers"], strict=True):
        inner, own = inside(operation, one)
        if is_model(own):
            name_operations(inner, own)
        elif "name" not in one["config"] and type(operation).__name__ == one["class_name"]:
            operation.name = name_of(one)


def scale_adapters(layer: keras.layers.Layer, record: Record) -> None:
    """Scales LoRA as the config says: some layers of Keras build themselves with `lora_alpha` equal to the rank."""
    alphas = {config.get("name"): config["lora_alpha"] for config in configs(record) if config.get("lora_alpha")}
    for one in layer._flatten_layers():
        if getattr(one, "lora_enabled", False) and one.name in alphas:
            one.lora_alpha = alphas[one.name]


def train(layer: keras.layers.Layer, record: Record) -> None:
    """Freezes the weights of a layer that training is not to change.

    Keras sets the flag of a frozen layer, but not those of the weights that layers inside it make when they are built,
    and training goes by the flags of weights. The flags of the layers are as the config says, and stay so.
    """
    if (trained := record.get(TRAINED)) is not None:
        for index, weight in enumerate(layer.weights):
            weight.trainable = index in trained
        return
    for one in layer._flatten_layers():
        for weight in () if one.trainable else one.weights:
            weight.trainable = False


def trained_weights(layer: keras.layers.Layer, record: Record) -> list[int] | None:
    """The indices of the weights of a layer that training changes; None where `train` can tell from the config."""
    trainable = record["config"].get("trainable", True)
    frozen = {config.get("name") for config in configs(record) if not config.get("trainable", True)}
    usual: set[int] = set()
    for one in layer._flatten_layers():
        usual |= {id(weight) for weight in one._trainable_variables} - _adapted(one)
    for one in layer._flatten_layers():
        if one is not layer and one.name in frozen:
            usual -= {id(weight) for weight in one.weights}
    trained = [index for index, weight in enumerate(layer.weights) if weight.trainable]
    expected = [index for index, weight in enumerate(layer.weights) if trainable and id(weight) in usual]
    return None if trained == expected and not is_trained_state(layer, record) else trained


def is_trained_state(layer: keras.layers.Layer, record: Record) -> bool:
    """Whether a class that is not one of Keras trains a weight with the name of a state of Keras, such as `mean`."""
    return ">" in key_of(record) and any(weight.trainable and weight.name in STATE for weight in layer.weights)


def _adapted(layer: keras.layers.Layer) -> set[int]:
    """The kernel to which LoRA adds, and which it freezes."""
    if not getattr(layer, "lora_enabled", False):
        return set()
    return {id(getattr(layer, name, None)) for name in ("_kernel", "_embeddings")}


def configs(tree: Any) -> Iterator[dict[str, Any]]:
    """The configs of a record and of all records in it.

    >>> list(configs({"config": {"name": "a", "layer": {"config": {"name": "b"}}}}))
    [{'name': 'a', 'layer': {'config': {'name': 'b'}}}, {'name': 'b'}]
    """
    if isinstance(tree, dict):
        if isinstance(tree.get("config"), dict):
            yield tree["config"]
        for item in tree.values():
            yield from configs(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from configs(item)
