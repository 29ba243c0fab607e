"""The form of a layer's record, as JSON Schema: the parts that the library reads for every class.

It is part of the published schemas of plans and differences. Records in arguments of edits are checked against it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from kerassurgery_fn.errors import BrokenSnapshot

NAME = {"type": "string", "minLength": 1}
OPEN_NAME = {"type": ["string", "null"]}
SHAPE = {"type": "array", "items": {"type": ["integer", "null"]}}
HISTORY = {
    "type": "array", "minItems": 3, "prefixItems": [NAME, {"type": "integer"}, {"type": "integer"}], "items": False,
}  # fmt: skip


def in_document(form: Mapping[str, Any]) -> dict[str, Any]:
    """The form of an object in a document: the object itself, or plain JSON under `$json`."""
    return {
        "type": "object",
        "if": {"required": ["$json"]},
        "then": {"properties": {"$json": {"type": "object", **form}}},
        "else": {"if": {"required": ["$map"]}, "else": form},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"required": list(required), "properties": properties}


def _record(name: str, layer: Mapping[str, Any], description: str) -> dict[str, dict[str, Any]]:
    """The form of a record, and of its config, by their names.

    Args:
        name: the name of the form.
        layer: the form of each layer in the config of a model.
        description: the description of the form in the schema.
    """
    layers = {"properties": {"layers": {"type": "array", "items": layer}}}
    record, config = _record_form(f"{name}_config", layers), _config_form(name, layers)
    return {name: {"description": description, **in_document(record)}, f"{name}_config": in_document(config)}


def _record_form(config: str, layers: Mapping[str, Any]) -> dict[str, Any]:
    """The form of a record.

    Args:
        config: the name of the form of its config.
        layers: the form of the layers in the config of a model.
    """
    fields = _fields(
        ("class_name", "config"), class_name=NAME, module=OPEN_NAME, registered_name=OPEN_NAME, name=NAME,
        config=_ref(config), build_config={"type": ["object", "null"]},
        inbound_nodes={"type": "array", "items": _ref("node")},
    )  # fmt: skip
    input_fields = _fields(("batch_shape", "dtype"), batch_shape=SHAPE, dtype=NAME)
    named = {"if": {"required": ["name"]}, "else": _config_of(_fields(("name",)))}
    return {**fields, "allOf": [named, _of_class("InputLayer", input_fields), _of_class("Sequential", layers)]}


def _config_of(form: Mapping[str, Any]) -> dict[str, Any]:
    return _fields(config=in_document(form))


def _of_class(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The form of the config of one class."""
    return {"if": {"properties": {"class_name": {"const": name}}}, "then": _config_of(config)}


def _config_form(record: str, layers: Mapping[str, Any]) -> dict[str, Any]:
    """The form of a config.

    Args:
        record: the name of the form of an inner layer.
        layers: the form of the layers in the config of a model.
    """
    inner = {"if": {"required": ["class_name"]}, "then": _ref(record)}
    kinds = [{"required": [name]} for name in ("input_layers", "build_input_shape")]
    is_model = {"required": ["layers"], "anyOf": kinds}
    return {**_fields(name=NAME, dtype=_ref("dtype"), layer=inner), "if": is_model, "then": layers}


FORMS: dict[str, dict[str, Any]] = {
    **_record("record", _ref("record"), "A layer or model, as keras.saving.serialize_keras_object writes it."),
    **_record("layer_record", NAME, "The record of a layer. The record of a model has names in place of its layers."),
    "dtype": {"type": ["string", "null", "object"], "if": {"type": "object"}, "then": in_document(
        _fields(("config",), config={"type": "object"})
    )},
    "node": in_document(_fields(
        ("args", "kwargs"), args={"type": "array", "items": _ref("argument")},
        kwargs=in_document({"additionalProperties": _ref("argument")}),
    )),
    "argument": {
        "description": "An argument of a call: a tensor, by the call that computes it, or lists and mappings of these.",
        "items": _ref("argument"),
        "if": {"type": "object"},
        "then": in_document({
            "if": {"required": ["class_name"]},
            "then": {
                "if": {"properties": {"class_name": {"const": "__keras_tensor__"}}},
                "then": _fields(("config",), config=in_document(_fields(
                    ("shape", "dtype", "keras_history"), shape=SHAPE, dtype=NAME, keras_history=HISTORY,
                ))),
                "else": _fields(class_name=NAME),
            },
            "else": {"additionalProperties": _ref("argument")},
        }),
    },
}  # fmt: skip


def check_record(record: Any, what: str) -> None:
    """Raises BrokenSnapshot if a value does not have the form of a record. The error names the place.

    >>> check_record({"class_name": "ReLU", "config": {"name": 3}}, "the layer")
    Traceback (most recent call last):
    kerassurgery_fn.errors.BrokenSnapshot: the layer.config.name: 3 is not of type 'string'
    """
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(record))
    if error is not None:
        raise BrokenSnapshot(f"{what}{error.json_path.removeprefix('$')}: {error.message[:300]}")


@cache
def _validator() -> Any:
    return strict()({**_ref("record"), "$defs": FORMS})


@cache
def strict() -> Any:
    """The class of JSON Schema validators for which 1.0 is not an integer."""
    from jsonschema import Draft202012Validator, validators

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return validators.extend(Draft202012Validator, type_checker=checker)
