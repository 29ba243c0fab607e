"""The table of what is supported, as Markdown: `python -m kerassurgery_fn.rules.support` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kerassurgery_fn.rules import RULES

KERAS = "3.15"  # the release whose classes the table lists, one for one
FILE = Path(__file__).with_name("SUPPORT.md")
TITLE = f"""\
# Supported layers and operations

What happens to the channels that a layer or an operation of Keras makes or passes on, where it expects them: mostly on
the last axis. On other axes some that are exact here are approximate or hold them, and say so when they do. This file
is written by `python -m kerassurgery_fn.rules.support` from what stands beside the rules.

- **exact**: after a cut the model computes just what it did with the weights that read the cut channels set to zero.
- **approximate**: that holds but for what the note says, and `explain` repeats it. So it is with any layer whose
  `activation` looks across channels: `softmax`, `log_softmax`, `sparsemax`.
- **pins**: the channels that it touches cannot be cut, and all others can.

A use of a class that its rule cannot follow pins as well, and so do quantized layers.

The table has every class of Keras {KERAS}; older releases have fewer of them.
"""


class Support(NamedTuple):
    """What surgery can do about a class: `exact`, `approximate` or `pins`, and where or why."""

    name: str
    degree: str
    note: str = ""


def support() -> list[Support]:
    """Every class of Keras that has a rule or a reason to have none, layers first.

    >>> [one for one in support() if one.name in ("Dense", "Softmax", "Lambda")][:2]
    [Support(name='Dense', degree='exact', note=''),
     Support(name='Lambda', degree='pins', note='runs a Python function, which may do anything with channels')]
    """
    names = sorted((name for name in RULES if ">" not in name), key=lambda name: (is_operation(name), name))
    return [of(name) for name in names]


def of(name: str) -> Support:
    """What surgery can do about one class.

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
    """The table as the file has it."""
    layers = [one for one in support() if not is_operation(one.name)]
    operations = [one for one in support() if is_operation(one.name)]
    return "\n".join([TITLE, *_section("Layers", layers), *_section("Operations", operations)])


def _section(title: str, rows: list[Support]) -> list[str]:
    counts = ", ".join(f"{sum(row.degree == one for row in rows)} {one}" for one in ("exact", "approximate", "pins"))
    lines = [f"| `{row.name.removeprefix('ops.')}` | {row.degree} | {row.note} |" for row in rows]
    return [f"## {title}: {counts}", "", "| class | a cut is | where, why |", "|---|---|---|", *lines, ""]


if __name__ == "__main__":
    FILE.write_text(as_markdown(), encoding="utf-8")
