"""What older releases of Keras write into a config, or read from it, in another way than Keras does today.

A snapshot has one form under all of them, so that nothing but `capture` and `rebuild` knows of it.
"""

from __future__ import annotations

from typing import Any

import keras

from kerassurgery_fn.graph import Record, is_model
from kerassurgery_fn.keras_io.sublayers import inside, members_of

STRUCTURES = {"input_layers": "_inputs_struct", "output_layers": "_outputs_struct"}


def complete(layer: keras.Operation, record: dict[str, Any]) -> None:
    """Writes into the record of a layer or operation what its class leaves out."""
    if "name" not in record and "name" not in record["config"]:
        record["name"] = layer.name  # a class without a get_config()
    if isinstance(layer, keras.layers.InputLayer):
        record["config"].setdefault("optional", layer.optional)  # Keras before 3.11


def with_structure(model: keras.Model, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a Functional model in which a single tensor is told from a list of one.

    Keras before 3.11 writes a list of one for both.
    """
    single = {field for field, own in STRUCTURES.items() if isinstance(getattr(model, own, None), keras.KerasTensor)}
    config = {
        field: value[0] if field in single and not isinstance(value[0], str) else value
        for field, value in record["config"].items()
    }
    return {**record, "config": config}


def keep_structures(model: keras.Model, record: Record) -> None:
    """Gives rebuilt models their lists of one tensor, which Keras before 3.11 takes for single tensors."""
    for field, own in STRUCTURES.items():
        tree = getattr(model, own, None)
        if isinstance(tree, keras.KerasTensor) and len(record["config"][field]) == 1:
            object.__setattr__(model, own, [tree])  # as it is: Keras would put a list that it tracks in its place
    for layer, one in zip(members_of(model), record["config"]["layers"], strict=True):
        inner, nested = inside(layer, one)
        if is_model(nested):
            keep_structures(inner, nested)
