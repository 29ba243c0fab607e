"""`plot_sensitivity`: plots the metric of a model against the part of each coupled group that is cut."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.arguments import kind_of
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.pruning.channel_sensitivity import Sensitivity

LABELLED = 12  # the number of groups with a label


def plot_sensitivity(sensitivity: Sensitivity, ax: Any = None) -> Any:
    """Plots a line for each group: the metric against the ratio that is cut. The most sensitive groups have a label.

    Args:
        sensitivity: the result of `sensitivity`.
        ax: matplotlib axes to draw on; by default new axes.

    Returns:
        The axes.

    Raises:
        BadValue: the value is not a `Sensitivity`, or `ax` cannot be drawn on.
    """
    import matplotlib.pyplot as plt

    if not isinstance(sensitivity, Sensitivity):
        raise BadValue(f"sensitivity must be the result of sensitivity(model, evaluate), not {kind_of(sensitivity)}")
    if ax is not None and not hasattr(ax, "plot"):
        raise BadValue(f"ax must be the axes of a matplotlib figure, not {kind_of(ax)}")
    if ax is None:
        _, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    for place, name in enumerate(sensitivity.order):
        row = {0.0: sensitivity.baseline, **sensitivity.metrics[name]}
        style = {"label": name} if place < LABELLED else {"color": "#c3d4e6", "zorder": 1}
        ax.plot([*row], [*row.values()], marker=".", **style)
    ax.set(xlabel="ratio of channels that is cut", ylabel="metric", title=f"sensitivity by {sensitivity.criterion}")
    ax.legend(fontsize=7)
    return ax
