"""Subclasses of Functional and Sequential with training of their own: kept where Keras would, else told."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kerassurgery_fn import (
    DeleteChannels,
    DeleteLayer,
    ExtractModel,
    InsertLayer,
    Plan,
    capture,
    decode,
    diff,
    encode,
    patch,
    rebuild,
)
from kerassurgery_fn.errors import ClassNotKept
from kerassurgery_fn.operations import delete_channels

pytestmark = pytest.mark.keras


class Counting:
    """A training step that counts."""

    def train_step(self, data):
        self.steps = getattr(self, "steps", 0) + 1
        return super().train_step(data)


@keras.saving.register_keras_serializable("classes")
class Trainer(Counting, keras.Model):
    pass


@keras.saving.register_keras_serializable("classes")
class Row(Counting, keras.Sequential):
    pass


@keras.saving.register_keras_serializable("classes")
class Weighing(keras.Model):
    """A config with a field of its own, which from_config hands on to the constructor."""

    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor

    def compute_loss(self, *args, **kwargs):
        return self.factor * super().compute_loss(*args, **kwargs)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Unregistered(keras.Model):
    def test_step(self, data):
        return super().test_step(data)

    def helper(self):
        return 1


@keras.saving.register_keras_serializable("classes")
class Wide(keras.Model):
    """A model whose config is what its constructor takes."""

    def __init__(self, width=4, **kwargs):
        x = keras.Input((3,))
        super().__init__(x, L.Dense(2, name="top")(L.Dense(width, name="hidden")(x)), **kwargs)
        self.width = width

    def predict_step(self, data):
        return super().predict_step(data)

    def get_config(self):
        return {"width": self.width, "name": self.name}


def made(cls, **options):
    x = keras.Input((3,), name="x")
    y = L.Dense(2, name="top")(L.Dropout(0.0, name="drop")(L.Dense(5, name="hidden")(x)))
    return cls(x, y, name="net", **options)


def row(cls=Row):
    return cls([keras.Input((3,)), L.Dense(5, name="hidden"), L.Dropout(0.0, name="drop"), L.Dense(2, name="top")])


@pytest.mark.parametrize("make", [lambda: made(Trainer), row], ids=["functional", "sequential"])
def test_a_registered_class_is_kept_through_edits(make):
    model = make()
    model.compile("adam", "mse", run_eagerly=True)
    before = capture(model)
    edit = Plan(DeleteChannels("hidden", [0]), DeleteLayer("drop"), InsertLayer(L.ReLU(), after="hidden"))
    after = decode(encode(edit))(before)
    again = rebuild(after)
    assert type(again) is type(model)
    assert capture(again) == after == patch(before, diff(before, after))
    again.fit(np.ones((4, 3)), np.ones((4, 2)), batch_size=2, verbose=0)
    assert again.steps == 2


def test_a_config_with_more_than_the_graph_is_kept():
    model = made(Weighing, factor=3.0)
    model.compile("sgd", "mse", run_eagerly=True)
    again = rebuild(DeleteLayer("drop")(capture(model)))
    assert (type(again), again.factor) == (Weighing, 3.0)
    x, y = np.ones((2, 3)), np.zeros((2, 2))
    assert again.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))


def test_nested_models_keep_their_class():
    x = keras.Input((3,))
    model = keras.Sequential([x, made(Trainer), L.Dense(1)])
    assert type(rebuild(DeleteChannels("net/hidden", [1])(capture(model))).layers[0]) is Trainer


def test_the_warning_names_the_lost_methods():
    with pytest.warns(
        UserWarning, match=r"'net' is captured as a plain Functional .* test_step .*Unregistered.*regist"
    ):
        assert type(rebuild(capture(made(Unregistered)))).__name__ == "Functional"
    with pytest.warns(UserWarning, match=r"without the predict_step of its class Wide: .* does not return the gr"):
        capture(keras.Sequential([keras.Input((3,)), Wide()]))


def test_weights_outside_of_the_graph_give_a_warning():
    model = made(Trainer)
    model.extra = L.Dense(2)
    model.extra.build((None, 3))
    with pytest.warns(UserWarning, match=r"'net' has weights outside of its graph \(dense.*/kernel, "):
        assert type(rebuild(capture(model))) is Trainer


def test_a_class_in_a_custom_object_scope_is_kept():
    with keras.saving.custom_object_scope({"Unregistered": Unregistered}):
        snapshot = capture(made(Unregistered))
    assert type(rebuild(snapshot, custom_objects={"Unregistered": Unregistered})) is Unregistered


def test_operations_keep_the_class():
    assert type(delete_channels(made(Unregistered), "hidden", [0])) is Unregistered


def test_a_sequential_class_is_lost_when_the_graph_is_no_longer_a_chain():
    model = row()
    with pytest.warns(
        UserWarning, match="'.*' is no longer a chain of layers: .* without the methods of its class Row"
    ):
        again = rebuild(ExtractModel(["hidden", "top"])(capture(model)))
    assert (type(again).__name__, len(again.outputs)) == ("Functional", 2)
    with pytest.warns(UserWarning, match="without the train_step of its class Row: operations"):
        delete_channels(model, "hidden", [0])


def test_a_sequential_model_whose_constructor_adds_layers_becomes_plain():
    class Own(keras.Sequential):
        def __init__(self, units, **kwargs):
            super().__init__([keras.Input((3,)), L.Dense(units, name="hidden"), L.Dense(2)], **kwargs)

        def compute_loss(self, *args, **kwargs):
            return super().compute_loss(*args, **kwargs)

    with pytest.warns(UserWarning, match="captured as a plain Sequential model without the compute_loss of its class"):
        snapshot = capture(Own(4, name="own"))
    again = rebuild(DeleteChannels("hidden", [0])(snapshot))
    assert type(again) is keras.Sequential
    assert capture(again).record == DeleteChannels("hidden", [0])(snapshot).record


def test_a_sequential_model_that_overrides_call_is_recorded():
    class Negative(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return -super().call(inputs)

    model = row(Negative)
    with pytest.warns(ClassNotKept, match="the graph that its call"):
        again = rebuild(capture(model))
    inputs = np.ones((2, *model.input_shape[1:]), "float32")
    np.testing.assert_array_equal(again(inputs), model(inputs))


def test_a_model_that_overrides_compile_is_rebuilt_as_keras_loads_it():
    @keras.saving.register_keras_serializable("classes")
    class Compiling(keras.Model):
        def compile(self, **options):
            super().compile(optimizer="sgd", loss="mse", run_eagerly=True)

    model = made(Compiling)
    model.compile()
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    with pytest.warns(UserWarning, match="compile"):
        assert type(rebuild(capture(model))) is Compiling
