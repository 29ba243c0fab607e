"""Files that are written completely or not at all, and read with a limit on their size."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kerassurgery_fn.errors import BadDocument, BadFile

Path_ = str | os.PathLike[str]


def write_atomically(path: Path_, content: bytes) -> None:
    """Writes a file under another name in the same folder and renames it, so the file is never incomplete."""
    path = Path(path)
    write_with(path, lambda name: name.write_bytes(content))


def write_with(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write` with a temporary path in the same folder, and renames that file to `path` afterwards."""
    with (
        on_disk(path, "written"),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".writing") as folder,
    ):
        temporary = Path(folder) / path.name
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # so that a crash of the machine cannot leave a renamed file without content
        os.replace(temporary, path)


@contextmanager
def on_disk(path: Path_, verb: str) -> Iterator[None]:
    """Turns errors of the operating system into BadFile: a missing folder, a missing permission."""
    try:
        yield
    except BadFile:
        raise
    except OSError as error:
        raise BadFile(f"{os.fspath(path)} cannot be {verb}: {error.strerror or error}") from error


def read_limited(path: Path_, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        BadFile: the file does not exist or cannot be read.
        BadDocument: the file is larger than `max_bytes`.
    """
    path = Path(path)
    with on_disk(path, "read"), path.open("rb") as file:
        count = path.stat().st_size
        content = b"" if count > max_bytes else file.read(max_bytes + 1)  # a device has no size, and no end
    if max(count, len(content)) > max_bytes:
        more = f"{count:,} bytes, more than" if count else "more bytes than"
        raise BadDocument(f"{path} has {more} the limit of {max_bytes:,}; raise max_bytes")
    return content
