"""`rebuild(snapshot, reuse=model)`: the new model shares unchanged layers with a live model, which stays as it was."""

import warnings
from collections import Counter
from random import Random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from helpers.edited_models import MODELS
from helpers.filling import random_inputs, randomise
from helpers.random_edits import Target
from helpers.random_laws import applied, made
from helpers.random_models import random_model
from helpers.running import outputs_of
from kerassurgery_fn import (
    DeleteChannels,
    InsertLayer,
    RenameLayer,
    RenameModel,
    SetConfig,
    SetTrainable,
    WidenChannels,
    capture,
    rebuild,
)
from kerassurgery_fn.errors import BrokenSnapshot, NotAGraph
from kerassurgery_fn.values.snapshot import same_weights

pytestmark = pytest.mark.keras

# An edit of each model, and the layers that the new model must share with the old one.
EDITS = {
    "plain": (DeleteChannels("dense", [0]), {"image", "conv_1", "bn_1", "relu_1", "conv_2", "drop", "sum", "mean"}),
    "siamese": (SetConfig("near", activation="tanh"), {"a", "b", "tower", "drop", "far"}),
    "nested": (DeleteChannels("sequential*/hidden", [0]), {"backbone", "peak", "top"}),
    "row": (SetConfig("top", activation="tanh"), {"conv", "drop", "relu", "flat"}),
    "recurrent": (SetConfig("top", activation="tanh"), {"gru", "lstm", "drop", "again", "both", "steps/step"}),
    "operators": (SetConfig("top", activation="tanh"), {"a", "b"}),
}


def layers_by_path(model, scope=""):
    for layer in model.layers:
        yield f"{scope}{layer.name}", layer
        inner = layer.layer if isinstance(layer, L.TimeDistributed) else layer
        if isinstance(inner, keras.Model):
            yield from layers_by_path(inner, f"{scope}{layer.name}/")


def shared(a, b):
    """The paths of the layers that belong to both models."""
    of_a = dict(layers_by_path(a))
    return {path for path, layer in layers_by_path(b) if of_a.get(path) is layer}


def compiled(name):
    model = MODELS[name]()
    randomise(model)
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return model


def train(model, seed=0):
    """One step of training, with the same data and the same random numbers for each model of a kind."""
    keras.utils.set_random_seed(seed)
    inputs = random_inputs(model)
    targets = keras.tree.map_structure(lambda y: np.ones_like(y), model.predict_on_batch(inputs))
    return model.train_on_batch(inputs, targets)


def same_outputs(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def same_computation(ours, theirs, inputs):
    """Compares outputs, unless the model computes nothing with these inputs."""
    try:
        expected = outputs_of(theirs, inputs)
    except (ValueError, tf.errors.OpError):
        return
    same_outputs(outputs_of(ours, inputs), expected)


def nothing(snapshot):
    return snapshot


@pytest.mark.parametrize("name", EDITS)
def test_the_new_model_is_that_of_a_full_rebuild_and_the_old_one_stays_as_it_was(name, tmp_path):
    edit, kept = EDITS[name]
    model = compiled(name)
    before, inputs = capture(model), random_inputs(model)
    outputs, config = outputs_of(model, inputs), model.get_config()
    edited = edit(before)
    new, full = rebuild(edited, reuse=model), rebuild(edited)

    assert kept <= shared(model, new) < set(dict(layers_by_path(new)))
    assert capture(new) == edited
    same_outputs(outputs_of(new, inputs), outputs_of(full, inputs))
    # The old model.
    assert capture(model) == before
    assert model.get_config() == config
    same_outputs(outputs_of(model, inputs), outputs)
    model.save(tmp_path / "old.keras")
    loaded = capture(keras.models.load_model(tmp_path / "old.keras", compile=False))
    assert same_weights(loaded.weights, before.weights)


@pytest.mark.parametrize("name", ["plain", "row"])
def test_a_step_of_training_is_that_of_a_full_rebuild(name):
    model = compiled(name)
    edited = EDITS[name][0](capture(model))
    new, full = rebuild(edited, reuse=model), rebuild(edited)
    for layer in [*new._flatten_layers(), *full._flatten_layers()]:  # both draw the same numbers
        if isinstance(layer, L.Dropout):
            layer.seed_generator.state.assign([1, 2])
    train(full)
    train(new)
    for path, arrays in capture(full).weights.items():
        for ours, theirs in zip(capture(new).weights[path], arrays, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert int(new.optimizer.iterations.numpy()) == 1
    assert not int(model.optimizer.iterations.numpy())
    train(model)  # the old model and its optimizer still work
    assert int(new.optimizer.iterations.numpy()) == 1 == int(model.optimizer.iterations.numpy())


def test_the_optimizer_continues_where_it_stopped():
    model = compiled("plain")
    train(model)
    snapshot = DeleteChannels("dense", [0])(capture(model))
    new = rebuild(snapshot, reuse=model)
    assert capture(new) == snapshot
    assert capture(new).training == capture(rebuild(snapshot)).training
    assert new.optimizer is not model.optimizer


def test_weights_are_shared_and_trained_in_both_models():
    model = compiled("plain")
    new = rebuild(DeleteChannels("dense", [0])(capture(model)), reuse=model)
    train(new)
    np.testing.assert_array_equal(model.get_layer("conv_1").get_weights()[0], new.get_layer("conv_1").get_weights()[0])


def test_only_the_calls_behind_a_change_are_made_again():
    model = compiled("plain")
    new = rebuild(InsertLayer(L.ReLU(name="new"), after="mean")(capture(model)), reuse=model)
    assert new.get_layer("sum").output is model.get_layer("sum").output
    assert [len(model.get_layer(name)._inbound_nodes) for name in ("conv_1", "sum", "mean", "dense")] == [1, 1, 1, 2]


def test_layers_with_other_weights_or_flags_are_not_shared():
    model = compiled("plain")
    snapshot = SetTrainable("conv_2", False)(capture(model))
    kernel, bias = model.get_layer("conv_1").get_weights()
    model.get_layer("conv_1").set_weights([kernel + 1, bias])
    model.get_layer("bn_1").trainable = False
    new = rebuild(snapshot, reuse=model)
    assert not shared(model, new) & {"conv_1", "conv_2", "bn_1"}
    assert capture(new) == snapshot
    assert not model.get_layer("bn_1").trainable
    assert model.get_layer("conv_2").trainable


@pytest.mark.parametrize(
    "edit",
    [RenameLayer("conv_1", "stem"), RenameModel("other"), nothing, WidenChannels("conv_1", 6)],
    ids=["a new name of a layer", "a new name of the model", "nothing", "a wider layer"],
)
def test_any_edit_gives_the_config_that_keras_writes(edit):
    model = compiled("plain")
    edited = edit(capture(model))
    assert capture(rebuild(edited, reuse=model)) == edited


def test_a_changed_first_call_of_a_shared_layer_keeps_the_order_of_its_calls():
    x = keras.Input((4,), name="x")
    dense = L.Dense(4, name="shared")
    first = dense(L.Activation("relu", name="before")(x))
    model = keras.Model(x, [first, dense(x)])
    edited = SetConfig("before", activation="tanh")(capture(model))
    new = rebuild(edited, reuse=model)
    assert new.get_layer("shared") is dense
    assert capture(new) == edited
    again = SetConfig("before", activation="relu")(edited)  # of a model that has but a part of the calls of its layers
    assert capture(rebuild(again, reuse=new)) == again == capture(model)


def test_a_layer_of_two_models_is_shared_once():
    dense = L.Dense(4, name="dense")
    x, y = keras.Input((4,)), keras.Input((4,))
    inner = keras.Model(y, dense(y), name="inner")
    model = keras.Model(x, inner(dense(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = rebuild(capture(model), reuse=model)
    assert new.get_layer("dense") is dense is not new.get_layer("inner").get_layer("dense")


def test_stateful_layers_are_not_shared():
    x = keras.Input(batch_shape=(2, 3, 4))
    model = keras.Model(x, L.Dense(2, name="top")(L.LSTM(3, stateful=True, name="lstm")(x)))
    snapshot = capture(model)
    new = rebuild(snapshot, reuse=model)
    assert shared(model, new) == {model.layers[0].name, "top"}
    new.predict_on_batch(np.ones((2, 3, 4)))
    assert capture(model) == snapshot


@keras.saving.register_keras_serializable("reuse")
class Doubling(L.Layer):
    def call(self, x):
        return 2 * x


@keras.saving.register_keras_serializable("reuse")
class Own(keras.Model):
    """A Functional model with a class of its own."""


@pytest.mark.parametrize("cls", [keras.Model, Own])
def test_custom_classes_and_policies_are_kept(cls):
    x = keras.Input((4,))
    y = L.Dense(4, name="half", dtype="mixed_float16")(Doubling(name="double")(x))
    model = cls(x, L.Dense(2, name="top")(y))
    edited = DeleteChannels("half", [0])(capture(model))
    new = rebuild(edited, reuse=model)
    assert type(new) is type(model)
    assert capture(new) == edited
    assert new.get_layer("double") is model.get_layer("double")
    assert new.get_layer("half").compute_dtype == "float16"


def test_a_class_that_the_caller_replaces_is_not_shared():
    class Doubling(L.Layer):
        def call(self, x):
            return x + x

    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(2)(globals()["Doubling"](name="double")(x)))
    new = rebuild(capture(model), reuse=model, custom_objects={"reuse>Doubling": Doubling})
    assert type(new.get_layer("double")) is Doubling


def test_numbers_of_numpy_do_not_change_the_new_model():
    x = keras.Input((4,))
    model = keras.Model(x, L.Dense(2, name="top")(L.Dense(4, name="first")(x) * np.float64(2)))
    snapshot = capture(model)
    assert capture(rebuild(snapshot, reuse=model)) == snapshot


@keras.saving.register_keras_serializable("reuse")
class Failing(L.Layer):
    """A layer that fails when it is called a second time with a symbol."""

    calls = 0

    def call(self, x):
        Failing.calls += 1
        if Failing.calls > 1:
            raise ValueError("enough")
        return x


def test_a_failure_leaves_the_old_model_as_it_was():
    Failing.calls = 0
    x = keras.Input((4,))
    y = L.Dense(3, name="second")(L.Dense(4, name="first")(x))
    model = keras.Model(x, Failing(name="failing")(y))
    counts = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
    snapshot = capture(model)
    with pytest.raises(BrokenSnapshot, match="enough"):
        rebuild(DeleteChannels("first", [0])(snapshot), reuse=model)
    assert counts == [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]


class Coded(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize("value", [3, "model.keras", L.Dense(2), Coded()], ids=str)
def test_what_is_no_model_of_layers_is_refused(value):
    with pytest.raises(NotAGraph):
        rebuild(capture(MODELS["row"]()), reuse=value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_random_edits_of_random_models(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = random_model(seed)
            inputs = random_inputs(model, seed)
            outputs = outputs_of(model, inputs)
        except (ValueError, tf.errors.OpError):
            pytest.skip("Keras cannot run this model")
        before = capture(model)
        edits = [made(Target(Random(f"{seed} {i}"), before), Counter()) for i in range(4)]
        for edited in filter(None, (applied(edit, before) for edit in edits if edit is not None)):
            full, new = rebuild(edited), rebuild(edited, reuse=model)
            assert capture(new).record == capture(full).record
            if all(edited.weights.values()):  # otherwise Keras draws the weights of new layers
                assert capture(new) == capture(full)
                same_computation(new, full, random_inputs(full, seed))
        assert capture(model) == before
        same_outputs(outputs_of(model, inputs), outputs)
