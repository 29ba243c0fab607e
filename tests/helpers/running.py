"""What snapshots compute.

A rebuild costs many times what a new set of weights does. So the models of a test are kept until its end, and a
snapshot is computed by a model that was rebuilt from an equal record, with the weights of the snapshot.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

from helpers.filling import randomise
from kerassurgery_fn import capture, rebuild
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.values.snapshot import Snapshot

_rebuilt: list[tuple[Snapshot, keras.Model]] = []  # a few models, and the snapshot whose weights each of them has
_filled: WeakKeyDictionary[keras.Model, tuple[int, Snapshot]] = WeakKeyDictionary()  # and the seed of its weights


def compute(snapshot: Snapshot, inputs: Any) -> list[np.ndarray]:
    """The outputs of the model of a snapshot, one after the other."""
    return outputs_of(model_of(snapshot), inputs)


def outputs_of(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    """The outputs of a model, one after the other."""
    outputs = model(inputs, training=False)
    return [keras.ops.convert_to_numpy(keras.ops.cast(one, "float32")) for one in keras.tree.flatten(outputs)]


def model_of(snapshot: Snapshot) -> keras.Model:
    """A model of a snapshot, which the next snapshot of an equal record may get."""
    for index, (held, model) in enumerate(_rebuilt):
        if held.record == snapshot.record:
            if held is not snapshot or is_stateful(model):
                set_weights(model, snapshot)
            _rebuilt[index] = snapshot, model
            return model
    return remember(snapshot, rebuild(snapshot))


def captured(model: keras.Model) -> Snapshot:
    """The snapshot of a model, which computes snapshots from now on as if it had been rebuilt.

    A model in which a layer has two paths is not used: it has one set of weights where the snapshot has two.
    """
    snapshot = capture(model)
    reuse(snapshot, model)
    return snapshot


def filled(model: keras.Model, seed: int = 0) -> Snapshot:
    """The snapshot of a model with random weights; several checks of one model fill and capture it once."""
    if _filled.get(model, (None,))[0] != seed:
        randomise(model, seed)
        _filled[model] = seed, captured(model)
        return _filled[model][1]
    _, snapshot = _filled[model]
    set_weights(model, snapshot)
    reuse(snapshot, model)
    return snapshot


def reuse(snapshot: Snapshot, model: keras.Model) -> None:
    """Computes snapshots with a model from now on, unless a layer of it has two paths."""
    layers = [id(layer) for _, layer, _ in layers_of(model, snapshot.record, "")]
    if len(set(layers)) == len(layers):
        remember(snapshot, model)


def remember(snapshot: Snapshot, model: keras.Model) -> keras.Model:
    """Keeps a model that was rebuilt from a snapshot, so that `compute` can use it."""
    _rebuilt.append((snapshot, model))
    del _rebuilt[:-4]
    return model


def forget() -> None:
    """Drops all models: another test may have other classes of the same names."""
    _rebuilt.clear()


def is_stateful(model: keras.Model) -> bool:
    return any(getattr(layer, "stateful", False) for layer in model._flatten_layers())


def set_weights(model: keras.Model, snapshot: Snapshot) -> None:
    """Sets all weights, states of recurrent layers included, as `rebuild` does."""
    for path, layer, _ in layers_of(model, snapshot.record, ""):
        if arrays := snapshot.weights.get(path):
            layer.set_weights(arrays)
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()
