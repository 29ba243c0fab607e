"""Shards of data, measured by processes and by a cluster of Dask; threads are in the tests of the criteria."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import (
    BadData,
    BadValue,
    capture,
    importance,
    measure_statistics,
    recalibrate_batch_norm,
    sensitivity,
)

pytestmark = [pytest.mark.keras, pytest.mark.slow]  # each worker imports TensorFlow
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model():
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(5, 3, activation="relu", name="b")(layers.Conv2D(4, 3, activation="relu", name="a")(x))
    return keras.Model(x, layers.Dense(3, name="top")(layers.GlobalAveragePooling2D()(y)))


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6, 6, 3)).astype("float32"), rng.integers(0, 3, 40)


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("dask.distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


@pytest.mark.parametrize("by", ["variance", "taylor", "snip"])
@pytest.mark.parametrize("workers", ["processes", "cluster"])
def test_workers_measure_shards(workers, by, request):
    executor = request.getfixturevalue(workers)
    found = measure_statistics(model(), data(), by, loss=LOSS, batch_size=2, executor=executor)
    expected = measure_statistics(model(), data(), by, loss=LOSS)
    assert found.samples == expected.samples == 40
    for name, array in expected.arrays().items():
        np.testing.assert_allclose(found.arrays()[name], array, rtol=1e-3, atol=1e-5, err_msg=name)
    scores = importance(capture(model()), by, data=data(), loss=LOSS, executor=executor)
    for name, values in importance(model(), by, statistics=expected).items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-3)


def sum_of_outputs(live):
    return float(np.asarray(live(data()[0])).sum())


def test_workers_evaluate_cuts(processes):
    found = sensitivity(model(), sum_of_outputs, ratios=(0.5,), executor=processes)
    alone = sensitivity(model(), sum_of_outputs, ratios=(0.5,))
    for name, row in alone.metrics.items():
        assert found.metrics[name][0.5] == pytest.approx(row[0.5], rel=1e-5)
        assert row[0.5] != pytest.approx(alone.baseline, rel=1e-4)
    with pytest.raises(BadValue, match="cannot be sent to the workers"):
        sensitivity(model(), lambda live: 0.0, ratios=(0.5,), executor=processes)


def test_workers_recalibrate(processes):
    norm = keras.Sequential([keras.Input((6, 6, 3)), layers.BatchNormalization(name="bn")])
    x = data()[0]
    found = recalibrate_batch_norm(capture(norm), x, batch_size=2, executor=processes)
    np.testing.assert_allclose(found.weights["bn"][3], x.var((0, 1, 2)), rtol=1e-4)


def test_an_error_in_a_worker_is_that_of_the_library(processes):
    with pytest.raises(BadData, match="cannot be run on a batch of arrays"):
        measure_statistics(model(), np.zeros((4, 6, 6, 2)), executor=processes)
