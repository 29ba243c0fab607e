"""Under an older Keras, tests of what it does not have, or cannot run, are skipped with that as the reason.

That is known from the errors that Keras raises, as no table of releases is kept here. Under the release that the table
of support is exact for, and under later ones, nothing is missing, and such an error is a failure.
"""

import re
import traceback
from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import kerassurgery_fn
from kerassurgery_fn.rules.support import KERAS

HERE, PACKAGE = Path(__file__).parents[1], Path(kerassurgery_fn.__file__).parent
MISSING = {
    r"module '(keras\S*?)' has no attribute '(\w+)'": "{0}.{1}",
    r"Unrecognized keyword arguments passed to (\w+): {{?'(\w+)'": "the argument {1} of {0}",
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'": "the argument {1} of {0}",
    r"Invalid quantization mode\. Expected one of .* Received: mode=(\w+)": "quantization to {0}",
    r"Could not interpret activation function identifier: (\w+)": "the activation {0}",
    r"'ResourceVariable' object has no attribute 'path'": "a Muon that runs on TensorFlow",
    r"layer '\S+' \((\w+)\) could not be saved: NotImplementedError": "a config of {0}",
    r"attends over axes that are counted from the end": "attention over axes that are counted from the end",
    r"from operation '(\w+)' is part of a cycle": "a {0} that can be called on symbolic tensors",
    r"Iterating over a symbolic KerasTensor is not supported": "several outputs of a layer that has several",
    r"`inputs` not connected to `outputs`": "models with an input that nothing reads",
    r"The `(output_padding)` argument must be a tuple of \d integers\. .* do not satisfy `value > 0`": "a zero in {0}",
}


def numbers(release: str) -> tuple[int, ...]:
    """The first two numbers of a release.

    >>> numbers("3.15.1"), numbers("3.9") < numbers("3.15")
    ((3, 15), True)
    """
    return tuple(map(int, re.findall(r"\d+", release)[:2]))


INSTALLED = version("keras") if find_spec("keras") else KERAS  # some tests need no Keras
IS_OLDER = numbers(INSTALLED) < numbers(KERAS)


def reason_to_skip(error: BaseException) -> str | None:
    """What the installed Keras lacks, if an error says that; None under a Keras that lacks nothing."""
    if not IS_OLDER:
        return None
    if lacking := next(missing(error), None):
        return f"Keras {INSTALLED} does not have {lacking}"
    if is_of_keras(traceback.extract_tb(error.__traceback__)):
        return f"Keras {INSTALLED} cannot build or run the model itself, before any surgery: {str(error)[:300]}"
    return None


def is_of_keras(frames: Sequence[traceback.FrameSummary]) -> bool:
    """Whether an error was raised by Keras in a function that builds a model, or fills it, and not by surgery."""
    ours = [frame for frame in frames if is_in(frame, HERE) or is_in(frame, PACKAGE)]
    is_builder = bool(ours) and is_in(ours[-1], HERE) and not ours[-1].name.startswith(("test_", "compute", "check_"))
    return is_builder and frames[-1] is not ours[-1]


def is_in(frame: traceback.FrameSummary, folder: Path) -> bool:
    return Path(frame.filename).is_relative_to(folder)


def missing(error: BaseException | None) -> Iterator[str]:
    """What an error, or one that led to it, says of things that are not there."""
    while error is not None:
        for pattern, words in MISSING.items():
            if found := re.search(pattern, str(error)):
                yield words.format(*found.groups())
        error = error.__cause__ or error.__context__


def skipping() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if reason := reason_to_skip(error):
            pytest.skip(reason)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from skipping())
