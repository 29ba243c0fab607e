"""The state of a model's optimizer, weight by weight."""

from __future__ import annotations

from collections import Counter, defaultdict

import keras
import numpy as np

from kerassurgery_fn.graph import Record
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights
from kerassurgery_fn.values.warning_origin import warn

Slots = tuple[tuple[str, int] | None, ...]
Values = tuple[np.ndarray, ...]


def training_of(model: keras.Model, record: Record, weights: Weights) -> Training | None:
    """The state of a model's optimizer, None before its first step and where a part of it belongs to no one weight."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not any(v.name == "iteration" and v.numpy() for v in optimizer.variables):
        return None
    values = tuple(owned(keras.ops.convert_to_numpy(variable)) for variable in optimizer.variables)
    slots, values = _of_trained(model, record, values)
    for owner, value in zip(slots, values, strict=True):
        if value.ndim and (owner is None or value.shape != weights[owner[0]][owner[1]].shape):
            warn(
                f"the state of the optimizer ({type(optimizer).__name__}) stays behind: it has a variable of shape "
                f"{value.shape} that is not shaped like any weight; after rebuild() it starts anew"
            )
            return None
    return Training(slots, values)


def _of_trained(model: keras.Model, record: Record, values: tuple[np.ndarray, ...]) -> tuple[Slots, Values]:
    """The owners and values of the optimizer's variables, less those of layers that were frozen since it was built: the
    optimizer of the rebuilt model has none for them."""
    slots = _slots(model, record)
    if all(owner or not value.ndim for owner, value in zip(slots, values, strict=True)):
        return slots, values
    trained = {(path, i) for path, layer, _ in layers_of(model, record, "") for i in _trainable(layer)}
    every = _slots(model, record, frozen=True)
    kept = [i for i, owner in enumerate(every) if owner is None or owner in trained]
    return tuple(every[i] for i in kept), tuple(values[i] for i in kept)


def _trainable(layer: keras.layers.Layer) -> list[int]:
    return [index for index, weight in enumerate(layer.weights) if weight.trainable]


def _slots(model: keras.Model, record: Record, frozen: bool = False) -> Slots:
    """The weight that each variable of the optimizer belongs to, by the name that the optimizer gives it: one that
    training changes, or with `frozen` any one.

    Weights of one name, as nested models may have them, take turns in the order of the model.
    """
    owners: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for path, layer, _ in layers_of(model, record, ""):
        for index, variable in enumerate(layer.weights):
            if variable.trainable or frozen:
                owners[variable.path.replace("/", "_")].append((path, index))
    names = sorted(owners, key=len, reverse=True)
    seen: Counter[str] = Counter()
    slots: list[tuple[str, int] | None] = []
    for variable in model.optimizer.variables:
        name = next((name for name in names if variable.name.startswith(f"{name}_")), None)
        slots.append(owners[name][seen[variable.name] % len(owners[name])] if name else None)
        seen[variable.name] += 1
    return tuple(slots)


def resume(model: keras.Model, snapshot: Snapshot) -> None:
    """Gives the optimizer of a rebuilt model the state that the snapshot carries."""
    if snapshot.training is None or getattr(model, "optimizer", None) is None:  # a compile() of its own is not called
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    slots, values = _slots(model, snapshot.record), snapshot.training.by_owner()
    counts = Counter(slots)
    if any(counts[owner] != len(own) for owner, own in values.items()):
        warn(
            f"the state of the optimizer stays behind: compiled anew, {type(model.optimizer).__name__} has other "
            "variables than before; a global dtype policy must be the same as when the model was made"
        )
        return
    waiting = {owner: iter(own) for owner, own in values.items()}
    for variable, owner in zip(model.optimizer.variables, slots, strict=True):
        if owner in waiting:
            variable.assign(next(waiting[owner]))


def owned(array: np.ndarray) -> np.ndarray:
    """The array itself if its memory is its own, else a copy: some backends hand out the variable's memory."""
    array = np.asarray(array)  # get_weights() gives a number as a numpy scalar
    return array if array.flags.owndata else array.copy()
