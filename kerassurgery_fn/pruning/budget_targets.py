"""Budgets: the largest number of channels, parameters, MACs or bytes of a pruned model, or its largest latency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.pruning.latency_tables import PER_MICROSECOND

BUDGETS = ("channels", "parameters", "macs", "bytes", "latency")
UNITS = {"macs": "MACs", "latency": "microseconds"}  # what a figure is counted in, if it is not the figure itself


@dataclass(frozen=True)
class Budget:
    """The largest value of a figure of a pruned model, as an absolute number.

    - `figure`: `channels`, `parameters`, `macs`, `bytes` or `latency`;
    - `before`: the figure of the model before pruning; `target`: its largest value after pruning. A latency is in
      nanoseconds.
    """

    figure: str
    before: int
    target: int

    def says(self, number: int) -> str:
        """A number of the figure in words.

        >>> Budget("macs", 2000, 1000).says(500), Budget("latency", 2_000_000, 1000).says(500_000)
        ('500 MACs (25.0 %)', '500.0 microseconds (25.0 %)')
        """
        unit = UNITS.get(self.figure, self.figure)
        return f"{as_argument(self.figure, number):,} {unit} ({100 * number / max(1, self.before):.1f} %)"


def as_argument(figure: str, number: int) -> float:
    """A number of a figure as the caller gives it: latencies are given in microseconds.

    >>> as_argument("latency", 1500), as_argument("macs", 1500)
    (1.5, 1500)
    """
    return number / PER_MICROSECOND if figure == "latency" else number


def budget(figure: str, value: Any, before: int) -> Budget:
    """The budget for a figure: a float below 1 is the fraction that may be left, a number from 1 is absolute.

    Raises:
        BadValue: the value is neither.

    >>> budget("macs", 0.5, 2001), budget("macs", 700, 2000).target, budget("latency", 1.5, 2000).target
    (Budget(figure='macs', before=2001, target=1000), 700, 1500)
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if is_number and 0 < value < 1:
        return Budget(figure, before, math.floor(value * before))
    if is_number and 1 <= value < math.inf and not (isinstance(value, float) and value == 1):
        if figure == "latency":
            return Budget(figure, before, round(value * PER_MICROSECOND))
        if value == int(value):
            return Budget(figure, before, int(value))
    unit = UNITS.get(figure, figure)
    number = f"a number of {unit}" if figure == "latency" else f"a whole number of {unit}"
    raise BadValue(
        f"{figure}: a budget is the fraction that may be left, between 0 and 1, such as {figure}=0.5, or {number} from "
        f"1, such as {figure}={max(1, int(as_argument(figure, before)) // 2)}; not {shortened(value)}"
    )


def budgets(values: Mapping[str, Any], before: Mapping[str, int]) -> list[Budget]:
    """The budgets for the figures that have a value.

    Raises:
        BadValue: a value is no budget.
    """
    return [budget(figure, value, before[figure]) for figure, value in values.items() if value is not None]


def refuse_half_given(latency: Any, latency_table: Any) -> None:
    """Raises BadValue if there is a budget of latency without a table of latencies, or a table without a budget."""
    if latency is not None and latency_table is None:
        raise BadValue(
            "latency: the latency of a model follows from that of its layers, and there is no table of these: give "
            "latency_table=measure_latencies(model)"
        )
    if latency is None and latency_table is not None:
        raise BadValue(
            "latency_table: there is no budget of latency: give latency=0.5, or leave the table out; latency(snapshot, "
            "latency_table) tells the latency of a model"
        )
