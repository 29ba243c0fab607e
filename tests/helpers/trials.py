"""What the tests of the examples share."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

for needed in ("matplotlib", "mlxtend", "rich", "typer"):
    pytest.importorskip(needed, reason=f"the extra `examples`, which has {needed}, is not installed")
typer, testing = pytest.importorskip("typer"), pytest.importorskip("typer.testing")

FOLDER = str(Path(__file__).parents[2] / "examples")


def example(name):
    """The module of an example, which may import others of the folder."""
    sys.path.insert(0, FOLDER)
    try:
        return import_module(name)
    finally:
        sys.path.remove(FOLDER)


def run(module, *options):
    """The rows of the table that an example prints, cell by cell, and all that it prints."""
    app = typer.Typer()
    app.command()(module.main)
    done = testing.CliRunner().invoke(app, [str(option) for option in options], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return rows(done.output), done.output


def run_apart(name, *options):
    """What `run` returns, of an example in a process of its own that has the settings of a user.

    Training where oneDNN is forced on corrupts the memory of TensorFlow on processors without AVX-512.
    """
    settings = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    command = [sys.executable, f"{FOLDER}/{name}.py", *map(str, options)]
    done = subprocess.run(command, env={**settings, "COLUMNS": "120"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return rows(done.stdout), done.stdout


def rows(output):
    """The rows of the tables in what an example prints, cell by cell."""
    lines = [line for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
