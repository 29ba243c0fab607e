"""Issues warnings with the location of the line that called the library."""

from __future__ import annotations

import sys
import warnings


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns with the location of the line that called the library, at any depth of calls inside the library."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_in_library(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_in_library(module: str) -> bool:
    """Whether a module belongs to the library, or is `contextlib`, which runs the library's context managers."""
    return module.partition(".")[0] in (__name__.partition(".")[0], "contextlib")
