"""Constant arrays among the arguments of a call or in the config of an operation. They are cut like weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis
from kerassurgery_fn.rules.layer import Findings, Layer, NoRule, Tensor
from kerassurgery_fn.values.frozen import Location


class Given(tuple[Axis, ...]):
    """The axes of an array with known values, and the place of the array in the snapshot's record."""

    array: np.ndarray
    where: Location


def given(findings: Findings, where: Location, array: np.ndarray) -> Given:
    """The axes of an array at a place. Each axis with several positions gets ids, the same ids for every call."""
    if where not in findings.constants:
        axes = Given(findings.constraints.fresh(n) if n > 1 else n for n in array.shape)
        axes.array, axes.where = array, where
        findings.constants[where] = axes
    return findings.constants[where]  # type: ignore[return-value]


def operand(layer: Layer, place: Location, value: Any) -> Tensor:
    """The axes of an operand at a place of the call: a tensor, a number, or a nested list of numbers.

    Raises:
        NoRule: the operand is something else.
    """
    if isinstance(value, tuple):
        return value
    if isinstance(value, (Mapping, str)):
        raise NoRule("combines it with something that is not a tensor")
    if isinstance(value, list):
        return given(layer.findings, (*layer.call_place, *place), np.asarray(value))
    return ()


def stored(layer: Layer) -> list[Tensor]:
    """The axes of all lists of numbers in the config of an operation that broadcasts them to its input."""
    lists = {name: value for name, value in layer.config.items() if isinstance(value, list)}
    return [given(layer.findings, (*layer.where, "config", name), np.asarray(value)) for name, value in lists.items()]
