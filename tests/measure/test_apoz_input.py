"""Data and layers of which APoZ can say nothing: NaN, samples without a batch axis, activations without zeros."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import BadData, UnknownLayer, score_by_apoz
from kerassurgery_fn.identify import get_apoz

pytestmark = pytest.mark.keras
DATA = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


@pytest.fixture(scope="module")
def model():
    """Two hidden layers, c1 with a relu and d with a gelu, and a square root, which makes NaN of negative numbers."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    relu = layers.Dense(6, activation="relu", name="c1")(x)
    gelu = layers.Dense(6, activation="gelu", name="d")(relu)
    root = layers.Dense(5, activation=keras.ops.sqrt, name="root")(gelu)
    return keras.Model(x, layers.Dense(2, name="y")(root))


def expected(model):
    made = keras.Model(model.input, model.get_layer("c1").output)(DATA)
    return (np.asarray(made) == 0).mean(axis=0)


@pytest.mark.parametrize("named", ["c1", ["c1"], ("c1",), "c1*", "c1:units"])
def test_layers_may_be_a_single_name(model, named):
    scores = score_by_apoz(model, DATA, layers=named)
    assert [*scores] == ["c1"]
    np.testing.assert_allclose(scores["c1"], expected(model), atol=1e-12)


def test_layers_may_be_a_single_layer(model):
    assert [*score_by_apoz(model, DATA, layers=model.get_layer("c1"))] == ["c1"]
    with pytest.raises(UnknownLayer, match="no layer named 'c2'"):
        score_by_apoz(model, DATA, layers="c2")


def test_nan_in_the_data_is_refused(model):
    broken = DATA.copy()
    broken[5, 2] = np.nan
    with pytest.raises(BadData, match="the data for input 'x' has NaN in it"):
        score_by_apoz(model, broken, layers="c1", batch_size=3)
    with pytest.raises(BadData, match="the data for input 'x' has NaN in it"):
        get_apoz(model, "c1", np.full((8, 4), np.nan))


def test_the_error_names_the_layer_that_outputs_nan(model):
    with pytest.raises(BadData, match="layer 'root' has activations that are NaN or infinite for the data"):
        score_by_apoz(model, DATA, layers=["c1", "root"])


def test_a_warning_names_layers_without_zeros(model):
    with pytest.warns(UserWarning, match="no value of 'd' was exactly zero") as told:
        scores = score_by_apoz(model, DATA, layers=["c1", "d"])
    assert not scores["d"].any()
    assert scores["c1"].any()
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="no value of 'd'"):
        get_apoz(model, "d", DATA)


def test_no_warning_for_outputs_that_cannot_be_cut():
    x = keras.Input((4,))
    model = keras.Model(
        x, layers.Dense(2, name="y", bias_initializer="ones")(layers.Dense(6, activation="relu", name="c1")(x))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {*score_by_apoz(model, DATA)} == {"c1", "y"}
    with pytest.warns(UserWarning, match="no value of 'y'"):
        score_by_apoz(model, DATA, layers="y")


def test_a_sample_without_a_batch_axis_is_refused():
    x = keras.Input((6, 6, 3))
    model = keras.Model(x, layers.Conv2D(2, 3, activation="relu", name="c")(x))
    with pytest.raises(BadData, match=r"an array of shape \(6, 6, 3\) has no batch axis.*give data\[None\]"):
        score_by_apoz(model, np.zeros((6, 6, 3), "float32"))
    with pytest.raises(BadData, match="no batch"):
        score_by_apoz(model, np.zeros((0, 6, 6, 3), "float32"))
