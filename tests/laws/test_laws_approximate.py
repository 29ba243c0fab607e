"""Layers that look across channels: no cut of what they read is exact, but it is the cut that was meant.

A smaller model is built by hand, with fewer units from the start and the weights of the large one sliced by hand along
every axis of the size in question. What is left by surgery must compute the same.
"""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import (
    VISIBLE,
    check_law,
    check_purity,
    check_rebuilt_record,
    compute,
    deviation,
    random_inputs,
    sabotage,
)
from helpers.running import filled
from kerassurgery_fn import DeleteChannels, analyse
from kerassurgery_fn.errors import InexactCut, PartialGroup

pytestmark = pytest.mark.keras

N = 15  # a size that no other axis has
KEPT = [0, 1, 3, 4, 6, 7, 8, 9, 12]


def on_steps(*layers):
    """Layers on what a Dense layer makes of a sequence, and a Dense layer that reads the result."""

    def build(n):
        x = keras.Input((4, 6))
        y = L.Dense(n, name="made", bias_initializer="normal")(L.Dense(8, name="before")(x))
        for layer in layers:
            y = layer(n)(y)
        return keras.Model(x, L.Dense(5, name="after")(y))

    return build


def on_images(layer):
    def build(n):
        x = keras.Input((7, 6, 3))
        y = layer(n)(L.Conv2D(n, 2, name="made")(L.Conv2D(8, 1, name="before")(x)))
        return keras.Model(x, L.Conv2D(5, 3, name="after")(y))

    return build


def normalised_product(n):
    x = keras.Input((4, 6))
    y = L.Dense(n, name="made")(L.Dense(8, name="before")(x))
    return keras.Model(x, L.Dense(5, name="after")(L.Dot(axes=2, normalize=True)([y, L.ReLU()(y)])))


CASES = {
    "layer": on_steps(lambda n: L.LayerNormalization()),
    "layer without scale": on_steps(lambda n: L.LayerNormalization(scale=False, epsilon=0.1)),
    "layer without both": on_steps(lambda n: L.LayerNormalization(scale=False, center=False)),
    "layer rms": on_steps(lambda n: L.LayerNormalization(rms_scaling=True)),
    "layer over steps and channels": on_steps(lambda n: L.LayerNormalization(axis=[1, 2])),
    "layer of images": on_images(lambda n: L.LayerNormalization(axis=-1)),
    "rms": on_steps(lambda n: L.RMSNormalization()),
    "rms of images": on_images(lambda n: L.RMSNormalization(axis=3)),
    "unit": on_steps(lambda n: L.UnitNormalization()),
    "unit over steps and channels": on_steps(lambda n: L.UnitNormalization(axis=(1, 2))),
    "one group": on_images(lambda n: L.GroupNormalization(1)),
    "one group without scale": on_images(lambda n: L.GroupNormalization(1, scale=False, epsilon=0.1)),
    "softmax": on_steps(lambda n: L.Softmax()),
    "softmax over steps and channels": on_steps(lambda n: L.Softmax(axis=(1, 2))),
    "softmax as an activation": on_steps(lambda n: L.Activation("softmax")),
    "log softmax": on_steps(lambda n: L.Activation("log_softmax")),
    "sparsemax": on_steps(lambda n: L.Rescaling(0.1), lambda n: L.Activation("sparsemax")),
    "softmax of a layer": on_steps(lambda n: L.TimeDistributed(L.Activation("softmax"))),
    "normalised product": normalised_product,
    "two in a row": on_steps(lambda n: L.LayerNormalization(), lambda n: L.ReLU(), lambda n: L.UnitNormalization()),
}
GROUPED = {
    "3 groups": (3, [0, 5, 10, 2, 7, 12]),
    "5 groups": (5, [1, 4, 7, 10, 13]),
}


def sliced(build, kept, seed=0):
    """A large model with random weights, and the small one that is made of it by hand."""
    large, small = build(N), build(len(kept))
    before = filled(large, seed)
    for there, here in zip(large.weights, small.weights, strict=True):
        array = keras.ops.convert_to_numpy(there)
        for axis, n in enumerate(array.shape):
            array = np.take(array, kept, axis) if n == N else array
        here.assign(array)
    return large, before, small


def check_slice(build, kept, cut):
    large, before, truth = sliced(build, kept)
    inputs = random_inputs(truth)
    expected = [np.asarray(truth(inputs))]
    with pytest.warns(InexactCut):
        smaller = check_purity(before, DeleteChannels("made", cut))
    check_rebuilt_record(smaller)
    assert deviation(compute(smaller, inputs), expected) < 2e-5
    assert deviation(compute(sabotage(smaller), inputs), expected) > VISIBLE
    return large


@pytest.mark.parametrize("name", CASES)
def test_an_inexact_cut_computes_what_a_sliced_model_computes(name):
    """So it is with channels that reach the layer; the rules say that this is not exact, of these channels alone."""
    model = check_slice(CASES[name], KEPT, [i for i in range(N) if i not in KEPT])
    check_law(model, DeleteChannels("before", [0, 3, 4]))
    flow = analyse(filled(model))
    named = {one for inexact in flow.inexact for one in flow.solution.resolve(inexact.axis).ravel()}
    assert named == set(flow.solution.resolve(flow.producer("made").axis).ravel())


@pytest.mark.parametrize("name", GROUPED)
def test_positions_in_normalised_groups_are_cut_together(name):
    groups, gone = GROUPED[name]
    build = on_images(lambda n: L.GroupNormalization(groups))
    model = check_slice(build, [i for i in range(N) if i not in gone], gone)
    with pytest.raises(PartialGroup, match=f"delete all channels of a group, such as .*{gone[0]}, "):
        DeleteChannels("made", gone[:1])(filled(model))


def test_auto_contrast_across_channels_is_inexact():
    build = on_steps(lambda n: L.Reshape((4, n, 1)), lambda n: L.AutoContrast((0, 1)), lambda n: L.Reshape((4, n)))
    check_law(check_slice(build, KEPT, [i for i in range(N) if i not in KEPT]), inexact=True)
