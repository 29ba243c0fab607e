"""Vocabularies of lookup layers: an asset file in a `.keras` file, a field of the config in a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerassurgery_fn.archive.layer_groups import LayerGroup
from kerassurgery_fn.channels.axes import bounded
from kerassurgery_fn.errors import BadFile
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.rule_fields import Vocabulary

Config = Mapping[str, Any]


def has_vocabulary(layer: Record) -> bool:
    return rule_for(layer).vocabulary is not None


def vocabulary_of(layer: Record) -> Vocabulary:
    """What is known about the vocabulary of a lookup layer."""
    vocabulary = rule_for(layer).vocabulary
    assert vocabulary is not None
    return vocabulary


def lookup_groups(layer: LayerGroup) -> list[str]:
    """The groups that have the table of a lookup layer: TextVectorization and the StringLookup inside both have it."""
    inner = vocabulary_of(layer.record).inner
    return [layer.group, f"{layer.group}/{inner}"] if inner else [layer.group]


def special_tokens(layer: Record) -> int:
    """The number of tokens that stand before those of the vocabulary: padding and out-of-vocabulary tokens.

    >>> layer = {"module": "keras.layers", "class_name": "StringLookup", "config": {"output_mode": "int"}}
    >>> special_tokens({**layer, "config": {"output_mode": "int", "mask_token": None, "num_oov_indices": 2}})
    2
    """
    config, pads_with = layer["config"], vocabulary_of(layer).pads_with
    mask = config.get("mask_token") if pads_with is None else pads_with
    return config.get("num_oov_indices", 1) + (mask is not None and config.get("output_mode") == "int")


def with_vocabulary(layer: Record, text: str, idf_weights: np.ndarray | None) -> Config:
    """The config of a lookup layer with the vocabulary of its asset file.

    Raises:
        BadFile: the vocabulary of an IntegerLookup has something else than integers.
    """
    config, special = layer["config"], special_tokens(layer)
    lines = text.splitlines()
    while lines and not lines[-1]:
        lines.pop()
    tokens: list[Any] = lines[special:]
    if not tokens:
        return config
    if vocabulary_of(layer).of_integers:
        try:
            tokens = [int(token) for token in tokens]
        except ValueError as error:
            raise BadFile(f"the vocabulary of layer {config.get('name')!r} has something else: {error}") from None
    # Zeros for padding may follow.
    idf = None if idf_weights is None else idf_weights[special : special + len(tokens)].tolist()
    return {**config, "vocabulary": tokens, "idf_weights": idf}


def saved_idf_weights(layer: Record) -> np.ndarray | None:
    """The inverse document frequencies as a file has them, None if the layer has none.

    Special tokens get the average, and positions without a token zero.

    Raises:
        BadValue: there are more positions than any model has.
    """
    config = layer["config"]
    weights = config.get("idf_weights")
    if config.get("output_mode") != "tf_idf" or not weights:
        return None
    padding = (config.get("max_tokens") or 0) - special_tokens(layer) - len(weights)
    front = np.full(special_tokens(layer), np.average(weights), np.float32)
    back = np.zeros(bounded(max(padding, 0)) if config.get("pad_to_max_tokens") else 0, np.float32)
    return np.concatenate([front, np.asarray(weights, np.float32), back])
