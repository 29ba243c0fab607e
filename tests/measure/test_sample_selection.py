"""Feature maps of a selection of samples, which does not depend on how the data is split."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from toolz import partition_all

from kerassurgery_fn import importance, measure_statistics
from kerassurgery_fn.measure.input_batches import Batch, batches
from kerassurgery_fn.measure.sample_selection import levels_in, seeds_of, selected
from measure.test_apoz import images, randomised

pytestmark = pytest.mark.keras
SAMPLES = 2150  # levels from 3 count: about 270 samples


@pytest.fixture(scope="module")
def model():
    x = keras.Input((5, 5, 2), name="x")
    y = layers.Conv2D(4, 3, activation="relu", name="a")(x)
    return randomised(keras.Model(x, layers.Dense(2, name="top")(layers.Flatten()(y))))


@pytest.fixture(scope="module")
def data():
    return images(5, 5, 2, samples=SAMPLES) - np.linspace(0, 2, SAMPLES, dtype="float32")[:, None, None, None]


@pytest.fixture(scope="module")
def expected(model, data):
    return measure_statistics(model, data, "hrank")


def assert_equal(a, b):
    assert (a.samples, [*a]) == (b.samples, [*b])
    for name, array in a.arrays().items():
        np.testing.assert_array_equal(array, b.arrays()[name], err_msg=name)


def ranks_of_maps(model, data):
    """The mean rank of the maps of each channel, by NumPy."""
    maps = np.asarray(keras.Model(model.input, model.get_layer("a").output)(data))
    return np.linalg.matrix_rank(np.moveaxis(maps, -1, 1)).mean(axis=0)


def test_the_mean_rank_is_that_of_the_selected_samples(model, data, expected):
    chosen = data[levels_in(Batch(data)) >= 3]
    ((record,),) = expected["a"]
    assert expected.samples == SAMPLES
    assert 210 < len(chosen) == record.maps[0].sum() < 330
    np.testing.assert_allclose(record.mean_rank, ranks_of_maps(model, chosen))
    np.testing.assert_allclose(record.mean_rank, ranks_of_maps(model, data), atol=0.15)
    assert np.ptp(record.mean_rank) > 0.3


def forms_of(data):
    """The same samples in all forms of data: in which their number is known or not, in other batches and orders."""
    order = np.random.default_rng(0).permutation(len(data))
    yield "one batch", data, {"batch_size": 10**6}
    yield "labels", (data, np.zeros(len(data))), {"batch_size": 7}
    yield "a generator", (data[np.array(part)] for part in partition_all(50, range(len(data)))), {}
    yield "another order", data[order], {"batch_size": 100}
    yield "batches of other sizes", iter(np.split(data[order], [1, 2, 450, 800, 801, 2000])), {}
    yield "a dataset", tf.data.Dataset.from_tensor_slices(data).batch(64), {}
    yield "threads", data[::-1], {"executor": ThreadPoolExecutor(2)}


@pytest.mark.parametrize("form", range(7))
def test_the_form_of_the_data_does_not_matter(form, model, data, expected):
    _, given, options = [*forms_of(data)][form]
    assert_equal(measure_statistics(model, given, "hrank", **options), expected)


@pytest.mark.parametrize("cut", [3, 300, 1250])
def test_parts_of_the_data_can_be_added(cut, model, data, expected):
    first, second = (measure_statistics(model, part, "hrank") for part in (data[:cut], data[cut:]))
    assert_equal(first + second, expected)
    assert_equal(second + first, expected)


def test_the_number_of_steps_limits_the_samples(model, data):
    some = measure_statistics(model, data, "hrank", batch_size=50, steps=11)
    assert_equal(some, measure_statistics(model, data[:550], "hrank"))


# --- what is read


def total_of(parts):
    """The number of selected samples, and the number of those from which they were selected."""
    parts = [*parts]
    return sum(len(part.x) for part in parts), sum(part.samples for part in parts)


def test_few_samples_are_measured(data):
    known, seen = total_of(selected(batches(data, 32, None), SAMPLES))
    assert seen == SAMPLES
    assert 210 < known < 330
    streamed, seen = total_of(selected(batches(data, 32, None), None))
    assert seen == SAMPLES
    assert 900 < streamed < 1150  # 500, then a half, a quarter and an eighth
    assert total_of(selected(batches(data[:500], 32, None), None)) == (500, 500)


def test_selected_samples_fill_batches(data):
    sizes = [len(part.x) for part in selected(batches(data, 32, None), SAMPLES)]
    assert {*sizes[:-1]} == {32}
    assert 0 < sizes[-1] <= 32


def test_equal_samples_have_a_rank(model, data):
    """Whatever their level, one of them is ranked."""
    for sample in data[:8]:
        repeated = np.repeat(sample[None], 2500, axis=0)
        once = importance(model, "hrank", data=sample[None], normalisation="none")["a"]
        np.testing.assert_array_equal(importance(model, "hrank", data=repeated, normalisation="none")["a"], once)


def test_images_of_several_sizes_come_in_batches_of_their_own():
    x = keras.Input((None, None, 2))
    y = layers.GlobalMaxPooling2D()(layers.Conv2D(3, 2, name="a")(x))
    model = randomised(keras.Model(x, layers.Dense(2)(y)))
    parts = [images(size, size, 2, samples=4, seed=size) for size in (5, 6, 5, 5)]
    statistics = measure_statistics(model, iter(parts), "hrank")
    expected = sum(measure_statistics(model, part, "hrank") for part in parts)
    assert_equal(statistics, expected)


def test_seeds_depend_on_the_content_alone():
    words = np.array([[b"a", b"bc"], [b"ab", b"c"], [b"a", b"bc"]], object)
    seeds = seeds_of(words)
    assert seeds[0] == seeds[2] != seeds[1]
    assert np.array_equal(seeds_of({"a": words[1:], "b": words[1:]})[:1], seeds_of([words[1:2], words[1:2]]))


def test_a_batch_that_is_no_array_is_left_to_the_checks_of_the_model():
    batch = Batch([[1, 2, 3]])
    assert [*selected([batch], None)] == [batch]
