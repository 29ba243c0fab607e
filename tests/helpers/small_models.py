"""Small models around the layers that a test is about."""

import keras
from keras import layers as L


def chain(shape, *layers, head=True, dtype=None):
    """A Functional model of layers one after the other, by default with a Dense on top that reads every position."""
    x = inputs = keras.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, L.Dense(5)(L.Flatten()(x)) if head else x)


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def dense_head(x, units=5):
    """A Dense on top that reads every position of a tensor."""
    return L.Dense(units)(L.Flatten()(x))
