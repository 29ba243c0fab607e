"""Reads the members of a `.keras` file, a zip archive that can be broken or hostile."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from tempfile import TemporaryFile

from kerassurgery_fn.archive.check_sums import check_sum
from kerassurgery_fn.archive.file_regions import Region
from kerassurgery_fn.errors import BadFile

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"
MAX_MEMBERS = 100_000
MAX_JSON = 1 << 28  # bytes of config.json, metadata.json or a vocabulary
MAX_RATIO = 100  # of a member's size to its size in the archive: Keras does not compress, and DEFLATE reaches 1032
RATIO_FLOOR = 1 << 26  # bytes; smaller members may have any ratio
CHUNK = 1 << 20


LOCAL_HEADER = 30  # bytes; a name and an extra field follow, with their lengths in the last four bytes
ENCRYPTED = 1  # a flag of a member


class Members:
    """The checked members of an open archive.

    Raises:
        BadFile: a member has a name that leaves the archive, is a link, is there twice, or expands too much.
    """

    def __init__(self, archive: zipfile.ZipFile, path: str) -> None:
        self.path, self._archive = path, archive
        _check(archive.infolist(), path)
        self.names = frozenset(archive.namelist())

    def read(self, name: str) -> bytes:
        """The content of a small member.

        Raises:
            BadFile: there is no such member, it is too large, or it is damaged.
        """
        size = self._info(name).file_size
        if size > MAX_JSON:
            raise BadFile(f"{self.path}: {name} has {size:,} bytes, more than the limit of {MAX_JSON:,}")
        with _readable(self.path, name):
            return self._archive.read(name)

    @contextmanager
    def open(self, name: str, check: bool = True) -> Iterator[Region]:
        """A member as part of a file that can be sought in.

        Args:
            name: the name of the member.
            check: whether its check sum is compared first. A compressed member is always checked.

        Raises:
            BadFile: there is no such member, or it is damaged.
        """
        info = self._info(name)
        if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & ENCRYPTED:
            with _readable(self.path, name):
                region = self._stored(info)
                if check and check_sum(region) != info.CRC:
                    raise zipfile.BadZipFile(f"Bad CRC-32 for file {name!r}")
            yield region
            return
        with TemporaryFile() as unpacked:
            with _readable(self.path, name), self._archive.open(name) as member:
                shutil.copyfileobj(member, unpacked, CHUNK)
            yield Region(unpacked, 0, info.file_size)

    def _stored(self, info: zipfile.ZipInfo) -> Region:
        """The place of a member that is not compressed. In the archive, it comes after its own header."""
        file = self._archive.fp
        assert file is not None  # the archive is open
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
        if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise BadFile(f"{self.path}: {info.filename} is not where the archive says")
        start = info.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", header[26:]))
        if start + info.file_size > file.seek(0, io.SEEK_END):
            raise BadFile(f"{self.path}: {info.filename} is cut off")
        return Region(file, start, info.file_size)

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._archive.getinfo(name)
        except KeyError:
            raise BadFile(f"{self.path} has no member {name}, which every .keras file has") from None


@contextmanager
def open_archive(path: str) -> Iterator[Members]:
    """The members of a `.keras` file.

    Raises:
        BadFile: the file cannot be read or is no archive; or see `Members`.
    """
    refuse_pipe(path)
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile raises struct.error, UnicodeDecodeError, ... for archives that are mangled
        raise BadFile(
            f"{path} is no .keras file: {error}; load a file of another kind with Keras, and save it as .keras"
        ) from error
    with archive:
        yield Members(archive, path)


def refuse_pipe(path: str) -> None:
    """Raises BadFile for a pipe or a device, which cannot be sought in, and may never end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise BadFile(f"{path} is a pipe or a device; copy what comes out of it to a file first")


@contextmanager
def _readable(path: str, name: str) -> Iterator[None]:
    """Turns the errors of zipfile for damaged, encrypted or unknown members into BadFile."""
    try:
        yield
    except BadFile:
        raise
    except (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFile(f"{path}: {name} cannot be unpacked: {error}") from error
    except Exception as error:  # struct.error, lzma.LZMAError, ...
        raise BadFile(f"{path}: {name} is damaged: {error}") from error


def _check(infos: list[zipfile.ZipInfo], path: str) -> None:
    if len(infos) > MAX_MEMBERS:
        raise BadFile(f"{path} has {len(infos):,} members, more than the limit of {MAX_MEMBERS:,}")
    counts = Counter(info.filename for info in infos)
    for info in infos:
        if fault := _fault(info, counts):
            raise BadFile(f"{path}: the member {info.filename[:100]!r} {fault}")


def _fault(info: zipfile.ZipInfo, counts: Counter[str]) -> str:
    """The problem of a member, in words; empty if there is none."""
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in PurePosixPath(name).parts:
        return "has a name that leaves the archive"
    if counts[info.filename] > 1:
        return "is there twice"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.file_size > max(RATIO_FLOOR, MAX_RATIO * info.compress_size):
        return f"expands from {info.compress_size:,} to {info.file_size:,} bytes, more than {MAX_RATIO} times"
    return ""
