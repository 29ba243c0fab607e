"""Rules for layers of one's own: written as the README shows it, or found by running a layer."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kerassurgery_fn
from helpers.laws import check_law, prunable
from helpers.small_models import chain, dense_head
from kerassurgery_fn import analyse, capture, probe_rule
from kerassurgery_fn.errors import NotIndependent, WrongShape
from kerassurgery_fn.rules.registry import RULES

pytestmark = pytest.mark.keras


@pytest.fixture(autouse=True)
def _own_rules():
    """Rules that a test registers are forgotten after it."""
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


# --- the README


def code_of_readme(name):
    """The code under a marker in the README."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    return re.search(f"<!-- example: {name} -->\n```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.mark.parametrize("how", ["rule", "probe"])
def test_the_probed_layer_of_the_readme(how):
    names = {"keras": keras, "kerassurgery_fn": kerassurgery_fn}
    exec(code_of_readme("rule"), names)
    model = chain((6,), L.Dense(9), names["Gate"](name="gate"), L.Dense(8))
    check_law(model)
    del RULES["mine>Gate"]
    assert analyse(capture(model)).opaque.keys() == {"gate"}
    exec(code_of_readme(how), names)
    assert check_law(model).prunable > 0.7


# --- layers that are probed


def registered(cls):
    return keras.saving.register_keras_serializable("probed")(cls)


class Plain(L.Layer):
    """A layer of one function of its input."""

    def compute_output_shape(self, shape):
        return shape


@registered
class Gate(Plain):
    def build(self, shape):
        self.scale = self.add_weight((shape[-1],), name="scale")
        self.shift = self.add_weight((1, shape[-1]), name="shift", trainable=False)
        self.power = self.add_weight((), name="power", initializer="ones")

    def call(self, x):
        return ops.tanh(x * self.scale + self.shift) * self.power


@registered
class Statistics(Plain):
    """Shifts and scales by moving statistics, of which it keeps some for each row."""

    def build(self, shape):
        self.mean = self.add_weight((shape[-1], shape[1]), name="mean", trainable=False)
        self.deviation = self.add_weight((1, 1, 1, shape[-1]), name="deviation", trainable=False, initializer="ones")

    def call(self, x):
        return (x - ops.transpose(self.mean)[None, :, None]) * self.deviation


@registered
class Spread(Plain):
    """The spread over space: every channel for itself, and no space is left."""

    def compute_output_shape(self, shape):
        return (shape[0], shape[-1])

    def call(self, x):
        return ops.max(x, axis=(1, 2)) - ops.min(x, axis=(1, 2))


@registered
class Halved(Plain):
    def compute_output_shape(self, shape):
        return (shape[0], shape[1] // 2, shape[2] // 2, shape[3])

    def call(self, x):
        return x[:, ::2, ::2]


@registered
class Mode(Plain):
    def __init__(self, mode="alone", **options):
        super().__init__(**options)
        self.mode = mode

    def call(self, x):
        return x * ops.mean(x, axis=-1, keepdims=True) if self.mode == "together" else x * x

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable("probed")
def squared(x):
    return x * x


@keras.saving.register_keras_serializable("probed")
def mirrored(x):
    return ops.flip(x, -1)


def function(of):
    """A class of layers that compute a function."""
    return type("Function", (Plain,), {"call": lambda self, x: of(x)})()


def image_model(layer, channels=8):
    x = keras.Input((6, 6, 3))
    y = layer(L.Conv2D(channels, 1, activation="tanh")(x))
    return keras.Model(x, dense_head(L.Dense(4)(y)))


ALONE = {"gate": Gate, "statistics": Statistics, "spread": Spread, "halved": Halved, "a mode": Mode}


@pytest.mark.parametrize("name", ALONE)
def test_a_layer_that_computes_every_channel_separately(name):
    layer = ALONE[name](name="layer")
    model = image_model(layer)
    assert "layer" in analyse(capture(model)).opaque
    probe_rule(layer)
    assert check_law(model).prunable > 0.7


def test_two_layers_of_one_class_with_different_configs():
    x = keras.Input((6, 6, 3))
    y = Mode("alone", name="a")(L.Conv2D(5, 1)(x))
    y = L.Conv2D(5, 1, name="held")(y)
    y = L.Conv2D(6, 1)(Mode("together", name="b")(y))
    model = keras.Model(x, dense_head(Mode("alone", name="c")(L.Dense(4)(L.Flatten()(y)))))
    probe_rule(model.get_layer("a"))
    opaque = analyse(capture(model)).opaque
    assert opaque.keys() == {"b", "c"}
    assert opaque["b"] == "is of the class probed>Mode, which was probed with another config or on other axes"
    probe_rule(model.get_layer("c"))
    assert analyse(capture(model)).opaque.keys() == {"b"}
    check_law(model, opaque={"b"})


@keras.saving.register_keras_serializable("probed")
def bend(x):
    return ops.where(x > 0, x, x / 3)


def test_probing_an_activation_does_not_affect_other_activations():
    layers = [L.Dense(9), L.Activation(bend, name="bend"), L.Dense(8), L.Activation("softmax"), L.Dense(7)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    probe_rule(model.get_layer("bend"))
    flow = analyse(capture(model))
    assert prunable(flow) > 0.7
    assert [one.reason for one in flow.inexact] == ["normalises over the channels"]


def test_other_axes_are_pinned():
    x = keras.Input((6, 6, 3))
    y = Mode(name="layer")(L.Permute((3, 1, 2))(L.Conv2D(5, 1, name="conv")(x)))
    model = keras.Model(x, dense_head(y))
    probe_rule(model.get_layer("layer"))
    flow = analyse(capture(model))
    assert flow.solution.pinned()[flow.solution.resolve(flow.producer("conv").axis)].all()


def test_probing_a_lambda_does_not_affect_other_lambdas():
    model = image_model(L.Lambda(squared, name="layer"))
    probe_rule(model.get_layer("layer"))
    check_law(model)
    held = image_model(L.Lambda(mirrored, name="layer"))
    assert "runs a Python function" in analyse(capture(held)).opaque["layer"]
    with pytest.raises(NotIndependent):
        probe_rule(held.get_layer("layer"))


def test_an_unregistered_class_can_be_probed():
    layer = type("Nobody", (Plain,), {"call": lambda self, x: ops.abs(x)})(name="layer")
    model = image_model(layer)
    probe_rule(layer)
    flow = analyse(capture(model))
    assert flow.opaque == {}
    assert any(key.endswith(">Nobody") for key in RULES)


TOGETHER = {
    "mean": (lambda x: x - ops.mean(x, axis=-1, keepdims=True), "alone than among all"),
    "mirror": (lambda x: ops.flip(x, axis=-1), "alone than among all"),
    "order": (lambda x: x * ops.arange(x.shape[-1], dtype="float32"), "alone than among all"),
    "neighbours": (lambda x: x + ops.roll(x, 1, axis=-1), "alone than among all"),
    "the last channel": (lambda x: x + 0.01 * x[..., -1:], "alone than among all"),
    "the largest": (lambda x: ops.where(ops.max(x, axis=-1, keepdims=True) > 2, 0.0, x), "alone than among all"),
    "how many": (lambda x: x * x.shape[-1], "alone than among all"),
    "norm": (lambda x: x / ops.norm(x, axis=-1, keepdims=True), "alone than among all"),
    "softmax": (lambda x: ops.softmax(x), "alone than among all"),
    "fewer": (lambda x: x[..., :3], r"outputs a tensor of shape \(2, 6, 6, 3\) for 7 channels"),
    "twice as many": (lambda x: ops.concatenate([x, x], -1), "outputs a tensor of shape"),
    "two tensors": (lambda x: [x, x], "outputs 2 tensors"),
    "noise": (lambda x: x + keras.random.normal(x.shape), "different outputs for the same input"),
    "nothing": (lambda x: ops.log(-1 - ops.abs(x)), "outputs NaN or infinity"),
    "three channels": (lambda x: x * ops.convert_to_tensor([1.0, 2.0, 3.0]), "cannot be built for 7 channels"),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_a_layer_that_mixes_channels_is_refused(name):
    of, words = TOGETHER[name]
    with pytest.raises(NotIndependent, match=words):
        probe_rule(function(of), (None, 6, 6, 8))
    assert not any(key.endswith(">Function") for key in RULES)


@registered
class Kernel(Plain):
    def build(self, shape):
        self.kernel = self.add_weight((shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        return ops.matmul(x, self.kernel)


@registered
class Pairs(Plain):
    def build(self, shape):
        self.scale = self.add_weight((2 * shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale[::2] + self.scale[1::2]


def test_weights_that_mix_channels_are_refused():
    with pytest.raises(NotIndependent, match="alone than among all 7 channels"):
        probe_rule(Kernel(), (None, 8))
    with pytest.raises(NotIndependent, match=r"a weight 'scale' of shape \(14,\) for 7 channels and \(10,\) for 5"):
        probe_rule(Pairs(), (None, 8))


def test_probing_confirms_the_rules_of_keras_layers():
    """The probe sees what was written by hand."""
    for layer in (L.BatchNormalization(), L.DepthwiseConv2D(2), L.MaxPooling2D(), L.PReLU(), L.UpSampling2D()):
        probe_rule(layer, (None, 6, 6, 8))
    for layer in (
        L.LayerNormalization(),
        L.Dense(8),
        L.Conv2D(8, 1),
        L.Softmax(),
        L.GroupNormalization(2),
        L.Flatten(),
    ):
        with pytest.raises(NotIndependent):
            probe_rule(layer, (None, 6, 6, 8))


def test_an_unknown_input_shape_is_refused():
    with pytest.raises(WrongShape, match="the input shape of layer 'layer' is unknown"):
        probe_rule(Mode(name="layer"))
    gate = Gate(name="layer")
    gate.build((None, 5, 9))
    probe_rule(gate)


def test_probing_does_not_change_the_layer():
    layer = Gate()
    layer.build((None, 9))
    before = layer.get_weights()
    probe_rule(layer)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
