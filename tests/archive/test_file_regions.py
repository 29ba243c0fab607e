"""Windows on a file that is written."""

import os

import pytest

from kerassurgery_fn.archive import file_regions
from kerassurgery_fn.archive.file_regions import growing_window


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
def test_a_large_file_is_stored_while_it_is_written(tmp_path, monkeypatch):
    stored = []
    monkeypatch.setattr(file_regions, "STRIDE", 100)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, count, advice: stored.append((start, start + count)))
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"head")
        with growing_window(file) as window:
            for _ in range(9):
                window.write(bytes(30))
            window.seek(0)
            window.write(bytes(30))
    assert stored == [(0, 124), (124, 244)]
    assert (tmp_path / "file").stat().st_size == 4 + 270
