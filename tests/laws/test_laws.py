"""The laws on one small model a rule: chains of layers with the layer in question in the middle."""

import keras
import pytest
from keras import layers as L

from helpers.chain_models import EXACT, INEXACT
from helpers.laws import check_law
from helpers.needs import NEEDS_DILATED, marked
from helpers.small_models import chain

pytestmark = pytest.mark.keras


@pytest.mark.parametrize("name", marked(list(EXACT), {"conv2d transpose dilation": NEEDS_DILATED}))
def test_the_surgery_law(name):
    check_law(EXACT[name]())


# --- layers that leave every channel where it is

UNCHANGED = {
    "relu": lambda: L.ReLU(6.0, negative_slope=0.1),
    "leaky relu": lambda: L.LeakyReLU(0.2),
    "elu": L.ELU,
    "dropout": lambda: L.Dropout(0.5),
    "dropout of channels": lambda: L.Dropout(0.5, noise_shape=(None, 1, 8)),
    "dropout of steps": lambda: L.Dropout(0.5, noise_shape=(None, 5, 1)),
    "spatial dropout": lambda: L.SpatialDropout1D(0.5),
    "alpha dropout": lambda: L.AlphaDropout(0.5),
    "gaussian dropout": lambda: L.GaussianDropout(0.5),
    "gaussian noise": lambda: L.GaussianNoise(0.5),
    "activity regularization": lambda: L.ActivityRegularization(0.1),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_layers_that_keep_channels_in_place(name):
    check_law(chain((5, 4), L.Dense(8), UNCHANGED[name](), L.Dense(4)))


@pytest.mark.parametrize("rank", [2, 3])
def test_spatial_dropout(rank):
    dropout = {2: L.SpatialDropout2D, 3: L.SpatialDropout3D}[rank](0.5)
    check_law(chain((3,) * rank + (4,), L.Dense(8), dropout, L.Dense(4)))


# --- activations

# `threshold` has arguments of its own, and Keras believes that `glu` leaves the shape as it is
NO_ACTIVATIONS = {"get", "serialize", "deserialize", "threshold", "glu"}
ACTIVATIONS = sorted(name for name in dir(keras.activations) if not name.startswith("_") and name not in NO_ACTIVATIONS)
ACROSS = {"softmax", "log_softmax", "sparsemax"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    model = chain((5, 4), L.Dense(8), L.Activation(name), L.Dense(6, activation=name), L.Dense(4))
    check_law(model, inexact=name in ACROSS)


@pytest.mark.parametrize("name", INEXACT)
def test_layers_across_channels_are_inexact(name):
    check_law(INEXACT[name](), inexact=True)


def test_channels_of_an_output_are_pinned():
    check_law(chain((5,), L.Dense(8), head=False), pinned=True)
