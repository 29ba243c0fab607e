"""Writing a `.keras` file: a zip archive whose members are not compressed."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from kerassurgery_fn.archive.check_sums import check_sum
from kerassurgery_fn.archive.file_regions import GrowingWindow, growing_window
from kerassurgery_fn.archive.known_sums import KnownSums

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the time of all members, so that equal snapshots give equal bytes


def write_text(archive: zipfile.ZipFile, name: str, text: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, LONG_AGO), text)


@contextmanager
def new_member(archive: zipfile.ZipFile, name: str) -> Iterator[GrowingWindow]:
    """A new member of an archive as a file that can be sought in, which HDF5 needs.

    `ZipFile.open` writes a stream only, and the weights would have to be written twice: to a file, then to the archive.
    So the header is written first, without sizes and sum, and once more when they are known:

        header (sizes 0)   weights ...             header (sizes, sum)   weights
    """
    file = archive.fp
    assert file is not None  # the archive is open
    info = zipfile.ZipInfo(name, LONG_AGO)
    info.CRC = info.compress_size = info.file_size = 0
    info.header_offset = file.seek(archive.start_dir)
    file.write(info.FileHeader(zip64=True))
    known = KnownSums()
    with growing_window(file, known) as window:
        yield window
    region = window.region
    info.file_size = info.compress_size = region.size
    info.CRC = check_sum(region, known.pieces)
    file.seek(info.header_offset)
    file.write(info.FileHeader(zip64=True))
    archive.start_dir = file.seek(region.start + region.size)
    archive.filelist.append(info)
    archive.NameToInfo[name] = info
