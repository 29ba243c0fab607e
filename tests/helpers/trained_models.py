"""A small compiled model that has made a training step, and its next step."""

import keras
import numpy as np
from keras import layers as L

X = np.random.default_rng(0).random((8, 6, 6, 3), dtype="float32")
Y = np.random.default_rng(1).random((8, 2), dtype="float32")


def trained(optimizer, frozen=()):
    x = keras.Input((6, 6, 3))
    y = L.BatchNormalization(name="norm")(L.Conv2D(3, 3, name="conv")(x))
    model = keras.Model(x, L.Dense(2, name="dense")(L.Flatten()(y)))
    for name in frozen:
        model.get_layer(name).trainable = False
    model.compile(optimizer, "mse", metrics=["mae"], run_eagerly=True)
    step(model)
    return model


def step(model, x=X, y=Y):
    """The weights after a training step on all data."""
    model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0)
    return model.get_weights()
