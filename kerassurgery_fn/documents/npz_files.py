"""Named arrays in numpy's .npz format. Files are written completely or not at all, and reading runs no code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerassurgery_fn.documents.safe_files import Path_, write_atomically
from kerassurgery_fn.errors import BadDocument


def write_npz(path: Path_, entries: Mapping[str, Any]) -> None:
    """Writes arrays, numbers and strings by their names.

    Raises:
        BadFile: the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **entries)
    write_atomically(path, buffer.getvalue())


def entries_of_npz(content: bytes, path: Path_, what: str) -> dict[str, np.ndarray]:
    """The arrays in the content of a file, by their names.

    Args:
        content: the content of the file.
        path: the path of the file, for errors.
        what: the expected content of the file in words, for errors.

    Raises:
        BadDocument: the content is not in the .npz format, or contains Python objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile and numpy raise many kinds of errors on broken files
        raise BadDocument(f"{path} is not an .npz file of {what} ({type(error).__name__}: {error})") from error
