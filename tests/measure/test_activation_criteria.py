"""Statistics of activations, measured on live models, against activations that Keras gives out itself."""

import io
import multiprocessing
import sys
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from kerassurgery_fn import (
    BadData,
    BadValue,
    MissingData,
    NoChannels,
    capture,
    importance,
    measure_statistics,
    prune,
)
from kerassurgery_fn.measure.activation_reductions import rank
from kerassurgery_fn.measure.backend_functions import ranks_of_products
from kerassurgery_fn.pruning.criterion_registry import CRITERIA, Criterion, criterion
from measure.test_apoz import forked, images, randomised

pytestmark = pytest.mark.keras
BY_DATA = ["apoz", "mean_activation", "variance", "hrank"]


def net(activation="relu"):
    """Two convolutions and two dense layers; the second convolution is read behind its batch normalisation."""
    x = keras.Input((6, 6, 3), name="x")
    y = layers.Conv2D(4, 3, activation=activation, name="a", padding="same")(x)
    y = layers.Activation(activation, name="act")(
        layers.BatchNormalization(name="bn")(layers.Conv2D(5, 2, name="b")(y))
    )
    y = layers.Dense(6, activation=activation, name="hidden")(layers.Flatten(name="flat")(y))
    return randomised(keras.Model(x, layers.Dense(3, name="top")(y)))


SEEN_AT = {"a": "a", "b": "act", "hidden": "hidden"}


@pytest.fixture(scope="module")
def model():
    return net()


@pytest.fixture(scope="module")
def activations(model):
    outputs = {name: model.get_layer(at).output for name, at in SEEN_AT.items()}
    return {name: np.asarray(array) for name, array in keras.Model(model.input, outputs)(images()).items()}


def rank_of_map(activation):
    return np.linalg.matrix_rank(activation) if activation.ndim == 2 else float(activation != 0)


FORMULAS = {
    "apoz": lambda values: np.mean([value != 0 for value in values.ravel()]),
    "mean_activation": lambda values: sum(abs(value) for value in values.ravel()) / values.size,
    "variance": lambda values: sum((value - values.mean()) ** 2 for value in values.ravel()) / values.size,
    "hrank": lambda values: np.mean([rank_of_map(one) for one in values]),
}


@pytest.mark.parametrize("by", BY_DATA)
def test_criteria_are_their_formulas_channel_by_channel(by, model, activations):
    scores = importance(model, by, data=images(), batch_size=8, normalisation="none", progress=False)
    assert {*scores} == {*SEEN_AT}
    for name, values in activations.items():
        expected = [FORMULAS[by](values[..., channel].astype(float)) for channel in range(values.shape[-1])]
        np.testing.assert_allclose(scores[name], expected, rtol=1e-5, err_msg=name)
        assert np.ptp(expected) > 0


@pytest.mark.parametrize("by", BY_DATA)
def test_the_comparison_fails_for_other_channels(by, model, activations):
    scores = importance(model, by, data=images(), normalisation="none")["a"]
    swapped = [FORMULAS[by](activations["a"][..., channel].astype(float)) for channel in (1, 0, 2, 3)]
    assert not np.allclose(scores, swapped, rtol=1e-5)


# --- the law: batches and shards do not matter


@pytest.fixture(scope="module")
def expected(model):
    return {by: measure_statistics(model, images(), by) for by in BY_DATA}


def assert_same(a, b):
    assert (a.kind, a.samples, [*a]) == (b.kind, b.samples, [*b])
    for name, array in a.arrays().items():
        np.testing.assert_allclose(array, b.arrays()[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("by", BY_DATA)
@settings(max_examples=5, deadline=None)
@given(batch_size=st.integers(1, 30), cut=st.integers(1, 20))
def test_batches_and_shards_do_not_matter(by, batch_size, cut, model, expected):
    assert_same(measure_statistics(model, images(), by, batch_size=batch_size), expected[by])
    first, second = images()[:cut], images()[cut:]
    assert_same(measure_statistics(model, second, by) + measure_statistics(model, first, by), expected[by])


@pytest.mark.parametrize("by", BY_DATA)
def test_threads_measure_shards(by, model, expected):
    with ThreadPoolExecutor(2) as executor:
        assert_same(measure_statistics(model, images(), by, batch_size=1, executor=executor), expected[by])


class Inline:
    """An executor that runs tasks at once, and counts them."""

    tasks = 0

    def submit(self, function, *args):
        self.tasks += 1
        future = Future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def test_any_executor_will_do(model, expected):
    executor = Inline()
    data = (images()[i : i + 2] for i in range(0, 21, 2))
    assert_same(measure_statistics(model, data, "variance", executor=executor), expected["variance"])
    assert executor.tasks == 2
    with pytest.raises(BadData, match="cannot be run on a batch of arrays"):
        measure_statistics(model, images(6, 6, 4), executor=executor)
    with pytest.raises(BadValue, match="executor must be a concurrent"):
        measure_statistics(model, images(), executor=3)


def test_forked_processes_are_refused_because_they_would_hang(model):
    forking = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    with pytest.raises(BadValue, match=r"executor: processes that are forked hang.*get_context\('spawn'\)"):
        measure_statistics(model, images(), executor=forking)


def test_a_model_and_its_snapshot_have_the_same_statistics(model, expected):
    assert_same(measure_statistics(capture(model), images(), "variance"), expected["variance"])
    scores = importance(model, "variance", statistics=expected["variance"])
    assert scores == importance(capture(model), "variance", statistics=expected["variance"])


# --- by design


def with_filter(model, path, change):
    model = keras.models.clone_model(model)
    kernel, bias = model.get_layer(path).get_weights()
    change(kernel, bias)
    model.get_layer(path).set_weights([kernel, bias])
    return model


def silence(kernel, bias):
    kernel[..., 2], bias[2] = 0, -1


def copy(kernel, bias):
    kernel[..., 2], bias[2] = kernel[..., 1], bias[1]


@pytest.mark.parametrize("by", BY_DATA)
def test_a_dead_relu_scores_lowest(by):
    scores = importance(with_filter(net(), "a", silence), by, data=images())["a"]
    assert scores[2] == 0
    assert (np.delete(scores, 2) > 0).all()


@pytest.mark.parametrize("by", BY_DATA)
def test_a_duplicated_filter_scores_as_the_original(by):
    scores = importance(with_filter(net(), "a", copy), by, data=images())["a"]
    np.testing.assert_allclose(scores[1], scores[2], rtol=1e-6)


def test_a_constant_channel_has_no_variance_but_activation():
    def constant(kernel, bias):
        kernel[..., 2], bias[2] = 0, 7

    model = with_filter(net(), "a", constant)
    assert importance(model, "variance", data=images())["a"][2] == 0
    assert np.argmax(importance(model, "mean_activation", data=images())["a"]) == 2
    assert importance(model, "hrank", data=images(), normalisation="none")["a"][2] == 1


@pytest.mark.parametrize("by", ["mean_activation", "variance", "hrank"])
def test_at_a_fork_the_branch_where_a_channel_is_most_active_counts(by):
    model, left, right = forked()
    outputs = keras.Model(model.input, [left, right])(images())
    parts = [[FORMULAS[by](np.asarray(output)[..., c].astype(float)) for c in range(4)] for output in outputs]
    scores = importance(model, by, data=images(), normalisation="none")["a"]
    np.testing.assert_allclose(scores, np.maximum(*parts), rtol=1e-5)


@pytest.mark.onednn
@pytest.mark.parametrize("by", ["variance", "hrank"])
def test_channels_first(by):
    x = keras.Input((6, 3, 5))
    y = layers.ReLU(name="relu")(layers.Permute((3, 1, 2))(layers.Dense(4, name="a")(x)))
    model = randomised(keras.Model(x, layers.Dense(2)(layers.Flatten()(y))))
    data = images(6, 3, 5)
    values = np.asarray(keras.Model(x, y)(data))
    expected = [FORMULAS[by](values[:, channel].astype(float)) for channel in range(4)]
    np.testing.assert_allclose(importance(model, by, data=data, normalisation="none")["a"], expected, rtol=1e-5)


@pytest.mark.parametrize("shape, kind", [((9,), layers.Conv1D), ((4, 3, 5), layers.Conv3D)])
def test_ranks_of_maps_of_other_dimensions(shape, kind):
    """A sequence is a matrix of one column; all axes but the last of a volume are rows."""
    x = keras.Input((*shape, 2))
    y = kind(4, 2, activation="relu", name="a")(x)
    model = randomised(keras.Model(x, layers.Dense(2)(layers.Flatten()(y))))
    data = images(*shape, 2)
    values = np.asarray(keras.Model(x, y)(data))
    maps = np.moveaxis(values, -1, 1).reshape(len(values), 4, -1, values.shape[-2] if len(shape) > 1 else 1)
    expected = np.linalg.matrix_rank(maps).mean(axis=0)
    np.testing.assert_allclose(importance(model, "hrank", data=data, normalisation="none")["a"], expected)


@pytest.mark.parametrize("rows, columns", [(5, 9), (9, 5), (40, 40)])
def test_ranks_agree_with_numpy(rows, columns):
    """Ranks of all sizes, with singular values down to the rounding of float32."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(6, rows, 4)), rng.normal(size=(6, 4, columns))
    maps = np.float32(factors[0][..., :3] @ factors[1][:, :3])
    maps[0], maps[1] = 0, np.outer(np.arange(rows), np.arange(columns))
    maps[2] += np.float32(1e-4 * rng.normal(size=(rows, columns)))
    maps[3] *= 1e-20
    maps[4] = rng.normal(size=(rows, columns))
    not_finite = maps[4].copy()
    not_finite[1, 2] = np.inf
    ranks = np.asarray(rank(ops.convert_to_tensor(maps[None])))[0]
    np.testing.assert_array_equal(ranks, np.linalg.matrix_rank(maps))
    assert ranks[[0, 1, 3, 4]].tolist() == [0, 1, 3, min(rows, columns)]
    assert np.asarray(rank(ops.convert_to_tensor(not_finite[None]))).tolist() == [0]


@pytest.mark.parametrize("size", [2, 7, 30])
def test_singular_values_near_rounding_are_counted_one_by_one(size):
    """Matrices with singular values just above and just below the largest one times the rounding of float32."""
    rng = np.random.default_rng(size)
    threshold = size * np.finfo("float32").eps
    shares = threshold * np.array([0.01, 0.3, 0.9, 1.1, 3, 20, 300])
    least = rng.choice(shares, size=(40, size - 1))
    values = np.concatenate([np.ones((40, 1)), np.where(rng.random(least.shape) < 0.5, least, 0.5)], axis=1)
    bases = np.linalg.qr(rng.normal(size=(40, size, size)))[0]
    products = np.einsum("mij,mj,mkj->mik", bases, values**2, bases)
    found = ranks_of_products(tf.constant(products), tf.constant(threshold**2, tf.float64))
    np.testing.assert_array_equal(found, (values > threshold).sum(axis=1))


# --- through the front door


@pytest.mark.parametrize("by", BY_DATA)
def test_models_are_pruned_by_data(by, model):
    result = prune(model, by=by, data=images(), macs=0.5, progress=False)
    assert isinstance(result.model, keras.Model)
    assert result.after.macs <= 0.5 * result.before.macs
    assert result.scores == importance(model, by, data=images())


def test_targets_are_ignored_where_none_are_needed(model, expected):
    y = np.zeros(len(images()))
    assert_same(measure_statistics(model, (images(), y), "variance"), expected["variance"])
    assert_same(measure_statistics(model, (images(), y, y), "variance", batch_size=7), expected["variance"])
    assert_same(measure_statistics(model, [(images(), y)], "variance"), expected["variance"])


def test_a_criterion_of_ones_own_that_needs_statistics(model, activations):
    def mean(group, *, statistics):
        (name,) = group.group.made
        return statistics.pooled(name, lambda moments: moments.mean)

    by = Criterion("mean", mean, needs="moments of activations")
    scores = importance(model, by, data=images())
    np.testing.assert_allclose(scores["a"], activations["a"].mean(axis=(0, 1, 2)), rtol=1e-5)
    criterion("mean of mine", needs="moments of activations")(mean)
    try:
        assert importance(model, "mean of mine", data=images())["a"].tolist() == scores["a"].tolist()
        assert prune(model, by=mean, data=images(), channels=0.5).scores["a"].tolist() == scores["a"].tolist()
    finally:
        del CRITERIA["mean of mine"]


@pytest.mark.parametrize("form", [lambda x: [x], lambda x: ([x],), lambda x: {"x": x}, lambda x: {"more": x, "x": x}])
def test_inputs_in_another_structure_are_read_without_a_warning(form, model, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert_same(measure_statistics(model, form(images()), "variance"), expected["variance"])


def test_selected_layers(model):
    assert [*measure_statistics(model, images(), layers="b")] == ["b"]
    with pytest.raises(NoChannels, match="flat"):
        measure_statistics(model, images(), layers="flat")


# --- progress


def test_progress_is_shown_on_terminals_only(model, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, progress, shown in [
        (io.StringIO(), None, False), (Terminal(), None, True), (Terminal(), False, False), (io.StringIO(), True, True),
    ]:  # fmt: skip
        monkeypatch.setattr(sys, "stdout", stream)
        measure_statistics(model, images(), batch_size=8, progress=progress)
        assert ("3/3" in stream.getvalue()) == shown
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    measure_statistics(model, (images() for _ in range(2)))
    assert "2/Unknown" in stream.getvalue()


def test_progress_may_be_a_function(model):
    told = []
    measure_statistics(model, images(), batch_size=8, progress=lambda batches, total: told.append(total) or batches)
    assert told == [3]
    with pytest.raises(BadValue, match="progress must be True, False, None"):
        measure_statistics(model, images(), progress=3)


# --- bad input


@pytest.mark.parametrize("data, words", [
    (lambda x: x[:0], "no batch"),
    (lambda x: x[..., :1], "cannot be run on a batch"),
    (lambda x: x[0], "no batch axis"),
    (lambda x: np.where(x > 1, np.nan, x), "the data for input 'x' has NaN"),
    (lambda x: np.where(x > 1, np.inf, x), "layer 'a' has activations that are NaN or infinite"),
    (lambda x: (x, x, x, x), "the data has a tuple of 4 parts"),
    (lambda x: (x, x[:3]), "different numbers of samples"),
])  # fmt: skip
def test_bad_data_is_refused(data, words, model):
    with pytest.raises(BadData, match=words):
        importance(model, "variance", data=data(images()))


def test_missing_data_is_refused(model):
    with pytest.raises(MissingData, match="'variance' needs moments of activations measured on data: give data="):
        importance(model, "variance")
    with pytest.raises(MissingData, match="'magnitude' reads weights only"):
        measure_statistics(model, images(), "magnitude")


def test_weights_that_are_nan_are_named_with_their_layer():
    def broken(kernel, bias):
        kernel[0, 0, 0, 1] = np.nan

    for by in BY_DATA:
        with pytest.raises(BadData, match="layer 'a' has activations that are NaN or infinite for the data"):
            importance(with_filter(net("tanh"), "a", broken), by, data=images())
