"""The state of an optimizer, read from and written to a weight file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kerassurgery_fn.archive.h5_weights import WeightFile, WeightWriter
from kerassurgery_fn.archive.layer_groups import Arrays, layer_groups
from kerassurgery_fn.archive.optimizer_variables import (
    SCALE_VARIABLES,
    OptimizerVariables,
    Owner,
    TrainedWeight,
    Variable,
    variables_of,
)
from kerassurgery_fn.archive.trained_weights import trained_weights
from kerassurgery_fn.graph import WEIGHTS_BY_NAME
from kerassurgery_fn.values.snapshot import Snapshot, Training
from kerassurgery_fn.values.warning_origin import warn

GROUP, INNER = "optimizer", "optimizer/inner_optimizer"
NOT_CUT = {"Adafactor": "it has averages over rows and columns of weights, which cannot be cut with the weights"}


def read_training(snapshot: Snapshot, weights: WeightFile) -> Training | None:
    """The state of the optimizer of a model; None before its first step, or if the weights of its variables are
    unknown."""
    values = weights.arrays(GROUP)
    optimizer = _optimizer(snapshot)
    if optimizer is None or not _has_started(values):
        return None
    if unordered := _unordered(snapshot):
        warn(
            f"the state of the optimizer ({optimizer['class_name']}) is not read: a file does not say the order of the "
            f"weights of layer {unordered!r}; state it in its rule (sublayers=), or training starts from zero"
        )
        return None
    weights_now = trained_weights(snapshot)
    training = _matched(snapshot, optimizer, weights_now, values)
    if training is None:  # layers may have been frozen after the optimizer was built
        training = _matched(snapshot, optimizer, trained_weights(snapshot, include_frozen=True), values)
    if training is None:
        warn(f"the state of the optimizer ({optimizer['class_name']}) is not read: {_why(optimizer, values)}")
        return None
    return _only(training, {None, *(weight.owner for weight in weights_now)})


def _unordered(snapshot: Snapshot) -> str:
    """The path of the first layer whose weights are not in the order of `get_weights()`; empty if there is none."""
    return next((layer.path for layer in layer_groups(snapshot.record) if layer.record.get(WEIGHTS_BY_NAME)), "")


def _why(optimizer: Any, values: Arrays) -> str:
    """A message: why the state of an optimizer is not read."""
    if optimizer["class_name"] in NOT_CUT:
        return f"{NOT_CUT[optimizer['class_name']]}; training starts from zero"
    if not variables_of(optimizer, []):
        return (
            "the class is not known, and a file does not say which variable belongs to which weight; load the file "
            "with Keras and capture the model, or training starts from zero"
        )
    return f"its {len(values)} variables do not fit the weights of the model; training starts from zero"


def _optimizer(snapshot: Snapshot) -> Any:
    """The record of the optimizer, None if the model is not compiled with one of known form."""
    match snapshot.record.get("compile_config"):
        case {"optimizer": {"class_name": str(), "config": dict()} as optimizer}:
            return optimizer
    return None


def _has_started(values: Arrays) -> bool:
    """Whether an optimizer has made a step: the integers before the first weight count steps."""
    return any(value.any() for value in values[: SCALE_VARIABLES + 1] if value.ndim == 0 and value.dtype.kind == "i")


def _matched(snapshot: Snapshot, optimizer: Any, weights: Sequence[TrainedWeight], values: Arrays) -> Training | None:
    """The values with their weights, if they are as many as the optimizer has for these weights, in their shapes."""
    for variables in variables_of(optimizer, weights):
        slots = tuple(variable.owner for variable in variables.all)
        if len(slots) == len(values) and all(map(_fits, slots, values, [snapshot] * len(values))):
            return Training(slots, values)
    return None


def _fits(owner: Owner | None, value: np.ndarray, snapshot: Snapshot) -> bool:
    return value.shape == (() if owner is None else snapshot.weights[owner[0]][owner[1]].shape)


def _only(training: Training, kept: set[Owner | None]) -> Training:
    pairs = [pair for pair in zip(training.slots, training.values, strict=True) if pair[0] in kept]
    return Training(tuple(slot for slot, _ in pairs), tuple(value for _, value in pairs))


def write_training(writer: WeightWriter, snapshot: Snapshot) -> None:
    """Writes the state of the optimizer, with the variables that Keras will have for the trained weights.

    The variables of new weights get the values that they start with. For optimizers that are not known, the values are
    written in the order in which they were captured.
    """
    optimizer = _optimizer(snapshot)
    if snapshot.training is None or optimizer is None:
        return
    for variables in variables_of(optimizer, trained_weights(snapshot)):
        if (values := _filled(snapshot, snapshot.training, variables.all)) is not None:
            _write_groups(writer, GROUP, variables, values)
            return
    writer.write(GROUP, snapshot.training.values)
    if optimizer["class_name"] == "LossScaleOptimizer":
        writer.write(INNER, snapshot.training.values[SCALE_VARIABLES:])


def _write_groups(writer: WeightWriter, group: str, variables: OptimizerVariables, values: Arrays) -> None:
    """Writes the values of an optimizer, and those of the optimizers in it once more in groups of their own."""
    writer.write(group, values)
    start = len(variables.own)
    for name, inner in variables.inner:
        end = start + len(inner.all)
        _write_groups(writer, f"{group}/{name}", inner, values[start:end])
        start = end


def _filled(snapshot: Snapshot, training: Training, variables: Sequence[Variable]) -> Arrays | None:
    """The values of variables; None if the state has another number of them for a weight, or for no weight.

    A weight that is new has none, and its variables get the values that they start with.
    """
    wanted, known = Counter(variable.owner for variable in variables), training.by_owner()
    if any(owner in wanted and len(values) != wanted[owner] for owner, values in known.items()):
        return None
    if len(known.get(None, ())) != wanted[None]:
        return None
    remaining = {owner: iter(values) for owner, values in known.items()}
    return tuple(_values(snapshot, remaining, variables))


def _values(snapshot: Snapshot, remaining: dict[Any, Iterator[np.ndarray]], variables: Any) -> Iterator[np.ndarray]:
    for owner, initial in variables:
        value = next(remaining.get(owner, iter(())), None)
        if value is None:
            weight = snapshot.weights[owner[0]][owner[1]]
            value = weight if initial is None else np.full(weight.shape, initial, weight.dtype)
        yield value
