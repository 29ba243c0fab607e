"""Builds the JSON Schemas of documents from the type hints of the fields of edits.

`python -m kerassurgery_fn.differences.publish_schemas` writes them to `kerassurgery_fn/documents/schema/`.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from urllib.parse import quote

import numpy as np
from toolz import valmap

from kerassurgery_fn.documents.arrays import DTYPES
from kerassurgery_fn.documents.field_types import (
    document_name,
    edit_classes,
    field_hints,
    is_library_name,
    library_edits,
    values_in,
)
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.steps.indices import Masked
from kerassurgery_fn.graph.record_schema import FORMS, strict

VALUE: dict[str, Any] = {"$ref": "#/$defs/value"}
EDIT: dict[str, Any] = {"$ref": "#/$defs/edit"}
OTHER_PACKAGE = {"type": "string", "pattern": "^[^>]+>[^>]+$"}  # the name of a class that is not of this library
Named = tuple[tuple[str, type], ...]
PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    type(None): {"type": "null"},
    float: {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/$float"}]},
    np.ndarray: {"$ref": "#/$defs/$array"},
    Edit: EDIT,
    Masked: {"$ref": "#/$defs/$mask"},
}


class Kind(NamedTuple):
    """A kind of document: its format, its version, the key and class of its value, and the title of its schema."""

    form: str
    version: int
    key: str
    hint: Any
    title: str

    @property
    def more(self) -> tuple[type, ...]:
        """The classes that the document can name in addition to edits."""
        return () if self.hint is Edit else (self.hint,)

    @property
    def path(self) -> Path:
        """The file of the published schema."""
        return Path(__file__).parent / "schema" / f"{self.key}-{self.version}.json"


PLAN = Kind("kerassurgery_fn/plan", 1, "plan", Edit, "An edit or plan of kerassurgery_fn")


def schema(kind: Kind = PLAN) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a kind of document, with every registered edit class."""
    return _schema(kind, tuple(edit_classes().items()))


def validator(kind: Kind = PLAN) -> Any:
    """The validator for a kind of document. It does not accept 1.0 as an integer."""
    return _validator(kind, tuple(edit_classes().items()))


@cache
def _validator(kind: Kind, edits: Named) -> Any:
    return strict()(_schema(kind, edits))


@cache
def _schema(kind: Kind, edits: Named) -> dict[str, Any]:
    values = values_in(tuple(cls for _, cls in edits), kind.more)
    named = {"edit": edits, "$type": tuple(values.items())}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.title,
        "type": "object",
        "required": ["format", "version", kind.key],
        "additionalProperties": False,
        "properties": {
            "format": {"const": kind.form},
            "version": {"const": kind.version},
            kind.key: of_hint(kind.hint),
        },
        "$defs": {
            **GENERAL,
            **FORMS,
            **{key: _choice(key, [name for name, _ in classes]) for key, classes in named.items()},
            **{name: _record(key, name, cls) for key, classes in named.items() for name, cls in classes},
        },
    }


def _choice(key: str, names: Sequence[str]) -> dict[str, Any]:
    """The schema of one of several dataclasses, by the name under a key. The fields of a class of another package can
    have any values."""
    others = {"properties": {key: OTHER_PACKAGE}}
    return {
        "type": "object",
        "required": [key],
        "if": others,
        "then": {"additionalProperties": VALUE},
        "else": {"properties": {key: {"enum": [*filter(is_library_name, names)]}}},
        "allOf": [{"if": {"properties": {key: {"const": name}}}, "then": _reference(name)} for name in names],
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{quote(name)}"}


def _record(key: str, name: str, cls: type) -> dict[str, Any]:
    """The schema of a dataclass: its name under a key, and its fields."""
    hints = field_hints(cls)
    return {
        "description": " ".join((cls.__doc__ or "").partition("\n\n")[0].split()),
        "type": "object",
        "required": [key, *hints],
        "additionalProperties": False,
        "properties": {key: {"const": name}, **valmap(of_hint, hints)},
    }


def of_hint(hint: Any) -> dict[str, Any]:
    """The schema of the values that a type hint allows. If JSON has no counterpart of the hint, any value is allowed.

    >>> of_hint(tuple[int, ...]), of_hint(str | None)
    ({'type': 'array', 'items': {'type': 'integer'}}, {'anyOf': [{'type': 'string'}, {'type': 'null'}]})
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {"$ref": f"#/$defs/{args[1]}"} if args[1] in FORMS else of_hint(args[0])
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_hint(arg) for arg in args]}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple and args[1:] == (...,):
        return {"type": "array", "items": of_hint(args[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [of_hint(arg) for arg in args], "minItems": len(args), "items": False}
    if isinstance(origin, type) and issubclass(origin, Mapping) and args[0] is str:
        return _mapping(of_hint(args[1]))
    if isinstance(hint, type) and is_dataclass(hint):
        return {"type": "object", **_reference(document_name(hint))}
    return PLAIN.get(hint, VALUE)


def _mapping(item: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping with string keys: an object, or pairs if a key is reserved in documents."""
    pair = {"type": "array", "prefixItems": [{"type": "string"}, item], "minItems": 2, "items": False}
    forms = {"$map": {"properties": {"$map": {"type": "array", "items": pair}}}}
    if item == VALUE:
        forms["$json"] = VALUE
    return {
        "type": "object",
        "allOf": [{"if": {"required": [tag]}, "then": form} for tag, form in forms.items()],
        "if": {"anyOf": [{"required": [tag]} for tag in forms]},
        "else": {"propertyNames": {"pattern": r"^(?!\$)"}, "additionalProperties": item},
    }


def _tagged(tag: str, item: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "required": [tag],
        "additionalProperties": False,
        "properties": {tag: item},
    }


_ARRAY = {
    "type": "object",
    "required": ["dtype", "shape"],
    "additionalProperties": False,
    "oneOf": [{"required": ["base64"]}, {"required": ["name"]}],
    "properties": {
        "dtype": {"enum": list(DTYPES)},
        "shape": {"type": "array", "maxItems": 32, "items": {"type": "integer", "minimum": 0, "maximum": 2**40}},
        "base64": {"type": "string"},
        "name": {"type": "string"},
    },
}
_MASK = {
    "type": "object",
    "required": ["of", "at"],
    "additionalProperties": False,
    "properties": {
        "of": {"type": "integer", "minimum": 0},
        "at": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    },
}
_PAIRS = {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": VALUE}}
_VALUES = {"type": "array", "items": VALUE}
_TAGS = {
    "$array": _tagged("$array", _ARRAY, "An array of numbers: little-endian bytes, the last axis fastest."),
    "$json": _tagged("$json", {"type": ["array", "object"]}, "Plain JSON; its arrays are lists."),
    "$list": _tagged("$list", _VALUES, "A list; an array without this tag is a tuple."),
    "$mask": _tagged(
        "$mask", _MASK, "A boolean mask over the channels of a layer: its length, and the indices where it is true."
    ),
    "$set": _tagged("$set", _VALUES, "A set."),
    "$map": _tagged("$map", _PAIRS, "A mapping as pairs, if some keys are not strings or are reserved."),
    "$float": _tagged("$float", {"enum": ["inf", "-inf"]}, "An infinite number."),
}
GENERAL: dict[str, Any] = {
    **_TAGS,
    "value": {
        "description": "Any value, for fields whose type hint has no counterpart in JSON.",
        "if": {"type": "object"},
        "then": {
            "if": {"anyOf": [{"required": [key]} for key in ("edit", "$type", *_TAGS)]},
            "then": {
                "allOf": [
                    {"if": {"required": [key]}, "then": {"$ref": f"#/$defs/{key}"}} for key in ("edit", "$type", *_TAGS)
                ]
            },
            "else": {"propertyNames": {"pattern": "^(?!\\$)"}, "additionalProperties": VALUE},
        },
        "else": {"items": VALUE},
    },
}


def published(kind: Kind = PLAN) -> str:
    """The text of the file of a published schema."""
    return json.dumps(_schema(kind, tuple(library_edits().items())), indent=1) + "\n"
