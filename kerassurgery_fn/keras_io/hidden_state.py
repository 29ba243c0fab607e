"""Finds layer state that the config does not contain.

The state is added to the config if Keras reads it from there. Otherwise, an error is raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any

import numpy as np

from kerassurgery_fn.errors import HiddenState
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.registry import rule_for

# --- state that is added to the config


def with_vocabulary(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a lookup layer with its adapted vocabulary; any other config unchanged.

    `adapt()` stores the vocabulary in the layer, and Keras saves it as an asset file, not in the config.
    """
    lookup = getattr(layer, "_lookup_layer", layer)
    if config.get("vocabulary", ()) is not None or not hasattr(lookup, "get_vocabulary"):
        return config
    tokens = np.array(lookup.get_vocabulary(include_special_tokens=False)).tolist()
    if not tokens:
        return config
    idf = getattr(lookup, "idf_weights", None)
    special_tokens = lookup.vocabulary_size() - len(tokens)  # padding and out-of-vocabulary tokens come first
    # Zeros for padding (pad_to_max_tokens) can follow.
    idf_of_tokens = None if idf is None else idf.numpy()[special_tokens : special_tokens + len(tokens)].tolist()
    return {**config, "vocabulary": tokens, "idf_weights": idf_of_tokens}


def with_policy(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a layer with its dtype policy, if the class only writes the dtype of the weights.

    SpatialDropout does so. Under mixed precision, weights are float32 and computation is float16: rebuilt from its own
    config, the layer would compute in float32.
    """
    if isinstance(inner := config.get("layer"), dict) and hasattr(layer, "layer"):
        config = {**config, "layer": {**inner, "config": with_policy(layer.layer, inner["config"])}}
    if not isinstance(config.get("dtype"), str) or hasattr(layer, "batch_shape"):
        return config
    policy = layer.dtype_policy
    if policy.compute_dtype == policy.variable_dtype:
        return config
    return {**config, "dtype": _policy_record(policy.name)}


def _policy_record(name: str) -> dict[str, Any]:
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}, "registered_name": None}


# --- state that raises an error


def refuse_hidden_state(path: str, layer: Any, record: Record) -> None:
    """Raises HiddenState if Keras could not rebuild a layer from its record and its weights."""
    for field, value in record["config"].items():
        if isinstance(value, (str, dict)) and isinstance(function := getattr(layer, field, None), FunctionType):
            refuse_function(path, field, value, function)
    sublayers = list(layer._flatten_layers())
    for sublayer in sublayers:
        refuse_float8(path, sublayer)
        refuse_negative_attention_axes(path, sublayer)
        refuse_asset_files(path, sublayer, record)
    refuse_unbuildable(path, record)
    refuse_adapters(path, layer, record, sublayers)


def refuse_function(path: str, field: str, value: Any, function: FunctionType) -> None:
    """Raises HiddenState for a user's function that Keras cannot find by the name in the config."""
    if isinstance(value, str) and not function.__module__.startswith("keras."):
        raise HiddenState(
            f"the {field} of layer {path!r} is the function {value!r} of {function.__module__!r}, but its config only "
            f"has the name {value!r}, which is the name of a function of Keras; register the function with "
            "keras.saving.register_keras_serializable, or rename it"
        )
    if isinstance(value, dict) and "class_name" not in value:
        raise HiddenState(
            f"the {field} of layer {path!r} is a lambda, which Keras writes in a form that it cannot read; define a "
            "function and register it with keras.saving.register_keras_serializable"
        )


def refuse_float8(path: str, sublayer: Any) -> None:
    """Raises HiddenState for a layer quantized to float8: `build` and `quantize` give it different weights."""
    if getattr(sublayer, "quantization_mode", None) == "float8":
        raise HiddenState(
            f"layer {path!r} is quantized to float8, and a layer built from its config has other weights; capture the "
            "model before quantize('float8')"
        )


def refuse_negative_attention_axes(path: str, sublayer: Any) -> None:
    """Raises HiddenState for negative attention axes. Keras before 3.12 writes them, but rebuilds other axes."""
    if any(axis < 0 for axis in getattr(sublayer, "_attention_axes", None) or ()):
        raise HiddenState(
            f"layer {path!r} ({type(sublayer).__name__}) attends over axes that are counted from the end, and Keras "
            "before 3.12 rebuilds it with other axes; count attention_axes from the front"
        )


def refuse_asset_files(path: str, sublayer: Any, record: Record) -> None:
    """Raises HiddenState for a layer that saves files in addition to its config and its weights."""
    if saves_files(sublayer) and not record["config"].get("vocabulary"):
        raise HiddenState(
            f"layer {path!r} ({type(sublayer).__name__}) saves files of its own (save_assets), which a snapshot does "
            "not contain; pass their content to its constructor, so that it becomes part of the config"
        )


def saves_files(layer: Any) -> bool:
    """Whether a layer saves any files. Layers of Keras have `save_assets` even if they have nothing to save."""
    if not hasattr(layer, "save_assets"):
        return False
    with TemporaryDirectory() as folder:
        layer.save_assets(folder)
        return any(Path(folder).iterdir())


def refuse_unbuildable(path: str, record: Record) -> None:
    """Raises HiddenState for a layer that Keras cannot build from the config that it writes."""
    unbuildable = rule_for(record).unbuildable
    if unbuildable and (reason := unbuildable(record["config"])):
        raise HiddenState(f"layer {path!r} ({record['class_name']}) {reason}")


def refuse_adapters(path: str, layer: Any, record: Record, sublayers: Sequence[Any]) -> None:
    """Raises HiddenState for LoRA or quantization of sublayers that the config of the layer does not mention."""
    for weights, attribute, field, remedy in (
        ("LoRA weights", "lora_enabled", "lora_rank", "merge them into the kernels first"),
        ("quantized weights", "quantization_mode", "mode", "capture the model before quantize()"),
    ):
        adapted = sum(bool(getattr(sublayer, attribute, None)) for sublayer in sublayers)
        if adapted and adapted > count_in_config(layer, record, field):
            raise HiddenState(
                f"layer {path!r} ({record['class_name']}) has {weights} in a sublayer, and its config does not mention "
                f"them, so Keras cannot rebuild the layer; {remedy}"
            )


def count_in_config(layer: Any, record: Record, field: str) -> int:
    """The number of layers that have LoRA (`lora_rank`) or are quantized (`mode`) according to a layer's config.

    Only `lora_rank` of Keras' own layers and `mode` of quantized dtype policies count, because a custom class or an
    operation can have a field of the same name with another meaning.
    """
    records = [inner for inner in records_in(record) if inner["config"].get(field)]
    if field == "mode":
        return sum(str(inner["class_name"]).endswith("DTypePolicy") for inner in records)
    sublayers = sum(str(inner.get("module")).startswith("keras") for inner in records if inner is not record)
    return sublayers + (bool(record["config"].get(field)) and hasattr(layer, "enable_lora"))


def records_in(tree: Any) -> Iterator[Record]:
    """A record and all records inside it, outermost first."""
    if isinstance(tree, dict) and "class_name" in tree and isinstance(tree.get("config"), dict):
        yield tree
    for item in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(item, (dict, list, tuple)):
            yield from records_in(item)
