"""`identify` on live models: channels that say nothing, as Keras-surgeon's documentation describes it."""

import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kerassurgery_fn import SurgeryError, capture
from kerassurgery_fn.errors import NoChannels, UnknownLayer, UnknownNode
from kerassurgery_fn.identify import get_apoz, high_apoz
from kerassurgery_fn.operations import delete_channels

pytestmark = pytest.mark.keras

SAMPLES = 21


@pytest.fixture(autouse=True)
def _without_graphs():
    """Each test scores a few small batches, for which a graph is not worth its tracing; test_probe.py has graphs."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(SAMPLES, *shape)).astype("float32")


def randomised(model, seed=0):
    """The model with random weights, so that about half of all activations are negative."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape) ** (2 if "variance" in w.path else 1) for w in model.weights])
    return model


def zeros_of(model, tensors, data, axis=-1):
    """The fraction of zeros along an axis of some tensors of a model, from all activations at once."""
    rows = []
    for tensor in tensors if isinstance(tensors, list) else [tensors]:
        values = np.moveaxis(np.asarray(keras.Model(model.inputs, tensor)(data, training=False)), axis, -1)
        rows.append(values.reshape(-1, values.shape[-1]))
    return (np.concatenate(rows) == 0).mean(axis=0)


def assert_apoz(found, expected):
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)
    assert np.ptp(expected) > 0, "channels that are all alike show nothing"


def network():
    return randomised(
        keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                layers.Conv2D(5, 3, activation="relu", name="own"),
                layers.Conv2D(5, 2, name="linear"),
                layers.BatchNormalization(name="bn"),
                layers.ReLU(name="relu"),
                layers.Conv2D(5, 1, name="before_activation"),
                layers.Activation("relu", name="activation"),
                layers.Flatten(name="flat"),
                layers.Dense(6, name="hidden"),
                layers.LeakyReLU(name="leaky"),
                layers.Dense(4, activation="relu", name="end"),
            ]
        )
    )


# --- where


@pytest.mark.parametrize(
    "name, where",
    [("own", "own"), ("linear", "relu"), ("before_activation", "activation"), ("end", "end")],
)
def test_zeros_are_counted_after_the_first_nonlinear_activation(name, where):
    model, data = network(), numbers(6, 6, 3)
    assert_apoz(get_apoz(model, name, data), zeros_of(model, model.get_layer(where).output, data))


def test_a_leaky_activation_layer_has_no_zeros():
    model, data = network(), numbers(6, 6, 3)
    assert get_apoz(model, "hidden", data).tolist() == [0.0] * 6
    assert zeros_of(model, model.get_layer("end").output, data).any()


def test_a_layer_may_be_passed_by_name():
    model, data = network(), numbers(6, 6, 3)
    assert_apoz(get_apoz(model, model.get_layer("own"), data), get_apoz(model, "own", data))


@pytest.mark.onednn
def test_channels_first():
    x = keras.Input((6, 3, 5))
    y = layers.ReLU(name="relu")(layers.Permute((3, 1, 2))(layers.Dense(4, name="a")(x)))
    model, data = randomised(keras.Model(x, y)), numbers(6, 3, 5)
    assert_apoz(get_apoz(model, "a", data), zeros_of(model, y, data, axis=1))


def test_a_nested_layer_may_be_passed_by_path_by_name_or_as_object():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="d"), layers.ReLU(name="r")], name="inner")
    x = keras.Input((4,))
    model, data = randomised(keras.Model(x, layers.Dense(2)(inner(x)))), numbers(4)
    for layer in ("inner/d", "d", inner.get_layer("d")):
        assert_apoz(get_apoz(model, layer, data), zeros_of(inner, inner.outputs[0], data))


# --- shared layers


def shared():
    """A layer called outside of the model, then twice in it, on images of different sizes."""
    conv = layers.Conv2D(5, 3, name="shared")
    conv(keras.Input((9, 9, 3)))
    one, two = keras.Input((6, 6, 3), name="one"), keras.Input((8, 8, 3), name="two")
    tensors = [layers.ReLU(name="left")(conv(one)), layers.ReLU(name="right")(conv(two))]
    model = keras.Model([one, two], [layers.GlobalMaxPooling2D()(tensor) for tensor in tensors])
    return randomised(model), tensors, [numbers(6, 6, 3), numbers(8, 8, 3, seed=1)]


def test_calls_of_a_shared_layer_are_pooled():
    model, tensors, data = shared()
    expected = zeros_of(model, tensors, data)
    assert not np.array_equal(expected, np.mean([zeros_of(model, tensor, data) for tensor in tensors], axis=0))
    for every in (None, [], [1, 2], [2, 1], (2, 1), np.array([1, 2])):
        assert_apoz(get_apoz(model, "shared", data, every), expected)


@pytest.mark.parametrize("node", [1, 2])
def test_zeros_of_selected_calls_only(node):
    model, tensors, data = shared()
    before = capture(model)
    found = get_apoz(model, "shared", data, node_indices=[node])
    assert_apoz(found, zeros_of(model, tensors[node - 1], data))
    assert not np.array_equal(found, zeros_of(model, tensors[2 - node], data))
    assert capture(model) == before


@pytest.mark.parametrize("nodes, words", [([1, 1], "twice"), ([0], r"\[1, 2\]"), ([3], r"\[1, 2\]"), ([-1], "-1")])
def test_repeated_and_foreign_nodes_are_refused(nodes, words):
    model, _, data = shared()
    with pytest.raises(UnknownNode, match=words) as caught:
        get_apoz(model, "shared", data, nodes)
    assert isinstance(caught.value, ValueError)


# --- data


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.x[index * 7 : index * 7 + 7], np.zeros(7)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        tf.constant,
        lambda x: [x],
        lambda x: tf.data.Dataset.from_tensor_slices(x).batch(8),
        lambda x: tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(8),
        Batches,
        lambda x: ((x[i : i + 7],) for i in range(0, SAMPLES, 7)),
    ],
    ids=["array", "tensor", "list", "dataset", "dataset with targets", "PyDataset", "generator"],
)
def test_data_in_every_form_that_predict_accepts(form):
    x = keras.Input((6,))
    model = randomised(keras.Model(x, layers.Dense(5, activation="relu", name="a")(x)))
    data = numbers(6)
    model.predict(form(data), verbose=0)
    assert_apoz(get_apoz(model, "a", form(data)), zeros_of(model, model.output, data))


def test_several_inputs_as_a_list_or_a_dict():
    model, tensors, data = shared()
    expected = zeros_of(model, tensors, data)
    assert_apoz(get_apoz(model, "shared", dict(zip(("one", "two"), data, strict=True))), expected)


def test_only_one_batch_is_in_memory():
    x = keras.Input((6,))
    model = randomised(keras.Model(x, layers.Dense(5, activation="relu", name="a")(x)))
    alive = []

    def batches():
        for seed in range(20):
            batch = numbers(6, seed=seed)
            alive.append(weakref.ref(batch))
            assert sum(one() is not None for one in alive) <= 3
            yield batch
            del batch

    everything = np.concatenate([numbers(6, seed=seed) for seed in range(20)])
    assert_apoz(get_apoz(model, "a", batches()), zeros_of(model, model.output, everything))


# --- refusals, and what is left as it was


def test_unknown_layers_and_layers_without_channels_are_refused():
    model, data = network(), numbers(6, 6, 3)
    with pytest.raises(UnknownLayer, match="'own'"):
        get_apoz(model, "owm", data)
    with pytest.raises(UnknownLayer):
        get_apoz(model, layers.Dense(3, name="foreign"), data)
    with pytest.raises(NoChannels, match="flat"):
        get_apoz(model, "flat", data)


def test_the_model_is_not_changed():
    model, data = network(), numbers(6, 6, 3)
    model.compile("adam", "mse")
    before, nodes = capture(model), [len(layer._inbound_nodes) for layer in model.layers]
    get_apoz(model, "linear", data)
    assert capture(model) == before
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes


def test_a_subclass_that_computes_the_same_as_its_keras_class():
    class Mine(layers.Dense):
        def __init__(self, *args, note="", **kwargs):
            super().__init__(*args, **kwargs)

    x = keras.Input((6,))
    model = randomised(keras.Model(x, Mine(5, activation="relu", name="a")(x)))
    data = numbers(6)
    assert_apoz(get_apoz(model, "a", data), zeros_of(model, model.output, data))


# --- choosing


def test_channels_at_or_above_the_cutoff_are_high():
    apoz = np.array([0.1, 0.2, 0.3, 0.6])
    spread = apoz.std()
    assert high_apoz(apoz).tolist() == np.flatnonzero(apoz >= apoz.mean() + spread).tolist() == [3]
    assert high_apoz(apoz, "std", -1.0).tolist() == np.flatnonzero(apoz >= apoz.mean() - spread).tolist() == [1, 2, 3]
    assert high_apoz(apoz, method="absolute", cutoff_absolute=0.3).tolist() == [2, 3]
    assert high_apoz(apoz, method="both", cutoff_std=1, cutoff_absolute=0.2).tolist() == [1, 2, 3]
    assert high_apoz(apoz, method="both", cutoff_std=1, cutoff_absolute=0.9).tolist() == [3]


def test_a_cutoff_is_never_above_one():
    apoz = np.array([0.0, 1.0, 1.0])
    assert apoz.mean() + apoz.std() > 1
    assert high_apoz(apoz).tolist() == [1, 2]
    assert high_apoz(apoz, "absolute", cutoff_absolute=2).tolist() == [1, 2]


def test_no_channel_is_high_where_all_scores_are_equal():
    assert high_apoz(np.full(5, 0.4)).tolist() == []
    assert high_apoz(np.zeros(5)).tolist() == []


def test_an_unknown_method_is_refused():
    with pytest.raises(SurgeryError, match="median"):
        high_apoz(np.array([0.1, 0.2]), method="median")


def test_high_channels_can_be_deleted():
    model, data = network(), numbers(6, 6, 3)
    channels = high_apoz(get_apoz(model, "own", data))
    assert 0 < len(channels) < 5
    assert delete_channels(model, "own", channels).get_layer("own").filters == 5 - len(channels)
