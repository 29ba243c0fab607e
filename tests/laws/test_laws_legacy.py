"""The laws on layers of Keras 1 and 2 that are in `tf.keras.layers`, but not in `keras.layers`."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_law
from kerassurgery_fn import InsertLayer, capture, rebuild, score_by_apoz

pytestmark = pytest.mark.keras


def legacy(name, *args):
    import tensorflow as tf

    return getattr(tf.keras.layers, name)(*args, name="legacy")


def around(name, *args):
    x = keras.Input((6, 5, 3))
    y = legacy(name, *args)(L.Conv2D(6, 2, name="conv")(x))
    return keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(y)))


@pytest.mark.parametrize(
    "name, argument",
    [("AlphaDropout", 0.5), ("ThresholdedReLU", 0.1), ("RandomHeight", 0.2), ("RandomWidth", (-0.1, 0.3))],
)
def test_legacy_layers_keep_channels_in_place(name, argument):
    model = around(name, argument)
    assert type(model.get_layer("legacy")).__module__.startswith("keras.src.legacy")
    check_law(model)


def test_a_legacy_layer_can_be_inserted():
    x = keras.Input((6, 5, 3))
    model = keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(6, 2, name="conv")(x))))
    for layer in (legacy("RandomHeight", 0.2), legacy("AlphaDropout", 0.2), legacy("ThresholdedReLU")):
        made = InsertLayer(layer, after="conv")(capture(model))
        assert capture(rebuild(made)) == made


def test_a_thresholded_relu_is_an_activation():
    x = keras.Input((2,))
    model = keras.Model(x, L.Dense(1)(legacy("ThresholdedReLU", 1.0)(L.Dense(2, name="dense", use_bias=False)(x))))
    model.get_layer("dense").set_weights([np.eye(2)])
    data = np.array([[2, 0.5], [0.9, 0.5], [1.5, 3], [-1, -1]], "float32")
    assert score_by_apoz(model, data)["dense"].tolist() == [0.5, 0.75]
