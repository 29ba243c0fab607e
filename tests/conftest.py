"""Tests that need an operation which TensorFlow lacks on the machine at hand are skipped, with that reason.

Whether an operation is there is measured, once in a session: it depends on oneDNN, on the processor and on the release.
"""

from helpers import environment  # noqa: F401, I001 (comes first: what is imported after it reads the environment)

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from typing import Any

from helpers import older, random_state, tiers
import pytest

from kerassurgery_fn.edits import EDITS
from kerassurgery_fn.rules.strictness import strict_rules

_STRICT_RULES = ExitStack()

pytest.register_assert_rewrite("helpers.laws", "helpers.swaps", "helpers.trials")


def _convolution_with_channels_first() -> Any:
    from keras import ops

    return ops.conv(ops.ones((1, 2, 4, 4)), ops.ones((3, 3, 2, 2)), data_format="channels_first")


def _dilated_transposed_convolution() -> Any:
    from keras import ops

    return ops.conv_transpose(ops.ones((1, 4, 4, 2)), ops.ones((3, 3, 2, 2)), dilation_rate=2)


OPERATIONS: dict[str, Callable[[], Any]] = {
    "convolution with channels_first": _convolution_with_channels_first,
    "dilated transposed convolution": _dilated_transposed_convolution,
}


@cache
def is_implemented(operation: str) -> bool:
    from tensorflow.errors import InvalidArgumentError, UnimplementedError

    try:
        OPERATIONS[operation]()
    except (InvalidArgumentError, UnimplementedError):  # which of them depends on oneDNN
        return False
    return True


@pytest.fixture(autouse=True)
def _no_models_of_other_tests() -> None:
    if running := sys.modules.get("helpers.running"):
        running.forget()


@pytest.fixture
def registered_edits() -> Iterator[dict[str, type]]:
    """The table of edits; those that a test registers are forgotten after it."""
    before = dict(EDITS)
    yield EDITS
    EDITS.clear()
    EDITS.update(before)


@pytest.fixture
def lenient_rules() -> Iterator[None]:
    """Rules that fail make their layers opaque, as they do for users; other tests run in strict mode."""
    with strict_rules(False):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what the machine cannot do; every test starts from the same random state, whatever ran before it."""
    if "keras" in sys.modules:
        random_state.reset()
    for marker in item.iter_markers("onednn"):
        for operation in marker.args:
            if not is_implemented(operation):
                pytest.skip(f"TensorFlow has no {operation} on this machine")


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Skips modules that import Keras where it is not installed: the core, files and the command line need none."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and find_spec("keras") is None and "No module named 'keras'" in str(report.longrepr):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, "Skipped: needs Keras")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("random models")
    group.addoption("--random-models", type=int, default=24, help="how many, of consecutive seeds")
    group.addoption("--random-seed", type=int, default=0, help="the first seed")
    group.addoption("--random-minutes", type=float, default=0, help="of CPU time, in place of a number of models")


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if tiers.is_whole_suite(config):
        tiers.divide(items)


def pytest_collection_finish() -> None:
    """Leaves all that has been imported, which stays, out of the garbage collections, and makes them seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_configure(config: pytest.Config) -> None:
    _STRICT_RULES.enter_context(strict_rules())
    config.pluginmanager.register(older, "older")
