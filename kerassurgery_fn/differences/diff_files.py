"""Writes differences as JSON, with the arrays in the document or in a second file."""

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
from kerassurgery_fn.documents.plan_files import MAX_BYTES, dumps, from_document, loads, to_document
from kerassurgery_fn.documents.safe_files import on_disk, read_limited, write_atomically
from kerassurgery_fn.errors import BadDocument

DIFF = Kind("kerassurgery_fn/diff", 1, "diff", Diff, "A difference of two models of kerassurgery_fn")
SMALL = 64  # an array of at most this many bytes is written in the document itself


@takes(difference=as_diff)
def encode_diff(difference: Diff) -> dict[str, Any]:
    """A difference as JSON-ready data, including its arrays."""
    return to_document(difference, DIFF)


def decode_diff(data: Any, beside: Mapping[str, np.ndarray] | None = None) -> Diff:
    """The difference from the data that `encode_diff` returned.

    Raises:
        BadDocument, UnknownVersion: the data is not a valid difference; the message names the place.
    """
    return from_document(data, DIFF, beside)


@takes(difference=as_diff, path=as_file)
def save_diff(difference: Diff, path: str | os.PathLike[str]) -> None:
    """Writes a difference to a file. The same difference gives the same bytes.

    Arrays with more than a few elements are written to a second file with `.npz` after the name, so that the document
    stays short enough to review. If there are no such arrays, there is no second file.

    Raises:
        BadFile: a file cannot be written.
        BadValue: the value is not a difference.
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
    # The arrays are written first, so that a document never refers to arrays that are not written yet.
    if arrays:
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_atomically(beside(path), content.getvalue())
    elif beside(path).exists():
        with on_disk(beside(path), "deleted"):
            beside(path).unlink(missing_ok=True)
    write_atomically(path, text)


@takes(path=as_file, max_bytes=as_count)
def load_diff(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Diff:
    """The difference in a file, with the arrays of the `.npz` file next to it.

    Raises:
        BadFile: the file does not exist or cannot be read.
        BadDocument, UnknownVersion: see `decode_diff`; or one of the files is larger than `max_bytes`.
    """
    path = Path(path)
    data = loads(read_limited(path, max_bytes), str(path))
    arrays = _arrays(beside(path), max_bytes) if beside(path).exists() else {}
    return decode_diff(data, arrays)


def beside(path: Path) -> Path:
    """The path of the file with the arrays of a document.

    >>> beside(Path("pruned.json")).name
    'pruned.json.npz'
    """
    return path.with_name(f"{path.name}.npz")


def _arrays(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays in a file. They are plain bytes, so loading them runs no code."""
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
        raise BadDocument(f"{path} is not a file of arrays: {error}") from None
