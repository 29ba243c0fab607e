"""Warnings of inexact cuts. A cut is exact if the smaller model computes what the original computes when the weights
that read the deleted channels are zero."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from toolz import valmap

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.errors import InexactCut

OURS = ("kerassurgery_fn", "toolz", "cytoolz")  # a warning shows the line that called one of these packages
_tried: ContextVar[bool] = ContextVar("_tried", default=False)


def inexact_layers(flow: Flow, keep: Sources) -> dict[str, list[str]]:
    """Reason why a cut is not exact -> the layers with this reason. Layers that lose all channels do not count."""
    layers: dict[str, dict[str, None]] = {}
    for path, axis, reason in flow.inexact:
        if (kept := keep(axis)) is not None and len(kept):
            layers.setdefault(reason, {})[path] = None
    return valmap(list, layers)


def warn_inexact(flow: Flow, keep: Sources) -> None:
    """Warns with the category InexactCut if a cut is not exact. The warning shows the line that called the edit.

    Args:
        flow: the channels.
        keep: axis -> the positions that the cut keeps.
    """
    by_reason = {} if _tried.get() else inexact_layers(flow, keep)
    if by_reason:
        layers = "; ".join(f"{', '.join(map(repr, paths))} {reason}" for reason, paths in by_reason.items())
        warnings.warn(
            f"the cut is not exact: {layers}, and the cut deletes some of them, so the other channels change, too. "
            "Fine-tune the model, or keep these channels",
            InexactCut,
            stacklevel=_callers_level(),
        )


@contextmanager
def only_tried() -> Iterator[None]:
    """A context without warnings of inexact cuts, for edits that are only tried."""
    token = _tried.set(True)
    try:
        yield
    finally:
        _tried.reset(token)


def _callers_level() -> int:
    """The `stacklevel` of the line outside this package that led to the caller of this function."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    return level
