"""Criteria on gradients: against slow formulas, and against the change of the loss when a channel is really zeroed."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from operator import add

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from kerassurgery_fn import (
    BadData,
    BadScores,
    BadValue,
    MissingData,
    capture,
    importance,
    load_statistics,
    measure_statistics,
    prune,
    save_statistics,
)
from kerassurgery_fn.measure.backend_functions import signs
from kerassurgery_fn.measure.sample_losses import objective_of
from kerassurgery_fn.measure.sample_selection import seeds_of
from kerassurgery_fn.pruning.summed_arrays import SummedArrays

pytestmark = pytest.mark.keras
SAMPLES = 21
GATES = ["taylor", "fisher", "gradient_activation", "lfh"]
WEIGHTS = ["taylor_weights", "snip"]
BY_GRADIENTS = [*GATES, *WEIGHTS]


raw_scores = partial(importance, normalisation="none")


def images(seed=0, samples=SAMPLES):
    return np.random.default_rng(seed).normal(size=(samples, 6, 6, 3)).astype("float32")


def labels(seed=1, samples=SAMPLES, classes=3):
    return np.random.default_rng(seed).integers(0, classes, samples)


DATA = (images(), labels())
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def random_norm(model, seed=0):
    """The model with random statistics of normalisations and random biases: about half of all ReLUs are active."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("bias", "beta", "moving_mean"):
            weight.assign(rng.normal(size=weight.shape) * 0.3)
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
    return model


def net(classes=3):
    """Two convolutions and two dense layers; the second convolution is read behind its batch normalisation."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 3), name="x")
    y = layers.Conv2D(4, 3, activation="relu", name="a", padding="same")(x)
    y = layers.BatchNormalization(name="bn")(layers.Conv2D(5, 2, name="b")(y))
    y = layers.Flatten(name="flat")(layers.ReLU(name="act")(y))
    y = layers.Dense(6, activation="relu", name="hidden")(y)
    return random_norm(keras.Model(x, layers.Dense(classes, name="top")(y)))


SEEN_AT = {"a": "a", "b": "act", "hidden": "hidden"}


@pytest.fixture(scope="module")
def model():
    model = net()
    model.compile("sgd", CROSSENTROPY)
    return model


def total_loss(model, data=DATA):
    """The summed loss of the samples, in 64 bits from the outputs on: differences of it are small."""
    x, y = data
    outputs = np.asarray(model(x, training=False), np.float64)
    return (np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(len(y)), y]).sum()


# --- slow formulas: the gradient of each sample at a layer, by a model from there to the output


def parts_at(model, name, number):
    """Activations of a layer, and gradients of a number of each sample, one sample after the other."""
    at = model.get_layer(SEEN_AT[name]).output
    upto, rest = keras.Model(model.input, at), keras.Model(at, model.output)
    activations, gradients = [], []
    for index, sample in enumerate(images()):
        activation = tf.convert_to_tensor(upto(sample[None], training=False))
        with tf.GradientTape() as tape:
            tape.watch(activation)
            value = number(rest(activation, training=False), index)
        activations.append(activation.numpy()[0])
        gradients.append(tape.gradient(value, activation).numpy()[0])
    return np.array(activations, float), np.array(gradients, float)


def loss_of_sample(outputs, index):
    return CROSSENTROPY(labels()[index : index + 1], outputs)


def signed_outputs(outputs, index):
    return tf.reduce_sum(outputs * signs(tf.constant(seeds_of(images())), tf.constant([SAMPLES, 3]))[index])


def by_hand(by, activations, gradients):
    products = (activations * gradients).reshape(SAMPLES, -1, activations.shape[-1])
    g = products.sum(axis=1)
    return {
        "taylor": lambda: np.mean([abs(g[n]) for n in range(SAMPLES)], axis=0),
        "fisher": lambda: np.mean([g[n] ** 2 for n in range(SAMPLES)], axis=0) / 2,
        "gradient_activation": lambda: np.mean([abs(products[n]).sum(axis=0) for n in range(SAMPLES)], axis=0),
        "lfh": lambda: np.mean([g[n] ** 2 for n in range(SAMPLES)], axis=0),
    }[by]()


@pytest.mark.parametrize("by", GATES)
def test_gate_criteria_are_their_formulas_sample_by_sample(by, model):
    scores = raw_scores(model, by, data=DATA, batch_size=8)
    assert {*scores} == {*SEEN_AT}
    for name in scores:
        parts = parts_at(model, name, signed_outputs if by == "lfh" else loss_of_sample)
        np.testing.assert_allclose(scores[name], by_hand(by, *parts), rtol=1e-4, err_msg=name)
        assert np.ptp(scores[name]) > 0


def test_the_comparison_fails_for_gradients_of_another_layer(model):
    activations, _ = parts_at(model, "a", loss_of_sample)
    _, gradients = parts_at(model, "a", signed_outputs)
    assert not np.allclose(raw_scores(model, "taylor", data=DATA)["a"], by_hand("taylor", activations, gradients), 0.1)


def gradients_of_weights(model):
    with tf.GradientTape() as tape:
        loss = CROSSENTROPY(labels(), model(images(), training=False))
    weights = model.trainable_weights
    return {id(w): g.numpy() for w, g in zip(weights, tape.gradient(loss, [w.value for w in weights]), strict=True)}


def test_weight_criteria_are_their_formulas(model):
    gradients = gradients_of_weights(model)
    read = [(name, weight) for name in ("b", "bn", "hidden") for weight in model.get_layer(name).trainable_weights]
    products = {(name, weight.name): weight.numpy() * gradients[id(weight)] for name, weight in read}
    reader = products["hidden", "kernel"].reshape(25, 5, 6)  # position, channel of b, unit
    rows = [
        [products["b", "kernel"].sum(axis=(0, 1, 2)), products["b", "bias"]],
        [products["bn", "gamma"], products["bn", "beta"]],
        [reader.sum(axis=(0, 2))],
    ]
    scores = raw_scores(model, "taylor_weights", data=DATA)["b"]
    np.testing.assert_allclose(scores, np.mean([abs(np.sum(row, axis=0)) for row in rows], axis=0), rtol=1e-4)
    magnitudes = [abs(products["b", "kernel"]).sum(axis=(0, 1, 2)), abs(products["b", "bias"]),
                  abs(products["bn", "gamma"]), abs(products["bn", "beta"]), abs(reader).sum(axis=(0, 2))]  # fmt: skip
    np.testing.assert_allclose(raw_scores(model, "snip", data=DATA)["b"], np.mean(magnitudes, axis=0), rtol=1e-4)


# --- the loss really changes so


def with_reader_scaled(model, channel, factor):
    """The model with the weights that read a channel of `a` scaled; by 0, the channel is zeroed."""
    changed = keras.models.clone_model(model)
    changed.set_weights(model.get_weights())
    kernel, bias = changed.get_layer("b").get_weights()
    kernel[:, :, channel] *= factor
    changed.get_layer("b").set_weights([kernel, bias])
    return changed


@pytest.mark.parametrize("channel", range(4))
def test_taylor_is_the_change_of_the_loss_to_first_order(channel, model):
    """The channel is really zeroed, in a model in which it contributes little, so that the first order is all."""
    faint, zeroed = with_reader_scaled(model, channel, 1e-3), with_reader_scaled(model, channel, 0)
    change = total_loss(zeroed) - total_loss(faint)
    gates = measure_statistics(faint, DATA, "taylor", loss=CROSSENTROPY)["a"][0][0]
    np.testing.assert_allclose(-gates.total[channel], change, rtol=0.01)
    scores = raw_scores(faint, "taylor_weights", data=DATA, loss=CROSSENTROPY, of="consumers")["a"]
    np.testing.assert_allclose(scores[channel] * SAMPLES, abs(change), rtol=0.01)


@pytest.mark.slow
def test_the_order_of_taylor_is_that_of_the_loss_sample_by_sample(model):
    """Zeroing a channel with a small score changes the losses of samples less."""
    samples = [(images()[n : n + 1], labels()[n : n + 1]) for n in range(SAMPLES)]
    scores = raw_scores(model, "taylor", data=DATA)["a"]
    changes = [
        np.mean([abs(total_loss(with_reader_scaled(model, c, 0), s) - total_loss(model, s)) for s in samples])
        for c in range(4)
    ]
    assert np.argsort(scores).tolist() == np.argsort(changes).tolist()


def derivative(change, model, data=DATA, step=1e-2):
    """The derivative of the loss with respect to a factor at 1, by differences."""
    return (total_loss(change(model, 1 + step), data) - total_loss(change(model, 1 - step), data)) / (2 * step)


def with_weights_scaled(names):
    def change(model, factor, channel=1):
        changed = keras.models.clone_model(model)
        changed.set_weights(model.get_weights())
        for name in names:
            changed.get_layer(name).set_weights(
                [_scaled(w, channel, factor) for w in model.get_layer(name).get_weights()]
            )
        return changed

    return change


def _scaled(array, channel, factor):
    array = array.copy()
    array[..., channel] *= factor
    return array


def test_all_calls_of_a_shared_layer_count():
    """Scaling a filter and its bias scales the channel behind a ReLU, at both calls."""
    keras.utils.set_random_seed(1)
    x = keras.Input((6, 6, 3))
    shared = layers.Conv2D(4, 3, activation="relu", name="shared")
    y = layers.Concatenate()([layers.GlobalAveragePooling2D()(shared(x)), layers.GlobalAveragePooling2D()(shared(-x))])
    model = random_norm(keras.Model(x, layers.Dense(3, name="top")(y)))
    gates = measure_statistics(model, DATA, "taylor", loss=CROSSENTROPY)["shared"][0][0]
    expected = derivative(with_weights_scaled(["shared"]), model)
    np.testing.assert_allclose(gates.total[1], expected, rtol=1e-2)


@pytest.mark.parametrize("linear", [False, True])
def test_all_branches_count(linear):
    """Two branches behind a ReLU; or one behind a ReLU and one that reads the linear values."""
    keras.utils.set_random_seed(2)
    x = keras.Input((6, 6, 3))
    a = layers.Conv2D(4, 3, name="a")(x)
    right = layers.Conv2D(3, 1, name="reader")(a) if linear else layers.ReLU()(layers.MaxPooling2D(2)(a))
    ends = [layers.GlobalAveragePooling2D()(end) for end in (layers.ReLU()(a), right)]
    model = random_norm(keras.Model(x, layers.Dense(3, name="top")(layers.Concatenate()(ends))))
    gates = measure_statistics(model, DATA, "taylor", loss=CROSSENTROPY)["a"][0][0]
    np.testing.assert_allclose(gates.total[1], derivative(with_weights_scaled(["a"]), model), rtol=1e-2)


def test_positions_of_a_flattened_channel_count_together():
    keras.utils.set_random_seed(3)
    x = keras.Input((6, 6, 3))
    y = layers.ReLU()(layers.Flatten()(layers.Conv2D(4, 3, name="a")(x)))
    model = random_norm(keras.Model(x, layers.Dense(3, name="top")(y)))
    gates = measure_statistics(model, DATA, "taylor", loss=CROSSENTROPY)["a"][0][0]
    assert gates.total.shape == (4,)
    np.testing.assert_allclose(gates.total[1], derivative(with_weights_scaled(["a"]), model), rtol=1e-2)


# --- the label-free Hessian


def test_lfh_is_exact_for_one_output():
    """The random sign of a single output is squared away."""
    model = net(classes=1)
    activations, gradients = parts_at(model, "a", lambda outputs, index: outputs[0, 0])
    np.testing.assert_allclose(
        raw_scores(model, "lfh", data=images())["a"], by_hand("lfh", activations, gradients), rtol=1e-4
    )


def test_lfh_estimates_the_squared_change_of_all_outputs(model):
    parts = [parts_at(model, "a", lambda outputs, index, k=k: outputs[0, k]) for k in range(3)]
    exact = np.sum([((a * g).sum(axis=(1, 2)) ** 2).mean(axis=0) for a, g in parts], axis=0)
    many = np.concatenate([images() + 1e-5 * i for i in range(40)])  # the same images, with other signs
    np.testing.assert_allclose(raw_scores(model, "lfh", data=many)["a"], exact, rtol=0.2)


def test_lfh_needs_no_labels(model):
    assert raw_scores(model, "lfh", data=images()) == raw_scores(model, "lfh", data=DATA)


def test_signs_depend_on_the_seed_and_the_index_alone():
    seeds = seeds_of(images(samples=200))
    first = signs(tf.constant(seeds), tf.constant([200, 3, 4])).numpy()
    assert {*first.ravel()} == {-1, 1}
    assert abs(first.mean()) < 0.1
    assert abs((first[1:] * first[:-1]).mean()) < 0.1
    assert abs((first[..., 1:] * first[..., :-1]).mean()) < 0.1
    assert np.array_equal(signs(tf.constant(seeds[50:60]), tf.constant([10, 3, 4])).numpy(), first[50:60])
    assert np.array_equal(seeds_of([images(samples=200)[7:9]]), seeds[7:9])


# --- the law: batches and shards do not matter


@pytest.fixture(scope="module")
def expected(model):
    return {by: measure_statistics(model, DATA, by) for by in BY_GRADIENTS}


def assert_same(a, b):
    assert (a.kind, a.samples, [*a]) == (b.kind, b.samples, [*b])
    for name, array in a.arrays().items():
        np.testing.assert_allclose(array, b.arrays()[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("by", ["taylor", "lfh", "snip"])
@settings(max_examples=2, deadline=None)
@given(batch_size=st.integers(1, 30), cut=st.integers(1, 20))
def test_batches_and_shards_do_not_matter(by, batch_size, cut, model, expected):
    assert_same(measure_statistics(model, DATA, by, batch_size=batch_size), expected[by])
    first, second = ([part[where] for part in DATA] for where in (slice(cut), slice(cut, None)))
    parts = [measure_statistics(model, tuple(part), by) for part in (second, first)]
    assert_same(parts[0] + parts[1], expected[by])


@pytest.mark.parametrize("by", ["taylor", "lfh", "snip"])
def test_threads_measure_shards(by, model, expected):
    with ThreadPoolExecutor(2) as executor:
        assert_same(measure_statistics(model, DATA, by, batch_size=1, executor=executor), expected[by])


@pytest.mark.parametrize("by", ["taylor", "snip"])
def test_statistics_are_saved(by, model, expected, tmp_path):
    save_statistics(expected[by], tmp_path / "statistics.npz")
    loaded = load_statistics(tmp_path / "statistics.npz")
    assert raw_scores(model, by, statistics=loaded) == raw_scores(model, by, statistics=expected[by])
    assert repr(loaded).endswith("21 samples>")


@pytest.mark.parametrize("by", ["variance", "hrank", "taylor", "snip"])
def test_images_of_several_sizes_are_measured_together(by):
    keras.utils.set_random_seed(0)
    x = keras.Input((None, None, 3))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu", name="a")(x))
    model = keras.Model(x, layers.Dense(3, name="top")(y))
    rng = np.random.default_rng(0)
    data = [
        (rng.normal(size=(n, *size, 3)), labels(samples=n))
        for n, size in ((2, (6, 6)), (3, (8, 8)), (1, (7, 9)), (2, (6, 6)))
    ]
    parts = [measure_statistics(model, [batch], by, loss=CROSSENTROPY) for batch in data]
    assert_same(measure_statistics(model, data, by, loss=CROSSENTROPY), reduce(add, parts))


# --- losses


@pytest.mark.parametrize("loss", [
    "sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy(),
    keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
    lambda y, outputs: keras.losses.sparse_categorical_crossentropy(y, outputs),
    lambda y, outputs: keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, outputs)),
])  # fmt: skip
def test_forms_of_a_loss_give_the_same_scores(loss):
    model = keras.Sequential([net(), layers.Softmax()])
    first = raw_scores(model, "taylor", data=DATA, loss="sparse_categorical_crossentropy", batch_size=21)
    second = raw_scores(model, "taylor", data=DATA, loss=loss, batch_size=6)
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=1e-3)


def test_the_compiled_loss_is_used(model):
    other = raw_scores(model, "taylor", data=DATA, loss="sparse_categorical_crossentropy")
    assert raw_scores(model, "taylor", data=DATA) == raw_scores(model, "taylor", data=DATA, loss=CROSSENTROPY) != other
    assert raw_scores(capture(model), "taylor", data=DATA) == raw_scores(model, "taylor", data=DATA)


def test_sample_weights_count(model):
    x, y = DATA
    half = np.arange(SAMPLES) < 10
    weighted = measure_statistics(model, (x, y, half.astype("float32")), "taylor")["a"][0][0]
    alone = measure_statistics(model, (x[half], y[half]), "taylor")["a"][0][0]
    np.testing.assert_allclose(weighted.total, alone.total, rtol=1e-4)


def test_losses_and_targets_of_several_outputs():
    def two():
        keras.utils.set_random_seed(0)
        x = keras.Input((6, 6, 3))
        y = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu", name="a")(x))
        return keras.Model(x, [layers.Dense(3, name="one")(y), layers.Dense(2, name="two")(y)])

    model, targets = two(), [np.random.default_rng(0).normal(size=(SAMPLES, n)) for n in (3, 2)]
    model.compile("sgd", {"one": "mse", "two": "mae"}, loss_weights={"one": 1.0, "two": 0.5})
    by_name = (images(), {"one": targets[0], "two": targets[1]})
    scores = raw_scores(model, "taylor", data=by_name, batch_size=5)
    assert scores != raw_scores(model, "taylor", data=by_name, loss={"one": "mse", "two": "mae"})
    np.testing.assert_allclose(raw_scores(model, "taylor", data=(images(), targets))["a"], scores["a"], rtol=1e-4)
    twice = two()
    twice.set_weights(model.get_weights())
    twice.compile("sgd", ["mse", "mae"], loss_weights=[1.0, 0.5])
    np.testing.assert_allclose(raw_scores(twice, "taylor", data=(images(), targets))["a"], scores["a"], rtol=1e-4)


def test_a_loss_is_sent_to_workers_with_all_of_its_arguments(model):
    """Keras' own config of this loss lacks delta."""
    objective = pickle.loads(pickle.dumps(objective_of(model, keras.losses.Huber(delta=2.0))))
    loss = objective.losses.revived()
    assert float(loss([[0.0]], [[5.0]])) == float(keras.losses.Huber(delta=2.0)([[0.0]], [[5.0]]))
    assert objective.losses.revived().reduction == "sum_over_batch_size"


# --- by design


def silenced(model, channel=2):
    changed = keras.models.clone_model(model)
    changed.set_weights(model.get_weights())
    kernel, bias = changed.get_layer("a").get_weights()
    kernel[..., channel], bias[channel] = 0, -1
    changed.get_layer("a").set_weights([kernel, bias])
    return changed


@pytest.mark.parametrize("by", BY_GRADIENTS)
def test_a_dead_relu_scores_lowest(by, model):
    scores = raw_scores(silenced(model), by, data=DATA, loss=CROSSENTROPY)["a"]
    assert scores[2] == 0
    assert (np.delete(scores, 2) > 0).all()


@pytest.mark.parametrize("by", ["taylor", "snip"])
def test_frozen_layers_have_the_same_scores(by, model):
    frozen = keras.models.clone_model(model)
    frozen.set_weights(model.get_weights())
    frozen.trainable = False
    first, second = (raw_scores(m, by, data=DATA, loss=CROSSENTROPY) for m in (model, frozen))
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=1e-4)


@pytest.mark.slow
def test_embeddings_and_recurrent_layers():
    keras.utils.set_random_seed(0)
    x = keras.Input((5,), dtype="int32")
    y = layers.LSTM(4, name="lstm")(layers.Embedding(7, 3, name="words", mask_zero=True)(x))
    model = keras.Model(x, layers.Dense(2, name="top")(y))
    data = (np.random.default_rng(0).integers(0, 7, (9, 5)), labels(samples=9, classes=2))
    for by in ("taylor", "snip", "taylor_weights", "lfh"):
        scores = raw_scores(model, by, data=data, loss=CROSSENTROPY)
        assert {"words", "lstm"} <= {*scores}
        assert all((values > 0).all() for values in scores.values())


def test_dropout_is_off_and_moving_statistics_stay(model):
    x = keras.Input((6, 6, 3))
    noisy = keras.Model(x, model(layers.Dropout(0.5)(x)))
    before = noisy.get_weights()
    scores = [raw_scores(noisy, "taylor", data=DATA, loss=CROSSENTROPY) for _ in range(2)]
    assert scores[0] == scores[1]
    assert all(np.array_equal(a, b) for a, b in zip(before, noisy.get_weights(), strict=True))


# --- through the front door


@pytest.mark.parametrize("by", BY_GRADIENTS)
def test_models_are_pruned_by_gradients(by, model):
    result = prune(model, macs=0.5, by=by, data=tf.data.Dataset.from_tensor_slices(DATA).batch(8))
    assert result.after.macs <= 0.5 * result.before.macs
    result.model.evaluate(*DATA, verbose=0)
    other = prune(capture(net()), macs=0.5, by=by, data=DATA, loss=CROSSENTROPY, batch_size=8)
    assert [*other.widths] == [*result.widths]


# --- bad input


@pytest.mark.parametrize("by", ["taylor", "fisher", "snip"])
def test_missing_labels_are_refused(by, model):
    for data in (images(), [images()], (images(),), iter([images()])):
        with pytest.raises(MissingData, match=r"needs labels, and the data has none: give data=\(x, y\)"):
            raw_scores(model, by, data=data)


def test_a_missing_loss_is_refused():
    for model in (net(), capture(net())):
        with pytest.raises(MissingData, match=r"has no loss.*compile the model, or give loss="):
            raw_scores(model, "taylor", data=DATA)


@pytest.mark.parametrize("loss, words", [("crosentropy", "Keras has no loss"), (3, "expected a loss of Keras")])
def test_an_unknown_loss_is_refused(loss, words, model):
    with pytest.raises(BadValue, match=words):
        raw_scores(model, "taylor", data=DATA, loss=loss)


@pytest.mark.parametrize("data", [(images(), np.zeros((SAMPLES, 7))), (images(), [labels(), labels()])])
def test_targets_that_do_not_fit_are_refused(data, model):
    with pytest.raises(BadData, match="loss"):
        raw_scores(model, "taylor", data=data, loss="mse")


@pytest.mark.parametrize("by", ["taylor", "taylor_weights"])
def test_gradients_that_are_nan_are_named_with_their_layer(by, model):
    def broken(y, outputs):
        return keras.ops.mean(keras.ops.log(0 * outputs), axis=-1)

    with pytest.raises(BadData, match="layer 'a' has gradients that are NaN or infinite"):
        raw_scores(model, by, data=DATA, loss=broken)


def test_what_does_not_fit_is_named(model):
    x, y = DATA
    with pytest.raises(
        BadData, match=r"the output '\w+' \(None, 3\) cannot be computed on targets that are a dict of 'a'"
    ):
        importance(model, "taylor", data=(x, {"a": y, "b": y}))
    with pytest.raises(BadData, match=r"InvalidArgumentError: Received a label value of \d+ which is outside"):
        importance(model, "taylor", data=(x, y + 7))
    with pytest.raises(BadData, match="has no batch axis"):
        importance(model, "taylor", data=zip(x, y, strict=True))


def test_gradients_of_another_model_are_refused(model):
    other = SummedArrays(
        "gradients of weights", {name: (np.zeros((2, 2)), np.zeros(2)) for name in ("a", "b", "bn", "hidden", "top")}, 3
    )
    with pytest.raises(BadScores, match=r"another model: the gradient of 'a' kernel has the shape \(2, 2\)"):
        raw_scores(model, "snip", statistics=other)
    with pytest.raises(BadValue, match="'a' is not the same in both"):
        measure_statistics(model, DATA, "snip") + other
