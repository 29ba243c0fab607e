"""Plots with matplotlib, which is only needed here."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.arguments import as_snapshot, kind_of, takes
from kerassurgery_fn.differences import diff
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.report.drawing import drawing_of, in_order
from kerassurgery_fn.values.snapshot import Snapshot

BAR = 0.16  # inches


@takes(before=as_snapshot, after=as_snapshot)
def plot_widths(before: Snapshot, after: Snapshot, ax: Any = None) -> Any:
    """A bar for each layer that makes channels: how many it made, and how many it makes now.

    Args:
        before: the model as it was.
        after: the model as it is.
        ax: the axes of matplotlib to draw on; new ones, as tall as the model is deep, by default.

    Returns:
        The axes.
    """
    import matplotlib.pyplot as plt

    if ax is not None and not hasattr(ax, "barh"):
        raise BadValue(f"ax is the axes of a matplotlib figure, not {kind_of(ax)}")
    sources = diff(before, after).sources
    old, new = drawing_of(before), drawing_of(after)
    producers = {path for model in (before, after) for path, _ in analyse(model).producers}
    rows = [(a, b) for a, b in in_order(old, new, sources) if {a, b} & producers]
    widths = [
        [0 if p is None else model.layers[p].channels or 0 for p in side] for model, side in _sides(old, new, rows)
    ]
    if ax is None:
        _, ax = plt.subplots(figsize=(8, max(2, BAR * len(rows))), layout="constrained")
    ax.barh(range(len(rows)), widths[0], color="#c3d4e6", label="before")
    ax.barh(range(len(rows)), widths[1], color="#3b78b5", height=0.5, label="after")
    ax.set_yticks(range(len(rows)), [b or a for a, b in rows], fontsize=6)
    ax.set(xlabel="channels", title=before.name, ylim=(len(rows) - 0.4, -0.6))
    ax.legend()
    return ax


def _sides(old: Any, new: Any, rows: list[tuple[str | None, str | None]]) -> list[tuple[Any, list[str | None]]]:
    return [(old, [a for a, _ in rows]), (new, [b for _, b in rows])]
