"""The losses and metrics of a compiled model, by the names of its outputs.

The name of an output is that of the layer that computes it, so two outputs of one layer have the same name. `compile`
takes losses and metrics by these names if the outputs of the model are a tensor or a list, and by the keys of the
outputs if they are a dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerassurgery_fn.graph import Record, is_functional, name_of, triples
from kerassurgery_fn.values.frozen import freeze

BY_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics")
EVERY = ("loss", "loss_weights")  # fields in which Keras requires every output
TOGETHER = ({"loss", "loss_weights"}, {"metrics"}, {"weighted_metrics"})  # fields that Keras matches item by item


def following_outputs(record: Record, before: Record, origins: Sequence[int | None] | None = None) -> Record:
    """The record of a compiled model with losses and metrics under the new names of its outputs.

    Args:
        record: the record of the model, whose outputs can be computed by other layers than those of `before`.
        before: the record for whose outputs the model was compiled.
        origins: for each output, its index among the outputs of `before`, None for a new one; by default 0, 1, 2, ...
    """
    compiled = record.get("compile_config")
    if compiled and origins is not None:
        old, new = ends_of(before), ends_of(record)
        known = len(new) == len(origins) and all(i is None or i < len(old) for i in origins)  # not nested
        return freeze({**record, "compile_config": of_outputs(compiled, old, new, origins) if known else {}})
    if not compiled or not (is_functional(record) and is_functional(before)):
        return record
    ends = before["config"]["output_layers"], record["config"]["output_layers"]
    if any(isinstance(end, dict) for end in ends):
        return record
    old, new = ([name for name, _, _ in triples(end)] for end in ends)
    if old == new:
        return record
    renamed = {**compiled, **renamed_fields(compiled, old, new)}
    return record if renamed == compiled else freeze({**record, "compile_config": renamed})


def ends_of(record: Record) -> list[str]:
    """The names of the outputs of a model in `compile`, in the order in which Keras lists them."""
    if not is_functional(record):
        return [name_of(record["config"]["layers"][-1])]
    ends = record["config"]["output_layers"]
    return sorted(ends) if isinstance(ends, dict) else [name for name, _, _ in triples(ends)]


def of_outputs(
    compiled: Mapping[str, Any], old: Sequence[str], new: Sequence[str], origins: Sequence[int | None]
) -> dict[str, Any]:
    """A `compile_config` with the losses and metrics of the outputs that a model has now; empty if none has a loss.

    >>> of_outputs({"loss": "mse", "metrics": ["mae"]}, ["a"], ["b", "a"], [None, 0])
    {'loss': {'b': None, 'a': 'mse'}, 'metrics': {'a': ['mae']}}
    >>> of_outputs({"loss": {"a": "mse", "b": "mae"}}, ["a", "b"], ["b"], [1])
    {'loss': 'mae'}
    """
    fields: dict[str, Any] = {}
    for field in BY_OUTPUT:
        values = of_each(compiled.get(field), old)
        kept = [None if origin is None else values[origin] for origin in origins]
        fields[field] = kept[0] if len(new) == 1 else by_name(kept, new, every=field in EVERY)
    if fields["loss"] is None:
        return {}
    return {**compiled, **{field: value for field, value in fields.items() if field in compiled}}


def of_each(value: Any, names: Sequence[str]) -> list[Any]:
    """A field of a `compile_config` for each output. A single value is that of all outputs.

    >>> of_each({"b": "mse"}, ["a", "b"]), of_each(["mse", None], ["a", "b"]), of_each("mse", ["a", "b"])
    ([None, 'mse'], ['mse', None], ['mse', 'mse'])
    """
    if is_by_name(value, names):
        return [value.get(name) for name in names]
    if len(names) > 1 and isinstance(value, list) and len(value) == len(names):
        return list(value)
    return [value] * len(names)


def by_name(values: Sequence[Any], names: Sequence[str], every: bool) -> Any:
    """The values of outputs by their names; a list if two outputs have the same name; None if all values are None.

    Args:
        values: the value of each output.
        names: their names.
        every: whether outputs whose value is None are included.
    """
    if all(value is None for value in values):
        return None
    if len(set(names)) < len(names):
        return list(values)
    return {name: value for name, value in zip(names, values, strict=True) if every or value is not None}


def renamed_fields(compiled: Mapping[str, Any], old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
    """The fields of a `compile_config` that are mappings from names of outputs, with the new names.

    If one output becomes two, both get its value. If two outputs with different values get the same name, the values
    become a list in the order of the outputs, which Keras also takes.

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
    """Whether a field of a `compile_config` is a mapping from names of outputs, and not the record of an object."""
    return isinstance(value, dict) and value.keys() <= set(names)


def agree(values: Sequence[Any], names: Sequence[str]) -> bool:
    """Whether equal names have equal values.

    >>> agree(["mse", "mse", "mae"], ["a", "a", "b"]), agree(["mse", "mae"], ["a", "a"])
    (True, False)
    """
    first: dict[str, Any] = {}
    return all(first.setdefault(name, value) == value for name, value in zip(names, values, strict=True))
