"""Documents with an edit: made, checked, read from files and written to them."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jsonschema.exceptions import best_match

from kerassurgery_fn.arguments import as_count, as_file, as_flag, meant, shortened, takes
from kerassurgery_fn.documents.arrays import array_to_data
from kerassurgery_fn.documents.encoding import ArraySink, from_data, to_data
from kerassurgery_fn.documents.field_types import edit_classes
from kerassurgery_fn.documents.json_schema import PLAN, Kind, validator
from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.errors import BadDocument, BadFile, NotEncodable, UnknownEdit, UnknownVersion

MAX_DEPTH = 100
MAX_BYTES = 1 << 30
LINE = 100
Path_ = str | os.PathLike[str]


def encode(edit: Edit) -> dict[str, Any]:
    """An edit or a plan as JSON-ready data: a document with format, version and the edit.

    Raises:
        NotEncodable: some part of it has no form in a document, such as a function.

    >>> from kerassurgery_fn.edits import DeleteChannels
    >>> encode(DeleteChannels("conv_1", [0, 4]))["plan"]
    {'edit': 'DeleteChannels', 'channels': {'conv_1': [0, 4]}, 'allow_output_change': False}
    """
    if edit_classes().get(type(edit).__name__) is not type(edit):
        raise NotEncodable(f"{shortened(edit)} is no edit that can be written; there are {', '.join(edit_classes())}")
    return to_document(edit, PLAN)


def decode(data: Any) -> Any:
    """The edit that `encode` wrote. Nothing that the data names is imported or run.

    Raises:
        UnknownVersion: the data is of another version of the format.
        UnknownEdit: it has an edit that this library does not know.
        BadDocument: it is not what `encode` gives; the message names the place.

    >>> from kerassurgery_fn.edits import DeleteChannels
    >>> decode(encode(DeleteChannels("conv_1", [0, 4])))
    DeleteChannels(channels={'conv_1': (0, 4)}, allow_output_change=False)
    """
    return from_document(data, PLAN)


def to_document(value: Any, kind: Kind, sink: ArraySink = array_to_data) -> dict[str, Any]:
    """A document of a kind with a value in it; `sink` makes JSON of arrays."""
    data = to_data(value, f"$.{kind.key}", sink, kind.more)
    return checked({"format": kind.form, "version": kind.version, kind.key: data})


def from_document(data: Any, kind: Kind, beside: Mapping[str, np.ndarray] | None = None) -> Any:
    """The value in a document of a kind; `beside` has the arrays that the document names."""
    check_tree(data)
    check_head(data, kind)
    place = f"$.{kind.key}"
    _check_edits(data.get(kind.key), place)
    check_schema(data, validator(kind))
    return from_data(data[kind.key], place, beside, kind.more)


def _check_edits(data: Any, place: str) -> None:
    """Raises UnknownEdit where data names an edit that there is none of."""
    for where, name in _edits_in(data, place):
        if name not in edit_classes():
            known = sorted(edit_classes())
            raise UnknownEdit(
                f"{where}: there is no edit {name!r}; {meant(name, known, len(known))}. It may come from a newer "
                "version of the library, or from a package that lists it with @edit once it is imported"
            )


@takes(path=as_file)
def save_plan(plan: Edit, path: Path_) -> None:
    """Writes a plan to a file: the same plan gives the same bytes, a layer's channels stand in one line.

    The file is complete or is not there: it is written under another name first. Arrays stand in the file itself, so
    that a plan is one thing to send and to review.

    Raises:
        NotEncodable: see `encode`.
        BadFile: the file cannot be written.
    """
    write_atomically(path, dumps(encode(plan)).encode("utf-8"))


@takes(path=as_file, check=as_flag, max_bytes=as_count)
def load_plan(path: Path_, *, check: bool = True, max_bytes: int = MAX_BYTES) -> Any:
    """The plan in a file.

    Args:
        path: what `save_plan` wrote.
        check: whether a plan that was made for some model refuses others; if not, its plan alone is returned.
        max_bytes: the size from which on a file is not read.

    Raises:
        BadFile: there is no such file, or it cannot be read.
        BadDocument, UnknownVersion, UnknownEdit: see `decode`.
    """
    plan = decode(loads(read_limited(path, max_bytes), str(path)))
    return plan.plan if isinstance(plan, MadeFor) and not check else plan


# --- text


def dumps(data: Any) -> str:
    """JSON as text that compares well line by line: one line for what is short or a list of plain values.

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
        BadDocument: it is no JSON, it has NaN in it, a key twice in one object, or it is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise BadDocument(f"{source} is nested more than {MAX_DEPTH} levels deep; no plan is") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BadDocument(f"{source} is no JSON that can be read: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name} in it, which is no number")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"an object has the key {twice!r} twice")
    return made


# --- checks


def checked(data: Any) -> Any:
    """The data itself.

    Raises:
        NotEncodable: it could not be read again.
    """
    try:
        check_tree(data)
    except BadDocument as error:
        raise NotEncodable(str(error)) from None
    return data


def check_tree(data: Any) -> None:
    """Raises BadDocument where data is not JSON: by depth, by type, or by a number that is none."""
    waiting = [(data, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise BadDocument(f"the document is nested more than {MAX_DEPTH} levels deep; no plan is")
        if isinstance(node, dict):
            if odd := [key for key in node if not isinstance(key, str)]:
                raise BadDocument(f"an object has the key {odd[0]!r}; keys are strings")
            waiting += [(item, depth + 1) for item in node.values()]
        elif isinstance(node, list):
            waiting += [(item, depth + 1) for item in node]
        elif not (node is None or isinstance(node, (bool, int, str)) or _finite(node)):
            raise BadDocument(f"the document has {node!r} in it, which JSON has no form for")


def _finite(node: Any) -> bool:
    return isinstance(node, float) and math.isfinite(node)


def check_head(data: Any, kind: Kind) -> None:
    """Raises BadDocument or UnknownVersion where data does not say that it is of a kind."""
    if not isinstance(data, dict) or data.get("format") != kind.form:
        said = data.get("format") if isinstance(data, dict) else None
        raise BadDocument(f'$.format: expected an object whose "format" is {kind.form!r}, found {said!r}')
    if data.get("version") != kind.version or isinstance(data["version"], bool):
        raise UnknownVersion(
            f"$.version: this library reads version {kind.version}, the document is of {data.get('version')!r}; "
            "install the release that wrote it"
        )


def _edits_in(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every name of an edit in a document, `$json` left out, and its place."""
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
    """Raises BadDocument where data does not have the form that a JSON Schema asks for, naming the place."""
    error = best_match(validator.iter_errors(data))
    if error is not None:
        raise BadDocument(f"{error.json_path}: {_shortened(error.message)}")


def _shortened(message: str, most: int = 300) -> str:
    return message if len(message) <= most else f"{message[:most]} ..."


# --- files


def write_atomically(path: Path_, content: bytes) -> None:
    """Writes a file under another name in the same folder and renames it: it is whole, or not there."""
    path = Path(path)
    write_with(path, lambda name: name.write_bytes(content))


def write_with(path: Path, write: Callable[[Path], Any]) -> None:
    """Gives `write` the name of a file beside `path` to write to, and renames it to `path` when it is done."""
    with (
        on_disk(path, "written"),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".writing") as folder,
    ):
        made = Path(folder) / path.name
        write(made)
        os.replace(made, path)


@contextmanager
def on_disk(path: Path_, verb: str) -> Iterator[None]:
    """Within it, what the operating system refuses becomes a BadFile: a missing folder, a lack of permission."""
    try:
        yield
    except BadFile:
        raise
    except OSError as error:
        raise BadFile(f"{os.fspath(path)} cannot be {verb}: {error.strerror or error}") from error


def read_limited(path: Path_, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        BadFile: there is no such file, or it cannot be read.
        BadDocument: it is larger than `max_bytes`.
    """
    path = Path(path)
    with on_disk(path, "read"):
        if (count := path.stat().st_size) > max_bytes:
            raise BadDocument(f"{path} has {count:,} bytes, more than the {max_bytes:,} that are read; raise max_bytes")
        return path.read_bytes()
