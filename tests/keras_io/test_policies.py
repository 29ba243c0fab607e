"""Mixed precision of layers and models whose config, as Keras writes or reads it, forgets it."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kerassurgery_fn import ConvertDtype, capture, rebuild

pytestmark = pytest.mark.keras


@pytest.fixture(autouse=True)
def _mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def rebuilt_in_float32(model):
    """What a rebuilt model and the model itself compute of one input, and whether their snapshots are equal."""
    keras.config.set_dtype_policy("float32")
    snapshot = capture(model)
    again = rebuild(snapshot)
    x = np.random.default_rng(0).standard_normal((3, *model.input_shape[1:])).astype("float32") + 1
    assert np.array_equal(*[np.asarray(one(x), "float32") for one in (again, model)])
    assert capture(again) == snapshot
    return snapshot, again


def test_a_sequential_model_casts_its_input():
    """A layer in float32 tells whether the model has cast its input."""
    snapshot, again = rebuilt_in_float32(keras.Sequential([keras.Input((4,)), L.Dense(2, dtype="float32")]))
    assert again.dtype_policy.name == "mixed_bfloat16"
    plain = ConvertDtype("float32")(snapshot)
    assert rebuild(plain).dtype_policy.name == "float32"
    assert capture(rebuild(plain)) == plain


def test_a_nested_sequential_model_is_converted_with_its_layers():
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(2)(keras.Sequential([keras.Input((4,)), L.Dense(3)], name="inner")(x)))
    snapshot, _ = rebuilt_in_float32(model)
    for edit in (ConvertDtype("float64"), ConvertDtype("mixed_float16", "inner")):
        again = rebuild(edit(snapshot))
        assert again.get_layer("inner").dtype_policy.name == edit.dtype
        assert capture(again) == edit(snapshot)


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.TimeDistributed], ids=["alone", "at every step"])
def test_spatial_dropout_keeps_its_dtype_policy(wrap):
    shape = (5, 4) if wrap is not L.TimeDistributed else (2, 5, 4)
    x = keras.Input(shape)
    model = keras.Model(x, L.Dense(2)(wrap(L.SpatialDropout1D(0.5))(L.Dense(3)(x))))
    snapshot, again = rebuilt_in_float32(model)
    assert [layer.output.dtype for layer in again.layers] == [layer.output.dtype for layer in model.layers]
    for dtype in ("float32", "mixed_float16"):
        edited = ConvertDtype(dtype)(snapshot)
        assert capture(rebuild(edited)) == edited
