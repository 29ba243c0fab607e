"""The fields of a layer's config, and the values that they can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerassurgery_fn.arguments import meant
from kerassurgery_fn.errors import BadValue, NotALayer, UnknownField
from kerassurgery_fn.graph import Record, is_input, is_model
from kerassurgery_fn.keras_io.layer_conversion import complete_record
from kerassurgery_fn.rules.activations import ACROSS, ELEMENTWISE
from kerassurgery_fn.rules.config_ranges import RANGES
from kerassurgery_fn.rules.registry import is_foreign, rule_for
from kerassurgery_fn.values.frozen import freeze

ELSEWHERE = {"name": "RenameLayer", "trainable": "SetTrainable", "dtype": "ConvertDtype"}
ALIASES = {"swish", "hard_swish"}  # Keras writes other names for them
ACTIVATIONS = ((ELEMENTWISE | ACROSS) - ALIASES) | {"glu"}


def configured(path: str, record: Record, fields: Mapping[str, Any]) -> Record:
    """A layer's record with other values of some fields, as Keras writes it.

    A value that Keras would write unchanged is written directly. For any other value, Keras builds a layer and writes
    its config: a wrong value raises an error, and a right value gets the form in which Keras writes it.

    Raises:
        UnknownField: the config has no such field, or another edit changes it.
        BadValue: a field cannot have this value.
    """
    config = record["config"]
    for name in fields:
        check_field(path, record, name)
        if not range_of(record, name)(fields[name]):
            raise BadValue(f"layer {path!r} ({record['class_name']}): {name} cannot be {fields[name]!r}")
    changed: Record = freeze({**record, "config": {**config, **fields}})
    if all(is_plain(name, config[name], value) for name, value in fields.items()):
        return changed
    try:
        required = {key: changed[key] for key in ("module", "class_name", "config", "registered_name")}
        config = complete_record(required)["config"]
    except NotALayer as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        why = str(error.__cause__).rpartition("Exception encountered: ")[2].strip().splitlines() or ["Keras refuses it"]
        raise BadValue(f"layer {path!r} ({record['class_name']}) cannot have {shown}: {why[0]}") from error
    return freeze({**record, "config": config})


def range_of(record: Record, field: str) -> Callable[[Any], bool]:
    """Whether a field of a layer can have a value; any value passes for classes that are not of Keras.

    >>> dropout = {"module": "keras.layers", "class_name": "Dropout", "config": {"rate": 0.5}}
    >>> range_of(dropout, "rate")(5), range_of({**dropout, "module": "mine"}, "rate")(5)
    (False, True)
    """
    rule = rule_for(record)
    if is_foreign(record) or not rule.channels:
        return _anything
    return rule.ranges.get(field) or RANGES.get(field, _anything)


def check_field(path: str, record: Record, name: str) -> None:
    """Raises UnknownField if the config has no such field, or if another edit changes it."""
    if name in ELSEWHERE:
        raise UnknownField(f"SetConfig cannot change {name!r} of layer {path!r}; use {ELSEWHERE[name]}")
    if is_input(record) or is_model(record):
        raise UnknownField(
            f"SetConfig cannot change {path!r}: the config of {record['class_name']} follows from the graph"
        )
    known = [field for field in record["config"] if field not in ELSEWHERE]
    if name not in known:
        hint = meant(name, known, len(known))
        raise UnknownField(f"layer {path!r} ({record['class_name']}) has no field {name!r}; {hint}")


def is_plain(name: str, old: Any, new: Any) -> bool:
    """Whether Keras would write a value unchanged, in place of another value of the field.

    >>> is_plain("rate", 0.5, 0.3), is_plain("activation", "relu", "gelu"), is_plain("kernel_size", [3, 3], 5)
    (True, True, False)
    """
    if name.endswith("activation") and isinstance(new, str):
        return new in ACTIVATIONS
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    return type(new) is type(old) is int or (isinstance(new, float) and isinstance(old, (int, float)))


def _anything(value: Any) -> bool:
    return True
