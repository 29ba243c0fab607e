"""`read_model` gives what `capture` gives, and Keras loads what `write_model` writes."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.law_models import law_models
from helpers.needs import slow_network
from helpers.older import IS_OLDER
from helpers.table_of_models import SMALL_MODELS, small_model
from helpers.trained_models import trained
from kerassurgery_fn import capture, rebuild
from kerassurgery_fn.archive.model_files import read_metadata, read_model, read_weights, write_model, write_weights
from kerassurgery_fn.errors import BadFile, BrokenSnapshot, NotAGraph
from kerassurgery_fn.values.snapshot import same_weights

pytestmark = pytest.mark.keras


def check_file(model, path):
    """Both laws on one model, whose snapshot is returned."""
    model.save(path)
    snapshot = read_model(path)
    assert snapshot == capture(model)
    check_written(snapshot, path.with_name("written.keras"))
    return snapshot


def check_written(snapshot, path):
    """A written file is read as the same snapshot, and Keras loads it as the same model."""
    write_model(snapshot, path, overwrite=True)
    assert read_model(path) == snapshot
    loaded = keras.models.load_model(path, safe_mode=False)
    assert capture(loaded) == snapshot
    return loaded


def test_small_models(tmp_path):
    for name in [*SMALL_MODELS][::8]:
        check_file(small_model(name), tmp_path / "model.keras")


@pytest.fixture(scope="module")
def models_of_the_law_tests():
    models = law_models()
    assert len(models) > 800 or IS_OLDER
    return models


@pytest.mark.slow
@pytest.mark.parametrize("part", range(12))
def test_all_models_of_the_law_tests(part, models_of_the_law_tests, tmp_path):
    """At least one model for each class of layers and operations that has a rule."""
    for model in models_of_the_law_tests[part::12]:
        model.save(tmp_path / "model.keras")
        snapshot = read_model(tmp_path / "model.keras")
        assert snapshot == capture(model), model.name
        write_model(snapshot, tmp_path / "written.keras", overwrite=True)
        assert read_model(tmp_path / "written.keras") == snapshot, model.name
        loaded = rebuild(capture(keras.models.load_model(tmp_path / "written.keras")))
        for a, b in zip(loaded.get_weights(), rebuild(snapshot).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


APPLICATIONS = [name for name in dir(keras.applications) if name[0].isupper()]


@pytest.mark.parametrize("name", [slow_network(name) for name in APPLICATIONS])
def test_applications(name, tmp_path):
    check_file(getattr(keras.applications, name)(weights=None), tmp_path / "model.keras")


@keras.saving.register_keras_serializable("archive")
class Gate(L.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return x * self.scale


@keras.saving.register_keras_serializable("archive")
class Counter(Gate):
    def build(self, shape):
        super().build(shape)
        self.steps = self.add_weight(shape=(), trainable=False)


def attention():
    return L.MultiHeadAttention(2, 3, value_dim=4)


def on_sequence(*layers):
    x = keras.Input((6, 4))
    y = x
    for layer in layers:
        y = layer(y, y) if isinstance(layer, L.MultiHeadAttention) else layer(y)
    return keras.Model(x, y)


def stacked():
    return L.RNN([L.GRUCell(3), L.LSTMCell(2, use_bias=False), L.GRUCell(4)], return_sequences=True)


COMPOSITE = {
    "recurrent": lambda: on_sequence(L.LSTM(3, return_sequences=True), L.GRU(2, return_sequences=True), L.SimpleRNN(2)),
    "cells": lambda: on_sequence(stacked()),
    "both directions": lambda: on_sequence(L.Bidirectional(L.LSTM(3, return_sequences=True))),
    "two kinds of directions": lambda: on_sequence(
        L.Bidirectional(L.LSTM(3, use_bias=False), backward_layer=L.GRU(3, go_backwards=True))
    ),
    "cells in both directions": lambda: on_sequence(L.Bidirectional(stacked())),
    "at every step": lambda: on_sequence(L.TimeDistributed(L.Dense(3)), L.TimeDistributed(L.BatchNormalization())),
    "normalised": lambda: on_sequence(L.SpectralNormalization(L.Conv1D(5, 3)), L.SpectralNormalization(L.Dense(4))),
    "normalised at every step": lambda: on_sequence(L.TimeDistributed(L.SpectralNormalization(L.Dense(3)))),
    "attention": lambda: on_sequence(attention(), attention()),
    "attention without bias": lambda: on_sequence(L.MultiHeadAttention(2, 3, use_bias=False)),
    "convolutional recurrent": lambda: keras.Sequential([keras.Input((3, 5, 5, 2)), L.ConvLSTM2D(3, 2)]),
    "stateful": lambda: keras.Sequential([keras.Input((4, 3), batch_size=2), L.LSTM(3, stateful=True)]),
    "custom": lambda: on_sequence(L.Dense(3), Gate(name="gate")),
    "lambda": lambda: on_sequence(L.Lambda(lambda x: x * 2, output_shape=(6, 4), name="lambda")),
}


def test_an_activation_has_weights_once_it_has_run(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(3, activation=L.PReLU(), name="dense")(x))
    model.save(tmp_path / "model.keras")
    assert read_model(tmp_path / "model.keras") == capture(model)
    model(np.zeros((1, 4)))
    model.save(tmp_path / "model.keras")
    assert read_model(tmp_path / "model.keras") == capture(model)
    assert len(model.get_layer("dense").weights) == 3


@pytest.mark.parametrize("name", [name for name in COMPOSITE if name != "lambda"])
def test_layers_made_of_layers(name, tmp_path):
    check_file(COMPOSITE[name](), tmp_path / "model.keras")


def test_grouped_attention_has_two_names(tmp_path):
    x = keras.Input((6, 4))
    check_file(keras.Model(x, L.GroupQueryAttention(3, 4, 2)(x, x)), tmp_path / "model.keras")


@pytest.mark.skipif(IS_OLDER, reason="an older Keras has no gates in attention")
def test_gated_attention(tmp_path):
    x = keras.Input((6, 4))
    y = L.MultiHeadAttention(2, 3, use_gate=True)(x, x)
    check_file(keras.Model(x, L.GroupQueryAttention(3, 4, 2, use_gate=True)(y, y)), tmp_path / "model.keras")


def test_lambdas_stay_data(tmp_path):
    model = COMPOSITE["lambda"]()
    model.save(tmp_path / "model.keras")
    assert read_model(tmp_path / "model.keras") == capture(model)


def test_keras_does_not_write_which_weights_of_a_custom_layer_are_state(tmp_path):
    model = on_sequence(Counter(name="counter"))
    model.save(tmp_path / "model.keras")
    snapshot, captured = read_model(tmp_path / "model.keras"), capture(model)
    assert captured.config["layers"][1]["state_weights"] == [1]
    assert "state_weights" not in snapshot.config["layers"][1]
    assert same_weights(snapshot.weights, captured.weights)
    check_written(captured, tmp_path / "written.keras")


# --- nested models and shared layers


def dense_model(name, width=4):
    return keras.Sequential([keras.Input((4,)), L.Dense(width), L.Dense(4)], name=name)


def test_nested_models(tmp_path):
    x = keras.Input((4,))
    inner = keras.Model(x, dense_model("deep")(L.Dense(4)(x)), name="inner")
    x = keras.Input((5, 4))
    check_file(keras.Model(x, L.TimeDistributed(inner)(L.Dense(4)(x))), tmp_path / "model.keras")


@pytest.mark.filterwarnings("ignore:.*are one layer in two models")
def test_a_layer_in_two_models_is_in_the_file_once(tmp_path):
    shared, x = L.Dense(4, name="shared"), keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), shared, L.Dense(4)], name="inner")
    check_file(keras.Model(x, inner(shared(x))), tmp_path / "model.keras")


@pytest.mark.filterwarnings("ignore:.*are one layer in two models")
def test_a_model_in_two_models_is_in_the_file_once(tmp_path):
    shared, x = dense_model("shared"), keras.Input((4,))
    outer = keras.Model(x, shared(x), name="outer")
    x = keras.Input((4,))
    check_file(keras.Model(x, [shared(x), outer(x)]), tmp_path / "model.keras")


def test_a_compiled_model_inside(tmp_path):
    inner = dense_model("inner")
    inner.compile("sgd", "mse")
    x = keras.Input((4,))
    check_file(keras.Model(x, inner(x)), tmp_path / "model.keras")


@pytest.mark.filterwarnings("ignore:.*without the call")
def test_a_subclassed_model_is_refused(tmp_path):
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    model = Subclassed()
    model(np.zeros((1, 2)))
    model.save(tmp_path / "model.keras")
    with pytest.raises(NotAGraph, match="class 'Subclassed'"):
        read_model(tmp_path / "model.keras")


# --- state beside the weights

LOOKUPS = {
    "text": (L.TextVectorization, {"output_sequence_length": 3}),
    "padded idf": (L.TextVectorization, {"output_mode": "tf_idf", "max_tokens": 9, "pad_to_max_tokens": True}),
    "strings": (L.StringLookup, {"num_oov_indices": 2, "mask_token": "[m]"}),
    "idf": (L.StringLookup, {"output_mode": "tf_idf"}),
    "integers": (L.IntegerLookup, {"mask_token": 0}),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_vocabularies(name, tmp_path):
    cls, options = LOOKUPS[name]
    dtype = "int64" if cls is L.IntegerLookup else "string"
    layer, x = cls(**options), keras.Input((1,), dtype=dtype)
    layer.adapt(np.array([5, 6, 5] if dtype == "int64" else ["a b c", "a b", "d", "é ü"]))
    model = keras.Model(x, layer(x))
    model.save(tmp_path / "model.keras")
    snapshot = read_model(tmp_path / "model.keras")
    assert snapshot == capture(model)
    assert snapshot.config["layers"][1]["config"]["vocabulary"]
    check_written(snapshot, tmp_path / "written.keras")


def test_normalization_and_bins(tmp_path):
    norm, bins, x = L.Normalization(), L.Discretization(num_bins=3), keras.Input((4,))
    norm.adapt(np.random.default_rng(0).random((9, 4)))
    bins.adapt(np.random.default_rng(0).random((9, 4)))
    check_file(keras.Model(x, [norm(x), bins(x)]), tmp_path / "model.keras")


def with_lora():
    model = on_sequence(L.Dense(4, name="dense"), L.EinsumDense("abc,cd->abd", (6, 3), bias_axes="d"), L.Conv1D(3, 2))
    for layer in model.layers[1:]:
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones(layer.lora_kernel_b.shape))
    return model


def test_lora_weights_are_added_to_the_kernel(tmp_path):
    model, x = with_lora(), np.random.default_rng(0).random((2, 6, 4))
    write_model(capture(model), tmp_path / "model.keras")
    snapshot = read_model(tmp_path / "model.keras")
    kernel, _, _, b = snapshot.weights["dense"]
    np.testing.assert_allclose(kernel, model.get_layer("dense").kernel, rtol=1e-6)
    assert not b.any()
    for other in (rebuild(snapshot), keras.models.load_model(tmp_path / "model.keras")):
        np.testing.assert_allclose(other(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.skipif(IS_OLDER, reason="an older Keras has other quantized weights")
def test_quantized_layers(mode, use_bias, tmp_path):
    model = on_sequence(
        L.Dense(4, use_bias=use_bias), L.EinsumDense("abc,cd->abd", (6, 4), bias_axes="d" if use_bias else None)
    )
    model.quantize(mode)
    check_file(model, tmp_path / "model.keras")


def test_bfloat16(tmp_path):
    snapshot = check_file(
        keras.Sequential([keras.Input((4,), dtype="bfloat16"), L.Dense(3, dtype="bfloat16", name="a")], name="m"),
        tmp_path / "model.keras",
    )
    assert snapshot.weights["a"][0].dtype == "bfloat16"


# --- folders and weight files


def test_a_folder(tmp_path):
    model = dense_model("m")
    model.save(tmp_path / "folder", zipped=False)
    assert read_model(tmp_path / "folder") == read_model(tmp_path / "folder", lazy=True) == capture(model)
    assert read_metadata(tmp_path / "folder")["keras_version"] == keras.__version__


def test_links_in_a_folder(tmp_path):
    dense_model("m").save(tmp_path / "folder", zipped=False)
    (tmp_path / "folder" / "assets").mkdir(exist_ok=True)
    (tmp_path / "folder" / "assets" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadFile, match="link is a link"):
        read_model(tmp_path / "folder")


def zeroed(snapshot):
    weights = {path: tuple(map(np.zeros_like, arrays)) for path, arrays in snapshot.weights.items()}
    return type(snapshot)(snapshot.record, weights)


def test_weights_on_another_snapshot(tmp_path):
    model = trained("adam")
    model.save_weights(tmp_path / "m.weights.h5")
    model.save(tmp_path / "m.keras")
    for name in ("m.weights.h5", "m.keras"):
        assert read_weights(tmp_path / name, zeroed(capture(model))) == capture(model)
        assert read_weights(tmp_path / name, zeroed(capture(model)), lazy=True) == capture(model)


def test_written_weights(tmp_path):
    model, other = trained("adam"), trained("adam")
    write_weights(capture(model), tmp_path / "m.weights.h5")
    other.load_weights(tmp_path / "m.weights.h5")
    assert same_weights(capture(other).weights, capture(model).weights)
    assert capture(other).training == capture(model).training
    with pytest.raises(BadFile, match=r"must end in \.weights\.h5"):
        write_weights(capture(model), tmp_path / "m.h5")


def test_weights_in_shards(tmp_path):
    model = keras.Sequential([keras.Input((30,)), *(L.Dense(30) for _ in range(6))])
    model.save_weights(tmp_path / "m.weights.json", max_shard_size=4e-6)  # gigabytes
    assert len(list(tmp_path.glob("*.h5"))) > 4
    assert read_weights(tmp_path / "m.weights.json", zeroed(capture(model))) == capture(model)


def test_weights_of_another_architecture(tmp_path):
    dense_model("m", width=5).save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(BadFile, match="does not fit together"):
        read_weights(tmp_path / "m.weights.h5", capture(dense_model("m")))


@pytest.mark.parametrize("listing", ["[]", "{}", '{"weight_map": {"a": "../m.h5"}}', '{"weight_map": {"a": [3]}}'])
def test_broken_lists_of_shards(listing, tmp_path):
    (tmp_path / "m.weights.json").write_text(listing)
    with pytest.raises(BadFile, match=r"weight_map|is not the name of a file"):
        read_weights(tmp_path / "m.weights.json", capture(dense_model("m")))


# --- files


def test_metadata_is_kept(tmp_path):
    path = tmp_path / "model.keras"
    snapshot = capture(dense_model("m"))
    write_model(snapshot, path, metadata={"date_saved": "today", "note": [1], "kerassurgery_fn": {"plan": "p"}})
    metadata = read_metadata(path)
    assert (metadata["date_saved"], metadata["note"]) == ("today", [1])
    assert metadata["kerassurgery_fn"].keys() == {"plan", "version"}
    assert metadata["keras_version"] == keras.__version__


def test_equal_snapshots_give_equal_bytes(tmp_path):
    snapshot = capture(dense_model("m"))
    for name in ("a.keras", "b.keras"):
        write_model(snapshot, tmp_path / name)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_weights_that_keras_is_still_to_draw(tmp_path):
    snapshot = capture(dense_model("m"))
    path = next(iter(snapshot.weights))
    unfinished = type(snapshot)(snapshot.record, {**snapshot.weights, path: ()})
    with pytest.raises(BrokenSnapshot, match=f"layer '{path}' has no weights yet"):
        write_model(unfinished, tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []
