"""Networks as people build them, each as a subclassed model and as a layer that is made of layers.

What is captured must compute the same to the last bit, and as many channels can be cut as of the Functional model.
"""

import keras
import numpy as np
import pytest

from helpers import architectures_of_sequences  # noqa: F401 (lists its networks)
from helpers.architectures import NETWORKS
from helpers.laws import check_round_trip, prunable, random_inputs, randomise
from kerassurgery_fn import analyse, capture, rebuild

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.ClassNotKept")]

ALWAYS = {"u net", "text transformer", "encoder decoder with states", "many inputs and outputs", "capsules"}
WITHOUT_SHAPE = {"u net of any size"}  # Keras cannot work out the output shape of a layer with such code


def networks(left_out=()):
    return [
        pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow)
        for name in NETWORKS
        if name not in left_out
    ]


class CodedModel(keras.Model):
    """A model whose code calls the layers of a network one by one."""

    def __init__(self, network):
        super().__init__(name="coded")
        self.network = network

    def call(self, x, training=None):
        return self.network.call(x, training=training)


@keras.saving.register_keras_serializable("as_code")
class CodedLayer(keras.layers.Layer):
    """A layer whose code calls the layers of a network one by one."""

    def __init__(self, network=None, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def build(self, shape):
        self.built = True

    def call(self, x, training=None):
        return self.network.call(x, training=training)


def filled(name):
    """A network with random weights, inputs for it, and its outputs."""
    network = NETWORKS[name]()
    randomise(network)
    inputs = random_inputs(network)
    return network, inputs, outputs_of(network, inputs)


def outputs_of(model, inputs):
    return [np.asarray(output) for output in keras.tree.flatten(model(inputs))]


def check_captured(snapshot, network, inputs, outputs):
    for actual, expected in zip(outputs_of(rebuild(snapshot), inputs), outputs, strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert prunable(analyse(snapshot)) == pytest.approx(prunable(analyse(capture(network))))
    check_round_trip(snapshot)


@pytest.mark.parametrize("name", networks())
def test_a_network_as_a_subclassed_model(name):
    network, inputs, outputs = filled(name)
    model = CodedModel(network)
    model(inputs)
    check_captured(capture(model, inputs=network.input), network, inputs, outputs)


@pytest.mark.parametrize("name", networks(left_out=WITHOUT_SHAPE))
def test_a_network_as_a_layer(name):
    network, inputs, outputs = filled(name)
    symbolic = keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"{tensor.name}_outside"),
        network.input,
    )
    model = keras.Model(symbolic, CodedLayer(network, name="block")(symbolic))
    check_captured(capture(model, expand="block"), network, inputs, outputs)
