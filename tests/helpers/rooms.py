"""The rooms of the package, from the ground up, and their map."""

import ast
from pathlib import Path

PACKAGE = "kerassurgery_fn"
ROOT = Path(__file__).parents[2] / PACKAGE

# From the ground up: a room may import the rooms before it. The front desk, which exports all of them, comes last.
ROOMS = (
    "errors",
    "values",
    "arguments",
    "graph",
    "channels",
    "rules",
    "keras_io",
    "analysis",
    "edits",
    "documents",
    "differences",
    "pruning",
    "archive",
    "measure",
    "report",
    "testing",
    "keras_surgeon",
    "cli",
)


def first_line(room: str) -> str:
    """The first line of a room's docstring."""
    path = ROOT / room / "__init__.py" if (ROOT / room).is_dir() else ROOT / f"{room}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]


def map_of_the_rooms() -> list[str]:
    """A line for each room that there is: its name and what is in it."""
    built = [room for room in ROOMS if (ROOT / room).is_dir() or (ROOT / f"{room}.py").exists()]
    return [f"{room:<14} {first_line(room)}" for room in built]
