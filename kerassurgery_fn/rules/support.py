"""The table of supported classes, as Markdown. `python -m kerassurgery_fn.rules.support` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kerassurgery_fn.rules import RULES

KERAS = "3.15"  # the release whose classes the table lists, one for one
FILE = Path(__file__).with_name("SUPPORT.md")
TITLE = f"""\
# Supported layers and operations

For each layer and operation of Keras, the table says whether the channels that it creates or passes on can be deleted.
It is about the axis on which the class expects channels, mostly the last axis. On other axes, some classes that are
exact here are approximate or pin the channels; then a message says so. `python -m kerassurgery_fn.rules.support` writes
this file.
from the rules.

- **exact**: after a cut, the model computes what it computed before with the weights that read the deleted channels set
  to zero.
- **approximate**: a cut is exact except for the case in the note, which `explain` repeats. Every layer with an
  `activation` that combines channels is approximate: `softmax`, `log_softmax`, `sparsemax`.
- **pins**: channels that the class reads or creates cannot be deleted; all other channels can.

A use of a class that its rule cannot follow pins channels, too, and so do quantized layers.

The table has every class of Keras {KERAS}. Older releases have fewer classes.
"""


class Support(NamedTuple):
    """How a class is supported: `exact`, `approximate` or `pins`, with a note on where or why."""

    name: str
    degree: str
    note: str = ""


def support() -> list[Support]:
    """The support of every class of Keras, layers first.

    >>> [row for row in support() if row.name in ("Dense", "Softmax", "Lambda")][:2]
    [Support(name='Dense', degree='exact', note=''),
     Support(name='Lambda', degree='pins', note='runs a Python function, which may do anything with channels')]
    """
    names = sorted((name for name in RULES if ">" not in name), key=lambda name: (is_operation(name), name))
    return [of(name) for name in names]


def of(name: str) -> Support:
    """The support of one class.

    >>> of("Softmax")
    Support(name='Softmax', degree='approximate', note='over channels')
    """
    known = RULES[name]
    if known.pins:
        return Support(name, "pins", known.pins)
    return Support(name, "approximate", known.approximate) if known.approximate else Support(name, "exact")


def is_operation(name: str) -> bool:
    return name.startswith("ops.")


def as_markdown() -> str:
    """The table in Markdown, the content of the file."""
    operations, layers = ([row for row in support() if is_operation(row.name) is kind] for kind in (True, False))
    return "\n".join([TITLE, *_section("Layers", layers), *_section("Operations", operations)])


def _section(title: str, rows: list[Support]) -> list[str]:
    degrees = ("exact", "approximate", "pins")
    counts = ", ".join(f"{sum(row.degree == degree for row in rows)} {degree}" for degree in degrees)
    lines = [f"| `{row.name.removeprefix('ops.')}` | {row.degree} | {row.note} |" for row in rows]
    return [f"## {title}: {counts}", "", "| class | a cut is | where, why |", "|---|---|---|", *lines, ""]


if __name__ == "__main__":
    FILE.write_text(as_markdown(), encoding="utf-8")
