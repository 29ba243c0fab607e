"""What a layer knows and its config does not tell: written into the record where Keras reads it, refused elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any

import numpy as np

from kerassurgery_fn.errors import HiddenState
from kerassurgery_fn.graph import Record


def with_vocabulary(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a lookup layer with the vocabulary that it has adapted to; any other config as it is."""
    lookup = getattr(layer, "_lookup_layer", layer)
    if config.get("vocabulary", ()) is not None or not hasattr(lookup, "get_vocabulary"):
        return config
    tokens = np.array(lookup.get_vocabulary(include_special_tokens=False)).tolist()
    if not tokens:
        return config
    weights = getattr(lookup, "idf_weights", None)
    special = lookup.vocabulary_size() - len(tokens)
    return {
        **config,
        "vocabulary": tokens,
        "idf_weights": None if weights is None else weights.numpy()[special:].tolist(),
    }


def with_policy(layer: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a layer whose class writes a dtype in place of its policy (SpatialDropout), with the policy.

    A mixed policy keeps weights in another dtype than it computes in, and Keras would compute in that of the weights.
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


def refuse_hidden(path: str, layer: Any, record: Record) -> None:
    """Raises HiddenState where Keras could not rebuild a layer from its record and its weights."""
    inner = layer._flatten_layers()
    for field, value in record["config"].items():
        if isinstance(function := getattr(layer, field, None), FunctionType):
            refuse_unsaved(path, field, value, function)
    for one in inner:
        if getattr(one, "quantization_mode", None) == "float8":
            raise HiddenState(
                f"layer {path!r} is quantized to float8, and Keras builds such a layer in another way than it "
                "quantizes one; capture the model before quantize('float8')"
            )
        if any(axis < 0 for axis in getattr(one, "_attention_axes", None) or ()):
            raise HiddenState(
                f"layer {path!r} ({type(one).__name__}) attends over axes that are counted from the end, and Keras "
                "before 3.12 takes other axes for them; count attention_axes from the front"
            )
        if keeps_files(one) and not record["config"].get("vocabulary"):
            raise HiddenState(
                f"layer {path!r} ({type(one).__name__}) keeps files of its own (save_assets), which are neither config "
                "nor weights; give it what they hold as arguments, so that its config tells it"
            )
    refuse_unbuildable(path, record)
    for what, hidden, field, way in (
        ("LoRA weights", "lora_enabled", "lora_rank", "merge them into the kernels first"),
        ("quantized weights", "quantization_mode", "mode", "capture the model before quantize()"),
    ):
        found = sum(bool(getattr(one, hidden, None)) for one in inner)
        if found > told(layer, record, field):
            raise HiddenState(
                f"layer {path!r} ({record['class_name']}) has {what} inside, of which its config tells nothing, so "
                f"that Keras itself could not rebuild it; {way}"
            )


def refuse_unbuildable(path: str, record: Record) -> None:
    """Raises HiddenState for a layer that Keras itself cannot build from its config.

    Embedding adds LoRA when it is built and allows no weights from then on, but a ReversibleEmbedding whose weights are
    not tied makes its second matrix after that.
    """
    config = record["config"]
    if config.get("lora_rank") and config.get("tie_weights") is False and record["class_name"] == "ReversibleEmbedding":
        raise HiddenState(
            f"layer {path!r} (ReversibleEmbedding) has LoRA weights and tie_weights=False, and Keras itself cannot "
            "build such a layer from its config; merge the LoRA weights into the embeddings first"
        )


def refuse_unsaved(path: str, field: str, written: Any, function: FunctionType) -> None:
    """Raises HiddenState for somebody's function of which Keras writes what it will not read as that function."""
    if isinstance(written, str) and not function.__module__.startswith("keras."):
        raise HiddenState(
            f"the {field} of layer {path!r} is a function {written!r} of {function.__module__!r}, and its config says "
            f"no more than {written!r}, which Keras takes for its own; register it with "
            "keras.saving.register_keras_serializable, or give it another name"
        )
    if isinstance(written, dict) and "class_name" not in written:
        raise HiddenState(
            f"the {field} of layer {path!r} is a lambda, which Keras writes in a form that it cannot read; make it a "
            "function and register that with keras.saving.register_keras_serializable"
        )


def keeps_files(layer: Any) -> bool:
    """Whether a layer saves anything besides its config and its weights."""
    if not hasattr(layer, "save_assets"):
        return False
    with TemporaryDirectory() as folder:
        layer.save_assets(folder)
        return any(Path(folder).iterdir())


def told(layer: Any, record: Record, field: str) -> int:
    """How many layers have LoRA or are quantized by the config of a layer.

    Keras reads `lora_rank` of its own layers and `mode` of quantized policies. In the config of other classes, and of
    operations, fields of these names mean something else.
    """
    records = [one for one in records_in(record) if one["config"].get(field)]
    if field == "mode":
        return sum(str(one["class_name"]).endswith("DTypePolicy") for one in records)
    inner = sum(str(one.get("module")).startswith("keras") for one in records if one is not record)
    return inner + (bool(record["config"].get(field)) and hasattr(layer, "enable_lora"))


def records_in(tree: Any) -> Iterator[Record]:
    """All records that a record holds, the record itself first."""
    if isinstance(tree, dict):
        if "class_name" in tree and isinstance(tree.get("config"), dict):
            yield tree
        for item in tree.values():
            yield from records_in(item)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from records_in(item)
