"""Weights that a field of a config switches on or off: a bias, the scale and the offset of a normalisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.channels import size
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.graph import Port, Record
from kerassurgery_fn.rules.dtypes import variable_dtype
from kerassurgery_fn.rules.findings import Weight
from kerassurgery_fn.rules.layer import SWITCHES

# What a weight is when the layer computes the same with and without it, by the last word of its name.
NEUTRAL = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "scale": 1.0}
SWITCHING = {*SWITCHES.values(), "bias_axes", "use_scale"}


def is_switch(fields: Iterable[str]) -> bool:
    """Whether any of some fields switches weights on or off."""
    return not SWITCHING.isdisjoint(fields)


def with_switched_weights(before: Draft, after: Draft, path: str, allow_function_change: bool) -> Draft:
    """The draft in which a layer has the weights that its config switches on, and no others. New ones change nothing:
    a bias is zero, a scale is one.

    Args:
        before, after: the draft before and after the change of the config.
        path: the path of the layer.
        allow_function_change: whether weights may go that the layer computes with.

    Raises:
        BadValue: a weight would go that is not neutral, and that is not allowed.
    """
    arrays = after.weights.get(path, ())
    if path in after.weights and not arrays:  # they are yet to be drawn
        return after
    old, new = weights_of(before, path), weights_of(after, path)
    if len(arrays) != len(old) or names_of(old) == names_of(new):
        return after
    known = dict(zip(names_of(old), arrays, strict=True))
    wanted = names_of(new)
    if any(neutral_value(name) is None for name, _ in {*wanted} ^ {*known}):
        return after
    for name in () if allow_function_change else [name for name in known if name not in wanted]:
        refuse_used(path, name[0], known[name])
    dtype = arrays[0].dtype if arrays else dtype_of_weights(after.record(path))
    switched = tuple(
        known[name] if name in known else neutral(name[0], weight, dtype)
        for name, weight in zip(wanted, new, strict=True)
    )
    after = replace(after, restarted=after.restarted | {path})
    return after.with_arrays({path: switched}) if switched else after.without(path)


def dtype_of_weights(record: Record) -> np.dtype[Any]:
    """The dtype in which a layer keeps weights."""
    name = variable_dtype(record["config"].get("dtype") or "float32")
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def weights_of(draft: Draft, path: str) -> Sequence[Weight]:
    """The weights that the rule of a layer spells, with their sizes; none where no rule says."""
    scope, key = parted(path)
    graph = draft.graph(scope)
    live = [node for node in graph.live if node[0] == key]
    graph = replace(graph, changed=graph.changed | {key}, outputs=[Port(*node) for node in live[:1]])
    return settled(graph, {}, scope).weights.get(key) or () if live else ()


def names_of(weights: Sequence[Weight]) -> list[tuple[str, int]]:
    """The name of each weight, and how many of that name come before it: a wrapped layer may repeat them.

    >>> names_of([Weight("kernel", (), True), Weight("bias", (), True), Weight("kernel", (), True)])
    [('kernel', 0), ('bias', 0), ('kernel', 1)]
    """
    seen: Counter[str] = Counter()
    names = []
    for weight in weights:
        names.append((weight.name, seen[weight.name]))
        seen[weight.name] += 1
    return names


def neutral(name: str, weight: Weight, dtype: np.dtype[Any]) -> np.ndarray:
    """A weight that changes nothing."""
    return np.full([size(axis) or 1 for axis in weight.axes], neutral_value(name), dtype)


def neutral_value(name: str) -> float | None:
    """What a weight of a name is when it changes nothing; None if that is not known.

    >>> neutral_value("query_bias"), neutral_value("kernel")
    (0.0, None)
    """
    return NEUTRAL.get(name.rpartition("_")[2])


def refuse_used(path: str, name: str, array: np.ndarray) -> None:
    """Raises BadValue where a layer computes something else without a weight."""
    if (array != neutral_value(name)).any():
        raise BadValue(
            f"layer {path!r} would lose its {name}, which is not {neutral_value(name):g} everywhere, and would compute "
            "something else; pass allow_function_change=True if that is meant"
        )
