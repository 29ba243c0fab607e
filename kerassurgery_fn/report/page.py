"""`report_html`: two models side by side in one page that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.arguments import as_file, as_snapshot, as_string, optional, takes
from kerassurgery_fn.differences import Diff, diff
from kerassurgery_fn.documents.plan_files import write_atomically
from kerassurgery_fn.report.drawing import Drawing, Layer, as_text, drawing_of, in_order, inner_of, lost_of
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import spans


@takes(before=as_snapshot, after=as_snapshot, path=as_file, title=optional(as_string))
def report_html(before: Snapshot, after: Snapshot, path: str | os.PathLike[str], *, title: str | None = None) -> None:
    """Writes a page that shows what became of a model: one file, to be opened in any browser, off line too.

    It has both graphs with the layers' widths to scale and the channels that are gone in colour, shapes and weights
    on hover, what each layer costs, and a table that can be sorted.

    Args:
        before: the model as it was.
        after: the model as it is.
        path: the file, `report.html`.
        title: what stands at the top; the name of the model by default.
    """
    write_atomically(path, page(before, after, title=title).encode("utf-8"))


def page(before: Snapshot, after: Snapshot, *, title: str | None = None) -> str:
    """The text of the page."""
    from jinja2 import Environment

    static = files("kerassurgery_fn.report") / "static"
    template = Environment(autoescape=True).from_string((static / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title=title or before.name,
        data=data_of(before, after),
        dagre=(static / "dagre.min.js").read_text(encoding="utf-8"),
        script=(static / "report.js").read_text(encoding="utf-8"),
        style=(static / "report.css").read_text(encoding="utf-8"),
    )


def data_of(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What the page shows, as JSON-ready data."""
    difference = diff(before, after)
    old, new = analyse(before), analyse(after)
    drawings = drawing_of(before, old), drawing_of(after, new)
    lost, inner = lost_of(old, difference), inner_of(old, difference)
    rows = list(in_order(*drawings, difference.sources))
    return {
        "before": _graph(drawings[0], lost, inner, {path for path, own in rows if own is None and path}),
        "after": _graph(drawings[1], {}, {}, {path for source, path in rows if source is None and path}),
        "became": {old_path: new_path for old_path, new_path in rows if old_path and new_path},
        "rows": [_row(*drawings, source, path, lost, inner) for source, path in rows],
        "totals": _totals(drawings, difference),
    }


def _graph(
    drawing: Drawing, lost: Mapping[str, list[int]], inner: Mapping[str, str], marked: set[str]
) -> dict[str, Any]:
    """A model's boxes and lines. The positions that a box has lost are those of its first layer."""
    boxes = [
        {
            "id": box[0],
            "layers": [_facts(drawing.layers[path]) for path in box],
            "width": drawing.layers[box[0]].channels or 1,
            "lost": _runs(lost.get(box[0], [])),
            "inner": "" if lost.get(box[0]) else inner.get(box[0], ""),
            "marked": all(path in marked for path in box),
        }
        for box in drawing.boxes
    ]
    return {"boxes": boxes, "lines": [list(line) for line in drawing.lines]}


def _facts(layer: Layer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "class": layer.class_name,
        "shape": as_text(layer.shape),
        "weights": [as_text(shape) for shape in layer.weights],
        "parameters": layer.cost.parameters,
        "macs": layer.cost.macs,
    }


def _row(
    before: Drawing,
    after: Drawing,
    source: str | None,
    path: str | None,
    lost: Mapping[str, list[int]],
    inner: Mapping[str, str],
) -> dict[str, Any]:
    """A row of the table: a layer before and after."""
    old, new = before.layers.get(source or ""), after.layers.get(path or "")
    shown = new or old
    assert shown is not None
    pairs = {name: [None if one is None else value(one) for one in (old, new)] for name, value in FIGURES.items()}
    return {
        "path": shown.path,
        "was": source if source != path and source and path else None,
        "class": shown.class_name,
        "state": "same" if old and new else "removed" if old else "added",
        "lost": spans(lost.get(source or "", []), 8) or inner.get(source or "", ""),
        **pairs,
    }


FIGURES = {
    "channels": lambda layer: layer.channels,
    "parameters": lambda layer: layer.cost.parameters,
    "macs": lambda layer: layer.cost.macs,
}


def _totals(drawings: tuple[Drawing, Drawing], difference: Diff) -> dict[str, Any]:
    figures = {
        name: [sum(getattr(layer.cost, name) for layer in one.layers.values()) for one in drawings]
        for name in ("parameters", "macs", "bytes")
    }
    return {**figures, "layers": [len(one.layers) for one in drawings]}


def _runs(positions: list[int]) -> list[list[int]]:
    """Positions as runs (from, to).

    >>> _runs([0, 1, 2, 7])
    [[0, 3], [7, 8]]
    """
    runs: list[list[int]] = []
    for position in positions:
        if runs and runs[-1][1] == position:
            runs[-1][1] += 1
        else:
            runs.append([position, position + 1])
    return runs
