"""`show`: prints snapshots, costs, groups, explanations and differences as tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.coupled_groups import Groups
from kerassurgery_fn.analysis.layer_costs import Cost, cost
from kerassurgery_fn.arguments import as_snapshot, is_keras, kind_of
from kerassurgery_fn.differences import Diff
from kerassurgery_fn.documents.plan_algebra import PlanDiff
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.report.diagram import diagram_of, shape_text
from kerassurgery_fn.report.explanation import Explanation
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table, spans


def show(thing: Any, console: Any = None) -> None:
    """Prints the tables of a result to the terminal.

    Args:
        thing: a snapshot, or the result of `groups`, `cost`, `explain`, `diff` or `diff_plans`.
        console: a `rich.console.Console` to print to; the terminal by default.

    Raises:
        BadValue: the type of `thing` has no tables, or `console` cannot print.
    """
    from rich.console import Console

    console = Console() if console is None else console
    if not hasattr(console, "print"):
        raise BadValue(f"console must be a rich.console.Console, not {kind_of(console)}")
    for table in tables_of(thing):
        console.print(table)
        console.print()


def tables_of(thing: Any) -> list[Table]:
    """The tables that `show` prints.

    Raises:
        BadValue: the type of `thing` has no tables.
    """
    for cls, to_tables in TABLES.items():
        if isinstance(thing, cls):
            return to_tables(thing)
    if is_keras(thing, "Model"):
        as_snapshot(thing, "thing")  # raises NotASnapshot, which says to call capture(model)
    types = ", ".join(cls.__name__ for cls in TABLES)
    raise BadValue(f"show() has no tables for a {kind_of(thing)}; it takes {types}")


def _snapshot_tables(snapshot: Snapshot) -> list[Table]:
    flow = analyse(snapshot)
    rows = tuple(
        (layer.path, layer.class_name, shape_text(layer.shape), layer.cost.parameters or None)
        for layer in diagram_of(snapshot, flow).layers.values()
    )
    total = cost(snapshot)
    notes = [f"{len(rows)} layers, {total.parameters:,} parameters, {total.macs:,} multiply-accumulates"]
    notes += [f"opaque: {path!r} {reason}" for path, reason in flow.opaque.items()]
    return [Table(snapshot.name, ("layer", "class", "output", "parameters"), rows, tuple(notes))]


def _plan_diff_tables(difference: PlanDiff) -> list[Table]:
    edits = [("added", _edit_text(edit)) for edit in difference.added]
    edits += [("removed", _edit_text(edit)) for edit in difference.removed]
    channels = [("now deleted", path, spans(indices)) for path, indices in difference.deleted.items()]
    channels += [("now kept", path, spans(indices)) for path, indices in difference.kept.items()]
    tables = [
        Table("edits", ("change", "edit"), tuple(edits)),
        Table("channels", ("change", "layer", "channels"), tuple(channels)),
    ]
    return [table for table in tables if table.rows] or [Table("no difference", (), ())]


TABLES: dict[type, Callable[[Any], list[Table]]] = {
    Snapshot: _snapshot_tables,
    Cost: lambda figures: [figures.table()],
    Groups: lambda groups: [groups.table()],
    Explanation: lambda explanation: explanation.tables(),
    Diff: lambda difference: difference.tables(),
    PlanDiff: _plan_diff_tables,
}


def _edit_text(edit: Any, max_length: int = 200) -> str:
    text = repr(edit)
    return text if len(text) <= max_length else f"{text[:max_length]} ..."
