"""`report_html`: two models side by side in one self-contained HTML page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.arguments import as_file, as_snapshot, as_string, optional, takes
from kerassurgery_fn.differences import diff
from kerassurgery_fn.documents.safe_files import write_atomically
from kerassurgery_fn.report.diagram import (
    Diagram,
    DiagramLayer,
    diagram_of,
    lost_channels_by_layer,
    lost_kinds_by_layer,
    paired_layers,
    shape_text,
)
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import spans

FIGURES = {
    "channels": lambda layer: layer.channels,
    "parameters": lambda layer: layer.cost.parameters,
    "macs": lambda layer: layer.cost.macs,
}


class Losses(NamedTuple):
    """The lost channels of each layer of the old model: by their positions in its output, and in words for each
    kind."""

    channels: Mapping[str, list[int]]
    kinds: Mapping[str, str]


NO_LOSSES = Losses({}, {})


@takes(before=as_snapshot, after=as_snapshot, path=as_file, title=optional(as_string))
def report_html(before: Snapshot, after: Snapshot, path: str | os.PathLike[str], *, title: str | None = None) -> None:
    """Writes a page that compares two models. It is one file, which every browser can show without a network.

    The page has both graphs with layer widths to scale and deleted channels in colour, shapes and weights on hover, the
    cost of each layer, and a sortable table.

    Args:
        before: the old model.
        after: the new model.
        path: the file to write, for example `report.html`.
        title: the heading of the page; the name of the old model by default.
    """
    write_atomically(path, page(before, after, title=title).encode("utf-8"))


def page(before: Snapshot, after: Snapshot, *, title: str | None = None) -> str:
    """The HTML text of the page."""
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
    """The data of the page, which report.js reads as JSON."""
    difference = diff(before, after)
    old_flow, new_flow = analyse(before), analyse(after)
    old, new = diagram_of(before, old_flow), diagram_of(after, new_flow)
    losses = Losses(lost_channels_by_layer(old_flow, difference), lost_kinds_by_layer(old_flow, difference))
    pairs = list(paired_layers(old, new, difference.sources))
    removed = {old_path for old_path, new_path in pairs if old_path and new_path is None}
    added = {new_path for old_path, new_path in pairs if new_path and old_path is None}
    return {
        "before": _graph_data(old, losses, removed),
        "after": _graph_data(new, NO_LOSSES, added),
        "became": {old_path: new_path for old_path, new_path in pairs if old_path and new_path},
        "rows": [
            _row_data(old.layers.get(old_path or ""), new.layers.get(new_path or ""), losses)
            for old_path, new_path in pairs
        ],
        "totals": _totals(old, new),
    }


def _graph_data(diagram: Diagram, losses: Losses, marked: set[str]) -> dict[str, Any]:
    """The boxes and lines of a model. A box shows the lost channels of its first layer."""
    boxes = [
        {
            "id": box[0],
            "layers": [_layer_data(diagram.layers[path]) for path in box],
            "width": diagram.layers[box[0]].channels or 1,
            "lost": _runs(losses.channels.get(box[0], [])),
            "inner": "" if losses.channels.get(box[0]) else losses.kinds.get(box[0], ""),
            "marked": all(path in marked for path in box),
        }
        for box in diagram.boxes
    ]
    return {"boxes": boxes, "lines": [list(line) for line in diagram.lines]}


def _layer_data(layer: DiagramLayer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "class": layer.class_name,
        "shape": shape_text(layer.shape),
        "weights": [shape_text(shape) for shape in layer.weights],
        "parameters": layer.cost.parameters,
        "macs": layer.cost.macs,
    }


def _row_data(old: DiagramLayer | None, new: DiagramLayer | None, losses: Losses) -> dict[str, Any]:
    """A row of the table: a layer before and after, each figure as [old, new]."""
    shown = new or old
    assert shown is not None
    old_path = old.path if old else ""
    figures = {
        name: [None if layer is None else figure(layer) for layer in (old, new)] for name, figure in FIGURES.items()
    }
    return {
        "path": shown.path,
        "was": old_path if old and new and old_path != new.path else None,
        "class": shown.class_name,
        "state": "same" if old and new else "removed" if old else "added",
        "lost": spans(losses.channels.get(old_path, []), 8) or losses.kinds.get(old_path, ""),
        **figures,
    }


def _totals(old: Diagram, new: Diagram) -> dict[str, Any]:
    figures = {
        name: [sum(getattr(layer.cost, name) for layer in diagram.layers.values()) for diagram in (old, new)]
        for name in ("parameters", "macs", "bytes")
    }
    return {**figures, "layers": [len(old.layers), len(new.layers)]}


def _runs(positions: list[int]) -> list[list[int]]:
    """Sorted positions as half-open ranges.

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
