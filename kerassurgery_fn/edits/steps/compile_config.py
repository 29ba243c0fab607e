"""What a model was compiled with, by the names of its outputs.

Keras names an output by the layer whose call makes it, so that two outputs have one name when one layer makes both.
`compile` takes losses and metrics by these names where the model's outputs are a tensor or a list, and by the keys of
the outputs where they are a dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerassurgery_fn.graph import Record, is_functional, triples
from kerassurgery_fn.values.frozen import freeze

BY_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics")
TOGETHER = ({"loss", "loss_weights"}, {"metrics"}, {"weighted_metrics"})  # what Keras matches item by item


def following_outputs(record: Record, before: Record) -> Record:
    """The record of a compiled model with losses and metrics under the names that its outputs have now.

    Args:
        record: the model's record; its outputs are those of `before`, one by one, but other layers may make them.
        before: the record for whose outputs the model was compiled.
    """
    compiled = record.get("compile_config")
    if not compiled or not (is_functional(record) and is_functional(before)):
        return record
    ends = before["config"]["output_layers"], record["config"]["output_layers"]
    if any(isinstance(end, dict) for end in ends):
        return record
    old, new = ([name for name, _, _ in triples(end)] for end in ends)
    if old == new:
        return record
    made = {**compiled, **renamed_fields(compiled, old, new)}
    return record if made == compiled else freeze({**record, "compile_config": made})


def renamed_fields(compiled: Mapping[str, Any], old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    """The fields of a `compile_config` that go by the names of outputs, by the new names of these.

    An output whose name becomes two outputs' gives its value to both. Where two outputs with different values get one
    name, the values become a list in the order of the outputs, which Keras takes, too.

    >>> renamed_fields({"loss": {"a": "mse", "b": "mae"}}, ["a", "b"], ["z", "b"])
    {'loss': {'z': 'mse', 'b': 'mae'}}
    >>> renamed_fields({"loss": {"a": "mse", "b": "mae"}}, ["a", "b"], ["z", "z"])
    {'loss': ['mse', 'mae']}
    """
    fields = {field: compiled[field] for field in BY_OUTPUT if is_by_name(compiled.get(field), old)}
    values = {field: [value.get(name) for name in old] for field, value in fields.items()}
    shared = {field for field in fields if len(set(new)) < len(new) and not agree(values[field], new)}
    listed = {field for names in TOGETHER if names & shared for field in names & fields.keys()}
    return {
        field: values[field]
        if field in listed
        else {name: value[before] for before, name in zip(old, new, strict=True) if before in value}
        for field, value in fields.items()
    }


def is_by_name(value: Any, names: Sequence[str]) -> bool:
    """Whether a field of a `compile_config` is a mapping from names of outputs, and no Keras object or its record."""
    return isinstance(value, dict) and value.keys() <= set(names)


def agree(values: Sequence[Any], names: Sequence[str]) -> bool:
    """Whether all values under one name are the same.

    >>> agree(["mse", "mse", "mae"], ["a", "a", "b"]), agree(["mse", "mae"], ["a", "a"])
    (True, False)
    """
    first: dict[str, Any] = {}
    return all(first.setdefault(name, value) == value for name, value in zip(names, values, strict=True))
