"""Marks for tests that need an operation which TensorFlow has on some machines only; see conftest.py."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

NEEDS_CHANNELS_FIRST = pytest.mark.onednn("convolution with channels_first")
NEEDS_DILATED = pytest.mark.onednn("dilated transposed convolution")


# Networks of keras.applications that are deeper or wider than one of the slow tests, and of the same blocks
SIBLINGS = {
    "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge", "DenseNet169", "DenseNet201",
    *(f"EfficientNetB{n}" for n in range(1, 8)), *(f"EfficientNetV2{n}" for n in ("B1", "B2", "B3", "M", "L")),
    "NASNetLarge", "ResNet101", "ResNet101V2", "ResNet152", "ResNet152V2", "VGG19",
}  # fmt: skip


def slow_network(name: str) -> Any:
    """A network as the parameter of a slow test, or of an exhaustive one."""
    return pytest.param(name, marks=pytest.mark.exhaustive if name in SIBLINGS else pytest.mark.slow)


def marked(cases: Iterable[str], marks: Mapping[str, Any]) -> list[Any]:
    """The parameters of a test: the names of its cases, or what a table has for each name; some of them with a mark."""
    if not isinstance(cases, Mapping):
        cases = {name: name for name in cases}
    return [
        pytest.param(*(case if isinstance(case, tuple) else [case]), id=name, marks=marks.get(name, ()))
        for name, case in cases.items()
    ]
