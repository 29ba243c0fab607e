"""Differences as JSON, with their arrays in the document or in a file beside it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import as_count, as_file, takes
from kerassurgery_fn.differences.changes import as_diff
from kerassurgery_fn.differences.difference import Diff
from kerassurgery_fn.documents.arrays import array_to_data, dtype_name
from kerassurgery_fn.documents.json_schema import Kind
from kerassurgery_fn.documents.plan_files import (
    MAX_BYTES,
    dumps,
    from_document,
    loads,
    on_disk,
    read_limited,
    to_document,
    write_atomically,
)
from kerassurgery_fn.errors import BadDocument

DIFF = Kind("kerassurgery_fn/diff", 1, "diff", Diff, "A difference of two models of kerassurgery_fn")
SMALL = 64  # bytes of an array that stands in the document itself


@takes(difference=as_diff)
def encode_diff(difference: Diff) -> dict[str, Any]:
    """A difference as JSON-ready data, arrays included."""
    return to_document(difference, DIFF)


def decode_diff(data: Any, beside: Mapping[str, np.ndarray] | None = None) -> Diff:
    """The difference that `encode_diff` wrote.

    Raises:
        BadDocument, UnknownVersion: the data is not what `encode_diff` gives; the message names the place.
    """
    return from_document(data, DIFF, beside)


@takes(difference=as_diff, path=as_file)
def save_diff(difference: Diff, path: str | os.PathLike[str]) -> None:
    """Writes a difference to a file; the same difference gives the same bytes.

    Arrays of more than a few elements, which nobody reads in a review, go to a file of the same name and `.npz`
    beside it. There is none where nothing is new. The arrays are in place before the document that names them.

    Raises:
        BadFile: a file cannot be written.
        BadValue: it is no difference of models.
    """
    path = Path(path)
    arrays: dict[str, np.ndarray] = {}

    def sink(array: np.ndarray, place: str) -> dict[str, Any]:
        if array.nbytes <= SMALL:
            return array_to_data(array, place)
        name = f"array_{len(arrays)}"
        arrays[name] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return {"dtype": dtype_name(array, place), "shape": list(array.shape), "name": name}

    text = dumps(to_document(difference, DIFF, sink)).encode("utf-8")
    if arrays:
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_atomically(beside(path), content.getvalue())
    else:
        with on_disk(beside(path), "deleted"):
            beside(path).unlink(missing_ok=True)
    write_atomically(path, text)


@takes(path=as_file, max_bytes=as_count)
def load_diff(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Diff:
    """The difference in a file and the one beside it.

    Raises:
        BadFile: there is no such file, or it cannot be read.
        BadDocument, UnknownVersion: see `decode_diff`; or one of the files is larger than `max_bytes`.
    """
    path = Path(path)
    data = loads(read_limited(path, max_bytes), str(path))
    arrays = _arrays(beside(path), max_bytes) if beside(path).exists() else {}
    return decode_diff(data, arrays)


def beside(path: Path) -> Path:
    """The file of arrays beside a document.

    >>> beside(Path("pruned.json")).name
    'pruned.json.npz'
    """
    return path.with_name(f"{path.name}.npz")


def _arrays(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays in a file, which hold plain bytes and nothing that could be run."""
    try:
        with zipfile.ZipFile(path) as members:
            total = sum(member.file_size for member in members.infolist())
        if total > max_bytes:
            raise BadDocument(f"{path} unpacks to {total:,} bytes, more than {max_bytes:,}; raise max_bytes")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, BadDocument):
            raise
        raise BadDocument(f"{path} is no file of arrays: {error}") from None
