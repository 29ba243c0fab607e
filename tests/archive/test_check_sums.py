"""Check sums by several threads are those of zlib."""

import zipfile
import zlib
from itertools import pairwise

import numpy as np
import pytest

from helpers.records import layer, sequential, snapshot
from kerassurgery_fn import write_model
from kerassurgery_fn.archive import check_sums, known_sums
from kerassurgery_fn.archive.check_sums import _sum_of, check_sum, combined
from kerassurgery_fn.archive.file_regions import Region, growing_window
from kerassurgery_fn.archive.known_sums import KnownSums

CONTENT = np.random.default_rng(0).bytes(10_000)


@pytest.mark.parametrize("lengths", [(0, 0), (0, 5), (5, 0), (1, 1), (4000, 5999), (1, 9999)])
def test_sums_of_two_pieces(lengths):
    first, second = CONTENT[: lengths[0]], CONTENT[lengths[0] : sum(lengths)]
    assert combined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@pytest.mark.parametrize("part", [1, 100, 3333, 1 << 24])
@pytest.mark.parametrize("start, size", [(0, 10_000), (17, 9000), (5, 1), (3, 0)])
def test_sums_of_a_region(tmp_path, monkeypatch, part, start, size):
    monkeypatch.setattr(check_sums, "PART", part)
    monkeypatch.setattr(check_sums, "CHUNK", 700)
    with (tmp_path / "file").open("w+b") as file:
        file.write(CONTENT)
        assert check_sum(Region(file, start, size)) == zlib.crc32(CONTENT[start : start + size])


def test_sums_of_what_was_written(tmp_path, monkeypatch):
    """Pieces are summed while they are written, in any order, and the rest is read."""
    monkeypatch.setattr(known_sums, "LARGE", 500)
    monkeypatch.setattr(known_sums, "HEADERS", 50)
    rng = np.random.default_rng(0)
    for _ in range(200):
        sums, content = KnownSums(), bytearray()
        with (tmp_path / "file").open("w+b") as file:
            file.write(b"head")
            with growing_window(file, sums) as window:
                for _ in range(rng.integers(1, 20)):
                    start, size = int(rng.integers(0, len(content) + 1)), int(rng.choice([3, 60, 600, 2000]))
                    if rng.random() < 0.1:
                        content[start:] = b""
                        window.truncate(start)
                    written = rng.bytes(size)
                    content[start : start + size] = written
                    window.seek(start)
                    window.write(written)
            assert check_sum(window.region, sums.pieces) == zlib.crc32(content)
    assert all(a.end <= b.start for a, b in pairwise(sums.pieces))


def test_large_arrays_are_not_read_again(tmp_path, monkeypatch):
    """Only the headers of the file are read for the sum, and the sum is right."""
    model = snapshot(sequential("m", (None, 1024), layer("Dense", "a", units=1024)),
                     {"a": (np.ones((1024, 1024), np.float32), np.ones(1024, np.float32))})  # fmt: skip
    read = []
    monkeypatch.setattr(
        check_sums, "_sum_of", lambda region, start, end: read.append(end - start) or _sum_of(region, start, end)
    )
    write_model(model, tmp_path / "m.keras")
    assert sum(read) < 100_000
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.testzip() is None
