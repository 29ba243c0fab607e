"""Models that are compiled with what Keras cannot save, or frozen since; weights and fields with the names of Keras."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kerassurgery_fn
from kerassurgery_fn import InsertLayer, ReplaceLayer, Surgeon, capture, cost, rebuild, score_by_apoz
from kerassurgery_fn.errors import HiddenState, MisfitTensor, NotAGraph
from kerassurgery_fn.operations import delete_channels

pytestmark = pytest.mark.keras


class Unsaved(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_true - y_pred

    def get_config(self):
        raise NotImplementedError


class Stepping(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


def net(cls=keras.Model):
    x = keras.Input((4,))
    return cls(x, L.Dense(2, name="top")(L.Dense(6, activation="relu", name="hidden")(x)))


@pytest.mark.filterwarnings("error:.*captured as a plain")
def test_operations_and_scores_ignore_the_compile_config():
    model = net()
    model.compile("sgd", Unsaved(), run_eagerly=True)
    assert delete_channels(model, "hidden", [0]).get_layer("hidden").units == 5
    surgeon = Surgeon(model)
    surgeon.add_job("delete_channels", "hidden", channels=[1, 2])
    assert surgeon.operate().get_layer("hidden").units == 4
    data = np.ones((2, 4), "float32")
    expected = (np.asarray(model.get_layer("hidden")(data)) == 0).mean(axis=0)
    assert score_by_apoz(model, data, layers="hidden")["hidden"] == pytest.approx(expected)
    assert score_by_apoz(net(Stepping), data, layers="hidden")["hidden"].shape == (6,)
    x = keras.Input((4,))
    assert "compile_config" not in str(capture(keras.Model(x, model(x))).config)
    with pytest.raises(NotAGraph, match="compiled with something that Keras cannot save"):
        capture(model)


def test_the_optimizer_state_of_other_layers_survives_freezing_a_layer():
    model = net()
    model.compile("adam", "mse", run_eagerly=True)
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 2)))
    whole = capture(model).training.by_owner()
    model.get_layer("hidden").trainable = False
    snapshot = capture(model)
    assert {owner for owner in snapshot.training.slots if owner} == {("top", 0), ("top", 1)}
    for owner, values in snapshot.training.by_owner().items():
        assert all(map(np.array_equal, values, whole[owner]))
    assert capture(rebuild(snapshot)) == snapshot


@keras.saving.register_keras_serializable("live_compiled")
class Centred(L.Layer):
    """A trained weight `mean`, a state `count`, and a `mode` that is no quantization."""

    def __init__(self, mode="mine", lora_rank=3, **kwargs):
        super().__init__(**kwargs)
        self.mode, self.lora_rank = mode, lora_rank

    def build(self, shape):
        self.mean = self.add_weight((shape[-1],), name="mean")
        self.seen = self.add_weight((shape[-1],), name="count", trainable=False)

    def call(self, x):
        return x - self.mean

    def get_config(self):
        return {**super().get_config(), "mode": self.mode, "lora_rank": self.lora_rank}


@kerassurgery_fn.rule("live_compiled>Centred")
def centred(layer, x, **_):
    layer.weight("mean", (x[-1],))
    layer.weight("count", (x[-1],))
    return x


def test_a_users_class_may_use_the_field_and_weight_names_of_keras():
    x = keras.Input((4,))
    model = keras.Model(x, Centred(name="own")(x))
    snapshot = capture(model)
    assert cost(snapshot).trainable == 4
    assert len(rebuild(snapshot).trainable_variables) == 1
    quantized = L.Dense(2, name="inner")
    outer = Centred(name="outer")
    outer.inner = quantized
    keras.Model(x, outer(x))
    quantized.build((None, 4))
    quantized.enable_lora(1)
    with pytest.raises(HiddenState, match="has LoRA weights in a sublayer"):
        capture(keras.Model(x, outer(x)))


def test_lora_that_keras_cannot_build_is_refused():
    x = keras.Input((3,), dtype="int32")
    layer = L.ReversibleEmbedding(7, 4, tie_weights=False, name="words")
    model = keras.Model(x, layer(layer(x), reverse=True))
    layer.enable_lora(2)
    with pytest.raises(HiddenState, match=r"'words' .* cannot build such a layer from its config"):
        capture(model)


@keras.saving.register_keras_serializable("live_compiled")
class Scale(L.Layer):
    def build(self, shape):
        self.scale = self.add_weight((shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


def test_calls_that_keras_would_refuse_are_refused():
    a, b = keras.Input((3, 2)), keras.Input((3, 4))
    shared = L.ReLU(name="r")
    two = capture(keras.Model([a, b], [shared(a), shared(b)]))
    with pytest.raises(MisfitTensor, match="Scale"):
        InsertLayer(Scale(), after="r")(two)
    for layer, words in (
        (L.Softmax(axis=3), "a tensor of 3 axes has no axis 3; set `axis`"),
        (L.UnitNormalization(axis=-4), "has no axis -4"),
        (L.Dropout(0.5, noise_shape=(2, 1, 1, 1)), "its noise_shape .* is for tensors with more than 3 axes"),
    ):
        with pytest.raises(MisfitTensor, match=words):
            InsertLayer(layer, after="r", calls=[0])(two)
    q, v = keras.Input((4, 3)), keras.Input((4, 3))
    pair = capture(keras.Model([q, v], L.Attention(name="mix")([L.ReLU(name="f")(q), v])))
    with pytest.raises(MisfitTensor, match="sizes 5 and 3 must be equal"):
        ReplaceLayer("f", L.Dense(5))(pair)
