"""What training changes: frozen layers that make layers of their own, and layers of which a part is frozen."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kerassurgery_fn import (
    ConvertDtype,
    DeleteChannels,
    InsertLayer,
    Plan,
    ReplaceLayer,
    SetTrainable,
    capture,
    cost,
    decode,
    diff,
    encode,
    patch,
    rebuild,
)
from kerassurgery_fn.graph import TRAINED
from kerassurgery_fn.rules.registry import RULES, Rule

pytestmark = pytest.mark.keras


@keras.saving.register_keras_serializable("trainable")
class Composite(L.Layer):
    """A layer that makes two others, and writes no flag into its config if it is silent."""

    def __init__(self, units, silent=False, **kwargs):
        super().__init__(**kwargs)
        self.units, self.silent = units, silent
        self.first, self.second = L.Dense(units), L.Dense(units)

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], self.units))

    def call(self, x):
        return self.second(self.first(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def get_config(self):
        config = {**super().get_config(), "units": self.units, "silent": self.silent}
        return {key: value for key, value in config.items() if key != "trainable" or not self.silent}


COMPOSITES = {
    "attention": ((4, 6), lambda: L.MultiHeadAttention(2, 3, name="layer")),
    "grouped attention": ((4, 6), lambda: L.GroupQueryAttention(3, 2, 1, name="layer")),
    "both ways, convolutional": (
        (4, 5, 6), lambda: L.Bidirectional(L.ConvLSTM1D(3, 1, return_sequences=True), name="layer"),
    ),
    "cells": (
        (4, 6), lambda: L.RNN(L.StackedRNNCells([L.GRUCell(3), L.LSTMCell(2)]), return_sequences=True, name="layer"),
    ),
    "at every step": ((4, 6), lambda: L.TimeDistributed(Composite(3), name="layer")),
    "without a flag": ((4, 6), lambda: Composite(3, silent=True, name="layer")),
}  # fmt: skip


def around(shape, layer):
    """A compiled model of the layer and a Dense layer, `top`."""
    x = keras.Input(shape)
    y = layer(x, x) if "Attention" in type(layer).__name__ or "Quer" in type(layer).__name__ else layer(x)
    model = keras.Model(x, L.Dense(2, name="top")(y))
    model.compile("adam", "mse", run_eagerly=True)
    return model


def flags(model):
    return [[weight.trainable for weight in layer.weights] for layer in model.layers]


def moved(model, seed=0):
    """For each weight, whether a step of training moves it."""
    before = [weight.numpy() for weight in model.weights]
    x = np.random.default_rng(seed).normal(size=(3, *model.input_shape[1:])).astype("float32")
    model.train_on_batch(x, np.ones(model.compute_output_shape(x.shape)))
    return [bool((a != b.numpy()).any()) for a, b in zip(before, model.weights, strict=True)]


def check_same(snapshot, trained):
    """The rebuilt model trains as many parameters, and the snapshot knows it."""
    again = rebuild(snapshot)
    assert sum(int(np.prod(v.shape)) for v in again.trainable_variables) == trained == cost(snapshot).trainable
    assert capture(again) == snapshot
    return again


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_frozen_layer_freezes_its_sublayers(name):
    shape, make = COMPOSITES[name]
    model = around(shape, make())
    rest = model.get_layer("top").count_params()
    frozen = SetTrainable("layer", False)(capture(model))
    again = check_same(frozen, rest)
    assert SetTrainable("layer")(frozen) == capture(model)
    model.get_layer("layer").trainable = False
    assert capture(model) == frozen
    assert flags(again) == flags(model)


def test_training_does_not_change_frozen_layers():
    model = around((4, 6), L.MultiHeadAttention(2, 3, name="layer"))
    moved(model)
    snapshot = SetTrainable("layer", False)(capture(model))
    again = rebuild(snapshot)
    assert capture(again).training == snapshot.training
    assert {owner[0] for owner in snapshot.training.slots if owner} == {"top"}
    assert moved(again, 1) == [False] * 8 + [True] * 2


PARTS = {
    "a projection": ("attention", lambda layer: layer.query_dense),
    "one direction": ("both ways, convolutional", lambda layer: layer.forward_layer),
    "one cell": ("cells", lambda layer: layer.cell.cells[1]),
    "a layer at every step": ("at every step", lambda layer: layer.layer.second),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_partly_frozen_layer_stays_partly_frozen(part):
    name, inner = PARTS[part]
    shape, make = COMPOSITES[name]
    model = around(shape, make())
    inner(model.get_layer("layer")).trainable = False
    snapshot = capture(model)
    again = check_same(snapshot, sum(int(np.prod(v.shape)) for v in model.trainable_variables))
    assert flags(again) == flags(model)
    assert all(map(all, flags(rebuild(SetTrainable("layer")(snapshot)))[1:]))


def test_a_single_frozen_weight_survives_edits_and_documents():
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(3, name="top")(L.Dense(6, name="dense")(x)))
    model.get_layer("dense").kernel.trainable = False
    snapshot = capture(model)
    assert snapshot.config["layers"][1][TRAINED] == [1]
    edit = Plan(DeleteChannels("dense", [0, 2]), ConvertDtype("float64"))
    made = decode(encode(edit))(snapshot)
    assert flags(rebuild(made)) == [[], [False, True], [True, True]]
    assert cost(made).trainable == 4 + 15
    assert patch(snapshot, diff(snapshot, made)) == made


def test_a_layer_that_keras_trains_despite_its_flag_is_still_trained():
    """Keras freezes nothing inside attention that is made with trainable=False; a capture changes no training."""
    model = around((4, 6), L.MultiHeadAttention(2, 3, name="layer", trainable=False))
    assert len(model.trainable_variables) == 10
    assert len(rebuild(capture(model)).trainable_variables) == 10
    frozen = SetTrainable("layer", False)(capture(model))
    assert len(rebuild(frozen).trainable_variables) == 2


def test_a_new_layer_keeps_the_flags_of_its_weights():
    layer = L.Dense(6, name="new")
    layer.build((None, 6))
    layer.kernel.trainable = False
    x = keras.Input((6,))
    made = InsertLayer(layer, before="top")(capture(keras.Model(x, L.Dense(2, name="top")(x))))
    check_same(made, 6 + 6 * 2 + 2)


def test_an_unknown_layer_keeps_the_flags_of_its_weights_when_it_reads_another_shape():
    x = keras.Input((5, 6))
    layer = Composite(6, name="layer")
    model = keras.Model(x, L.Dense(2, name="top")(layer(L.ReLU(name="r")(x))))
    layer.first.trainable = False
    made = ReplaceLayer("r", L.ZeroPadding1D(1))(capture(model))
    check_same(made, 6 * 6 + 6 + 6 * 2 + 2)


@keras.saving.register_keras_serializable("trainable")
class Centred(L.Layer):
    """Two weights that are trained and two that are not, under names that say the opposite."""

    def build(self, shape):
        self.mean = self.add_weight((shape[-1],), name="mean")
        self.bias = self.add_weight((shape[-1],), name="bias", trainable=False)
        self.inner = L.BatchNormalization(name="inner")
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x - self.mean + self.bias)

    def compute_output_shape(self, shape):
        return shape


def centred(layer, x, **_):
    for name in ("mean", "bias", "gamma", "beta", "moving_mean", "moving_variance"):
        layer.weight(name, (x[-1],))
    return x


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("inserted", [True, False])
def test_a_layer_of_ones_own_is_frozen_and_trained_again(known, inserted, monkeypatch):
    if known:
        monkeypatch.setitem(RULES, "trainable>Centred", Rule(centred))
    layer, x = Centred(name="layer"), keras.Input((6,))
    y = layer(x)
    model = keras.Model(x, L.Dense(2, name="top")(x if inserted else y))
    snapshot = InsertLayer(layer, before="top")(capture(model)) if inserted else capture(model)
    rest = 6 * 2 + 2
    check_same(snapshot, 3 * 6 + rest)
    frozen = SetTrainable("layer", False)(snapshot)
    check_same(frozen, rest)
    again = SetTrainable("layer")(frozen)
    check_same(again, 3 * 6 + rest)
    assert again == snapshot


def test_frozen_layers_of_a_nested_model_stay_frozen():
    x = keras.Input((4, 6))
    y = L.MultiHeadAttention(2, 3, name="attention")(x, x)
    backbone = keras.Model(x, L.Dense(3, name="inner")(y), name="backbone")
    model = around((4, 6), backbone)
    backbone.trainable = False
    backbone.get_layer("inner").trainable = True
    again = rebuild(capture(model))
    assert capture(again) == capture(model)
    assert [v.path.split("/")[-2] for v in again.trainable_variables] == ["inner", "inner", "top", "top"]
    assert cost(capture(model)).trainable == 6 * 3 + 3 + 3 * 2 + 2
