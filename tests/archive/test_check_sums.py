"""Check sums by several threads are those of zlib."""

import zlib

import numpy as np
import pytest

from kerassurgery_fn.archive import check_sums
from kerassurgery_fn.archive.check_sums import check_sum, combined
from kerassurgery_fn.archive.file_regions import Region

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
