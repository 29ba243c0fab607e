"""Restores layer state that Keras loses when it revives a model from its config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from kerassurgery_fn.graph import MEASURED, TRAINED, Record, is_model, name_of
from kerassurgery_fn.keras_io.older_keras import restore_tensor_lists
from kerassurgery_fn.keras_io.sublayers import layers_of, members_of, unwrap
from kerassurgery_fn.rules.layer import STATE
from kerassurgery_fn.rules.measured import EXPERIMENTS
from kerassurgery_fn.rules.registry import class_key
from kerassurgery_fn.values.frozen import thaw

NOTE = "_kerassurgery_measured"  # the attribute of a layer for the results of measurements


def restore(model: keras.Model, record: Record) -> None:
    """Restores state from the record in a model that Keras has revived from this record."""
    restore_names(model, record)  # comes first, because layers_of finds layers by their names
    restore_sequential(model, record)
    restore_tensor_lists(model, record)
    for _, layer, layer_record in layers_of(model, record, ""):
        restore_lora_alpha(layer, layer_record)
        restore_trainable(layer, layer_record)
        restore_measured(layer, layer_record)


def restore_sequential(model: keras.Model, record: Record) -> None:
    """Restores `trainable` and the dtype policy of Sequential models: Sequential.from_config ignores both."""
    if isinstance(model, keras.Sequential):
        # The setter of `trainable` would set the flag of every layer, too.
        model._trainable = record["config"].get("trainable", True)
        if policy := record["config"].get("dtype"):
            model.dtype_policy = keras.dtype_policies.get(thaw(policy))
    for layer, layer_record in zip(members_of(model), record["config"]["layers"], strict=True):
        inner, inner_record = unwrap(layer, layer_record)
        if is_model(inner_record):
            restore_sequential(inner, inner_record)


def restore_names(model: keras.Model, record: Record) -> None:
    """Restores the names of layers and operations whose config has no name: Keras revives them with new names."""
    for operation, layer_record in zip(members_of(model), record["config"]["layers"], strict=True):
        inner, inner_record = unwrap(operation, layer_record)
        if is_model(inner_record):
            restore_names(inner, inner_record)
        elif "name" not in layer_record["config"] and type(operation).__name__ == layer_record["class_name"]:
            operation.name = name_of(layer_record)


def restore_lora_alpha(layer: keras.layers.Layer, record: Record) -> None:
    """Restores `lora_alpha`: some layers of Keras call `enable_lora(rank)` in `build`, which sets it to the rank."""
    with_lora = [sublayer for sublayer in layer._flatten_layers() if getattr(sublayer, "lora_enabled", False)]
    if not with_lora:
        return
    alphas = {config.get("name"): config["lora_alpha"] for config in configs(record) if config.get("lora_alpha")}
    for sublayer in with_lora:
        if sublayer.name in alphas:
            sublayer.lora_alpha = alphas[sublayer.name]


def restore_trainable(layer: keras.layers.Layer, record: Record) -> None:
    """Restores the `trainable` flags of a layer's weights. The flags of layers are restored by Keras.

    Keras freezes a layer when it is constructed. Sublayers that are created later, in `build`, get trainable weights,
    and training reads the flags of weights only.
    """
    if (trained := record.get(TRAINED)) is not None:
        for index, weight in enumerate(layer.weights):
            weight.trainable = index in trained
        return
    # No list in the record: the weights of every frozen layer, at any depth, are frozen.
    for sublayer in layer._flatten_layers():
        for weight in () if sublayer.trainable else sublayer.weights:
            weight.trainable = False


def restore_measured(layer: keras.layers.Layer, record: Record) -> None:
    """Stores the results of measurements on a layer, so that the next capture has them, too."""
    if (measured := record.get(MEASURED)) is not None and measured.get("as") in EXPERIMENTS:
        vars(layer)[NOTE] = thaw(measured)


def trained_weights(layer: keras.layers.Layer, record: Record) -> list[int] | None:
    """The indices of the weights of a layer that training changes; None if the config implies them.

    `capture` only writes them into the record if they are not None, so records of ordinary layers are as Keras writes
    them.
    """
    is_trainable = record["config"].get("trainable", True)
    implied = _trainable_by_config(layer, record) if is_trainable else set()
    trained = [index for index, weight in enumerate(layer.weights) if weight.trainable]
    expected = [index for index, weight in enumerate(layer.weights) if id(weight) in implied]
    return None if trained == expected else trained


def _trainable_by_config(layer: keras.layers.Layer, record: Record) -> set[int]:
    """The ids (`id(weight)`) of the weights that are trainable in a layer freshly built from its config."""
    weights: set[int] = set()
    for sublayer in layer._flatten_layers():
        weights |= {id(weight) for weight in sublayer._trainable_variables} - _frozen_by_lora(sublayer)
    inner_layers = list(layer._flatten_layers(include_self=False))
    if not inner_layers:
        return weights
    # If the config of a sublayer has trainable=False, `restore_trainable` freezes its weights.
    frozen_names = {config.get("name") for config in configs(record) if not config.get("trainable", True)}
    for sublayer in inner_layers:
        if sublayer.name in frozen_names:
            weights -= {id(weight) for weight in sublayer.weights}
    return weights


def state_weights(layer: keras.layers.Layer, record: Record) -> list[int] | None:
    """The indices of the weights of a custom layer that training never changes; None if the list is not needed.

    Without the list, the library assumes that a weight is state if its name is that of a state in Keras, such as
    `mean`, or, if it does not know the names, if its elements are integers. The list is needed if this would be wrong.
    """
    if ">" not in class_key(record):  # registered names are "package>Class"
        return None
    trainable = {id(weight) for sublayer in layer._flatten_layers() for weight in sublayer._trainable_variables}
    state = [index for index, weight in enumerate(layer.weights) if id(weight) not in trainable]
    named = [index for index, weight in enumerate(layer.weights) if weight.name in STATE]
    integers = [index for index, weight in enumerate(layer.weights) if "float" not in weight.dtype]
    return None if state == named == integers else state


def _frozen_by_lora(layer: keras.layers.Layer) -> set[int]:
    """The id of the kernel or embedding matrix that LoRA freezes."""
    if not getattr(layer, "lora_enabled", False):
        return set()
    return {id(getattr(layer, name, None)) for name in ("_kernel", "_embeddings")}


def configs(tree: Any) -> Iterator[dict[str, Any]]:
    """The config of a record and the configs of all records inside it.

    >>> list(configs({"config": {"name": "a", "layer": {"config": {"name": "b"}}}}))
    [{'name': 'a', 'layer': {'config': {'name': 'b'}}}, {'name': 'b'}]
    """
    if isinstance(tree, dict) and isinstance(tree.get("config"), dict):
        yield tree["config"]
    for item in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(item, (dict, list)):
            yield from configs(item)
