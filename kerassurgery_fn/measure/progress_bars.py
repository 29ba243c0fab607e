"""Progress of a pass over data: a bar on a terminal, a function of the caller, or silence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.errors import BadValue

Progress = Callable[..., Iterable[Any]]


def as_progress(value: Any, name: str = "progress") -> bool | Progress | None:
    """The value itself: None, True, False, or a function.

    Raises:
        BadValue: the value is something else.
    """
    if value is None or isinstance(value, bool) or callable(value):
        return value
    raise BadValue(
        f"{name} must be True, False, None for a bar on terminals only, or a function such as tqdm.tqdm, not "
        f"{shortened(value)}"
    )


def with_progress(
    batches: Iterable[Any], total: int | None, progress: bool | Progress | None, unit: str = "batch"
) -> Iterable[Any]:
    """The batches, with a progress bar of Keras, wrapped by a function, or unchanged.

    Args:
        batches: an iterable, of batches or of other steps.
        total: the number of batches, None if unknown.
        progress: None: a bar if the standard output is a terminal; True, False: a bar, or none; a function
            `progress(batches, total=total)`, such as `tqdm.tqdm` or `rich.progress.track`.
        unit: what they are, for the bar.
    """
    if callable(progress):
        return progress(batches, total=total)
    shown = sys.stdout.isatty() if progress is None else progress
    return _with_bar(batches, total, unit) if shown else batches


def _with_bar(batches: Iterable[Any], total: int | None, unit: str) -> Iterator[Any]:
    bar = keras.utils.Progbar(total, unit_name=unit)
    number = 0
    for batch in batches:
        yield batch
        number += 1
        bar.update(number)
    if total is None and number:
        bar.update(number, finalize=True)
