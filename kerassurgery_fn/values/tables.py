"""Tables as data, with text for terminals and HTML for notebooks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None
NUMBERS = (int, float)
COUNT = re.compile(r"[\d,.]+( (->|of) [\d,.]+)?( %| \(.*\))?")  # such as "1,200 -> 900 (-25.00 %)" or "3 of 4"

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
    """A title, the names of the columns, the rows, and notes below the table.

    `rich.print(table)` fits the table to the terminal, a notebook shows it as HTML, and `str(table)` is 80 characters
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
        """The alignment of each column: `right` for numbers and counts, otherwise `left`."""
        return ["right" if _is_numeric([row[i] for row in self.rows]) else "left" for i in range(len(self.columns))]

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        rich_table = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name, side in zip(self.columns, self.sides, strict=True):
            rich_table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
        for row in self.rows:
            rich_table.add_row(*(Text(show(cell)) for cell in row))
        parts: list[Any] = [
            Text(self.title, style="bold"),
            *([rich_table] if self.rows else []),
            *(Text(note) for note in self.notes),
        ]
        return Group(*parts)

    def __str__(self) -> str:
        return to_text(self)

    def _repr_html_(self) -> str:
        from jinja2 import Environment

        return Environment(autoescape=True).from_string(HTML).render(table=self, sides=self.sides, show=show)


class ShownAsTable:
    """A value that is shown as its `table()`: on a console, by `rich.print` and in a notebook."""

    def table(self) -> Table:
        raise NotImplementedError

    def __repr__(self) -> str:
        return str(self.table())

    def __rich__(self) -> Any:
        return self.table().__rich__()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def to_text(renderable: Any, width: int = 80) -> str:
    """The output of `rich.print`, as plain text."""
    from rich.console import Console

    console = Console(width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable, soft_wrap=False)
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
    """Positions as text: the first runs, and the number of other positions.

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
    more = sum(last - first + 1 for first, last in runs[most:])
    return " ".join(shown) + (f" and {more} more" if more else "")


def change(before: int | None, after: int | None) -> str:
    """A number before and after, and the change in percent.

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
    filled = [cell for cell in cells if cell not in (None, "")]
    return bool(filled) and all(isinstance(cell, NUMBERS) or COUNT.fullmatch(str(cell)) for cell in filled)
