"""Plans as documents: encodes them, checks them, writes them to files and reads them from files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from jsonschema.exceptions import best_match

from kerassurgery_fn.arguments import as_count, as_file, as_flag, meant, shortened, takes
from kerassurgery_fn.documents.arrays import array_to_data
from kerassurgery_fn.documents.encoding import REGISTER, ArraySink, from_data, to_data
from kerassurgery_fn.documents.field_types import edit_classes, is_library_name, library_edits, name_of
from kerassurgery_fn.documents.json_schema import PLAN, Kind, validator
from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.documents.safe_files import Path_, read_limited, write_atomically
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.errors import BadDocument, NotEncodable, UnknownEdit, UnknownVersion

SHORT = 64  # integers of a list that are validated; no schema limits the length of a list to as many
MAX_DEPTH = 100
SCALARS = {int, bool, str, type(None)}
MAX_BYTES = 1 << 30
LINE = 100


def encode(edit: Edit) -> dict[str, Any]:
    """An edit or a plan as JSON-ready data: a document with format, version and the edit.

    Raises:
        NotEncodable: a part of the edit cannot be written in a document, such as a function.

    >>> from kerassurgery_fn.edits import DeleteChannels
    >>> encode(DeleteChannels("conv_1", [0, 4]))["plan"]
    {'edit': 'DeleteChannels', 'channels': {'conv_1': [0, 4]}, 'allow_output_change': False,
     'allow_input_change': False}
    """
    if name_of(type(edit), edit_classes()) is None:
        raise NotEncodable(f"{shortened(edit)} is not a registered edit. {REGISTER}")
    return to_document(edit, PLAN)


def decode(data: Any) -> Any:
    """The edit from the data that `encode` returned. Nothing that the data names is imported or run.

    Raises:
        UnknownVersion: the data has another version of the format.
        UnknownEdit: the data has an edit that is not registered.
        BadDocument: the data is not a valid document; the message names the place.

    >>> from kerassurgery_fn.edits import DeleteChannels
    >>> decode(encode(DeleteChannels("conv_1", [0, 4])))
    DeleteChannels(channels={'conv_1': (0, 4)}, allow_output_change=False, allow_input_change=False)
    """
    return from_document(data, PLAN)


def to_document(value: Any, kind: Kind, sink: ArraySink = array_to_data) -> dict[str, Any]:
    """The document of a value; `sink` turns arrays into JSON."""
    data = to_data(value, f"$.{kind.key}", sink, kind.more)
    return checked({"format": kind.form, "version": kind.version, kind.key: data})


def from_document(data: Any, kind: Kind, beside: Mapping[str, np.ndarray] | None = None) -> Any:
    """The value of a document; `beside` has the arrays that the document refers to by name."""
    check_tree(data)
    check_head(data, kind)
    place = f"$.{kind.key}"
    _check_edits(data.get(kind.key), place)
    check_schema(data, validator(kind))
    return from_data(data[kind.key], place, beside, kind.more)


def _check_edits(data: Any, place: str) -> None:
    """Raises UnknownEdit if the data names an edit that is not registered."""
    for edit_place, name in _edits_in(data, place):
        if name not in edit_classes():
            raise UnknownEdit(f"{edit_place}: {_unknown(name)}")


def _unknown(name: str) -> str:
    """The message for an edit that is not registered."""
    if not is_library_name(name):
        package, _, class_name = name.rpartition(">")
        return (
            f"the edit {name!r} is not registered: import the module that defines {class_name} under "
            f"@edit({package!r}) first, or on the command line pass its file as --rules; reading a document imports "
            "nothing"
        )
    known = sorted(library_edits())
    return (
        f"unknown edit {name!r}; {meant(name, known, len(known))}. It may be an edit of a newer version of the library"
    )


@takes(path=as_file)
def save_plan(plan: Edit, path: Path_) -> None:
    """Writes a plan to a file. The same plan gives the same bytes; the channels of a layer are in one line.

    The file is written under another name first and then renamed, so it is never incomplete. Arrays are in the same
    file, so a plan is one file to send and to review.

    Raises:
        NotEncodable: see `encode`.
        BadFile: the file cannot be written.
    """
    write_atomically(path, dumps(encode(plan)).encode("utf-8"))


@takes(path=as_file, check=as_flag, max_bytes=as_count)
def load_plan(path: Path_, *, check: bool = True, max_bytes: int = MAX_BYTES) -> Any:
    """The plan in a file.

    Args:
        path: a file from `save_plan`.
        check: whether a plan that was made for one model still checks the model. If False, the plan is returned without
            its fingerprint.
        max_bytes: the largest size of the file.

    Raises:
        BadFile: the file does not exist or cannot be read.
        BadDocument, UnknownVersion, UnknownEdit: see `decode`.
    """
    plan = decode(loads(read_limited(path, max_bytes), str(path)))
    return plan.plan if isinstance(plan, MadeFor) and not check else plan


# --- text


def dumps(data: Any) -> str:
    """JSON as text that is easy to compare line by line: short values and lists of plain values are in one line.

    >>> print(dumps({"a": list(range(3)), "b": {}}), end="")
    {"a": [0, 1, 2], "b": {}}
    """
    return _text(data, 0) + "\n"


def _text(data: Any, indent: int) -> str:
    flat = json.dumps(data, ensure_ascii=False, allow_nan=False)
    if not isinstance(data, (dict, list)) or not data or len(flat) + indent <= LINE:
        return flat
    if isinstance(data, list) and not any(isinstance(item, (dict, list)) for item in data):
        return flat
    gap = " " * (indent + 1)
    if isinstance(data, list):
        lines = [_text(item, indent + 1) for item in data]
        return "[\n" + ",\n".join(gap + line for line in lines) + "\n" + " " * indent + "]"
    lines = [f"{json.dumps(key, ensure_ascii=False)}: {_text(item, indent + 1)}" for key, item in data.items()]
    return "{\n" + ",\n".join(gap + line for line in lines) + "\n" + " " * indent + "}"


def loads(text: bytes, source: str) -> Any:
    """The data of a JSON text, read strictly.

    Raises:
        BadDocument: the text is not JSON, contains NaN, has a key twice in one object, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise BadDocument(f"{source} is nested more deeply than the {MAX_DEPTH} levels of a document") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BadDocument(f"{source} is not valid JSON: {error}") from None


def refuse_other_version(data: Any, form: str, version: int, documents: str, source: str) -> None:
    """Raises UnknownVersion if a document of a format states another version than the one that the library reads.

    >>> refuse_other_version({"format": "scores", "version": 1}, "scores", 1, "scores", "$")
    """
    match data:
        case {"format": str(stated), "version": other} if stated == form and other != version:
            raise UnknownVersion(f"{source}: this library reads version {version} of {documents}, not {other}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it contains {name}, which is not a JSON number")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of key-value pairs. A repeated key raises an error, so that no value silently replaces another."""
    unique = dict(pairs)
    if len(unique) < len(pairs):
        repeated = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"an object has the key {repeated!r} twice")
    return unique


# --- checks


def checked(data: Any) -> Any:
    """The data, if it is a valid JSON document.

    Raises:
        NotEncodable: the document could not be read again.
    """
    try:
        check_tree(data)
    except BadDocument as error:
        raise NotEncodable(str(error)) from None
    return data


def check_tree(data: Any) -> None:
    """Raises BadDocument if data is not JSON: it is nested too deeply, or contains a type that JSON does not have, NaN
    or infinity.

    The function is not recursive, because hostile data can be nested more deeply than Python can recurse.
    """
    waiting = [(data, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise BadDocument(f"the document is nested more deeply than {MAX_DEPTH} levels")
        if isinstance(node, dict):
            if invalid := [key for key in node if not isinstance(key, str)]:
                raise BadDocument(f"an object has the key {invalid[0]!r}; keys are strings")
            waiting += [(item, depth + 1) for item in node.values()]
        elif isinstance(node, list):
            if depth == MAX_DEPTH or not {*map(type, node)} <= SCALARS:  # most lists are long, and of integers
                waiting += [(item, depth + 1) for item in node]
        elif not (node is None or isinstance(node, (bool, int, str)) or _finite(node)):
            raise BadDocument(f"the document contains {node!r}, which is not a JSON value")


def _finite(node: Any) -> bool:
    return isinstance(node, float) and math.isfinite(node)


def check_head(data: Any, kind: Kind) -> None:
    """Raises BadDocument or UnknownVersion if the data has another format or version than a kind of document."""
    if not isinstance(data, dict) or data.get("format") != kind.form:
        form = data.get("format") if isinstance(data, dict) else None
        raise BadDocument(f'$.format: expected an object with "format": {kind.form!r}, found {form!r}')
    if data.get("version") != kind.version or isinstance(data["version"], bool):
        raise UnknownVersion(
            f"$.version: this library reads version {kind.version}, the document has version {data.get('version')!r}; "
            "install the release that wrote the document"
        )


def _edits_in(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The place and the name of every edit in a document. Plain JSON under `$json` contains no edits."""
    if isinstance(node, dict) and "$json" not in node:
        if "edit" in node:
            yield f"{place}.edit", node["edit"] if isinstance(node["edit"], str) else repr(node["edit"])
        for key, item in node.items():
            yield from _edits_in(item, f"{place}.{key}")
    elif isinstance(node, list):
        for i, item in enumerate(node):
            if isinstance(item, (dict, list)):
                yield from _edits_in(item, f"{place}[{i}]")


def check_schema(data: Any, validator: Any) -> None:
    """Raises BadDocument if data does not match a JSON Schema; the message names the place."""
    if validator.is_valid(_shortened(data)):
        return
    error = best_match(validator.iter_errors(data))
    if error is not None:
        raise BadDocument(f"{error.json_path}: {_cut_off(error.message)}")


def _shortened(node: Any) -> Any:
    """The data with some of the integers of each long list, the smallest and the largest among them.

    The schemas limit the values of integers, and the lengths of short lists only, so a list of channels is valid if
    these integers are. To validate each channel of a large plan takes seconds.

    >>> _shortened({"a": [*range(5, 1000), 3]})["a"][:4]
    [3, 999, 5, 6]
    """
    if isinstance(node, dict):
        return {key: _shortened(item) for key, item in node.items()}
    if not isinstance(node, list):
        return node
    if len(node) > SHORT and all(type(item) is int for item in node):
        return [min(node), max(node), *node[: SHORT - 2]]
    return [_shortened(item) for item in node]


def _cut_off(message: str, most: int = 300) -> str:
    return message if len(message) <= most else f"{message[:most]} ..."


# --- files
