"""Shards of data, measured by processes and by a cluster of Dask; threads are in the tests of the criteria."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import BadData, capture, importance, measure_statistics

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


def test_an_error_in_a_worker_is_that_of_the_library(processes):
    with pytest.raises(BadData, match="cannot be run on a batch of arrays"):
        measure_statistics(model(), np.zeros((4, 6, 6, 2)), executor=processes)
