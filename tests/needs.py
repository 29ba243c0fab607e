"""Marks for tests that need an operation which TensorFlow has on some machines only; see conftest.py."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

NEEDS_CHANNELS_FIRST = pytest.mark.onednn("convolution with channels_first")
NEEDS_DILATED = pytest.mark.onednn("dilated transposed convolution")


def marked(cases: Iterable[str], marks: Mapping[str, Any]) -> list[Any]:
    """The parameters of a test: the names of its cases, or what a table has for each name; some of them with a mark."""
    if not isinstance(cases, Mapping):
        cases = {name: name for name in cases}
    return [
        pytest.param(*(case if isinstance(case, tuple) else [case]), id=name, marks=marks.get(name, ()))
        for name, case in cases.items()
    ]
