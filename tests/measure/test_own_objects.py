"""Models with classes and functions of their own, which are not registered in Keras, are pruned like others."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerassurgery_fn import (
    BrokenSnapshot,
    MissingData,
    SurgeryError,
    capture,
    importance,
    prune,
    prune_iteratively,
    recalibrate_batch_norm,
    sensitivity,
)

pytestmark = pytest.mark.keras
X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.ones((8, 2), "float32")


class Doubled(layers.Layer):
    """A layer without a rule; what it reads stays whole."""

    def call(self, x):
        return 2 * x


def squares(y, p):
    return ops.square(y - p)


def root(x):
    return ops.sqrt(ops.abs(x))


def net(last=None, loss=squares):
    x = keras.Input((4,), name="x")
    y = layers.BatchNormalization(name="norm")(layers.Dense(6, activation="relu", name="a")(x))
    y = layers.Dense(2, activation=root, name="b")(y)
    model = keras.Model(x, (last or Doubled(name="last"))(y), name="net")
    model.compile("sgd", loss, metrics=[squares])
    return model


@pytest.mark.parametrize("by", ["magnitude", "taylor"])
def test_a_model_with_objects_of_its_own_is_pruned(by):
    smaller = prune(net(), macs=0.5, by=by, data=(X, Y)).model
    assert smaller.get_layer("a").units < 6
    assert smaller.get_layer("b").activation is root
    smaller.fit(X, Y, verbose=0)  # compiled with the same loss


def test_rounds_recalibration_and_sensitivity_know_them_too():
    assert prune_iteratively(net(), macs=0.5, rounds=2, by="taylor", data=(X, Y)).model.get_layer("a").units < 6
    assert recalibrate_batch_norm(net(), X).compiled
    assert [*sensitivity(net(), lambda model: -model.evaluate(X, Y, verbose=0)[0], ratios=0.5).metrics] == ["a"]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_the_lambdas_of_a_live_model_are_trusted():
    model = net(layers.Lambda(lambda x: 2 * x, name="last"), loss=lambda y, p: squares(y, p))
    assert recalibrate_batch_norm(prune(model, macs=0.5).model, X).get_layer("a").units < 6
    with pytest.raises(BrokenSnapshot, match=r"a Python lambda; if you trust it, call keras.config.enable_unsafe"):
        prune_iteratively(model, macs=0.5, rounds=1, fine_tune=lambda model: model)


class Narrow(keras.losses.Loss):
    """A loss whose constructor does not take what its config has."""

    def __init__(self):
        super().__init__()

    def call(self, y, p):
        return squares(y, p)


def test_a_constructor_that_does_not_fit_its_config_is_named():
    with pytest.raises(BrokenSnapshot, match=r"Narrow.__init__\(\) got an .* let the constructor take all entries"):
        prune(net(loss=Narrow()), macs=0.5)


def test_the_way_out_of_an_unknown_object_does_not_depend_on_the_function_that_was_called():
    snapshot = capture(net())
    words = r"Could not locate .*; decorate your classes and functions with @keras.saving.register_keras_serializable"
    for call in (lambda: sensitivity(snapshot, float, ratios=0.5), lambda: recalibrate_batch_norm(snapshot, X)):
        with pytest.raises(SurgeryError, match=words):
            call()
    with pytest.raises(MissingData, match=r"the loss of 'net' cannot be created: .*'squares'.*give loss="):
        importance(snapshot, "taylor", data=(X, Y))
