"""Subclassed models: `capture` records their `call`, and refuses what it cannot record by its place in the code."""

import re

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kerassurgery_fn
from helpers.laws import check_law, randomise
from kerassurgery_fn import ClassNotKept, DeleteChannels, capture, groups, rebuild
from kerassurgery_fn.errors import NotAGraph, WrongShape
from kerassurgery_fn.keras_io.call_faults import COUNTERPARTS, counterpart_of

tf = pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.ClassNotKept")]

FEATURES = np.random.default_rng(0).standard_normal((4, 6)).astype("float32")
IMAGES = np.random.default_rng(1).standard_normal((3, 24, 24, 3)).astype("float32")
TOKENS = np.array([[1, 2, 3, 0, 0], [4, 1, 0, 0, 0]], "int32")


class Coded(keras.Model):
    """A model whose code is a function of its layers and its inputs."""

    def __init__(self, code, *parts, **layers):
        super().__init__(name="coded")
        self.code, self.parts = code, list(parts)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def call(self, x, training=None):
        return self.code(self, x)


def coded(code, data=FEATURES, *parts, **layers):
    """The model, called once, with random weights."""
    model = Coded(code, *parts, **layers)
    model(data)
    randomise(model, batch=data)
    return model


def outputs_of(model, data):
    return [np.asarray(output) for output in keras.tree.flatten(model(data, training=False))]


def check_recorded(model, data, **options):
    """The recorded model computes the same to the last bit, and the live one is as it was."""
    before = outputs_of(model, data)
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    snapshot = capture(model, **options)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    again = rebuild(snapshot)
    for expected, actual, live in zip(before, outputs_of(again, data), outputs_of(model, data), strict=True):
        np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(live, expected)
    assert capture(model, **options) == snapshot == capture(again)
    return snapshot


# --- what is recorded


class FaceNet(keras.Model):
    """A twin of the second network of MTCNN: convolutions with PReLU, a permutation, two outputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv1, self.prelu1 = L.Conv2D(7, 3, name="conv1"), L.PReLU(shared_axes=[1, 2], name="prelu1")
        self.pool1 = L.MaxPooling2D(3, strides=2, padding="same", name="pool1")
        self.conv2, self.prelu2 = L.Conv2D(9, 3, name="conv2"), L.PReLU(shared_axes=[1, 2], name="prelu2")
        self.permute, self.flatten = L.Permute((2, 1, 3), name="permute"), L.Flatten(name="flatten")
        self.fc, self.prelu3 = L.Dense(8, name="fc"), L.PReLU(name="prelu3")
        self.box, self.score = L.Dense(4, name="box"), L.Dense(2, activation="softmax", name="score")

    def build(self, shape):
        for layer in (self.conv1, self.prelu1, self.pool1, self.conv2, self.prelu2, self.permute, self.flatten):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        for layer in (self.fc, self.prelu3):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.box.build(shape)
        self.score.build(shape)
        self.built = True

    def call(self, inputs, *args, **kwargs):
        x = self.pool1(self.prelu1(self.conv1(inputs)))
        x = self.flatten(self.permute(self.prelu2(self.conv2(x))))
        x = self.prelu3(self.fc(x))
        return [self.box(x), self.score(x)]


def test_a_network_that_is_built_by_shapes():
    model = FaceNet(name="faces")
    model.build((None, 24, 24, 3))
    randomise(model, batch=IMAGES)
    snapshot = check_recorded(model, IMAGES)
    free = [set(group.made) for group in groups(snapshot) if not group.reasons]
    assert free == [{"conv1"}, {"conv2"}, {"fc"}]
    assert check_law(rebuild(snapshot)).prunable > 0.75  # all but the outputs


def test_open_sizes_stay_open():
    model = FullyConvolutional()
    model.build((None, None, None, 3))
    snapshot = check_recorded(model, IMAGES)
    assert list(snapshot.config["layers"][0]["config"]["batch_shape"]) == [None, None, None, 3]
    assert rebuild(snapshot)(np.zeros((1, 40, 30, 3), "float32")).shape == (1, 38, 28, 4)


class FullyConvolutional(keras.Model):
    def __init__(self):
        super().__init__(name="open")
        self.conv = L.Conv2D(4, 3)

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return ops.relu(self.conv(x))


def two_towers(self, x):
    hidden = self.join([self.left(x["p"]), self.right(x["q"])])
    return {"out": self.top(hidden), "hidden": hidden}


def test_dicts_of_inputs_and_outputs():
    data = {"p": FEATURES, "q": 2 * FEATURES}
    layers = {"left": L.Dense(3), "right": L.Dense(4), "top": L.Dense(2), "join": L.Concatenate()}
    model = coded(two_towers, data, **layers)
    snapshot = check_recorded(model, data)
    assert set(rebuild(snapshot)(data)) == {"out", "hidden"}
    assert set(snapshot.config["input_layers"]) == {"p", "q"}


def test_lists_of_inputs_and_of_layers():
    def code(self, x):
        return [layer(x[0]) + x[1] for layer in self.parts]

    data = [FEATURES, FEATURES[:, :1]]
    check_recorded(coded(code, data, L.Dense(3), L.Dense(3)), data)


def test_several_arguments_by_name():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3)

        def call(self, x, y=None):
            return self.dense(x) * y

    model, data = Pair(), {"x": FEATURES, "y": FEATURES[:, :1]}
    expected = model(**data)
    snapshot = capture(model, inputs={"x": (None, 6), "y": (None, 1)})
    np.testing.assert_array_equal(rebuild(snapshot)(data), expected)


@pytest.mark.parametrize("default", [None, True, False])
def test_layers_follow_the_training_flag(default):
    class Training(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.norm, self.drop = L.Dense(5, name="h"), L.BatchNormalization(momentum=0.5), L.Dropout(0.5)

        def call(self, x, training=default):
            return self.drop(self.norm(self.hidden(x), training=training), training=training)

    model = Training()
    model(FEATURES, training=False)
    snapshot = check_recorded(model, FEATURES)
    again = rebuild(snapshot)
    assert (np.asarray(again(FEATURES, training=True)) == 0).mean() > 0.2
    norm = next(layer for layer in again.layers if isinstance(layer, L.BatchNormalization))
    assert np.abs(norm.moving_mean).min() > 0


def test_code_that_computes_something_else_in_training_is_named():
    class Branching(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(5)

        def call(self, x, training=None):
            return 2 * self.dense(x) if training else self.dense(x)

    model = Branching()
    model(FEATURES)
    with pytest.warns(ClassNotKept, match="In training, the graph computes other values"):
        capture(model)


def test_masks_and_states_of_recurrent_layers():
    def code(self, x):
        sequence, hidden, cell = self.lstm(self.embed(x))
        return [self.gru(sequence), hidden, cell]

    layers = {"embed": L.Embedding(9, 4, mask_zero=True), "lstm": L.LSTM(5, return_sequences=True, return_state=True)}
    check_recorded(coded(code, TOKENS, **layers, gru=L.GRU(3)), TOKENS)


def test_a_layer_that_is_called_twice():
    model = coded(lambda self, x: self.top(self.twice(self.twice(x))), FEATURES, twice=L.Dense(6), top=L.Dense(2))
    assert len(check_recorded(model, FEATURES).weights) == 2


def test_a_reshape_by_the_batch_size():
    def code(self, x):
        return self.dense(ops.reshape(x, (ops.shape(x)[0], 3, 2)))

    check_recorded(coded(code, dense=L.Dense(4)), FEATURES)


def test_a_constant_of_the_batch_size():
    """Such code cannot take an open batch size. It is recorded for one sample, and the constant is broadcast."""

    def code(self, x):
        batch, size = ops.shape(x)
        ramp = ops.broadcast_to(ops.arange(size, dtype="float32"), (batch, size))
        return self.dense(ops.reshape(x + ramp, (batch, size // 2, 2)))

    snapshot = check_recorded(coded(code, dense=L.Dense(4)), FEATURES)
    assert rebuild(snapshot).output_shape == (None, 3, 4)


def test_mixed_precision():
    policy = {"dtype": "mixed_float16"}

    class Mixed(keras.Model):
        def __init__(self):
            super().__init__(**policy)
            self.dense = L.Dense(6, **policy)

        def call(self, x):
            return self.dense(x) + x

    model = Mixed()
    assert model(FEATURES).dtype == "float16"
    check_recorded(model, FEATURES)


def test_the_optimizer_continues():
    model = coded(
        lambda self, x: self.top(self.hidden(x)), hidden=L.Dense(5, name="hidden"), top=L.Dense(2, name="top")
    )
    model.compile("adam", "mse")
    model.fit(FEATURES, FEATURES[:, :2], epochs=2, verbose=0)
    snapshot = check_recorded(model, FEATURES)
    assert snapshot.training is not None
    again = rebuild(DeleteChannels("hidden", [1])(snapshot))
    assert int(again.optimizer.iterations) == 2
    again.fit(FEATURES, FEATURES[:, :2], verbose=0)


def test_a_functional_model_with_a_call_of_its_own():
    class Negative(keras.Model):
        def call(self, x, training=None, mask=None):
            return -super().call(x)

    x = keras.Input((6,))
    check_recorded(Negative(x, L.Dense(3)(x)), FEATURES)


def test_the_warning_names_what_is_lost():
    class Custom(Coded):
        def train_step(self, data):
            return super().train_step(data)

    model = Custom(lambda self, x: self.dense(x), dense=L.Dense(3))
    model(FEATURES)
    with pytest.warns(ClassNotKept, match=r"'coded' \(Custom\).*the class and its methods \(train_step\) are not"):
        capture(model)


def test_weights_that_the_call_does_not_use_are_named():
    model = Coded(lambda self, x: self.dense(x), dense=L.Dense(3), auxiliary=L.Dense(2, name="auxiliary"))
    model(FEATURES)
    model.auxiliary.build((None, 6))
    with pytest.warns(ClassNotKept, match="does not use all of its weights.*auxiliary/kernel"):
        assert len(capture(model).weights) == 1


# --- what is refused

REFUSED = {
    "a function of TensorFlow": (
        lambda self, x: tf.nn.relu(self.dense(x)), {},
        r"test_coded_models.py, line \d+, `tf\.nn\.relu\(self\.dense\(x\)\)`.*use keras\.ops\.relu instead",
    ),
    "a function under another name": (
        lambda self, x: tf.reduce_mean(x, -1), {}, r"tf\.reduce_mean is a function.*use keras\.ops\.mean ",
    ),
    "an image function": (
        lambda self, x: tf.image.resize(x[:, :, None, None], (3, 3)), {}, r"use keras\.ops\.image\.resize ",
    ),
    "a branch by values": (
        lambda self, x: self.dense(x) if ops.sum(x) > 0 else x, {}, "on the values of tensors",
    ),
    "a weight of the model": (
        lambda self, x: self.dense(x) * self.scale, {}, "variables coded/scale directly, and in a graph",
    ),
    "a weight of a layer": (
        lambda self, x: ops.matmul(self.dense(x), ops.transpose(self.dense.kernel)), {}, "variables .*/kernel directly",
    ),
    "a value of a weight": (
        lambda self, x: self.dense(x) * ops.exp(self.scale), {}, "variables coded/scale directly",
    ),
    "random numbers": (
        lambda self, x: self.dense(x) + keras.random.normal((3,), seed=self.seed), {}, "seed_generator_state direct",
    ),
    "sizes": (
        lambda self, x: ops.concatenate([x, ops.zeros((ops.shape(x)[0], 2))], -1), {}, "with sizes.*are variable",
    ),
    "a number": (lambda self, x: [self.dense(x), 3.0], {}, r"that does not depend on an input \(float\)"),
    "a layer that is new": (lambda self, x: L.Dense(3)(x), {}, "creates weights .*kernel"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_code_that_cannot_be_recorded_is_refused(name):
    code, options, words = REFUSED[name]
    model = Coded(code, dense=L.Dense(3), seed=keras.random.SeedGenerator(0))
    model.scale = model.add_weight(shape=(3,), name="scale")
    model.dense.build((None, 6))
    model.build((None, 6))
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    with pytest.raises(NotAGraph) as refusal:
        capture(model, **options)
    assert re.search(words, str(refusal.value)), str(refusal.value)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes


def test_code_that_sees_whether_tensors_are_symbolic_is_refused():
    def code(self, x):
        return self.dense(x) if isinstance(x, keras.KerasTensor) else -self.dense(x)

    with pytest.raises(NotAGraph, match="output 0 has other values when recorded"):
        capture(coded(code, dense=L.Dense(3)))


def test_a_model_that_cannot_run_on_random_numbers_is_compared_on_examples():
    def code(self, x):
        return ops.sqrt(self.dense(x) - 1e6)

    model = coded(code, dense=L.Dense(3))
    with pytest.raises(NotAGraph, match=r"it computes NaN or infinity; pass example arrays: capture\(model, inputs="):
        capture(model)
    capture(model, inputs=FEATURES)


def test_losses_of_half_precision():
    regularised = L.Dense(3, activity_regularizer="l2", dtype="mixed_bfloat16")
    check_recorded(coded(lambda self, x: self.dense(x), dense=regularised), FEATURES)


def test_an_unbuilt_model_is_refused():
    with pytest.raises(NotAGraph, match="shapes of its inputs are unknown, because it is not built"):
        capture(Coded(lambda self, x: x))


def test_what_is_no_input_is_refused():
    with pytest.raises(WrongShape, match="inputs must be shapes"):
        capture(coded(lambda self, x: self.dense(x), dense=L.Dense(3)), inputs="image")


def test_every_counterpart_exists():
    for function in COUNTERPARTS:
        value = keras.ops
        for name in counterpart_of(function).split("."):
            value = getattr(value, name)


def test_the_state_of_the_live_model_is_not_changed():
    def code(self, x):
        return self.drop(self.norm(x))

    model = coded(code, norm=L.BatchNormalization(), drop=L.Dropout(0.5))
    before = [np.asarray(variable) for variable in model.variables]
    capture(model)
    assert all(map(np.array_equal, before, model.variables))
    assert kerassurgery_fn.capture(model).weights.keys() == {model.norm.name}


def test_layers_of_one_name_are_refused():
    class Inner(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = L.Dense(6, name="dense")

        def build(self, shape):
            self.dense.build(shape)

    def code(self, x):
        return self.left.dense(self.right.dense(x))

    layers = {"left": Inner(name="left"), "right": Inner(name="right")}
    model = Coded(code, **layers)
    for layer in layers.values():
        layer.build((None, 6))
    model.build((None, 6))
    with pytest.raises(NotAGraph, match=r'The name "dense" is used 2 times.*different names'):
        capture(model)


def test_the_warning_points_at_the_caller():
    model = coded(lambda self, x: self.dense(x), dense=L.Dense(3))
    with pytest.warns(ClassNotKept) as warnings:
        capture(model)
    assert {warning.filename for warning in warnings} == {__file__}


def test_a_subclassed_model_is_scored_and_pruned():
    layers = {"hidden": L.Dense(8, activation="relu", name="hidden"), "top": L.Dense(2, name="top")}
    model = coded(lambda self, x: self.top(self.hidden(x)), **layers)
    apoz = kerassurgery_fn.score_by_apoz(model, FEATURES)["hidden"]
    np.testing.assert_allclose(apoz, (np.asarray(model.hidden(FEATURES)) == 0).mean(0))
    result = kerassurgery_fn.prune(model, parameters=0.6, by="apoz", data=FEATURES)
    assert result.model.get_layer("hidden").units < 8
