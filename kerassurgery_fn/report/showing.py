"""Tables of everything that there is to look at."""

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
from kerassurgery_fn.report.drawing import as_text, drawing_of
from kerassurgery_fn.report.explanation import Explanation
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table, spans


def show(thing: Any, console: Any = None) -> None:
    """Prints the tables of a thing to the terminal, as wide as it is.

    Args:
        thing: a snapshot, the groups, the cost, an explanation, a difference of models or of plans.
        console: where to print, a `rich.console.Console`; the terminal by default.

    Raises:
        BadValue: there is nothing to show of such a thing, or the console is none.
    """
    from rich.console import Console

    console = Console() if console is None else console
    if not hasattr(console, "print"):
        raise BadValue(f"console is a rich.console.Console, not {kind_of(console)}")
    for table in tables_of(thing):
        console.print(table)
        console.print()


def tables_of(thing: Any) -> list[Table]:
    """The tables of a thing; see `show`.

    Raises:
        BadValue: there is nothing to show of such a thing.
    """
    for cls, made in TABLES.items():
        if isinstance(thing, cls):
            return made(thing)
    if is_keras(thing, "Model"):
        as_snapshot(thing, "thing")
    known = ", ".join(cls.__name__ for cls in TABLES)
    raise BadValue(f"there is nothing to show of a {kind_of(thing)}; there is of {known}")


def _of_snapshot(snapshot: Snapshot) -> list[Table]:
    flow = analyse(snapshot)
    rows = tuple(
        (layer.path, layer.class_name, as_text(layer.shape), layer.cost.parameters or None)
        for layer in drawing_of(snapshot, flow).layers.values()
    )
    total = cost(snapshot)
    notes = [f"{len(rows)} layers, {total.parameters:,} parameters, {total.macs:,} multiply-accumulates"]
    notes += [f"opaque: {path!r} {reason}" for path, reason in flow.opaque.items()]
    return [Table(snapshot.name, ("layer", "class", "makes", "parameters"), rows, tuple(notes))]


def _of_plans(difference: PlanDiff) -> list[Table]:
    edits = [("new", _edit(edit)) for edit in difference.added] + [("gone", _edit(e)) for e in difference.removed]
    channels = [("deleted now", path, spans(which)) for path, which in difference.deleted.items()]
    channels += [("kept now", path, spans(which)) for path, which in difference.kept.items()]
    made = [
        Table("edits", ("what", "edit"), tuple(edits)),
        Table("channels", ("what", "layer", "which"), tuple(channels)),
    ]
    return [table for table in made if table.rows] or [Table("no difference", (), ())]


TABLES: dict[type, Callable[[Any], list[Table]]] = {
    Snapshot: _of_snapshot,
    Cost: lambda figures: [figures.table()],
    Groups: lambda groups: [groups.table()],
    Explanation: lambda explanation: explanation.tables(),
    Diff: lambda difference: difference.tables(),
    PlanDiff: _of_plans,
}


def _edit(edit: Any, most: int = 200) -> str:
    text = repr(edit)
    return text if len(text) <= most else f"{text[:most]} ..."
