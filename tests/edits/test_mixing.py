"""Layers that read combinations of channels."""

import keras
import numpy as np
import pytest
from keras import layers

from helpers.pruned_models import conv, dense, filled, grouped, halves_joined, residual, vgg
from helpers.records import layer, sequential
from kerassurgery_fn import BadValue, DeleteChannels, MixInputs, NoChannels, Plan, UnknownLayer, capture, rebuild
from kerassurgery_fn.documents.plan_files import decode, encode
from kerassurgery_fn.values.snapshot import Snapshot, same_weights


def mixing(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n))


def kernel(snapshot, path):
    return snapshot.weights[path][0].astype(float)


# --- without Keras: the weights


def test_the_values_for_the_channels_are_combined():
    snapshot = filled(sequential("net", (None, 3), dense("a", 4), dense("b", 2)))
    mixed = MixInputs("b", "a", mixing(4))(snapshot)
    np.testing.assert_allclose(kernel(mixed, "b"), mixing(4) @ kernel(snapshot, "b"), rtol=1e-5)
    assert mixed.weights["a"] is snapshot.weights["a"]
    assert mixed.weights["b"][1] is snapshot.weights["b"][1]


def test_every_tap_of_a_kernel_is_combined_alike():
    snapshot = filled(sequential("net", (None, 8, 8, 3), conv("a", 4), conv("b", 5)))
    expected = np.einsum("ij,hwjo->hwio", mixing(4), kernel(snapshot, "b"))
    np.testing.assert_allclose(kernel(MixInputs("b", "a", mixing(4))(snapshot), "b"), expected, rtol=1e-4, atol=1e-5)


def test_every_position_of_a_flattened_channel_is_combined_alike():
    snapshot = filled(vgg(4, 5))
    grid = kernel(snapshot, "top").reshape(64, 5, -1)
    expected = np.einsum("ij,pjo->pio", mixing(5), grid).reshape(320, -1)
    np.testing.assert_allclose(kernel(MixInputs("top", "conv_1", mixing(5))(snapshot), "top"), expected, atol=1e-5)


def test_channels_are_found_among_others():
    """The second half of a concatenation, and channels that are added to those of another layer."""
    snapshot = filled(halves_joined())
    mixed = MixInputs("out", "q", mixing(8))(snapshot)
    expected = np.einsum("ij,hwjo->hwio", mixing(8), kernel(snapshot, "out")[:, :, 8:])
    np.testing.assert_allclose(kernel(mixed, "out")[:, :, 8:], expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(kernel(mixed, "out")[:, :, :8], kernel(snapshot, "out")[:, :, :8])
    stream = filled(residual())
    assert MixInputs("top", "b_2", mixing(6))(stream) == MixInputs("top", "stem", mixing(6))(stream)


MODELS = {
    "vgg": (lambda: vgg(4, 5), "conv_1", "conv_0", 4), "flattened": (lambda: vgg(4, 5), "top", "conv_1", 5),
    "residual": (residual, "b_1", "stem", 6), "half": (halves_joined, "out", "p", 8),
}  # fmt: skip


@pytest.mark.parametrize("record, path, channels, n", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_identity_changes_nothing(record, path, channels, n, dtype):
    snapshot = filled(record(), dtype=dtype)
    for identity in (np.eye(n), np.eye(n, dtype="float32"), np.eye(n, dtype=int)):
        assert MixInputs(path, channels, identity)(snapshot) == snapshot


@pytest.mark.parametrize("record, path, channels, n", MODELS.values(), ids=MODELS.keys())
def test_two_mixtures_are_one(record, path, channels, n):
    snapshot = filled(record(), dtype="float64")
    a, b = mixing(n, 1), mixing(n, 2)
    twice = Plan(MixInputs(path, channels, b), MixInputs(path, channels, a))(snapshot)
    once = MixInputs(path, channels, a @ b)(snapshot)
    for name in snapshot.weights:
        for x, y in zip(twice.weights[name], once.weights[name], strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)


def test_the_argument_stays_as_it_was():
    snapshot, before = filled(vgg(4, 5)), filled(vgg(4, 5))
    MixInputs("conv_1", "conv_0", mixing(4))(snapshot)
    assert same_weights(snapshot.weights, before.weights)


def test_edits_are_values():
    edit = MixInputs("b", "a", mixing(3))
    assert edit == MixInputs("b", "a", mixing(3)) != MixInputs("b", "a", mixing(3, seed=1))
    assert decode(encode(edit)) == edit
    assert not edit.matrix.flags.writeable


# --- refusals


@pytest.mark.parametrize("matrix", [None, 3, [1, 2], [[1, 2]], "ab", [[np.nan]], [[1, 2], [3]], np.zeros((2, 2, 2))])
def test_what_is_no_matrix_is_refused(matrix):
    with pytest.raises(BadValue, match="matrix: expected "):
        MixInputs("b", "a", matrix)


@pytest.mark.parametrize("arguments, error, words", [
    (("conv_1", "conv_0", np.eye(3)), BadValue, r"'conv_0' has 4 channels, and the matrix has the shape \(3, 3\)"),
    (("conv_0", "conv_1", np.eye(5)), NoChannels, "no weight of 'conv_0' sums over the channels of 'conv_1'"),
    (("bn_0", "conv_0", np.eye(4)), NoChannels, "no weight of 'bn_0' sums over"),
    (("relu_0", "conv_0", np.eye(4)), NoChannels, "no weight of 'relu_0' sums over"),
    (("conv_9", "conv_0", np.eye(4)), UnknownLayer, "no layer named 'conv_9'"),
    (("conv_1", "relu_0", np.eye(4)), NoChannels, "'relu_0' creates no channels"),
])  # fmt: skip
def test_what_cannot_be_mixed_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        MixInputs(*arguments)(filled(vgg(4, 5)))


def test_weights_that_are_yet_to_be_drawn_are_refused():
    snapshot = Snapshot(sequential("net", (None, 3), dense("a", 4), dense("b", 2)), {})
    with pytest.raises(BadValue, match="'b' cannot be mixed: its weights are drawn when the model is rebuilt"):
        MixInputs("b", "a", mixing(4))(snapshot)


def test_a_constraint_that_would_undo_the_edit_is_refused():
    constraint = {
        "module": "keras.constraints",
        "class_name": "UnitNorm",
        "config": {"axis": 0},
        "registered_name": None,
    }
    top = layer("Dense", "b", units=2, kernel_constraint=constraint)
    with pytest.raises(BadValue, match=r"inputs cannot be mixed: .*UnitNorm"):
        MixInputs("b", "a", 2 * np.eye(4))(filled(sequential("net", (None, 3), dense("a", 4), top)))


def test_channels_of_a_grid_are_not_mixed():
    with pytest.raises(NoChannels):
        MixInputs("apart", "first", np.eye(16))(filled(grouped(4)))


# --- with Keras: what the model computes


def network(*between, width=5):
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(width, 3, name="a", bias_initializer="normal")(x)
    for new in between:
        y = new(y)
    return keras.Model(x, y)


def images():
    return np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype("float32")


READERS = {
    "conv": [layers.Conv2D(4, 2, name="b", padding="same")],
    "pooled": [layers.AveragePooling2D(2), layers.Conv2D(4, 1, name="b")],
    "flattened": [layers.Flatten(), layers.Dense(4, name="b")],
    "recurrent": [layers.Reshape((16, 5)), layers.LSTM(3, name="b")],
    "transposed": [layers.Conv2DTranspose(4, 2, name="b")],
}


@pytest.mark.keras
@pytest.mark.parametrize("name", READERS)
def test_the_layer_reads_the_combinations(name):
    """The layer before is linear: its filters can be combined in place of the inputs of the reader."""
    model = network(*[new.__class__.from_config(new.get_config()) for new in READERS[name]])
    matrix = mixing(5)
    mixed = rebuild(MixInputs("b", "a", matrix)(capture(model)))
    expected = keras.models.clone_model(model)
    expected.set_weights(model.get_weights())
    expected.get_layer("a").set_weights([weight @ matrix for weight in model.get_layer("a").get_weights()])
    found, wanted = (m.predict(images(), verbose=0) for m in (mixed, expected))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert not np.allclose(wanted, model.predict(images(), verbose=0), atol=1e-2)


@pytest.mark.keras
def test_a_separable_convolution_is_refused():
    with pytest.raises(BadValue, match="its depthwise_kernel treats each channel on its own"):
        MixInputs("b", "a", np.eye(5))(capture(network(layers.SeparableConv2D(4, 3, name="b"))))


@pytest.mark.keras
def test_a_channel_that_is_not_read_can_be_deleted():
    model = network(layers.ReLU(), layers.Conv2D(4, 2, name="b"))
    matrix = mixing(5)
    matrix[[1, 3]] = 0
    mixed = MixInputs("b", "a", matrix)(capture(model))
    smaller = DeleteChannels("a", [1, 3])(mixed)
    np.testing.assert_allclose(
        rebuild(smaller).predict(images(), verbose=0), rebuild(mixed).predict(images(), verbose=0), atol=1e-5
    )
