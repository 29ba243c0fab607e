"""Warnings that point at the line that called the library."""

from __future__ import annotations

import sys
import warnings


def warn(words: str, category: type[Warning] = UserWarning) -> None:
    """Warns as the line that called the library, whatever the library has called since."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(words, category, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]
