"""A folder that cannot be written: files in it are read, and whatever would be written there is refused in one line."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.records import layer, numbers, sequential, snapshot
from kerassurgery_fn import read_model, write_model
from kerassurgery_fn.cli.commands import app
from kerassurgery_fn.documents import safe_files
from kerassurgery_fn.errors import BadFile

M = snapshot(
    sequential("m", (None, 3), layer("Dense", "a", units=4), layer("Dense", "b", units=2)),
    {"a": (numbers(3, 4), numbers(4)), "b": (numbers(4, 2), numbers(2))},
)
# How a folder is made read only, how it is undone, and the reason that the system gives.
WAYS = {
    "immutable": (["chattr", "+i"], ["chattr", "-i"], "Operation not permitted"),
    "mounted": (["mount", "-o", "remount,ro"], ["umount", "-l"], "Read-only file system"),
    "permissions": (["chmod", "500"], ["chmod", "700"], "Permission denied"),
}


@pytest.fixture(params=WAYS)
def read_only(request, tmp_path):
    """A folder with a model that is read only, and the reason that the system gives when it is written."""
    if sys.platform != "linux":
        pytest.skip("folders are made read only as on Linux")
    if request.param == "permissions" and os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    (folder := tmp_path / "folder").mkdir()
    if request.param == "mounted":
        succeed(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder])
    write_model(M, folder / "m.keras")
    lock, unlock, reason = WAYS[request.param]
    succeed([*lock, folder])
    yield folder, reason
    subprocess.run([*unlock, folder], check=True)


def succeed(command):
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"a folder cannot be made read only here: {run.stderr.strip()}")


def test_writing_is_refused(read_only):
    folder, reason = read_only
    for name in ("new.keras", "m.keras"):
        with pytest.raises(BadFile, match=f"{name} cannot be written: {reason}$"):
            write_model(M, folder / name, overwrite=True)
    assert os.listdir(folder) == ["m.keras"]
    assert read_model(folder / "m.keras") == M


COMMANDS = [
    "delete-channels m.keras a=1 -o new.keras", "delete-channels m.keras a=1 -o m.keras --overwrite",
    "convert m.keras -o new.weights.h5", "prune m.keras --channels 0.5 -o new.keras",
    "prune m.keras --channels 0.5 --plan plan.json -o {other}/new.keras",
    "prune m.keras --channels 0.5 --report page.html -o {other}/new.keras",
    "diff m.keras m.keras -o d.json", "diff m.keras m.keras --html page.html",
]  # fmt: skip


def test_the_command_line_refuses_in_one_line(read_only, tmp_path, monkeypatch):
    folder, reason = read_only
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(folder)
    for command in COMMANDS:
        result = CliRunner().invoke(app, command.format(other=tmp_path / "other").split())
        assert result.exit_code == 1, command
        assert result.output.startswith("error: "), command
        assert result.output.endswith(f" cannot be written: {reason}\n"), command
        assert result.output.count("\n") == 1, command
        assert os.listdir(folder) == ["m.keras"]
        assert os.listdir(tmp_path / "other") == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_the_reason_of_the_system_is_stated(number, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(safe_files.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(BadFile, match=rf"m\.keras cannot be written: {os.strerror(number)}$"):
        write_model(M, Path(tmp_path) / "m.keras")
    assert list(tmp_path.iterdir()) == []
