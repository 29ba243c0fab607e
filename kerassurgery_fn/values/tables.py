"""Tables as data, for terminals and notebooks: what a thing has to show, apart from how it is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None
NUMBERS = (int, float)
COUNTED = re.compile(r"[\d,.]+( (->|of) [\d,.]+)?( %| \(.*\))?")

HTML = """\
<table class="kerassurgery">
<caption style="text-align:left"><b>{{ table.title }}</b></caption>
<thead><tr>{% for name in table.columns %}<th style="text-align:{{ sides[loop.index0] }}">{{ name }}</th>{% endfor %}
</tr></thead>
<tbody>{% for row in table.rows %}
<tr>{% for cell in row %}<td style="text-align:{{ sides[loop.index0] }}">{{ show(cell) }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table>
{%- for note in table.notes %}<div>{{ note }}</div>{% endfor %}
"""


@dataclass(frozen=True)
class Table:
    """A table: a title, the names of its columns, its rows, and notes below it.

    Printed by rich (`rich.print(table)`) it fits the terminal; in a notebook it is HTML; as a `str` it is 80 columns
    wide.

    >>> print(Table("two", ("layer", "units"), (("a", 1200), ("b", None))))
    two
    layer  units
    a      1,200
    b
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> list[str]:
        """On which side of each column its cells stand: numbers, and what is counted beside them, on the right."""
        return ["right" if _is_numeric([row[i] for row in self.rows]) else "left" for i in range(len(self.columns))]

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name, side in zip(self.columns, self.sides, strict=True):
            grid.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
        for row in self.rows:
            grid.add_row(*(Text(show(cell)) for cell in row))
        parts: list[Any] = [
            Text(self.title, style="bold"),
            *([grid] if self.rows else []),
            *(Text(note) for note in self.notes),
        ]
        return Group(*parts)

    def __str__(self) -> str:
        return to_text(self)

    def _repr_html_(self) -> str:
        from jinja2 import Environment

        return Environment(autoescape=True).from_string(HTML).render(table=self, sides=self.sides, show=show)


def to_text(thing: Any, width: int = 80) -> str:
    """What rich would print, as plain text."""
    from rich.console import Console

    console = Console(width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(thing, soft_wrap=False)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def show(cell: Cell) -> str:
    """A cell as text.

    >>> show(1234567), show(0.5), show(None), show("a")
    ('1,234,567', '0.5', '', 'a')
    """
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, NUMBERS) else cell


def spans(positions: Sequence[int], most: int = 12) -> str:
    """Positions in few words: runs, and how many more there are.

    >>> spans([0, 1, 2, 5, 7, 8]), spans(range(0, 100, 2), most=3)
    ('0-2 5 7-8', '0 2 4 and 47 more')
    """
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == runs[-1][1] + 1:
            runs[-1][1] = position
        else:
            runs.append([position, position])
    shown = [f"{first}-{last}" if last > first else str(first) for first, last in runs[:most]]
    left = sum(last - first + 1 for first, last in runs[most:])
    return " ".join(shown) + (f" and {left} more" if left else "")


def change(before: int | None, after: int | None) -> str:
    """A number before and after, and by how much it changed.

    >>> change(200, 150), change(5, 5), change(None, 3)
    ('200 -> 150 (-25.00 %)', '5', '3 (new)')
    """
    if before is None or after is None:
        return f"{after:,} (new)" if after is not None else f"{before:,} (gone)"
    if before == after:
        return f"{after:,}"
    percent = f" ({100 * (after - before) / before:+.2f} %)" if before else ""
    return f"{before:,} -> {after:,}{percent}"


def _is_numeric(cells: Sequence[Cell]) -> bool:
    given = [cell for cell in cells if cell not in (None, "")]
    return bool(given) and all(isinstance(cell, NUMBERS) or COUNTED.fullmatch(str(cell)) for cell in given)
