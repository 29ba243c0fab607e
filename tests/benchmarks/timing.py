"""Times of functions that take turns, and tables of them."""

import gc
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import starmap
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

# wall: what a user waits for; cpu: time of the processor in this process, which other processes disturb less.
CLOCKS = {"wall": perf_counter, "cpu": process_time}


class Settings(NamedTuple):
    """How the benchmarks run: the number of counted turns, and the clock."""

    turns: int = 5
    clock: str = "wall"
    only: tuple[str, ...] = ()
    plot: str = ""  # the file of the plot of deployment


def chosen(subjects: Mapping[str, Callable[..., object]], settings: Settings) -> dict[str, Callable[..., object]]:
    """The subjects whose names match one of the patterns of the settings; all if there are none."""
    return {
        name: subject
        for name, subject in subjects.items()
        if not settings.only or any(fnmatchcase(name, pattern) for pattern in settings.only)
    }


def named(names: Sequence[str], settings: Settings) -> list[str]:
    """The names that match one of the patterns of the settings; all if there are none."""
    return [*chosen(dict.fromkeys(names, len), settings)]


Times = list[float]  # seconds, one for each turn


class Prepared(NamedTuple):
    """A function of what is prepared anew for each turn, outside of the time that counts."""

    prepare: Callable[[], Any]
    run: Callable[[Any], object]


def in_turns(subjects: Mapping[str, Callable[[], object] | Prepared], settings: Settings) -> dict[str, Times]:
    """The times of each subject: all take a turn, then all take the next. The first turn is for warming up and does
    not count. Rubbish is collected before each measurement, and not during it."""
    clock = CLOCKS[settings.clock]
    times: dict[str, Times] = {name: [] for name in subjects}
    for turn in range(settings.turns + 1):
        for name, subject in subjects.items():
            arguments = (subject.prepare(),) if isinstance(subject, Prepared) else ()
            run = subject.run if isinstance(subject, Prepared) else subject
            gc.collect()
            gc.disable()
            start = clock()
            result = run(*arguments)
            elapsed = clock() - start
            gc.enable()
            del result, arguments
            if turn:
                times[name].append(elapsed)
    return times


def milliseconds(times: Times) -> str:
    """The median, and the range of all turns.

    >>> milliseconds([0.002, 0.001, 0.004])
    '2 (1 to 4) ms'
    """
    return f"{figure(median(times) * 1000)} ({figure(min(times) * 1000)} to {figure(max(times) * 1000)}) ms"


def figure(value: float) -> str:
    """A number with three digits.

    >>> figure(0.012345), figure(12345.6)
    ('0.0123', '12,346')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratios(times: Times, others: Times) -> Times:
    """The ratio of two subjects in each turn: what slows a machine down for a while slows down both."""
    return list(starmap(lambda a, b: a / b, zip(times, others, strict=True)))


def times_as_long(times: Times, others: Times) -> str:
    """The median of the ratios of all turns, and their range.

    >>> times_as_long([2.0, 3.0, 9.0], [1.0, 1.0, 3.0])
    '3.00 (2.00 to 3.00) x'
    """
    found = ratios(times, others)
    return f"{median(found):.2f} ({min(found):.2f} to {max(found):.2f}) x"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(markdown(["what", "time"], [["cut", "3 ms"]]))
    | what | time |
    |------|------|
    | cut  | 3 ms |
    """
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, *rows)
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
