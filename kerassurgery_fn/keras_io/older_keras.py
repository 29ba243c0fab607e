"""Converts configs that older releases of Keras write or read differently.

`capture` and `rebuild` convert them to and from the form of the current release. The rest of the library only sees this
form.
"""

from __future__ import annotations

from typing import Any

import keras

from kerassurgery_fn.graph import Record, is_model
from kerassurgery_fn.keras_io.sublayers import members_of, unwrap

# Config field -> the attribute of a Functional model with the same structure of tensors.
STRUCTURES = {"input_layers": "_inputs_struct", "output_layers": "_outputs_struct"}


def add_missing_fields(operation: keras.Operation, record: dict[str, Any]) -> None:
    """Adds to the record of a layer or operation the fields that its class does not write."""
    if "name" not in record and "name" not in record["config"]:
        record["name"] = operation.name  # for a layer without get_config(), Keras only writes constructor arguments
    if isinstance(operation, keras.layers.InputLayer):
        record["config"].setdefault("optional", operation.optional)  # Keras before 3.11 does not write it


def with_single_tensors(model: keras.Model, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a Functional model in which a single input or output is not in a list.

    Keras before 3.11 writes a list for `Model(x, y)` as well as for `Model([x], [y])`. The two models are called
    differently, so a snapshot distinguishes them.
    """
    single = {
        field
        for field, attribute in STRUCTURES.items()
        if isinstance(getattr(model, attribute, None), keras.KerasTensor)
    }
    config = {
        field: value[0] if field in single and not isinstance(value[0], str) else value
        for field, value in record["config"].items()
    }
    return {**record, "config": config}


def restore_tensor_lists(model: keras.Model, record: Record) -> None:
    """Restores inputs and outputs that are lists of one tensor: Keras before 3.11 revives them as single tensors."""
    for field, attribute in STRUCTURES.items():
        tensor = getattr(model, attribute, None)
        if isinstance(tensor, keras.KerasTensor) and len(record["config"][field]) == 1:
            # Model.__setattr__ would replace the list by a tracked list, which is not equal to a plain list.
            object.__setattr__(model, attribute, [tensor])
    for layer, layer_record in zip(members_of(model), record["config"]["layers"], strict=True):
        inner, inner_record = unwrap(layer, layer_record)
        if is_model(inner_record):
            restore_tensor_lists(inner, inner_record)
