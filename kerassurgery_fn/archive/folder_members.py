"""The members of a model that was saved as a folder (`model.save(path, zipped=False)`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kerassurgery_fn.archive.archive_members import MAX_JSON, MAX_MEMBERS, refuse_pipe
from kerassurgery_fn.archive.file_regions import Region
from kerassurgery_fn.documents.safe_files import on_disk
from kerassurgery_fn.errors import BadFile


class FolderMembers:
    """The files of a folder, by the names that they would have in an archive.

    Raises:
        BadFile: the folder has a link, or too many files.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        names = set()
        for file in Path(path).rglob("*"):
            if file.is_symlink():
                raise BadFile(f"{file} is a link")
            names.add(file.relative_to(path).as_posix())
            if len(names) > MAX_MEMBERS:
                raise BadFile(f"{path} has more than {MAX_MEMBERS:,} files")
        self.names = frozenset(names)

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            BadFile: there is no such file, it is too large, or it cannot be read.
        """
        file = Path(self.path) / name
        with on_disk(file, "read"):
            if (size := file.stat().st_size) > MAX_JSON:
                raise BadFile(f"{file} has {size:,} bytes, more than the limit of {MAX_JSON:,}")
            return file.read_bytes()

    @contextmanager
    def open(self, name: str, check: bool = True) -> Iterator[Region]:
        """A file. It has no check sum to compare.

        Raises:
            BadFile: there is no such file, or it cannot be read.
        """
        with open_region(Path(self.path) / name) as region:
            yield region


@contextmanager
def open_region(path: Path) -> Iterator[Region]:
    """A whole file as a region.

    Raises:
        BadFile: the file cannot be read.
    """
    refuse_pipe(os.fspath(path))
    with on_disk(path, "read"):
        file = path.open("rb")
    with file:
        yield Region(file, 0, path.stat().st_size)
