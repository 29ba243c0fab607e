"""The program as the system sees it: signals, closed and full outputs, pipes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.records import layer, numbers, sequential, snapshot
from kerassurgery_fn import write_model
from kerassurgery_fn.cli import commands
from kerassurgery_fn.cli.program import main

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "kerassurgery_fn"]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and devices are those of Linux")


@pytest.fixture
def folder(tmp_path):
    record = sequential("m", (None, 3), layer("Dense", "a", units=4), layer("Dense", "b", units=2))
    write_model(
        snapshot(record, {"a": (numbers(3, 4), numbers(4)), "b": (numbers(4, 2), numbers(2))}), tmp_path / "m.keras"
    )
    return tmp_path


def started(folder, *words, **options):
    environment = {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*words], cwd=folder, env=environment, text=True, stderr=subprocess.PIPE, **options)


STOPPED = """
import signal, time
from kerassurgery_fn.archive import model_files

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it

def stop(*_):
    print("writing", flush=True)
    time.sleep(60)

model_files.write_layers = stop
from kerassurgery_fn.cli.program import main
main()
"""


SELDOM = [(signal.SIGINT, 130), (signal.SIGHUP, 129)]
SIGNALS = [(signal.SIGTERM, 143), *(pytest.param(*case, marks=pytest.mark.slow) for case in SELDOM)]


@pytest.mark.parametrize("number, code", SIGNALS)
def test_a_program_that_is_stopped_while_it_writes(number, code, folder):
    words = ("delete-channels", "m.keras", "a=1", "-o", "new.keras")
    process = started(folder, sys.executable, "-c", STOPPED, *words, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "writing\n"
    assert len(os.listdir(folder)) == 2
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors.strip() in ("", "Aborted.")
    assert os.listdir(folder) == ["m.keras"]


def test_a_program_that_is_stopped_while_it_starts(monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "main", stop)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.raises(SystemExit) as stopped:
        main()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert stopped.value.code == 130


@pytest.mark.parametrize("words", ["show m.keras", pytest.param("cost m.keras --json", marks=pytest.mark.slow)])
def test_an_output_that_is_full(words, folder):
    with Path("/dev/full").open("w") as full:
        process = started(folder, *PROGRAM, *words.split(), stdout=full)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors == "error: the output cannot be used: No space left on device\n"


@pytest.mark.slow
def test_an_output_that_nobody_reads_to_the_end(folder):
    script = f"{sys.executable} -m kerassurgery_fn cost m.keras --json | true"
    process = started(folder, "sh", "-c", script)
    assert process.communicate(timeout=30)[1] == ""


@pytest.mark.slow
def test_an_input_that_is_closed(folder):
    process = started(folder, "sh", "-c", f"{sys.executable} -m kerassurgery_fn explain - m.keras <&-")
    _, errors = process.communicate(timeout=30)
    assert errors == "error: the standard input is closed; give the name of a file in place of -\n"


@pytest.mark.slow
def test_pipes_are_read_where_they_can_be(folder):
    os.mkfifo(folder / "pipe.keras")
    process = started(folder, *PROGRAM, "show", "pipe.keras")
    _, errors = process.communicate(timeout=30)
    assert errors == "error: pipe.keras is a pipe or a device; copy what comes out of it to a file first\n"
    plan = '{"format": "kerassurgery_fn/plan", "version": 1, "plan": {"edit": "RenameModel", "name": "n"}}'
    script = f"echo '{plan}' | {sys.executable} -m kerassurgery_fn apply /dev/stdin m.keras -o n.keras"
    assert started(folder, "sh", "-c", script).wait(timeout=30) == 0
    assert (folder / "n.keras").exists()
