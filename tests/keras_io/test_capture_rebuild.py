"""The door to live models: what `capture` takes, and that what `rebuild` gives is an ordinary Keras model."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law, random_cut, random_inputs, randomise
from helpers.older import IS_OLDER
from kerassurgery_fn import (
    DeleteChannels,
    DeleteLayer,
    InsertLayer,
    KeepChannels,
    RenameLayer,
    capture,
    diff,
    patch,
    rebuild,
)
from kerassurgery_fn.errors import BrokenSnapshot, HiddenState, NotAGraph

pytestmark = pytest.mark.keras


def small(**kwargs):
    x = keras.Input((6,), name="x")
    y = L.Dense(8, name="hidden", **kwargs)(x)
    y = L.BatchNormalization(name="norm")(y)
    return keras.Model(x, L.Dense(3, name="top")(L.ReLU()(y)), name="small")


@keras.saving.register_keras_serializable("tests")
class Backbone(keras.Model):
    """A Functional model whose config is what its constructor is called with, as model collections write them."""

    def __init__(self, width=8, **kwargs):
        x = keras.Input((7, 7, 3))
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(width, 3, name="stem")(x)))
        super().__init__(inputs=x, outputs=L.Conv2D(width, 1, name="head")(y), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name, "trainable": self.trainable}


@keras.saving.register_keras_serializable("tests")
class Twisted(keras.Model):
    """A Functional model whose call() is not its graph."""

    def __init__(self, **kwargs):
        x = keras.Input((6,))
        super().__init__(inputs=x, outputs=L.Dense(4)(x), **kwargs)

    def call(self, inputs, training=None, mask=None):
        return -super().call(inputs, training=training, mask=mask)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(name="coded")
        self.dense = L.Dense(3)

    def call(self, x):
        return self.dense(x)


# --- capture


def test_a_subclass_of_functional_is_captured_as_its_graph():
    model = Backbone(name="net")
    check_law(model, lambda snapshot: DeleteChannels("stem", [0, 5])(snapshot))
    assert type(rebuild(capture(model))).__name__ == "Functional"


def test_a_nested_subclass_of_functional_is_captured_as_its_graph():
    x = keras.Input((7, 7, 3))
    model = keras.Model(x, L.Dense(4)(L.Flatten()(Backbone(6, name="backbone")(x))))
    smaller = check_law(model).smaller
    assert {"backbone/stem", "backbone/head"} < set(smaller.weights)


def test_a_subclass_of_functional_in_a_sequential_model_is_captured_as_its_graph():
    check_law(keras.Sequential([keras.Input((7, 7, 3)), Backbone(6), L.Flatten(), L.Dense(4)]))


def test_a_frozen_subclass_of_functional_stays_frozen():
    backbone = Backbone(name="backbone")
    backbone.trainable = False
    assert rebuild(capture(backbone)).trainable is False
    x = keras.Input((7, 7, 3))
    assert rebuild(capture(keras.Model(x, backbone(x)))).get_layer("backbone").trainable is False


def repeating():
    """A Sequential model that computes with one layer twice, of which Keras writes but one in the config."""
    dense = L.Dense(6, name="again")
    return keras.Sequential([keras.Input((6,)), dense, L.ReLU(), dense], name="repeating")


def around(model):
    x = keras.Input((6,))
    return keras.Model(x, L.Dense(2)(model(x)))


NO_GRAPHS = {
    "a layer several times": (repeating, "'repeating' has a layer several times"),
    "a layer several times in a nested model": (lambda: around(repeating()), "'repeating' has a layer several times"),
    "an unbuilt sequential": (lambda: keras.Sequential([L.Dense(3)], name="bare"), "'bare' is not built; call model.b"),
    "a subclassed model": (Subclassed, "'coded' (Subclassed) is subclassed"),
    "a layer": (lambda: L.Dense(3), "expected a keras.Model, got Dense"),
    "nothing": (lambda: None, "expected a keras.Model, got NoneType"),
}


@pytest.mark.parametrize("name", NO_GRAPHS)
def test_a_model_without_a_graph_is_refused(name):
    make, words = NO_GRAPHS[name]
    with pytest.raises(NotAGraph) as refusal:
        capture(make())
    assert words in str(refusal.value)


@pytest.mark.parametrize("inner", [Subclassed, lambda: Twisted(name="twisted")], ids=["subclassed", "twisted"])
def test_a_nested_model_without_a_graph_is_an_opaque_layer(inner):
    if inner is not Subclassed and "layers" in inner().get_config():
        pytest.skip("this Keras takes every class whose constructor has only keywords for a plain graph")
    x = keras.Input((6,))
    y = inner()(L.Dense(6, name="before")(L.Dense(5, name="first")(x)))
    model = keras.Model(x, L.Dense(2)(L.Dense(4, name="after")(y)))
    name = model.layers[3].name
    check_law(model, opaque={name})


class Nameless(keras.Model):
    """A subclassed model whose config Keras cannot work out, and whose code uses weights directly."""

    def __init__(self, layer):
        super().__init__(name="coded")
        self.layer = layer

    def call(self, x):
        return ops.matmul(self.layer(x), self.layer.kernel)


@pytest.mark.skipif(IS_OLDER, reason="an older Keras writes a config for it")
def test_a_nested_model_that_cannot_be_saved_or_recorded_is_refused():
    x = keras.Input((3,))
    with pytest.raises(NotAGraph, match=r"model 'coded' \(Nameless\) cannot be recorded"):
        capture(keras.Model(x, Nameless(L.Dense(3))(x), name="outer"))


def test_a_repeated_layer_is_captured_from_the_graph():
    model = repeating()
    plain = keras.Model(model.inputs, model.outputs[0])
    randomise(model)
    inputs = random_inputs(model)
    np.testing.assert_array_equal(rebuild(capture(plain))([inputs]), model(inputs))


def scaled(x, number):
    return ops.relu(L.Dense(8, name="hidden")(x) / number) + number


@pytest.mark.parametrize("number", [np.sqrt(8), np.float32(0.5), np.float16(2), np.int64(3)], ids=repr)
def test_numpy_scalars_in_calls_are_captured_as_python_numbers(number):
    x = keras.Input((6,))
    inner = keras.Model(x, scaled(x, number), name="inner")
    model = keras.Model(x, L.Dense(3)(inner(x) * 2))
    model.compile("adam", "mse")
    check_law(model)
    assert capture(rebuild(capture(model))) == capture(model)
    assert "compile_config" in capture(model).record


def test_the_structure_of_inputs_and_outputs_is_kept():
    x = keras.Input((6,), name="x")
    y = L.Dense(3, name="y")(x)
    single, lists = capture(keras.Model(x, y)), capture(keras.Model([x], [y]))
    assert (single.config["input_layers"], single.config["output_layers"]) == (["x", 0, 0], ["y", 0, 0])
    assert (lists.config["input_layers"], lists.config["output_layers"]) == ([["x", 0, 0]], [["y", 0, 0]])
    for snapshot in (single, lists):
        assert capture(rebuild(snapshot)) == snapshot


def test_training_does_not_change_a_snapshot():
    model = small()
    model.compile("adam", "mse", run_eagerly=True)
    snapshot, data = capture(model), random_inputs(model, batch=8)
    before = {path: [array.copy() for array in arrays] for path, arrays in snapshot.weights.items()}
    model.fit(data, np.ones((8, 3)), verbose=0)
    for path, arrays in before.items():
        for then, now in zip(arrays, snapshot.weights[path], strict=True):
            np.testing.assert_array_equal(then, now)
    assert capture(model) != snapshot


def test_training_a_rebuilt_model_does_not_change_the_snapshot():
    snapshot = capture(small())
    again = capture(rebuild(snapshot))
    model = rebuild(snapshot)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(random_inputs(model, batch=8), np.ones((8, 3)), verbose=0)
    assert again == snapshot


# --- rebuild

LOAD = """
import sys
import numpy as np, keras
for file in sys.argv[2:]:
    model = keras.saving.load_model(file)
    np.save(file + ".npy", model.predict_on_batch(np.load(sys.argv[1])))
assert not any(name.startswith("kerassurgery") for name in sys.modules)
"""


def test_a_pruned_model_is_an_ordinary_keras_model(tmp_path):
    model = small()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.MeanSquaredError(), run_eagerly=True)
    model.fit(random_inputs(model, batch=8), np.ones((8, 3)), verbose=0)
    smaller = rebuild(random_cut(capture(model), 0))
    data = random_inputs(smaller, 3)
    smaller.fit(data, np.ones((11, 3)), verbose=0)
    answer = smaller.predict_on_batch(data)
    given, *files = (str(tmp_path / name) for name in ("given.npy", "model.keras", "model.h5"))
    for file in files:
        smaller.save(file)
    np.save(given, data)
    run = subprocess.run(
        [sys.executable, "-c", LOAD, given, *files], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for file in files:
        np.testing.assert_allclose(np.load(f"{file}.npy"), answer, rtol=1e-6)


def test_a_rebuilt_model_can_be_compiled_again():
    model = rebuild(random_cut(capture(small()), 0))
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    data, truth = random_inputs(model, batch=16), np.ones((16, 3))
    first, *_, last = [model.train_on_batch(data, truth) for _ in range(12)]
    assert last < first / 2


def squares(y, p):
    return ops.mean((y - p) ** 2)


def compiled_with(loss, **options):
    x = keras.Input((3,))
    model = keras.Model(x, L.Dense(1, name="y")(L.Dense(4, name="h")(x)))
    model.compile("adam", loss, run_eagerly=True, **options)
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    return DeleteChannels("h", [0])(capture(model))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_model_compiled_with_a_lambda():
    snapshot = compiled_with({"y": lambda y, p: (y - p) ** 2})
    with pytest.raises(BrokenSnapshot, match=r"has a Python lambda; if you trust it, .*safe_mode=False.*compile=False"):
        rebuild(snapshot)
    assert not rebuild(snapshot, compile=False).compiled
    again = rebuild(snapshot, safe_mode=False)
    assert capture(again).training == snapshot.training  # the records differ in flags of the marshalled lambda
    x, y = np.array([[1, 2, 3], [0, 1, 0]], "float32"), np.ones((2, 1))
    assert again.evaluate(x, y, verbose=0) == pytest.approx(float(squares(y, again(x))))


def test_a_model_compiled_with_a_function_that_is_not_registered():
    snapshot = compiled_with(squares, weighted_metrics=[squares])
    with pytest.raises(
        BrokenSnapshot, match=r"function 'squares'; decorate .*custom_objects={name: function}\), or call .*compile=Fa"
    ):
        rebuild(snapshot)
    assert not rebuild(snapshot, compile=False).compiled
    assert capture(rebuild(snapshot, custom_objects={"squares": squares})) == snapshot
    with keras.saving.custom_object_scope({"squares": squares}):
        assert capture(rebuild(snapshot)) == snapshot


def test_a_model_compiled_with_an_object_that_keras_cannot_save():
    class Odd(keras.losses.Loss):
        def get_config(self):
            return {"fn": {1j}}

    model = small()
    model.compile("sgd", Odd())
    with pytest.raises(NotAGraph, match="'small' is compiled with something that Keras cannot save"):
        capture(model)
    assert not rebuild(capture(keras.Model(model.inputs, model.outputs))).compiled


def test_weights_that_do_not_fit_the_config_are_refused():
    snapshot = capture(small())
    kernel, bias = snapshot.weights["hidden"]
    broken = type(snapshot)(snapshot.record, {**snapshot.weights, "hidden": (kernel[:, 1:], bias)})
    with pytest.raises(BrokenSnapshot, match="layer 'hidden' needs weights of shapes"):
        rebuild(broken)


def test_a_config_that_keras_cannot_revive_is_refused():
    @keras.saving.register_keras_serializable("tests")
    class Unknown(L.Layer):
        def call(self, x):
            return 2 * x

    x = keras.Input((6,))
    snapshot = capture(keras.Model(x, L.Dense(3)(Unknown()(x))))
    keras.saving.get_custom_objects().pop("tests>Unknown")
    with pytest.raises(BrokenSnapshot, match="Keras cannot rebuild"):
        rebuild(snapshot)
    assert rebuild(snapshot, custom_objects={"tests>Unknown": Unknown}).output_shape == (None, 3)


# --- compiled models


def compiled(optimizer, steps=3):
    """A small model after some steps of training, its optimizer full of state."""
    model = small(kernel_regularizer="l2")
    randomise(model)
    model.compile(optimizer, {"top": "mse"}, metrics=["mae"], loss_weights=[0.5], run_eagerly=True)
    for step in range(steps):
        model.train_on_batch(random_inputs(model, step, batch=8), np.ones((8, 3)))
    return model


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01),
    "sgd with momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adam with averages": lambda: keras.optimizers.Adam(0.01, use_ema=True),
    "adam with accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "adam with a schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
    "adamw": lambda: keras.optimizers.AdamW(0.01),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "adadelta": lambda: keras.optimizers.Adadelta(0.01),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "lamb": lambda: keras.optimizers.Lamb(0.01),
    "muon": lambda: keras.optimizers.Muon(0.01),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}


@pytest.fixture(scope="module", params=OPTIMIZERS)
def trained(request):
    """A model that has been trained, and its snapshot at that time."""
    model = compiled(OPTIMIZERS[request.param]())
    return model, capture(model)


def test_training_continues_where_it_stopped(trained):
    """One more step of the model and of its rebuilt twin, after an edit that changes nothing, are the same."""
    model, snapshot = trained
    same = KeepChannels("hidden", range(8))(snapshot)
    assert same == snapshot
    twin = rebuild(same)
    assert capture(twin) == snapshot
    assert twin.get_compile_config() == model.get_compile_config()
    data = random_inputs(model, 9, batch=8)
    model.reset_metrics()  # an older Keras gives the mean of all batches so far
    losses = [one.train_on_batch(data, np.ones((8, 3))) for one in (model, twin)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_the_optimizers_state_is_cut_like_the_weights(trained):
    _, snapshot = trained
    smaller = DeleteChannels("hidden", [1, 6])(snapshot)
    model = rebuild(smaller)
    assert capture(model) == smaller
    kept = [0, 2, 3, 4, 5, 7]
    axes = {("hidden", 0): 1, ("hidden", 1): 0, ("norm", 0): 0, ("norm", 1): 0, ("top", 0): 0}
    for owner, old, new in zip(snapshot.training.slots, snapshot.training.values, smaller.training.values, strict=True):
        full = owner in axes and old.shape == snapshot.weights[owner[0]][owner[1]].shape
        np.testing.assert_array_equal(np.take(old, kept, axes[owner]) if full else old, new)
    assert np.isfinite(model.train_on_batch(random_inputs(model, 9, batch=8), np.ones((8, 3)))).all()


def test_weights_of_equal_names_keep_their_optimizer_state():
    """Layers of two nested models have one name in Keras' paths: the optimizer's variables are told apart by order."""
    x = keras.Input((6,))
    a, b = (keras.Sequential([keras.Input((6,)), L.Dense(n, name="d")], name=name) for n, name in ((6, "a"), (7, "b")))
    model = keras.Model(x, L.Dense(3)(b(a(x))))
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    model.train_on_batch(random_inputs(model), np.ones((11, 3)))
    snapshot = capture(model)
    for owner, value in zip(snapshot.training.slots, snapshot.training.values, strict=True):
        assert owner is None or value.shape == snapshot.weights[owner[0]][owner[1]].shape
    again = rebuild(DeleteChannels({"a/d": [0], "b/d": [1, 2]})(snapshot))
    again.train_on_batch(random_inputs(again), np.ones((11, 3)))


def test_optimizer_state_of_another_shape_than_the_weights_is_not_captured():
    model = compiled(keras.optimizers.Adafactor(0.01))
    with pytest.warns(UserWarning, match="Adafactor"):
        snapshot = capture(model)
    assert snapshot.training is None
    model = rebuild(DeleteChannels("hidden", [1, 6])(snapshot))
    assert np.isfinite(model.train_on_batch(random_inputs(model, 9, batch=8), np.ones((8, 3)))).all()


def test_optimizer_state_is_not_restored_if_the_rebuilt_optimizer_has_other_variables():
    """Under a policy of half precision Keras wraps the optimizer, and says nothing of it in the compile config."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled(keras.optimizers.Adam(0.01))
        assert rebuild(capture(model)).optimizer.inner_optimizer.iterations == 3
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.warns(UserWarning, match="Adam has other variables than before"):
        again = rebuild(capture(model))
    assert again.optimizer.iterations == 0
    assert float(again.optimizer.learning_rate) == pytest.approx(0.01)


def test_a_layer_shared_by_two_models_gives_a_warning():
    shared = L.Dense(6, name="shared")
    x = keras.Input((6,))
    inner = keras.Model(x, shared(x), name="inner")
    model = keras.Model(x, L.Dense(3, name="top")(L.Concatenate()([inner(x), shared(x)])))
    with pytest.warns(UserWarning, match="'inner/shared' and 'shared' are one layer"):
        check_law(model)


def test_an_optimizer_before_its_first_step_has_no_state():
    model = small()
    model.compile("adam", "mse", run_eagerly=True)
    snapshot = capture(model)
    smaller = DeleteChannels("hidden", [1, 6])(snapshot)
    again = rebuild(smaller)
    assert capture(rebuild(snapshot)) == snapshot
    assert capture(again) == smaller
    assert np.isfinite(again.train_on_batch(random_inputs(again, 9, batch=8), np.ones((8, 3))))


def relu(x):
    return keras.ops.maximum(x, 0.1 * x)


@pytest.mark.parametrize("kind", ["activation of a layer", "layer of its own"])
@pytest.mark.parametrize(
    "function, words",
    [
        (relu, "function 'relu' of '.*test_capture_rebuild', but its config only has the name"),
        (lambda x: x * x, "is a lambda"),
    ],
    ids=["namesake", "lambda"],
)
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_function_with_the_name_of_a_keras_function_is_refused(kind, function, words):
    layers = [L.Dense(4, activation=function)] if kind == "activation of a layer" else [L.Activation(function)]
    with pytest.raises(HiddenState, match=words):
        capture(keras.Sequential([keras.Input((6,)), *layers]))


@keras.saving.register_keras_serializable("tests")
class Offset(keras.layers.Layer):
    """A layer without a get_config(): Keras writes what its constructor was called with, and no name."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def build(self, shape):
        self.values = self.add_weight((self.size,), name="values", initializer="ones")

    def call(self, x):
        return x + keras.ops.sum(self.values)


def with_offset(kind):
    layers = [L.Dense(5, name="first"), Offset(3, name="offset"), L.Dropout(0.1, name="drop"), L.Dense(2, name="last")]
    row = keras.Sequential([keras.Input((6,)), *layers], name="row")
    if kind == "Sequential":
        return row
    x = y = keras.Input((6,))
    for layer in [row] if kind == "nested" else layers:
        y = layer(y)
    return keras.Model(x, y)


@pytest.mark.parametrize("kind", ["Sequential", "Functional", "nested"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda snapshot: snapshot,
        DeleteLayer("drop"),
        RenameLayer("offset", "shift"),
        DeleteChannels("first", []),
        InsertLayer(L.ReLU(name="relu"), after="offset"),
    ],
    ids=["nothing", "delete", "rename", "no channels", "insert"],
)
def test_a_layer_without_a_name_in_its_config_keeps_its_name(kind, edit):
    model = with_offset(kind)
    randomise(model)
    snapshot = edit(capture(model))
    assert any("offset" in path or "shift" in path for path in snapshot.weights)
    assert capture(rebuild(snapshot)) == snapshot
    assert patch(capture(model), diff(capture(model), snapshot)) == snapshot


def test_operations_constructed_with_numpy_integers():
    """Keras itself cannot save such a model."""
    x = keras.Input((4, 6))
    y = ops.reshape(L.Dense(8, name="wide")(x), (-1, np.prod([4, 8])))
    y = ops.sum(ops.reshape(L.Dense(6, name="deep")(y), (-1, np.int64(2), 3)), axis=1)
    model = keras.Model(x, L.Dense(2)(y))
    with pytest.raises(NotImplementedError):
        keras.saving.serialize_keras_object(model)
    check_law(model, DeleteChannels({"wide": [0, 5], "deep": [0, 3]}))
    with pytest.raises(NotImplementedError):  # the model is as it was
        keras.saving.serialize_keras_object(model)


def test_a_layer_that_cannot_be_saved_is_named_with_the_cause():
    class Forgetful(keras.layers.Layer):
        def call(self, x):
            return x

        def get_config(self):
            return {"gone": self.never_set}

    x = keras.Input((3,))
    with pytest.raises(NotAGraph, match=r"cannot be captured.*Forgetful.*never_set"):
        capture(keras.Model(x, Forgetful()(x)))


def test_the_error_for_a_layer_that_cannot_be_revived_does_not_contain_its_config():
    class Changed(keras.layers.Layer):
        def call(self, x):
            return x

        def get_config(self):
            return {**super().get_config(), "more": 1}

    x = keras.Input((3,))
    snapshot = capture(keras.Model(x, Changed(name="changed")(x)))
    with pytest.raises(BrokenSnapshot, match=r"Unrecognized keyword arguments.*more") as told:
        rebuild(snapshot, custom_objects={"Changed": Changed})
    assert len(str(told.value)) < 400
