"""Reads and restores the state of a model's optimizer, and finds the weight of each of its variables.

Keras keeps the variables of an optimizer in one list and links them to weights by name only:

    iteration, learning_rate               belong to no weight
    dense_kernel_momentum, ..._velocity    belong to the weight with the path `dense/kernel`

A snapshot stores the weight of each variable, its owner: (layer path, index in `layer.get_weights()`). So a channel
edit cuts the variables as it cuts the weight.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import keras
import numpy as np

from kerassurgery_fn.graph import Record
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.keras_io.weight_arrays import arrays_of
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights
from kerassurgery_fn.values.warning_origin import warn

Owner = tuple[str, int]  # layer path, index in layer.get_weights()
Slots = tuple[Owner | None, ...]
Values = tuple[np.ndarray, ...]


def training_of(model: keras.Model, record: Record, weights: Weights) -> Training | None:
    """The state of a model's optimizer. It is None before the first step, or if a variable does not have the shape of
    its weight."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not _has_started(optimizer):
        return None
    values = arrays_of(optimizer.variables)
    slots, values = _without_frozen(model, record, values)
    # A variable of another shape cannot be cut with its weight. Adafactor, for example, stores averages over rows.
    for owner, value in zip(slots, values, strict=True):
        if value.ndim and (owner is None or value.shape != weights[owner[0]][owner[1]].shape):
            warn(
                f"the state of the optimizer ({type(optimizer).__name__}) is not captured: it has a variable of shape "
                f"{value.shape}, which is not the shape of a weight; after rebuild() the optimizer starts from zero"
            )
            return None
    return Training(slots, values)


def _has_started(optimizer: keras.Optimizer) -> bool:
    return any(variable.name == "iteration" and variable.numpy() for variable in optimizer.variables)


def _without_frozen(model: keras.Model, record: Record, values: Values) -> tuple[Slots, Values]:
    """Owners and values of the optimizer's variables, except those of weights frozen after the optimizer was built.

    The optimizer still has variables for these weights. The optimizer of the rebuilt model, built for the weights that
    are trainable now, has none.
    """
    # The usual case: every variable with axes belongs to a weight that is trainable now.
    slots = owners_of_variables(model, record)
    if all(owner or not value.ndim for owner, value in zip(slots, values, strict=True)):
        return slots, values
    trainable = {(path, index) for path, layer, _ in layers_of(model, record, "") for index in _trainable(layer)}
    slots = owners_of_variables(model, record, include_frozen=True)
    kept = [index for index, owner in enumerate(slots) if owner is None or owner in trainable]
    return tuple(slots[index] for index in kept), tuple(values[index] for index in kept)


def _trainable(layer: keras.layers.Layer) -> list[int]:
    return [index for index, weight in enumerate(layer.weights) if weight.trainable]


def owners_of_variables(model: keras.Model, record: Record, include_frozen: bool = False) -> Slots:
    """The weight to which each variable of the optimizer belongs, None for variables such as the learning rate.

    The optimizer names a variable after the path of its weight, `dense/kernel` -> `dense_kernel_momentum`. Two cases
    are ambiguous:

    - One name is the beginning of another (`dense_kernel`, `dense_kernel_a`): the longest match is right.
    - Weights in two nested models have equal paths. The optimizer lists its variables in the order of the weights, so
      the first variable of a name belongs to the first weight, the second variable to the second weight, and so on.
    """
    owners: dict[str, list[Owner]] = defaultdict(list)
    for path, layer, _ in layers_of(model, record, ""):
        for index, weight in enumerate(layer.weights):
            if weight.trainable or include_frozen:
                owners[weight.path.replace("/", "_")].append((path, index))
    longest_first = sorted(owners, key=len, reverse=True)
    seen: Counter[str] = Counter()
    slots: list[Owner | None] = []
    for variable in model.optimizer.variables:
        prefix = next((name for name in longest_first if variable.name.startswith(f"{name}_")), None)
        candidates = owners[prefix] if prefix else []
        slots.append(candidates[seen[variable.name] % len(candidates)] if candidates else None)
        seen[variable.name] += 1
    return tuple(slots)


def restore_training(model: keras.Model, snapshot: Snapshot) -> None:
    """Gives the optimizer of a rebuilt model the state that the snapshot contains."""
    # If a class overrides compile(), the rebuilt model can be without an optimizer.
    if snapshot.training is None or getattr(model, "optimizer", None) is None:
        return
    if not model.optimizer.built:  # otherwise Keras creates the variables at the first training step
        model.optimizer.build(model.trainable_variables)
    slots, values = owners_of_variables(model, snapshot.record), snapshot.training.by_owner()
    variables_per_owner = Counter(slots)
    if any(variables_per_owner[owner] != len(owned_values) for owner, owned_values in values.items()):
        warn(
            f"the state of the optimizer is not restored: after rebuild(), {type(model.optimizer).__name__} has other "
            "variables than before, and starts from zero; set the global dtype policy that was set when the model was "
            "compiled, and rebuild again"
        )
        return
    remaining = {owner: iter(owned_values) for owner, owned_values in values.items()}
    for variable, owner in zip(model.optimizer.variables, slots, strict=True):
        if owner in remaining:
            variable.assign(next(remaining[owner]))
