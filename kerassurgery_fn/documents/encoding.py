"""Converts edits and the values of their fields to JSON, and back.

Tuples become JSON arrays, and mappings become JSON objects. A value without a form in JSON becomes an object with one
key that starts with `$`; see `TAGS`. Documents can only name classes and dtypes from fixed tables, so reading a
document imports nothing and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.documents.arrays import array_from_data, array_to_data
from kerassurgery_fn.documents.field_types import edit_classes, field_hints, name_of, value_classes
from kerassurgery_fn.edits.steps.indices import Masked
from kerassurgery_fn.errors import BadDocument, NotEncodable, UnknownEdit
from kerassurgery_fn.values.frozen import FrozenDict, FrozenList, freeze

REGISTER = 'Register your own class of edits with @edit("package"), from kerassurgery_fn.edits'
FLOATS = {"inf": math.inf, "-inf": -math.inf}
ArraySink = Callable[[np.ndarray, str], dict[str, Any]]


def to_data(value: Any, place: str = "$", sink: ArraySink = array_to_data, more: tuple[type, ...] = ()) -> Any:
    """A value as JSON.

    Args:
        value: an edit, or a value of a field of an edit.
        place: the place of the value in the document, for errors.
        sink: a function that converts an array to JSON.
        more: dataclasses that the document can name in addition to edits.

    Raises:
        NotEncodable: a part of the value cannot be written in a document, such as a function or a NaN.

    >>> to_data((1, 2.5, {"a": None})), to_data(freeze([1]))
    ([1, 2.5, {'a': None}], {'$json': [1]})
    """
    try:
        return _Writer(sink, more).write(value, place)
    except RecursionError:
        raise NotEncodable(f"{place}: the value is nested too deeply") from None


def from_data(
    data: Any, place: str = "$", beside: Mapping[str, np.ndarray] | None = None, more: tuple[type, ...] = ()
) -> Any:
    """The value from the data that `to_data` returned.

    Raises:
        BadDocument: the data is not what `to_data` writes; the message names the place.

    >>> from_data([1, 2.5, {"a": None}])
    (1, 2.5, {'a': None})
    """
    return _Reader(beside or {}, more).read(data, place)


@dataclass(frozen=True)
class _Writer:
    sink: ArraySink
    more: tuple[type, ...]

    def write(self, value: Any, place: str) -> Any:
        match value:
            case None | bool() | str():
                return value
            case np.generic():
                return self.write(value.item(), place)
            case int():
                return int(value)
            case float():
                return self.number(value, place)
            case np.ndarray():
                return {"$array": self.sink(value, place)}
            case Masked():
                return {"$mask": {"of": value.of, "at": list(value)}}
            case tuple():
                return [self.write(item, f"{place}[{i}]") for i, item in enumerate(value)]
            case Mapping():
                return self.mapping(value, place)
            case list() if _is_json(value):
                return {"$json": _sorted(value)}
            case list():
                return {"$list": self.write(tuple(value), place)}
            case set() | frozenset():
                return {"$set": sorted(self.write(tuple(value), place), key=repr)}
        return self.record(value, place)

    def number(self, value: float, place: str) -> Any:
        if math.isfinite(value):
            return value
        if math.isnan(value):
            raise NotEncodable(f"{place}: NaN cannot be written; pass a number")
        return {"$float": str(value)}

    def mapping(self, value: Mapping[Any, Any], place: str) -> Any:
        if any(isinstance(item, list) for item in value.values()) and _is_json(value):
            return {"$json": _sorted(value)}
        if not all(isinstance(key, str) and not is_reserved(key) for key in value):
            pairs = [[self.write(key, place), self.write(item, f"{place}[{key!r}]")] for key, item in value.items()]
            return {"$map": sorted(pairs, key=lambda pair: repr(pair[0]))}
        return {key: self.write(value[key], f"{place}.{key}") for key in sorted(value)}

    def record(self, value: Any, place: str) -> Any:
        """A dataclass from the tables of classes: its name and its fields."""
        for key, classes in (("edit", edit_classes()), ("$type", value_classes(self.more))):
            if name := name_of(type(value), classes):
                names = field_hints(type(value))
                fields = {field: self.write(getattr(value, field), f"{place}.{field}") for field in names}
                return {key: name, **fields}
        raise NotEncodable(
            f"{place}: {value!r} ({type(value).__qualname__}) cannot be written. A document can have edits, snapshots, "
            f"numbers, strings, arrays, and tuples and mappings of these. {REGISTER}"
        )


@dataclass(frozen=True)
class _Reader:
    beside: Mapping[str, np.ndarray]
    more: tuple[type, ...]

    def read(self, data: Any, place: str) -> Any:
        if isinstance(data, list):
            return tuple(self.read(item, f"{place}[{i}]") for i, item in enumerate(data))
        if not isinstance(data, dict):
            return data
        if "edit" in data:
            return self.record(edit_classes(), data, "edit", place)
        if "$type" in data:
            return self.record(value_classes(self.more), data, "$type", place)
        if (tag := next((key for key in data if key.startswith("$")), None)) is not None:
            return self.tagged(tag, data, place)
        return FrozenDict({key: self.read(item, f"{place}.{key}") for key, item in data.items()})

    def tagged(self, tag: str, data: Mapping[str, Any], place: str) -> Any:
        if tag not in TAGS or len(data) > 1:
            raise BadDocument(f"{place}: an object with the key {tag!r}; keys that start with $ are {', '.join(TAGS)}")
        try:
            return TAGS[tag](self, data[tag], place)
        except BadDocument:
            raise
        except (TypeError, ValueError, KeyError) as error:
            raise BadDocument(f"{place}: not a value of {tag} ({type(error).__name__}: {error})") from None

    def record(self, classes: Mapping[str, type], data: Mapping[str, Any], key: str, place: str) -> Any:
        """The dataclass that an object names; the other keys of the object are its fields."""
        cls = classes.get(data[key]) if isinstance(data[key], str) else None
        if cls is None:
            kind = UnknownEdit if key == "edit" else BadDocument
            raise kind(f"{place}: unknown {key.strip('$')} {data[key]!r}; there are {', '.join(sorted(classes))}")
        names = [*field_hints(cls)]
        if mismatched := {*names} ^ (data.keys() - {key}):
            raise BadDocument(
                f"{place}: {data[key]} has the fields {', '.join(names)}; "
                f"missing or unknown: {', '.join(sorted(mismatched))}"
            )
        return _instance(cls, {name: self.read(data[name], f"{place}.{name}") for name in names}, place)


def _instance(cls: type, values: Mapping[str, Any], place: str) -> Any:
    """A dataclass instance with the values of its fields. The constructor is not called, because it can take other
    arguments."""
    instance: Any = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    try:
        getattr(instance, "__post_init__", lambda: None)()
    except Exception as error:  # the checks of a class from another package can raise any exception
        raise BadDocument(f"{place}: invalid values for {cls.__name__}: {error}") from error
    return instance


def _read_mask(reader: _Reader, value: Any, place: str) -> Masked:
    at, of = value["at"], value["of"]
    if sorted({*at}) != at or (at and at[-1] >= of):
        raise BadDocument(
            f"{place}: a mask of {of} channels needs indices from 0 to {of - 1} in ascending order, not {at}"
        )
    return Masked.at(at, of)


def _read_map(reader: _Reader, pairs: Any, place: str) -> Any:
    return FrozenDict({reader.read(key, place): reader.read(item, f"{place}[{key!r}]") for key, item in pairs})


# Tag -> the function that reads the value under it.
TAGS: dict[str, Callable[[_Reader, Any, str], Any]] = {
    "$json": lambda reader, value, place: freeze(value),
    "$array": lambda reader, value, place: array_from_data(value, reader.beside, place),
    "$list": lambda reader, value, place: FrozenList(reader.read(value, place)),
    "$set": lambda reader, value, place: frozenset(reader.read(value, place)),
    "$mask": _read_mask,
    "$map": _read_map,
    "$float": lambda reader, value, place: FLOATS[value],
}


def is_reserved(key: str) -> bool:
    """Whether a key has a meaning in documents, so that a mapping with this key must be written as pairs.

    >>> is_reserved("$json"), is_reserved("edit"), is_reserved("units")
    (True, True, False)
    """
    return key.startswith("$") or key == "edit"


def _is_json(value: Any) -> bool:
    """Whether JSON gives the value back unchanged: dicts, lists, strings and finite numbers."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def _sorted(value: Any) -> Any:
    """The JSON value with the keys of every object sorted."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
