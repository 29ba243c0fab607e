"""Arrays that stand in a call's arguments or in an operation's config, cut like weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerassurgery_fn.channels import Axis
from kerassurgery_fn.rules.layer import Findings, Layer, NoRule, Tensor
from kerassurgery_fn.values.frozen import Location


class Given(tuple[Axis, ...]):
    """The axes of an array whose values are known, and the place of its nested list in the snapshot's record."""

    array: np.ndarray
    where: Location


def given(findings: Findings, where: Location, array: np.ndarray) -> Given:
    """The axes of an array at a place: fresh ids for each that is longer than 1, the same ones at every visit."""
    if where not in findings.constants:
        made = Given(findings.constraints.fresh(n) if n > 1 else n for n in array.shape)
        made.array, made.where = array, where
        findings.constants[where] = made
    return findings.constants[where]  # type: ignore[return-value]


def operand(layer: Layer, place: Location, value: Any) -> Tensor:
    """The axes of an operand at a place of the call: a tensor, a number, or a nested list of numbers.

    Raises:
        NoRule: it is something else.
    """
    if isinstance(value, tuple):
        return value
    if isinstance(value, (Mapping, str)):
        raise NoRule("combines it with something that is no tensor")
    if isinstance(value, list):
        return given(layer.findings, (*layer.call_place, *place), np.asarray(value))
    return ()


def stored(layer: Layer) -> list[Tensor]:
    """The axes of all lists of numbers in the config, for operations that broadcast them to what they read."""
    lists = {name: value for name, value in layer.config.items() if isinstance(value, list)}
    return [given(layer.findings, (*layer.where, "config", name), np.asarray(value)) for name, value in lists.items()]
