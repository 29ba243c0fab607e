"""Budgets: the largest number of channels, parameters, MACs or bytes of a pruned model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.errors import BadValue

BUDGETS = ("channels", "parameters", "macs", "bytes")


@dataclass(frozen=True)
class Budget:
    """The largest value of a figure of a pruned model, as an absolute number.

    - `figure`: `channels`, `parameters`, `macs` or `bytes`;
    - `before`: the figure of the model before pruning; `target`: its largest value after pruning.
    """

    figure: str
    before: int
    target: int

    def says(self, number: int) -> str:
        """A number of the figure in words.

        >>> Budget("macs", 2000, 1000).says(500)
        '500 MACs (25.0 %)'
        """
        unit = "MACs" if self.figure == "macs" else self.figure
        return f"{number:,} {unit} ({100 * number / max(1, self.before):.1f} %)"


def budget(figure: str, value: Any, before: int) -> Budget:
    """The budget for a figure: a float below 1 is the fraction that may be left, a number from 1 is absolute.

    Raises:
        BadValue: the value is neither.

    >>> budget("macs", 0.5, 2001), budget("macs", 700, 2000).target
    (Budget(figure='macs', before=2001, target=1000), 700)
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if is_number and 0 < value < 1:
        return Budget(figure, before, math.floor(value * before))
    if is_number and 1 <= value < math.inf and value == int(value) and not (isinstance(value, float) and value == 1):
        return Budget(figure, before, int(value))
    raise BadValue(
        f"{figure}: a budget is the fraction that may be left, between 0 and 1, such as {figure}=0.5, or a whole "
        f"number of {figure}, such as {figure}={max(1, before // 2)}; not {shortened(value)}"
    )


def budgets(values: Mapping[str, Any], before: Mapping[str, int]) -> list[Budget]:
    """The budgets for the figures that have a value.

    Raises:
        BadValue: a value is no budget.
    """
    return [budget(figure, value, before[figure]) for figure, value in values.items() if value is not None]
