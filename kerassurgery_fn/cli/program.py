"""The program `kerassurgery`: how it starts, and how it ends when it is stopped."""

from __future__ import annotations

import signal
import sys
from types import FrameType

STOPPED_BY_USER = 130  # the exit code of shells for Ctrl-C


def main() -> None:
    """Runs the command line. If it is stopped, at any time, it leaves no file behind and prints no traceback."""
    for name in ("SIGTERM", "SIGHUP"):  # by default, they end a process before it can remove its temporary files
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)
    try:
        from kerassurgery_fn.cli import commands  # takes a moment, in which the user may stop it

        commands.main()
    except KeyboardInterrupt:
        sys.exit(STOPPED_BY_USER)


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
