"""What the command line prints: tables or JSON on the standard output, errors and progress on the standard error."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any

import typer

from kerassurgery_fn.errors import SurgeryError
from kerassurgery_fn.values.tables import Table

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
REFUSED = 1  # the exit code for an error of the library; 2 is the code for wrong usage


def print_tables(tables: Iterable[Table], as_json: bool) -> None:
    """Prints tables, or a JSON list with an object for each table."""
    if as_json:
        print_json([_data(table) for table in tables])
        return
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)


def _data(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "notes": list(table.notes),
    }


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def note(message: str) -> None:
    """Prints a line to the standard error, which leaves the standard output to results."""
    typer.echo(message, err=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A scope whose work is shown at the terminal while it lasts."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def refusing(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose errors become one line on standard error and the exit code 1, unless `--debug` is passed."""

    @wraps(command)
    def refused(*args: Any, **kwargs: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = _show_warning  # type: ignore[assignment]
                command(*args, **kwargs)
                if sys.stdout is not None:
                    sys.stdout.flush()  # a full disk is noticed here, and not when Python ends
        except (typer.Exit, BrokenPipeError):  # for the latter see `main`
            raise
        except Exception as error:
            if isinstance(error, OSError):
                discard_output()
            if DEBUG.get():
                raise
            note(f"error: {_in_words(error)}")
            raise typer.Exit(REFUSED) from None

    return refused


def discard_output() -> None:
    """Drops what could not be written to the standard output, so that Python does not try it again when it ends."""
    with suppress(OSError, ValueError, AttributeError):  # it is closed, or not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_words(error: Exception) -> str:
    if isinstance(error, SurgeryError):
        return " ".join(str(error).splitlines())  # names in a file may have several lines
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the output'} cannot be used: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"the memory does not suffice: {error}"
    if isinstance(error, ImportError):
        return f"this needs a package that is not installed: {error}"
    return f"unexpected {type(error).__name__}: {error}; run it with --debug for the traceback, and report it"


def _show_warning(message: Any, category: type[Warning], *_: Any) -> None:
    if issubclass(category, UserWarning):
        note(f"warning: {message}")
