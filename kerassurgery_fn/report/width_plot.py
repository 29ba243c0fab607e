"""`plot_widths`: plots the number of channels of each layer before and after with matplotlib."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.arguments import as_snapshot, kind_of, takes
from kerassurgery_fn.differences import diff
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.report.diagram import Diagram, diagram_of, paired_layers
from kerassurgery_fn.values.snapshot import Snapshot

BAR_HEIGHT = 0.16  # inches


@takes(before=as_snapshot, after=as_snapshot)
def plot_widths(before: Snapshot, after: Snapshot, ax: Any = None) -> Any:
    """Plots two bars for each layer that produces channels: their number before and after.

    Args:
        before: the old model.
        after: the new model.
        ax: matplotlib axes to draw on; by default new axes, whose height depends on the number of layers.

    Returns:
        The axes.
    """
    import matplotlib.pyplot as plt

    if ax is not None and not hasattr(ax, "barh"):
        raise BadValue(f"ax must be the axes of a matplotlib figure, not {kind_of(ax)}")
    old, new = diagram_of(before), diagram_of(after)
    producers = {path for model in (before, after) for path, _ in analyse(model).producers}
    pairs = [pair for pair in paired_layers(old, new, diff(before, after).sources) if {*pair} & producers]
    rows = range(len(pairs))
    if ax is None:
        _, ax = plt.subplots(figsize=(8, max(2, BAR_HEIGHT * len(pairs))), layout="constrained")
    ax.barh(rows, _widths(old, [old_path for old_path, _ in pairs]), color="#c3d4e6", label="before")
    ax.barh(rows, _widths(new, [new_path for _, new_path in pairs]), color="#3b78b5", height=0.5, label="after")
    ax.set_yticks(rows, [new_path or old_path for old_path, new_path in pairs], fontsize=6)
    ax.set(xlabel="channels", title=before.name, ylim=(len(pairs) - 0.4, -0.6))
    ax.legend()
    return ax


def _widths(diagram: Diagram, paths: list[str | None]) -> list[int]:
    """The number of channels of each layer, 0 for a layer that the model does not have."""
    return [0 if path is None else diagram.layers[path].channels or 0 for path in paths]
