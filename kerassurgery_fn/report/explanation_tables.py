"""The tables of an explanation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from toolz import groupby

from kerassurgery_fn.values.tables import Table, change, spans

if TYPE_CHECKING:
    from kerassurgery_fn.report.explanation import Cut, Explanation, Loss

FIGURES = {"parameters": "parameters", "macs": "MACs", "bytes": "bytes of weights"}


def loss_table(losses: Iterable[Loss]) -> Table:
    """The deleted channels of each layer, with one row for each cause. Only the first row of a layer has its name."""
    rows = []
    for loss in losses:
        heading = (loss.path, f"{len(loss.channels)} of {loss.total} {loss.kind}")
        for cause in loss.causes:
            rows.append((*heading, spans(cause.channels, 6), cause.reason))
            heading = ("", "")
    return Table("deleted channels", ("layer", "deleted", "channels", "reason"), tuple(rows))


def cut_table(cuts: Iterable[Cut]) -> Table:
    """The cut weights, with one row for all axes of a layer's weights that lose the same positions."""
    similar = groupby(lambda cut: (cut.path, cut.positions, cut.total, cut.producers), cuts)
    rows = [
        (path, _weights_text(group), f"{len(positions)} of {total}", _producers_text(path, producers))
        for (path, positions, total, producers), group in similar.items()
    ]
    return Table("cut weights", ("layer", "weights", "deleted", "channels of"), tuple(rows))


def _weights_text(cuts: list[Cut]) -> str:
    return ", ".join(f"{cut.weight} axis {cut.axis}" if len(cuts) < 4 else cut.weight for cut in cuts)


def _producers_text(path: str, producers: tuple[str, ...]) -> str:
    return "the layer itself" if producers == (path,) else ", ".join(producers[:3])


def difference_tables(explanation: Explanation) -> list[Table]:
    """The tables of the difference, without the rows that only repeat the deleted channels."""
    counts = {(loss.path, loss.kind) for loss in explanation.losses}
    tables = explanation.difference.tables() if explanation.difference else []
    others = [table for table in tables if not (counts and table.title == "channels")]
    filtered = [replace(table, rows=tuple(row for row in table.rows if row[:2] not in counts)) for table in others]
    return [table for table in filtered if table.rows]


def cost_table(explanation: Explanation) -> Table:
    """Parameters, MACs and bytes before and after. The warnings and measurements are notes below the table."""
    rows = tuple(
        (label, change(getattr(explanation.before, name), getattr(explanation.after, name)))
        for name, label in FIGURES.items()
    )
    notes = [*(f"! {words}" for words in explanation.warnings), *explanation.measured]
    return Table("cost", ("figure", "before and after"), rows, tuple(notes))
