"""Layers that were built on a tensor of another rank than they are called on."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import compute, deviation, randomise
from kerassurgery_fn import (
    DeleteChannels,
    ExtractModel,
    InsertLayer,
    Plan,
    WidenChannels,
    analyse,
    capture,
    cost,
    explain,
    rebuild,
)
from kerassurgery_fn.errors import PinnedChannels

pytestmark = pytest.mark.keras


def built_on(layer, *shapes):
    """A layer that was called elsewhere first."""
    layer(keras.Input(shapes[0]))
    return layer


def dense(shape, called_on):
    x = keras.Input((*called_on[:-1], 2))
    made = L.Dense(called_on[-1], name="a")(x)
    return keras.Model(x, built_on(L.Dense(3, name="d"), shape)(made))


def in_a_row():
    return keras.Sequential([keras.Input((5, 2)), L.Dense(6, name="a"), built_on(L.Dense(3, name="d"), (6,))])


def wrapped():
    x = keras.Input((7, 5, 2))
    return keras.Model(x, L.TimeDistributed(built_on(L.Dense(3), (6,)), name="d")(L.Dense(6, name="a")(x)))


def flattened():
    x = keras.Input((5, 2))
    return keras.Model(x, L.Dense(3, name="e")(built_on(L.Flatten(name="d"), (4, 5, 6))(L.Dense(6, name="a")(x))))


MODELS = {
    "on two axes, called on three": (lambda: dense((6,), (5, 6)), [None, 4]),
    "on three axes, called on two": (lambda: dense((5, 6), (6,)), [None, 5, 4]),
    "in a Sequential model": (in_a_row, [None, 4]),
    "in a wrapper": (wrapped, [None, 7, 5, 4]),
    "without weights": (flattened, [None, 4, 5, 4]),
}


@pytest.mark.parametrize("make, shape", MODELS.values(), ids=MODELS)
def test_a_layer_built_on_another_rank_is_cut_and_widened(make, shape):
    model = make()
    randomise(model)
    before, data = capture(model), np.random.default_rng(1).normal(size=(2, *model.input_shape[1:])).astype("float32")
    after = DeleteChannels("a", [1, 4])(before)
    layers = {layer["config"]["name"]: layer for layer in after.config["layers"]}
    assert layers["d"]["build_config"] == {"input_shape": shape}
    assert capture(rebuild(after)) == after
    assert deviation(compute(WidenChannels("a", 9)(before), data), compute(before, data)) < 1e-5
    silent = np.isin(np.arange(6), [1, 4])
    masked = {**before.weights, "a": tuple(np.where(silent, 0, array) for array in before.weights["a"])}
    assert deviation(compute(after, data), compute(type(before)(before.record, masked), data)) < 1e-5
    assert explain(DeleteChannels("a", [1, 4]), before)
    assert cost(after).macs < cost(before).macs


def test_the_call_that_built_a_layer_is_deleted():
    x = keras.Input((4, 4, 2))
    a, d = L.Dense(6, name="a")(x), L.Dense(3, name="d")
    model = keras.Model(x, [d(L.GlobalAveragePooling2D()(a)), d(a)])
    edit = Plan(ExtractModel("d:1"), DeleteChannels("a", [0]), InsertLayer(L.ReLU(), before="d"))
    after = edit(capture(model))
    made = rebuild(after)
    assert (capture(made), made.output_shape) == (after, (None, 4, 4, 3))
    assert after.weights["d"][0].shape == (5, 3)


def test_inner_axes_of_which_the_layer_has_no_weights():
    x = keras.Input((5,))
    steps = L.RepeatVector(4, name="steps")(L.Dense(6, name="a")(x))
    normed = built_on(L.SpectralNormalization(L.Dense(3), name="n"), (6,))(steps)
    snapshot = capture(keras.Model(x, L.Dense(2)(normed)))
    assert not analyse(snapshot).opaque
    after = DeleteChannels("a", [0])(snapshot)
    assert capture(rebuild(after)) == after


def test_channels_on_an_inner_axis_are_pinned():
    """Which axis of the shape that the layer was built on carries them is not known."""
    x = keras.Input((5, 2))
    turned = L.Permute((2, 1))(L.Dense(6, name="a")(x))
    normed = built_on(L.LayerNormalization(axis=1, name="n"), (6,))(turned)
    snapshot = capture(keras.Model(x, L.Dense(2)(L.Permute((2, 1))(normed))))
    with pytest.raises(
        PinnedChannels, match=r"'n' .* was built on a tensor of 2 axes, and reads channels of a tensor of 3 axes"
    ):
        DeleteChannels("a", [0])(snapshot)
