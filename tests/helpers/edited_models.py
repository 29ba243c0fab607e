"""Small networks of different kinds, with names for their layers, for the tests of edits."""

from functools import cache

import keras
import numpy as np
from keras import layers as L

from helpers.filling import random_inputs, randomise
from helpers.running import outputs_of
from kerassurgery_fn import Snapshot, capture


def plain():
    x = keras.Input((8, 8, 3), name="image")
    y = L.Conv2D(4, 3, padding="same", name="conv_1")(x)
    y = L.ReLU(name="relu_1")(L.BatchNormalization(name="bn_1")(y))
    z = L.Dropout(0.3, name="drop")(L.Conv2D(4, 3, padding="same", name="conv_2")(y))
    y = L.Add(name="sum")([y, z])
    y = L.Dense(5, activation="tanh", name="dense")(L.GlobalAveragePooling2D(name="mean")(y))
    return keras.Model(x, L.Dense(3, name="top")(y))


def siamese():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    tower, drop = L.Dense(6, activation="relu", name="tower"), L.Dropout(0.2, name="drop")
    c, d = tower(a), tower(drop(tower(drop(b))))
    return keras.Model({"a": a, "b": b}, {"far": L.Subtract(name="far")([c, d]), "near": L.Dense(2, name="near")(c)})


def nested():
    i = keras.Input((6, 6, 3))
    j = L.Dropout(0.1, name="drop")(L.Conv2D(4, 3, activation="relu", name="conv")(i))
    backbone = keras.Model(i, L.Conv2D(4, 1, name="out")(j), name="backbone")
    head = keras.Sequential(
        [keras.Input((4,)), L.Dense(6, name="hidden"), L.ReLU(name="relu"), L.Dense(4, name="last")]
    )
    x = keras.Input((6, 6, 3))
    y = L.GlobalMaxPooling2D(name="peak")(backbone(x))
    return keras.Model(x, L.Dense(2, name="top")(head(y)))


def row():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)), L.Conv2D(4, 3, name="conv"), L.Dropout(0.2, name="drop"), L.ReLU(name="relu"),
            L.Flatten(name="flat"), L.Dense(3, name="top"),
        ]
    )  # fmt: skip


def recurrent():
    x = keras.Input((5, 4))
    y, state = L.GRU(6, return_sequences=True, return_state=True, name="gru")(x)
    y = L.LSTM(6, name="lstm")(L.Dropout(0.2, name="drop")(y), initial_state=[state, state])
    y = L.TimeDistributed(keras.Sequential([L.Dense(4, name="step"), L.ReLU(name="relu")]), name="steps")(
        L.RepeatVector(3, name="again")(y)
    )
    return keras.Model(x, L.Dense(2, name="top")(L.Bidirectional(L.LSTM(3), name="both")(y)))


def operators():
    x = keras.Input((6,))
    y = L.Dense(6, name="a")(x) * 2.0
    y = keras.ops.concatenate([y, L.Dense(4, name="b")(y)], axis=-1)
    return keras.Model(x, L.Dense(2, name="top")(keras.ops.relu(y) + np.arange(10, dtype="float32")))


MODELS = {make.__name__: make for make in (plain, siamese, nested, row, recurrent, operators)}


@cache
def compiled(name: str) -> Snapshot:
    """The snapshot of a compiled model with random weights."""
    model = MODELS[name]()
    randomise(model)
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return capture(model)


@cache
def computed(name: str) -> tuple[Snapshot, object, list[np.ndarray]]:
    """The snapshot of a model with random weights, random inputs, and its outputs."""
    model = MODELS[name]()
    randomise(model)
    inputs = random_inputs(model)
    return capture(model), inputs, outputs_of(model, inputs)
