"""Adds and removes the weights that a config field switches on or off: a bias, the scale of a normalisation."""

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

# Last word of the name of a weight -> its neutral value: with it, the layer computes the same as without the weight.
NEUTRAL = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "scale": 1.0}
SWITCHING = {*SWITCHES.values(), "bias_axes", "use_scale"}


def is_switch(fields: Iterable[str]) -> bool:
    """Whether any of some fields switches weights on or off."""
    return not SWITCHING.isdisjoint(fields)


def with_switched_weights(before: Draft, after: Draft, path: str, allow_function_change: bool) -> Draft:
    """The draft in which a layer has exactly the weights that its config switches on. New weights do not change the
    output: a bias is zero, a scale is one.

    Args:
        before, after: the draft before and after the change of the config.
        path: the path of the layer.
        allow_function_change: whether weights can be removed that are not neutral.

    Raises:
        BadValue: a weight that is not neutral would be removed, and this is not allowed.
    """
    arrays = after.weights.get(path, ())
    if path in after.weights and not arrays:  # the weights are not drawn yet
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
    """The dtype of a layer's weights."""
    name = variable_dtype(record["config"].get("dtype") or "float32")
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def weights_of(draft: Draft, path: str) -> Sequence[Weight]:
    """The weights of a layer by its rule, with their sizes; empty if there is no rule."""
    scope, key = parted(path)
    graph = draft.graph(scope)
    live = [node for node in graph.live if node[0] == key]
    graph = replace(graph, changed=graph.changed | {key}, outputs=[Port(*node) for node in live[:1]])
    return settled(graph, {}, scope).weights.get(key) or () if live else ()


def names_of(weights: Sequence[Weight]) -> list[tuple[str, int]]:
    """The name of each weight, and the number of weights with this name before it. A wrapper can repeat names.

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
    """A weight that does not change the output of its layer."""
    return np.full([size(axis) or 1 for axis in weight.axes], neutral_value(name), dtype)


def neutral_value(name: str) -> float | None:
    """The value with which a weight of this name does not change the output; None if it is not known.

    >>> neutral_value("query_bias"), neutral_value("kernel")
    (0.0, None)
    """
    return NEUTRAL.get(name.rpartition("_")[2])


def refuse_used(path: str, name: str, array: np.ndarray) -> None:
    """Raises BadValue if a layer would compute different outputs without a weight."""
    if (array != neutral_value(name)).any():
        raise BadValue(
            f"layer {path!r} would lose its {name}, which is not {neutral_value(name):g} everywhere, and its outputs "
            "would change; pass allow_function_change=True to allow this"
        )
