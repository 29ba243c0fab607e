"""Small models around an operation."""

import keras
import numpy as np
from keras import layers as L
from keras import ops

from helpers.small_models import dense_head

RNG = np.random.default_rng(7)


def constant(*shape):
    """A constant as it may stand in a call: float32 values between 0.5 and 1.5."""
    return RNG.uniform(0.5, 1.5, shape).astype("float32")


def apply(operation, shape=(7, 4), units=8, head=True):
    """A model of a Dense, an operation on what it makes, and layers that read every position."""
    x = keras.Input(shape)
    y = operation(L.Dense(units)(x))
    return keras.Model(x, dense_head(L.Dense(4)(y)) if head else dense_head(y))


def combine(operation, shape=(7, 4), units=8):
    """A model of an operation on what two Dense layers make."""
    x = keras.Input(shape)
    return keras.Model(x, dense_head(L.Dense(4)(operation(L.Dense(units)(x), L.Dense(units)(x)))))


def positive(x):
    """Values between 0.1 and 0.9, where every function is defined."""
    return 0.1 + 0.8 * ops.sigmoid(x)


def whole(x):
    return ops.cast(4 * x, "int32")
