"""Products of inputs, measured on live models; reconstruction against the least squares of what layers really read."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import (
    BadData,
    DeleteChannels,
    MissingData,
    capture,
    importance,
    load_statistics,
    measure_statistics,
    prune,
    rebuild,
    reconstructed,
    save_statistics,
)
from kerassurgery_fn.pruning.summed_arrays import input_name
from measure.test_gradient_criteria import images, net, random_norm

pytestmark = pytest.mark.keras


def at(model, name, data=None):
    """What a layer reads."""
    return keras.Model(model.input, model.get_layer(name).input).predict(images() if data is None else data, verbose=0)


def by_channel(x, channels):
    return x.reshape(-1, channels).astype(float)


def test_products_are_products_of_the_inputs_of_layers():
    model = net()
    statistics = measure_statistics(model, images(), "least_squares", batch_size=8)
    assert {*statistics} == {input_name("b", "a"), input_name("hidden", "b"), input_name("top", "hidden")}
    for path, group, channels in (("b", "a", 4), ("hidden", "b", 5), ("top", "hidden", 6)):
        x = by_channel(at(model, path), channels)
        count, sums = statistics[input_name(path, group)]
        assert count == len(x)
        np.testing.assert_allclose(sums, x.T @ x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size, cut", [(1, 5), (4, 20), (30, 7)])
def test_batches_and_shards_do_not_matter(batch_size, cut, tmp_path):
    model = net()
    expected = measure_statistics(model, images(), "thinet")
    parts = [measure_statistics(model, x, "thinet", batch_size=batch_size) for x in np.split(images(), [cut])]
    with ThreadPoolExecutor(2) as executor:
        shards = measure_statistics(model, images(), "thinet", batch_size=1, executor=executor)
    save_statistics(expected, tmp_path / "statistics.npz")
    for found in (parts[0] + parts[1], shards, load_statistics(tmp_path / "statistics.npz")):
        assert found.samples == 21
        for name, array in expected.arrays().items():
            np.testing.assert_allclose(found.arrays()[name], array, rtol=1e-4, atol=1e-4)


def test_all_calls_of_a_shared_layer_count():
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    a, shared = layers.Dense(4, activation="relu", name="a"), layers.Dense(3, name="shared")
    model = keras.Model(x, layers.Concatenate()([shared(a(x)), shared(a(-x))]))
    data = np.random.default_rng(0).normal(size=(9, 6)).astype("float32")
    count, sums = measure_statistics(model, data, "thinet")[input_name("shared", "a")]
    kernel, bias = model.get_layer("a").get_weights()
    read = np.maximum(np.concatenate([data, -data]) @ kernel + bias, 0)
    assert count == 18
    np.testing.assert_allclose(sums, read.T @ read, rtol=1e-4)


def test_the_weights_of_a_kernel_of_one_position_agree_with_least_squares():
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(5, 1, name="b", use_bias=False)(layers.Conv2D(8, 3, activation="relu", name="a")(x))
    model = random_norm(keras.Model(x, y))
    snapshot, removed = capture(model), [0, 3, 6]
    plan = reconstructed(snapshot, DeleteChannels("a", removed), measure_statistics(model, images(), "least_squares"))
    read = by_channel(at(model, "b"), 8)
    kept = np.delete(np.arange(8), removed)
    kernel = snapshot.weights["b"][0].reshape(8, 5)
    best = np.linalg.lstsq(read[:, kept], read @ kernel, rcond=None)[0]
    np.testing.assert_allclose(plan(snapshot).weights["b"][0].reshape(5, 5), best, rtol=1e-2, atol=1e-3)


def error(model, smaller):
    before, after = (m.predict(images(1, samples=100), verbose=0) for m in (model, smaller))
    return ((before - after) ** 2).mean() / before.var()


@pytest.mark.parametrize("by", ["least_squares", "thinet", "magnitude"])
def test_a_reconstruction_is_closer_on_other_data(by):
    model = net()
    data = images(samples=200)
    plain = prune(model, by=by, data=data, channels=0.7, scope="local")
    close = prune(model, by=by, data=data, channels=0.7, scope="local", reconstruct=True)
    assert close.widths == plain.widths
    assert error(model, close.model) < 0.9 * error(model, plain.model)
    assert rebuild(close.plan(capture(model))).count_params() == close.model.count_params()


def test_a_channel_that_doubles_another_is_replaced_exactly():
    model = net()
    for name in "ab":
        kernel, bias = model.get_layer(name).get_weights()
        kernel[..., 2], bias[2] = 2 * kernel[..., 1], 2 * bias[1]
        model.get_layer(name).set_weights([kernel, bias])
    gamma, beta, mean, variance = model.get_layer("bn").get_weights()
    gamma[2], beta[2], mean[2], variance[2] = gamma[1], 2 * beta[1], 2 * mean[1], variance[1]
    model.get_layer("bn").set_weights([gamma, beta, mean, variance])
    cut = DeleteChannels({"a": [2], "b": [2]})
    plan = reconstructed(capture(model), cut, measure_statistics(model, images(), "least_squares"))
    assert error(model, rebuild(plan(capture(model)))) < 1e-5
    assert error(model, rebuild(cut(capture(model)))) > 1e-2


def test_scores_may_be_given_and_data_read_in_another_way():
    model = net()
    scores = importance(model, "magnitude")
    result = prune(model, by=scores, channels=0.7, data=iter([images(), images()]), steps=1, reconstruct=True)
    assert result.plan == prune(model, channels=0.7, data=images(), reconstruct=True).plan


def test_bad_input_is_refused():
    with pytest.raises(MissingData, match="reconstruct=True measures what layers are given, and there is no data"):
        prune(net(), macs=0.5, reconstruct=True)
    with pytest.raises(BadData, match="cannot be run on a batch"):
        prune(net(), macs=0.5, reconstruct=True, data=images()[..., :1])
    with pytest.raises(MissingData, match="'thinet' needs products of inputs measured on data"):
        importance(net(), "thinet")
