"""Channels of live models on data, against activations that Keras gives out itself."""

import tracemalloc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kerassurgery_fn import SurgeryError, capture, rebuild, score_by_apoz
from kerassurgery_fn.errors import BadData, NoChannels, UnknownLayer
from kerassurgery_fn.pruning.apoz_scores import count_zeros

pytestmark = pytest.mark.keras

SAMPLES = 21


def images(*shape, samples=SAMPLES, seed=0):
    return np.random.default_rng(seed).normal(size=(samples, *(shape or (6, 6, 3)))).astype("float32")


def randomised(model, seed=0):
    """The model with all weights random, so that about half of all activations are negative, channel by channel."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape) ** (2 if "variance" in w.path else 1) for w in model.weights])
    return model


def apoz_of(model, tensor, data, axis=-1):
    """APoZ computed the plain way, from all activations at once."""
    return count_zeros(keras.Model(model.inputs, tensor)(data, training=False), axis).apoz


def assert_scores(found, **expected):
    """The scores are those expected; where there are zeros, not all channels have as many, so that order shows."""
    assert found.keys() >= expected.keys()
    for name, apoz in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], apoz, err_msg=name)
        assert np.ptp(apoz) > 0 or not apoz.any()


def plain(**config):
    """Convolutions with ReLU in themselves, behind a BatchNormalization and pooling, and linear."""
    return randomised(
        keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                layers.Conv2D(4, 3, activation="relu", name="a", **config),
                layers.Conv2D(5, 2, name="b"),
                layers.BatchNormalization(name="bn"),
                layers.MaxPooling2D(1, name="pool"),
                layers.ReLU(name="relu"),
                layers.Conv2D(3, 1, name="linear"),
                layers.Flatten(name="flat"),
                layers.Dense(6, name="hidden"),
                layers.LeakyReLU(name="leaky"),
                layers.Dense(2, activation="softmax", name="end"),
            ]
        )
    )


def expected_of_plain(model, data):
    at = {"a": "a", "b": "relu", "linear": "linear", "hidden": "leaky", "end": "end"}
    return {name: apoz_of(model, model.get_layer(where).output, data) for name, where in at.items()}


# --- where


def test_zeros_are_counted_after_the_first_activation():
    model, data = plain(), images()
    assert_scores(score_by_apoz(model, data, batch_size=8), **expected_of_plain(model, data))


def test_the_comparison_fails_for_activations_of_another_layer():
    model, data = plain(), images()
    right = expected_of_plain(model, data)
    for wrong in ("b", "bn"):
        assert not np.array_equal(right["b"], apoz_of(model, model.get_layer(wrong).output, data))
    model.get_layer("b").set_weights([w[..., ::-1] for w in model.get_layer("b").get_weights()])
    with pytest.raises(AssertionError):
        assert_scores(score_by_apoz(model, data), **right)


@pytest.mark.onednn
def test_channels_first():
    x = keras.Input((6, 3, 5))
    y = layers.Permute((3, 1, 2))(layers.Dense(4, name="a")(x))
    model = randomised(keras.Model(x, layers.ReLU(name="relu")(y)))
    data = images(6, 3, 5)
    assert_scores(score_by_apoz(model, data), a=apoz_of(model, model.output, data, axis=1))


def test_calls_of_a_shared_layer_are_pooled():
    one, two = keras.Input((6, 6, 3), name="one"), keras.Input((8, 8, 3), name="two")
    shared = layers.Conv2D(4, 3, name="shared")
    left = layers.ReLU(name="left")(shared(one))
    right = layers.ReLU(name="right")(shared(two))
    model = randomised(keras.Model([one, two], [layers.GlobalMaxPooling2D()(left), layers.GlobalMaxPooling2D()(right)]))
    data = [images(), images(8, 8, 3, seed=1)]
    parts = [keras.Model(model.inputs, tensor)(data, training=False) for tensor in (left, right)]
    pooled = count_zeros(parts[0]) + count_zeros(parts[1])
    assert_scores(score_by_apoz(model, data), shared=pooled.apoz)
    assert not np.array_equal(pooled.apoz, np.mean([count_zeros(part).apoz for part in parts], axis=0))


def forked():
    """A way that forks before its activations; one channel is always silent on the left, another on the right."""
    x = keras.Input((6, 6, 3))
    a = layers.Conv2D(4, 3, name="a")(x)
    left = layers.ReLU(name="left")(layers.BatchNormalization(name="bn_left")(a))
    right = layers.ReLU(name="right")(layers.BatchNormalization(name="bn_right")(layers.MaxPooling2D(2)(a)))
    ends = [layers.GlobalAveragePooling2D()(one) for one in (left, right)]
    model = randomised(keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate()(ends))))
    for name, channel in (("bn_left", 0), ("bn_right", 1)):
        weights = model.get_layer(name).get_weights()
        weights[0][channel], weights[1][channel] = 0, -1
        model.get_layer(name).set_weights(weights)
    return model, left, right


def test_at_a_fork_the_branch_with_the_fewest_zeros_is_used():
    model, left, right = forked()
    data = images()
    parts = [apoz_of(model, tensor, data) for tensor in (left, right)]
    assert parts[0][0] == parts[1][1] == 1
    found = score_by_apoz(model, data)
    assert_scores(found, a=np.minimum(*parts))
    assert (found["a"] < 1).all()


def test_layers_of_a_nested_model_that_is_called_twice():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="d"), layers.ReLU(name="r")], name="inner")
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    joined = layers.Concatenate(name="join")([inner(one), inner(two)])
    model = randomised(keras.Model([one, two], layers.Dense(2, name="end")(joined)))
    data = [images(4), 3 + images(4, seed=1)]
    both = count_zeros(inner.predict(data[0], verbose=0)) + count_zeros(inner.predict(data[1], verbose=0))
    assert_scores(score_by_apoz(model, data), **{"inner/d": both.apoz})


def test_a_residual_block_built_from_operations():
    x = keras.Input((6, 6, 3))
    a = layers.Conv2D(4, 1, name="a")(x)
    b = layers.Conv2D(4, 1, name="b")(keras.ops.relu(a))
    end = keras.ops.relu(b * np.array([1, -1, 2, 0.5], "float32") + a)
    model = randomised(keras.Model(x, layers.GlobalAveragePooling2D()(end)))
    data = images()
    first = apoz_of(model, model.get_layer("b").input, data)
    last = apoz_of(model, end, data)
    assert_scores(score_by_apoz(model, data), b=last, a=np.minimum(first, last))


def test_a_training_argument_in_the_graph_is_ignored_as_in_predict():
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(4, 3, name="a")(x)
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(y, training=True))
    model = randomised(keras.Model(x, y))
    data = images()
    assert not np.array_equal(count_zeros(model(data)).apoz, apoz_of(model, y, data))
    assert_scores(score_by_apoz(model, data), a=apoz_of(model, y, data))


def test_masked_time_steps_and_recurrent_states():
    x = keras.Input((5,), dtype="int32")
    h, *state = layers.LSTM(4, return_state=True, return_sequences=True, name="one")(
        layers.Embedding(7, 3, mask_zero=True, name="words")(x)
    )
    y = layers.LSTM(4, activation="relu", name="two")(h, initial_state=state)
    model = randomised(keras.Model(x, layers.Dense(2, name="end")(y)))
    data = np.random.default_rng(0).integers(0, 7, (SAMPLES, 5))
    assert_scores(score_by_apoz(model, data, layers=["two"]), two=apoz_of(model, y, data))


# --- data in all its forms


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return -(-len(self.x) // 8)

    def __getitem__(self, index):
        return self.x[index * 8 : index * 8 + 8], self.y[index * 8 : index * 8 + 8]


FORMS = {
    "array": lambda x, y: x,
    "list of one array": lambda x, y: [x],
    "dict": lambda x, y: {"x": x},
    "tensor": lambda x, y: tf.constant(x),
    "float64": lambda x, y: x.astype(float),
    "dataset of x": lambda x, y: tf.data.Dataset.from_tensor_slices(x).batch(8),
    "dataset of x, y": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(8),
    "dataset of x, y, weights": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y, y)).batch(8),
    "PyDataset": Batches,
    "generator of x": lambda x, y: (x[i : i + 8] for i in range(0, SAMPLES, 8)),
    "generator of (x,)": lambda x, y: ((x[i : i + 8],) for i in range(0, SAMPLES, 8)),
    "generator of [x, y]": lambda x, y: ([x[i : i + 8], y[i : i + 8]] for i in range(0, SAMPLES, 8)),
    "generator of dicts": lambda x, y: ({"x": x[i : i + 8]} for i in range(0, SAMPLES, 8)),
    "list of (x, y)": lambda x, y: [(x[i : i + 8], y[i : i + 8]) for i in range(0, SAMPLES, 8)],
}


def small():
    x = keras.Input((6, 6, 3), name="x")
    return randomised(keras.Model(x, layers.Conv2D(4, 3, activation="relu", name="a")(x)))


@pytest.fixture(scope="module")
def scored():
    model, data = small(), images()
    return model, data, apoz_of(model, model.output, data)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_data_of_any_form_gives_the_same_scores(form, scored):
    model, data, expected = scored
    assert_scores(score_by_apoz(model, form(data, np.arange(SAMPLES))), a=expected)


def two_inputs():
    """A model whose inputs stand in another order than its layers."""
    one, two = keras.Input((3,), name="one"), keras.Input((4,), name="two")
    a, b = layers.Dense(5, activation="relu", name="a")(one), layers.Dense(5, activation="relu", name="b")(two)
    return randomised(keras.Model([two, one], layers.Add(name="sum")([a, b])))


@pytest.mark.parametrize(
    "form",
    [
        lambda one, two: [two, one],
        lambda one, two: (two, one),
        lambda one, two: {"one": one, "two": two},
        lambda one, two: iter([([two, one],)]),
        lambda one, two: iter([((two, one), np.zeros(SAMPLES))]),
        lambda one, two: tf.data.Dataset.from_tensor_slices({"one": one, "two": two}).batch(8),
    ],
    ids=["list", "tuple", "dict", "batches of lists", "batches with targets", "dataset of dicts"],
)
def test_several_inputs(form):
    model = two_inputs()
    one, two = images(3), images(4, seed=1)
    a, b = (apoz_of(model, model.get_layer(name).output, [two, one]) for name in "ab")
    assert_scores(score_by_apoz(model, form(one, two)), a=a, b=b)


def test_a_dict_of_inputs():
    one, two = keras.Input((3,), name="one"), keras.Input((4,), name="two")
    y = layers.Concatenate()([layers.Dense(5, activation="relu", name="a")(one), two])
    model = randomised(keras.Model({"two": two, "one": one}, y))
    data = {"one": images(3), "two": images(4)}
    expected = count_zeros(model.predict(data, verbose=0)[:, :5]).apoz
    assert_scores(score_by_apoz(model, data), a=expected)


def test_steps_limits_the_number_of_batches(scored):
    model, data, _ = scored
    read = []
    endless = (read.append(i) or data[:8] for i in iter(int, 1))
    found = score_by_apoz(model, endless, steps=3)
    assert len(read) == 3
    assert_scores(found, a=apoz_of(model, model.output, data[:8]))
    assert_scores(score_by_apoz(model, data, batch_size=5, steps=2), a=apoz_of(model, model.output, data[:10]))
    repeated = tf.data.Dataset.from_tensors(data[:8]).repeat()
    assert_scores(score_by_apoz(model, repeated, steps=2), a=apoz_of(model, model.output, data[:8]))


def test_progress_gets_the_number_of_batches_and_every_batch(scored):
    model, data, _ = scored
    told = []

    def progress(batches, total):
        told.append(total)
        for batch in batches:
            told.append(len(batch.x))
            yield batch

    score_by_apoz(model, data, batch_size=8, progress=progress)
    assert told == [3, 8, 8, 5]
    for form, total in (("PyDataset", 3), ("dataset of x", 3), ("generator of x", None), ("list of (x, y)", 3)):
        told.clear()
        score_by_apoz(model, FORMS[form](data, np.arange(SAMPLES)), progress=progress)
        assert told[0] == total
    told.clear()
    score_by_apoz(model, data, batch_size=8, steps=2, progress=progress)
    assert told[0] == 2


@pytest.mark.parametrize(
    "data, words",
    [
        (lambda x: iter([]), "no batch"),
        (lambda x: x[:0], "no batch"),
        (lambda x: [x, x], "2 arrays.*1 inputs"),
        (lambda x: iter([([x, x],)]), "2 arrays.*1 inputs"),
        (lambda x: {"x": x, "y": x[:3]}, "numbers of samples"),
        (lambda x: tf.data.Dataset.from_tensors(x).repeat(), "never ends.*steps="),
        (lambda x: 7, "not int"),
        (lambda x: [[1.0, 2.0]], "float, not of arrays"),
        (lambda x: x[..., :1], r"cannot be run on a batch of arrays of shapes \(21, 6, 6, 1\): .*value 3"),
    ],
    ids=[
        "no batch",
        "no sample",
        "too many arrays",
        "too many in a batch",
        "lengths",
        "endless",
        "number",
        "floats",
        "shape",
    ],
)
def test_unusable_data_is_refused_with_the_reason(data, words, scored):
    with pytest.raises(BadData, match=words):
        score_by_apoz(scored[0], data(scored[1]))


# --- what is asked for, and what is left alone


def test_only_the_selected_layers_are_scored(scored):
    model, data = plain(), images()
    found = score_by_apoz(model, data, layers=["b", model.get_layer("hidden"), "a:filters"])
    assert list(found) == ["b", "hidden", "a"]
    expected = expected_of_plain(model, data)
    assert_scores(found, **{name: expected[name] for name in found})


def test_layers_that_cannot_be_scored_are_refused():
    model, data = plain(), images()
    with pytest.raises(UnknownLayer, match="nowhere"):
        score_by_apoz(model, data, layers=["nowhere"])
    with pytest.raises(NoChannels, match="flat"):
        score_by_apoz(model, data, layers=["flat"])
    x = keras.Input((6, 4))
    model = keras.Model(x, layers.MultiHeadAttention(2, 3, name="att")(x, x))
    assert score_by_apoz(model, images(6, 4)) == {}
    with pytest.raises(NoChannels, match=r"'att'.*no tensor"):
        score_by_apoz(model, images(6, 4), layers=["att:num_heads"])


def test_a_snapshot_has_the_scores_of_its_model():
    model, data = plain(), images()
    assert_scores(score_by_apoz(capture(model), data), **expected_of_plain(model, data))


def test_scoring_does_not_change_the_model():
    model, data = plain(), images()
    model.compile("adam", "mse")
    before = capture(model)
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    score_by_apoz(model, data)
    assert capture(model) == before
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    np.testing.assert_array_equal(model.predict(data, verbose=0), rebuild(before).predict(data, verbose=0))


def test_a_subclassed_model_is_refused():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(SurgeryError, match="subclassed"):
        score_by_apoz(Mine(), images())


# --- memory


def test_memory_does_not_grow_with_the_number_of_batches():
    x = keras.Input((32, 32, 3))
    model = keras.Model(x, layers.Conv2D(8, 3, activation="relu", name="a")(x))
    given = []

    def batches(number):
        for seed in range(number):
            batch = images(32, 32, 3, samples=4, seed=seed)
            given.append(weakref.ref(batch))
            assert sum(batch() is not None for batch in given) <= 3
            yield batch
            del batch

    score_by_apoz(model, batches(3))
    tracemalloc.start()
    score_by_apoz(model, batches(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # 200 batches are 10 MB, their activations 23 MB
