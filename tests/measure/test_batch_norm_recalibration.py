"""`recalibrate_batch_norm`: new moving statistics, against those that Keras itself writes in training."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import BadData, MissingData, NoBatchNorm, UnknownLayer, capture, recalibrate_batch_norm
from kerassurgery_fn.measure.batch_norm_inputs import masked_moments

pytestmark = pytest.mark.keras
PATHS = ["bn_1", "inner/bn_2", "block", "bn_3"]


@keras.saving.register_keras_serializable("recalibration")
class Block(layers.Layer):
    """A layer that is made of layers."""

    def build(self, shape):
        self.dense, self.norm = layers.Dense(3), layers.BatchNormalization()
        self.dense.build(shape)
        self.norm.build((*shape[:-1], 3))

    def call(self, x, training=None):
        return self.norm(self.dense(x), training=training)


def net():
    """Batch normalisations of all kinds: of a shared layer, nested, inside of a layer, frozen; and a dropout."""
    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization
    x = keras.Input((6, 6, 3), name="x")
    shared, conv = norm(name="bn_1"), layers.Conv2D(4, 3, name="a")
    y = layers.Add()([shared(conv(x)), shared(conv(-2 * x))])
    y = layers.Dropout(0.5, name="dropout")(layers.ReLU()(y))
    parts = [layers.Conv2D(4, 3, name="b"), norm(name="bn_2", momentum=0.9)]
    y = keras.Sequential([keras.Input((4, 4, 4)), *parts], name="inner")(y)
    y = layers.ReLU()(Block(name="block")(layers.Flatten()(y)))
    y = norm(name="bn_3", trainable=False, dtype="mixed_float16")(y)
    model = keras.Model(x, layers.Dense(2, name="top")(y))
    model.compile("sgd", "mse")
    return model


def images(n=24, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 6, 6, 3)) * rng.uniform(1, 3, 3) + rng.normal(size=3)).astype("float32")


def statistics(snapshot, path):
    """The moving mean and variance: the last two weights of each of the layers above."""
    return snapshot.weights[path][-2:]


def by_keras(model, data):
    """The snapshot of the model after Keras has trained its batch normalisations on one batch, without momentum."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum, layer.trainable = 0.0, True
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    copy(data, training=True)
    return capture(copy)


@pytest.fixture(scope="module")
def model():
    return net()


@pytest.fixture(scope="module")
def recalibrated(model):
    return recalibrate_batch_norm(capture(model), images(), batch_size=24, progress=False)


@pytest.mark.parametrize("path", PATHS[1:])
def test_one_batch_gives_what_keras_writes_in_training(path, model, recalibrated):
    expected = statistics(by_keras(model, images()), path)
    assert not np.allclose(expected[0], 0)
    for new, wanted in zip(statistics(recalibrated, path), expected, strict=True):
        np.testing.assert_allclose(new, wanted, rtol=1e-3 if path == "bn_3" else 1e-5, atol=1e-6)


def test_all_calls_of_a_shared_layer_and_all_batches_count_together(model):
    features = keras.Model(model.input, model.get_layer("a").output)
    values = np.concatenate([features(images()), features(-2 * images())])
    new = recalibrate_batch_norm(capture(model), images(), batch_size=7)
    for array, wanted in zip(statistics(new, "bn_1"), (values.mean((0, 1, 2)), values.var((0, 1, 2))), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-4)


def test_old_statistics_do_not_matter_and_other_weights_stay(model, recalibrated):
    snapshot = capture(model)
    weights = {path: tuple(3 + array for array in arrays) for path, arrays in snapshot.weights.items()}
    for path, arrays in snapshot.weights.items():  # only the moving statistics are other ones
        weights[path] = arrays[:-2] + weights[path][-2:] if path in PATHS else arrays
    again = recalibrate_batch_norm(replace(snapshot, weights=weights), images(), batch_size=24)
    assert again.weights.keys() == recalibrated.weights.keys()
    for path, arrays in again.weights.items():
        kept = arrays[:-2] if path in PATHS else arrays
        assert all(map(np.array_equal, kept, snapshot.weights[path]))
        assert all(map(np.array_equal, arrays, recalibrated.weights[path])), path


def test_a_model_gives_a_new_compiled_model_and_is_not_changed(model, recalibrated):
    before = capture(model)
    new = recalibrate_batch_norm(model, images(), batch_size=24)
    assert capture(model) == before
    assert capture(new) == replace(before, weights=recalibrated.weights)
    assert new.optimizer is not None


def test_selected_layers_only(model):
    snapshot = capture(model)
    new = recalibrate_batch_norm(snapshot, images(), layers=["inner", "bn_3"], batch_size=24)
    changed = [path for path in PATHS if not np.array_equal(new.weights[path][-1], snapshot.weights[path][-1])]
    assert changed == ["inner/bn_2", "bn_3"]
    with pytest.raises(UnknownLayer, match="no layer matches"):
        recalibrate_batch_norm(snapshot, images(), layers="norm_*")
    with pytest.raises(NoBatchNorm, match="among the layers 'top'"):
        recalibrate_batch_norm(snapshot, images(), layers="top")


def test_workers_measure_the_same(model):
    alone = recalibrate_batch_norm(capture(model), images(), batch_size=6, layers="bn_1")
    with ThreadPoolExecutor(2) as executor:
        shared = recalibrate_batch_norm(capture(model), images(), batch_size=6, layers="bn_1", executor=executor)
    np.testing.assert_allclose(shared.weights["bn_1"][-1], alone.weights["bn_1"][-1], rtol=1e-6)


def test_steps_and_labels(model, recalibrated):
    def endless():
        while True:
            yield images(), np.zeros(24)

    new = recalibrate_batch_norm(capture(model), endless(), steps=2)
    np.testing.assert_allclose(new.weights["bn_1"][-1], recalibrated.weights["bn_1"][-1], rtol=1e-6)


@pytest.mark.parametrize("axis", [1, -1])
def test_moments_without_mask(axis):
    x = images()
    other = tuple(number for number in range(4) if number != axis % 4)
    found = masked_moments(keras.ops.convert_to_tensor(x), axis)
    np.testing.assert_allclose(found["mean"], x.mean(other), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["deviations"] / float(found["values"]), x.var(other), rtol=1e-5)


def test_masked_positions_do_not_count():
    x, mask = images()[:, :, 0], np.random.default_rng(1).random((24, 6)) < 0.6
    hidden = np.where(mask[..., None], x, np.nan)
    found = masked_moments(keras.ops.convert_to_tensor(hidden), -1, keras.ops.convert_to_tensor(mask))
    np.testing.assert_allclose(found["values"], np.full(3, mask.sum()))
    np.testing.assert_allclose(found["mean"], x[mask].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["deviations"] / found["values"], x[mask].var(0), rtol=1e-5)


def test_a_model_without_batch_normalisation():
    with pytest.raises(NoBatchNorm, match="'plain' has no BatchNormalization, so"):
        recalibrate_batch_norm(keras.Sequential([keras.Input((3,)), layers.Dense(2)], name="plain"), np.zeros((4, 3)))


@pytest.mark.parametrize("data, options, error, words", [
    (None, {}, MissingData, "measured on data, and there is none"),
    (images()[:0], {}, BadData, "the data has no batch"),
    (images()[..., :2], {}, BadData, "cannot be run on a batch of arrays of shapes"),
    (np.full((4, 6, 6, 3), np.nan), {}, BadData, "the data for input 'x' has NaN"),
    (images(), {"batch_size": 1}, BadData, "'block' was given the same values|'bn_3' was given the same values"),
])  # fmt: skip
def test_bad_data_is_refused(data, options, error, words, model):
    with pytest.raises(error, match=words):
        recalibrate_batch_norm(capture(model), data, **options)
