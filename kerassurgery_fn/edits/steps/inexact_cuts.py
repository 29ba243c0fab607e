"""Cuts after which a model computes something else than it did without the channels that went."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import InexactCut

OURS = ("kerassurgery_fn", "toolz", "cytoolz")  # a warning is for the line that called these
_tried: ContextVar[bool] = ContextVar("_tried", default=False)


def inexact_layers(flow: Flow, dead: np.ndarray) -> dict[str, list[str]]:
    """Reason -> the layers that do not compute just what they did without the channels of dead ids.

    A layer that loses all its channels is no longer there.
    """
    found: dict[str, dict[str, None]] = {}
    for path, axis, reason in flow.inexact:
        if isinstance(axis, np.ndarray) and 0 < len(flow.solution.kept(axis, dead)) < (size(axis) or 0):
            found.setdefault(reason, {})[path] = None
    return {reason: [*paths] for reason, paths in found.items()}


def warn_inexact(flow: Flow, dead: np.ndarray) -> None:
    """One warning of the category InexactCut, for the line that called the edit, if a cut is not exact."""
    found = {} if _tried.get() else inexact_layers(flow, dead)
    if found:
        layers = "; ".join(f"{', '.join(map(repr, paths))} {reason}" for reason, paths in found.items())
        warnings.warn(
            f"the cut is not exact: {layers}, some of which go, so that the rest is not computed as before. "
            "Fine-tune the model, or leave these channels alone",
            InexactCut,
            stacklevel=_callers_level(),
        )


@contextmanager
def only_tried() -> Iterator[None]:
    """No warnings of inexact cuts: edits are only tried, and what they do is told in another way."""
    token = _tried.set(True)
    try:
        yield
    finally:
        _tried.reset(token)


def _callers_level() -> int:
    """The `stacklevel` of the line outside of this package that led to the function that calls this one."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    return level
