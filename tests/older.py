"""Under an older Keras, tests of what it does not have are skipped, with that as the reason.

What is missing is known from the error that Keras raises, as no table of releases is kept here. Under the release that
the table of support is exact for, and under later ones, nothing is missing, and such an error is a failure.
"""

import re
from collections.abc import Generator, Iterator
from importlib.metadata import version

import pytest

from kerassurgery_fn.rules.support import KERAS

MISSING = {
    r"module '(keras\S*?)' has no attribute '(\w+)'": "{0}.{1}",
    r"Unrecognized keyword arguments passed to (\w+): {{?'(\w+)'": "the argument {1} of {0}",
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'": "the argument {1} of {0}",
    r"Invalid quantization mode\. Expected one of .* Received: mode=(\w+)": "quantization to {0}",
    r"Could not interpret activation function identifier: (\w+)": "the activation {0}",
    r"'ResourceVariable' object has no attribute 'path'": "a Muon that runs on TensorFlow",
    r"`inputs` not connected to `outputs`": "models with an input that nothing reads",
    r"transpose expects a vector of size 4\. But input\(1\) is a vector of size 3": "attention over four axes",
    r"The `(output_padding)` argument must be a tuple of \d integers\. .* do not satisfy `value > 0`": "a zero in {0}",
}


def numbers(release: str) -> tuple[int, ...]:
    """The first two numbers of a release.

    >>> numbers("3.15.1"), numbers("3.9") < numbers("3.15")
    ((3, 15), True)
    """
    return tuple(map(int, re.findall(r"\d+", release)[:2]))


IS_OLDER = numbers(version("keras")) < numbers(KERAS)


def missing(error: BaseException) -> str | None:
    """What the installed Keras does not have, if an error says that; None under a Keras that has everything."""
    texts = map(str, causes(error))
    said = (
        words.format(*found.groups())
        for text in texts
        for rule, words in MISSING.items()
        if (found := re.search(rule, text))
    )
    return f"Keras {version('keras')} does not have {what}" if IS_OLDER and (what := next(said, None)) else None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def skipping() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if reason := missing(error):
            pytest.skip(reason)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from skipping())
