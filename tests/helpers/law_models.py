"""The models of the law tests, collected by calling the tests with `check_law` replaced."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LAWS = Path(__file__).parents[1] / "laws"
# Law tests that say nothing of single classes where channels are where the class expects them.
OTHER = {"test_laws_axes", "test_laws_grids", "test_laws_sabotage"}


def law_models() -> list[Any]:
    """The models that the law tests check: at least one for each class of layers and operations that has a rule."""
    from helpers.laws import Verdict
    from kerassurgery_fn import capture

    models: dict[int, Any] = {}

    def collect(model: Any, *_: Any, **__: Any) -> Verdict:
        models.setdefault(id(model), model)
        return Verdict(0, 1, 1, capture(model))

    call_law_tests(collect)
    return list(models.values())


def call_law_tests(check_law: Callable[..., Any]) -> None:
    """Calls every parametrised law test with another `check_law`. Whether the tests pass does not matter."""
    files = {file.stem for file in LAWS.glob("test_laws*.py")} - OTHER
    for file in sorted(files):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(LAWS)
            module = importlib.import_module(file)
            patch.setattr(module, "check_law", check_law, raising=False)
            for name, test in list(vars(module).items()):
                for arguments in cases(test) if name.startswith("test_") else ():
                    with contextlib.suppress(Exception, pytest.fail.Exception):  # that is the test's own business
                        test(**arguments)


def cases(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each run of a test that takes none or is parametrised once."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    if not marks and not inspect.signature(test).parameters:
        yield {}
    if len(marks) == 1:
        names = [name.strip() for name in marks[0].args[0].split(",")]
        for case in marks[0].args[1]:
            yield dict(zip(names, values_of(case, len(names)), strict=True))


def values_of(case: Any, count: int) -> Any:
    """The values of one run of a parametrised test, which may be a `pytest.param` with marks."""
    if isinstance(case, type(pytest.param())):
        return case.values
    return (case,) if count == 1 else case
