"""What the tests of the examples share."""

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
    lines = [line for line in done.output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines], done.output
