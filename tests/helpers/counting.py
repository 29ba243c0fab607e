"""Work counted in calls of functions, which are the same in every run."""

import sys
from collections.abc import Callable, Collection


def calls(run: Callable[[], object], events: Collection[str] = ("call", "c_call")) -> int:
    """The number of calls of functions, generators counted at each item.

    Args:
        run: what is counted.
        events: those of `sys.setprofile`: `call` for functions of Python, `c_call` for functions written in C.
    """
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in events

    sys.setprofile(counted)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count
