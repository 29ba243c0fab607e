"""Three sets of tests: the default set, the slow set and the exhaustive set.

Most tests that build Keras models have many cases: a law for every layer, option and network. The default set runs
every test with a sample of its cases, the slow set the other cases, so that both together run all of them. Slow tests
are divided between the slow set and the exhaustive set in the same way. The sample is the same in every run. If files
or tests are named on the command line, all of their cases run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from zlib import crc32

import pytest

DEFAULT, SLOW = 16, 12  # one case of so many is in the sample of the default set, and of the slow set


def divide(items: Iterable[pytest.Item]) -> None:
    """Marks the cases of tests with Keras that are not in the sample of the default set, or of the slow set."""
    known: set[str] = set()
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"a case is named by an address, which differs between processes: {item.nodeid}")
        is_slow = item.get_closest_marker("slow") is not None
        is_first = test_of(item.nodeid) not in known
        known.add(test_of(item.nodeid))
        if is_first or item.get_closest_marker("exhaustive") or not (is_slow or item.get_closest_marker("keras")):
            continue
        if not in_sample(item.nodeid, SLOW if is_slow else DEFAULT):
            item.add_marker(pytest.mark.exhaustive if is_slow else pytest.mark.slow)


def test_of(case: str) -> str:
    """The test that a case belongs to.

    >>> test_of("tests/laws/test_laws.py::test_the_law[conv-same]")
    'tests/laws/test_laws.py::test_the_law'
    """
    return case.partition("[")[0]


def in_sample(case: str, number: int) -> bool:
    """Whether a case is one of those that are drawn, one of `number` on average.

    >>> [case for case in "abcdefgh" if in_sample(case, 3)]
    ['a', 'c', 'd', 'e', 'h']
    """
    return crc32(case.encode()) % number == 0


def is_whole_suite(config: pytest.Config) -> bool:
    """Whether a run is one of all tests: no file or folder of them is named."""
    return set(resolved(config.args, config.invocation_params.dir)) <= set(
        resolved([*config.getini("testpaths"), "."], config.rootpath)
    )


def resolved(paths: Iterable[str], folder: Path) -> Iterator[Path]:
    return ((folder / path).resolve() for path in paths)
