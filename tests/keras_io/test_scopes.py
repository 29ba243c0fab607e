"""Layers that are built without weights: what cannot be drawn fails there alone, and not in what is built later."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras.src.backend.common import global_state

from helpers.laws import random_inputs, randomise
from kerassurgery_fn import ConvertDtype, InsertLayer, capture, rebuild
from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.keras_io.scopes import UNINITIALIZED

pytestmark = pytest.mark.keras


def small():
    return keras.Sequential([keras.Input((4, 3)), L.Bidirectional(L.LSTM(2), name="both"), L.Dense(3, name="top")])


def waiting():
    return global_state.get_global_attribute(UNINITIALIZED) or []


def test_weights_outside_of_the_model_need_no_initial_values():
    """Bidirectional copies its layer, whose orthogonal weights cannot be drawn in bfloat16."""
    model = small()
    randomise(model)
    snapshot = ConvertDtype("bfloat16")(capture(model))
    again = rebuild(snapshot)
    assert capture(again) == snapshot
    x = random_inputs(model)
    result = keras.ops.convert_to_numpy(keras.ops.cast(again(x), "float32"))
    assert np.allclose(result, model(x), atol=0.1)


@keras.saving.register_keras_serializable("tests")
class Undrawn(L.Layer):
    """A layer whose weight cannot be drawn, and without a rule."""

    def build(self, shape):
        self.weight = self.add_weight((int(shape[-1]),), initializer=undrawable)

    def call(self, x):
        return x  # else Keras would draw the weight when it is asked for the shape


@keras.saving.register_keras_serializable("tests")
def undrawable(shape, dtype=None):
    raise ValueError("cannot be drawn")


def test_a_failed_rebuild_does_not_affect_the_next_one():
    snapshot = capture(small())
    larger = InsertLayer(Undrawn(), before="top")(snapshot)  # Keras says what it makes
    assert not waiting()
    with pytest.raises(BrokenSnapshot, match="cannot be drawn"):
        rebuild(larger)
    assert not waiting()
    assert capture(rebuild(snapshot)) == snapshot


def test_a_model_rebuilt_in_a_stateless_scope_gets_its_weights_when_the_scope_ends():
    snapshot = capture(small())
    with keras.StatelessScope():
        model = rebuild(snapshot)
    assert capture(model) == snapshot
