"""The fields of a layer's config: which values they can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kerassurgery_fn.arguments import meant
from kerassurgery_fn.errors import BadValue, NotALayer, UnknownField
from kerassurgery_fn.graph import Record, is_input, is_model
from kerassurgery_fn.keras_io.layer_conversion import complete_record
from kerassurgery_fn.rules import RULES, key_of
from kerassurgery_fn.rules.activations import ACROSS, ELEMENTWISE
from kerassurgery_fn.values.frozen import freeze

ELSEWHERE = {"name": "RenameLayer", "trainable": "SetTrainable", "dtype": "ConvertDtype"}
ALIASES = {"swish", "hard_swish"}  # Keras writes other words for them
ACTIVATIONS = ((ELEMENTWISE | ACROSS) - ALIASES) | {"glu"}


def configured(path: str, record: Record, fields: Mapping[str, Any]) -> Record:
    """A layer's record with other values of some fields, as Keras would write it.

    Values that are plainly right are written as they are. Of all others Keras makes a layer, which refuses what is
    wrong and knows the words for what is right.

    Raises:
        UnknownField: there is no such field, or another edit is there to change it.
        BadValue: a field cannot have that value.
    """
    config = record["config"]
    for name in fields:
        check_field(path, record, name)
    wrong = [(name, value) for name, value in fields.items() if not range_of(key_of(record), name)(value)]
    for name, value in wrong:
        raise BadValue(f"layer {path!r} ({record['class_name']}): {name} cannot be {value!r}")
    made: Record = freeze({**record, "config": {**config, **fields}})
    if all(is_plain(name, config[name], value) for name, value in fields.items()):
        return made
    try:
        required = {key: made[key] for key in ("module", "class_name", "config", "registered_name")}
        config = complete_record(required)["config"]
    except NotALayer as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        why = str(error.__cause__).rpartition("Exception encountered: ")[2].strip().splitlines() or ["Keras refuses it"]
        raise BadValue(f"layer {path!r} ({record['class_name']}) cannot have {shown}: {why[0]}") from error
    return freeze({**record, "config": config})


def range_of(key: str, field: str) -> Callable[[Any], bool]:
    """Whether a field of a class can have a value, as far as the class is one of Keras.

    >>> range_of("Dropout", "rate")(5), range_of("mine>Decay", "rate")(5), range_of("GroupNormalization", "groups")(-1)
    (False, True, True)
    """
    if key not in RULES or not RULES[key].channels or ">" in key:
        return _anything
    return OWN_RANGES.get((key, field)) or RANGES.get(field, _anything)


def check_field(path: str, record: Record, name: str) -> None:
    """Raises UnknownField where a field is not one of a layer's config, or is another edit's to change."""
    if name in ELSEWHERE:
        raise UnknownField(f"{name!r} of layer {path!r} is no field for SetConfig: use {ELSEWHERE[name]}")
    if is_input(record) or is_model(record):
        raise UnknownField(f"{path!r} is a {record['class_name']}, whose config follows from the model's graph")
    known = [field for field in record["config"] if field not in ELSEWHERE]
    if name not in known:
        hint = meant(name, known, len(known))
        raise UnknownField(f"layer {path!r} ({record['class_name']}) has no field {name!r}; {hint}")


def is_plain(name: str, old: Any, new: Any) -> bool:
    """Whether a value is one that Keras would write in place of another, without asking it.

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


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# What holds of a field in every layer of Keras that has it; in a layer somebody else wrote it may mean anything.
RANGES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("rate", "dropout", "recurrent_dropout", "momentum"), _is_share),
    "lora_alpha": lambda value: value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)),
    **dict.fromkeys(("units", "filters", "groups", "depth_multiplier", "num_heads", "key_dim"), _is_count),
}
OWN_RANGES: dict[tuple[str, str], Callable[[Any], bool]] = {
    ("GroupNormalization", "groups"): lambda value: value == -1 or _is_count(value),  # -1: a group for each channel
}
