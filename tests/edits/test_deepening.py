"""Layers that hand on what they read: by hand, and on live models that compute what they did."""

import pickle

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_rebuilt_record, compute, deviation, parameters, random_inputs, randomise, sabotage
from helpers.needs import NEEDS_CHANNELS_FIRST, marked
from helpers.pictures import chain, momenta, nested, shared
from helpers.records import call, functional, layer, numbers, operation, sequential
from helpers.running import captured
from kerassurgery_fn import ConvertDtype, DeepenLayer, DeleteChannels, InsertLayer, Plan, capture, rebuild
from kerassurgery_fn.edits.deepening import activation_of
from kerassurgery_fn.errors import BadValue, MisfitTensor, NameTaken, SurgeryError, UnknownCall
from kerassurgery_fn.values.snapshot import Snapshot

# --- by hand, without Keras


def names(snapshot):
    return [one["config"]["name"] for one in snapshot.config["layers"]]


def record_of(snapshot, name):
    return next(one for one in snapshot.config["layers"] if one["config"]["name"] == name)


def with_identity(before, name, after, units, activation):
    """A snapshot with a Dense layer whose kernel is the identity."""
    new = layer("Dense", name, units=units, activation=activation)
    weights = {"": (np.eye(units, dtype="float32"), np.zeros(units, "float32"))}
    return InsertLayer(Snapshot(new, weights), after=after)(before)


PICTURES = {
    "a dense layer": (DeepenLayer("a"), chain(), with_identity(chain(), "a_1", "a", 4, "linear")),
    "behind its activation": (
        DeepenLayer("a", after="relu"), chain(), with_identity(chain(), "a_1", "relu", 4, "relu"),
    ),
    "by name": (DeepenLayer("b", name="deep"), chain(), with_identity(chain(), "deep", "b", 3, "linear")),
    "several, each by its own": (
        DeepenLayer(("a", "b")), chain(),
        with_identity(with_identity(chain(), "a_1", "a", 4, "linear"), "b_1", "b", 3, "linear"),
    ),
    "the last layer": (DeepenLayer("c"), chain(), with_identity(chain(), "c_1", "c", 2, "linear")),
    "in a model that is called twice": (
        DeepenLayer("inner/a"), nested(), with_identity(nested(), "a_1", "inner/a", 3, "linear"),
    ),
    "at all calls of a shared layer, which share it": (
        DeepenLayer("s"), shared(), with_identity(shared(), "s_1", "s", 3, "linear"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    kept = pickle.loads(pickle.dumps(before))
    assert edit(before) == after
    assert parameters(after) > parameters(before)
    assert before == kept


def test_a_new_layer_at_one_call_of_a_shared_layer():
    made = DeepenLayer("s", calls=[1])(shared())
    assert len(record_of(made, "s_1")["inbound_nodes"]) == 1
    assert len(record_of(DeepenLayer("s")(shared()), "s_1")["inbound_nodes"]) == 2


def test_the_optimizer_state_of_other_layers_stays():
    made = DeepenLayer("a")(chain(training=True))
    assert made.training == momenta(chain().weights)


def convolution(rank=2, kind="Conv2D", **config):
    shape = (None, *[6] * rank, 2)
    return layer(kind, "conv", filters=3, **{"data_format": "channels_last", "kernel_size": [3] * rank} | config), shape


def row(record, shape, *weights):
    return Snapshot(sequential("row", shape, record), {"conv": weights})


def test_an_identity_kernel_is_one_at_its_centre():
    made = DeepenLayer("conv")(row(*convolution(), numbers(3, 3, 2, 3), numbers(3)))
    kernel, bias = made.weights["conv_1"]
    assert kernel.shape == (3, 3, 3, 3)
    assert kernel.dtype == bias.dtype == np.float32
    assert np.array_equal(kernel[1, 1], np.eye(3))
    assert kernel.sum() == 3
    assert not bias.any()


def test_options_of_the_new_layer():
    record, shape = convolution(strides=[2, 2], padding="valid", use_bias=False, activation="relu", trainable=False)
    made = DeepenLayer("conv", kernel_size=5)(row(record, shape, numbers(3, 3, 2, 3)))
    config, first = record_of(made, "conv_1")["config"], record["config"]
    changed = {key: value for key, value in config.items() if first[key] != value}
    assert changed == {
        "name": "conv_1", "trainable": True, "kernel_size": [5, 5], "strides": [1, 1], "padding": "same",
        "use_bias": True,
    }  # fmt: skip


def test_causal_convolutions_stay_causal():
    conv = layer(
        "Conv1D", "conv", filters=3, kernel_size=[4], strides=[1], padding="causal", dilation_rate=[2],
        data_format="channels_last", groups=1, activation="linear", use_bias=True,
    )  # fmt: skip
    record = functional("net", {"x": (None, 9, 2)}, call(conv, "x", out=(None, 9, 3)), outputs="conv")
    before = Snapshot(record, {"conv": (numbers(4, 2, 3), numbers(3))})
    made = DeepenLayer("conv")(before)
    assert record_of(made, "conv_1")["config"]["padding"] == "causal"
    assert np.array_equal(made.weights["conv_1"][0][3], np.eye(3))


def both(forward, backward, merge_mode):
    cells = [layer("SimpleRNN", name, units=3, activation=name) for name in (forward, backward)]
    return layer("Bidirectional", "r", layer=cells[0], backward_layer=cells[1], merge_mode=merge_mode)


ACTIVATIONS = {
    "relu": (layer("Dense", "r", units=3, activation="relu"), "relu"),
    "linear": (layer("Dense", "r", units=3), "linear"),
    "tanh, which is not what it was when done twice": (layer("Dense", "r", units=3, activation="tanh"), "linear"),
    "ReLU": (layer("ReLU", "r"), "relu"),
    "ReLU up to six": (layer("ReLU", "r", max_value=6.0), "relu6"),
    "ReLU up to one": (layer("ReLU", "r", max_value=1.0), "linear"),
    "ReLU with a slope": (layer("ReLU", "r", negative_slope=0.1), "linear"),
    "an activation": (layer("Activation", "r", activation="relu"), "relu"),
    "dropout": (layer("Dropout", "r"), "linear"),
    "an operation": (operation("Relu", "r", module="keras.src.ops.nn"), "relu"),
    "an operation with options": (
        operation("ReLU", "r", module="keras.src.activations.activations", negative_slope=0.1), "linear",
    ),
    "an activation that is a layer": (layer("Dense", "r", units=3, activation=layer("ReLU", "inner")), "relu"),
}  # fmt: skip
LAST = {
    "a field of a class that nobody knows": (
        layer("Block", "r", module="mine", registered_name="mine>Block", activation="relu"), "linear",
    ),
    "gates come after the activation": (layer("LSTM", "r", units=3, activation="relu"), "linear"),
    "GRU": (layer("GRU", "r", units=3, activation="relu"), "linear"),
    "SimpleRNN, which ends with it": (layer("SimpleRNN", "r", units=3, activation="relu"), "relu"),
    "in a wrapper": (
        layer("TimeDistributed", "r", layer=layer("Dense", "inner", units=3, activation="relu")), "relu",
    ),
    "both directions side by side": (both("relu", "relu", "concat"), "relu"),
    "directions that differ": (both("relu", "tanh", "concat"), "linear"),
    "directions multiplied": (both("relu6", "relu6", "mul"), "linear"),
}  # fmt: skip


@pytest.mark.parametrize("after, activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_idempotent_activations_are_repeated(after, activation):
    calls = [call(layer("Dense", "a", units=3), "x"), call(after, "a", out=(None, 3))]
    net = Snapshot(functional("net", {"x": (None, 3)}, *calls, outputs="r"), {})
    made = DeepenLayer("a", after="r", name="deep")(net)
    assert record_of(made, "deep")["config"]["activation"] == activation


@pytest.mark.parametrize("record, activation", LAST.values(), ids=LAST)
def test_the_last_activation_of_each_class(record, activation):
    assert activation_of(record) == activation


def flat():
    record = functional(
        "flat", {"x": (None, 5, 5, 2)}, call(layer("Conv2D", "conv", filters=3), "x"),
        call(layer("Flatten", "flat"), "conv"), outputs="flat",
    )  # fmt: skip
    return Snapshot(record, {"conv": (numbers(2, 2, 2, 3), numbers(3))})


def doubled():
    plus = call(operation("Add", "plus"), "x", "x", out=(None, 2))
    return Snapshot(functional("doubled", {"x": (None, 2)}, plus, outputs="plus"), {})


QUANTIZED = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8", "source_name": "float32"}}
REFUSED = {
    "another class": (DeepenLayer("relu"), chain(), BadValue, "is a ReLU, and only Conv1D, Conv2D, Conv3D, Dense can"),
    "an operation": (DeepenLayer("plus"), doubled(), BadValue, "'plus' is a.* and only Conv1D, Conv2D, Conv3D, Dense"),
    "quantized": (
        DeepenLayer("a"), Snapshot(sequential("q", (None, 2), layer("Dense", "a", units=2, dtype=QUANTIZED)), {}),
        BadValue, "quantized Dense",
    ),
    "another rank": (
        DeepenLayer("conv", after="flat"), flat(), MisfitTensor, r"output of 'flat' has the shape \(None, 48\)",
    ),
    "a kernel of another rank": (DeepenLayer("conv", kernel_size=(3, 3, 3)), flat(), BadValue, "has 2 spatial axes"),
    "no kernel": (DeepenLayer("conv", kernel_size=0), flat(), BadValue, "kernel_size cannot be \\(0,\\)"),
    "a kernel of a dense layer": (DeepenLayer("a", kernel_size=3), chain(), BadValue, "has no spatial axes"),
    "a name that is taken": (DeepenLayer("a", name="c"), chain(), NameTaken, "would be named 'c'"),
    "a call that there is not": (DeepenLayer("s", calls=[2]), shared(), UnknownCall, "is called 2 times"),
    "several after one": (DeepenLayer("[ab]", after="relu"), chain(), SurgeryError, "selects 2 layers: a, b;"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_deepened_is_refused(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


def test_names_at_once_refer_to_the_first_snapshot():
    plan = Plan.at_once(DeepenLayer("a"), DeepenLayer("b", name="deep"), DeleteChannels("a", [0]))
    made = plan(chain())
    assert names(made) == ["chain_input", "a", "a_1", "relu", "b", "deep", "c"]
    assert made == DeleteChannels("a", [0])(DeepenLayer("b", name="deep")(DeepenLayer("a")(chain())))
    assert [array.shape for array in made.weights["a_1"]] == [(3, 4), (4,)]


# --- live models compute what they did


def stack(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers, L.Flatten(), L.Dense(3, name="top")])


def residual():
    x = keras.Input((8, 8, 3))
    y = L.ReLU(6.0, name="six")(L.BatchNormalization(name="bn")(L.Conv2D(6, 3, padding="same", name="a")(x)))
    z = keras.ops.relu(L.Conv2D(6, 4, padding="same", strides=1, name="b")(y))
    return keras.Model(x, L.Dense(3)(L.Flatten()(L.Add()([y, z]))))


def attention(x, heads=2):
    """Self-attention from raw operations."""
    queries, keys, values = (L.Dense(8, name=name)(x) for name in ("queries", "keys", "values"))

    def split(y):
        return keras.ops.transpose(keras.ops.reshape(y, (-1, 5, heads, 8 // heads)), (0, 2, 1, 3))

    scores = keras.ops.matmul(split(queries), keras.ops.transpose(split(keys), (0, 1, 3, 2))) / 2.0
    mixed = keras.ops.transpose(keras.ops.matmul(keras.ops.softmax(scores), split(values)), (0, 2, 1, 3))
    return L.Dense(8, name="mixed")(keras.ops.reshape(mixed, (-1, 5, 8)))


def transformer(attend):
    x = keras.Input((5,), dtype="int32")
    y = L.Embedding(9, 8, name="embedding")(x)
    y = L.LayerNormalization()(L.Add()([y, attend(y)]))
    z = L.Dense(8, name="narrow")(L.Dense(16, activation="relu", name="wide")(y))
    return keras.Model(x, L.Dense(3, name="top")(L.Flatten()(L.LayerNormalization()(L.Add()([y, z])))))


def stock():
    return transformer(lambda y: L.MultiHeadAttention(2, 4, name="attention")(y, y))


def raw():
    return transformer(attention)


def convolved_in_half():
    half = L.Conv2D(4, 3, activation="relu", name="a", dtype="mixed_float16")
    return stack((7, 7, 2), half, L.Activation("linear", dtype="float32"))


CHANNELS_FIRST = (3, 13, 13)  # Keras on TensorFlow adds a bias along the last axis where that is as long as channels
LIVE = {
    "dense layers": (
        lambda: stack((4,), L.Dense(6, "relu", name="a"), L.Dense(5, "tanh", name="b")),
        Plan(DeepenLayer("a"), DeepenLayer("b"), DeepenLayer("a_1")),
    ),
    "Conv1D": (lambda: stack((9, 2), L.Conv1D(4, 3, strides=2, name="a")), DeepenLayer("a")),
    "Conv1D of the past": (
        lambda: stack((9, 2), L.Conv1D(4, 3, padding="causal", dilation_rate=2, name="a")),
        DeepenLayer("a", kernel_size=4),
    ),
    "Conv2D in groups": (lambda: stack((8, 8, 4), L.Conv2D(6, 3, groups=2, name="a")), DeepenLayer("a")),
    "Conv3D": (lambda: stack((5, 5, 5, 2), L.Conv3D(3, (1, 2, 4), name="a")), DeepenLayer("a")),
    "channels first": (
        lambda: stack(CHANNELS_FIRST, L.Conv2D(4, 4, data_format="channels_first", activation="relu", name="a")),
        DeepenLayer("a"),
    ),
    "a pool between": (
        lambda: stack((8, 8, 3), L.Conv2D(4, 3, activation="relu", name="a"), L.MaxPooling2D(name="pool")),
        DeepenLayer("a", after="pool", kernel_size=(2, 5)),
    ),
    "a dense layer on another's heels": (
        lambda: stack((4,), L.Dense(6, name="a"), L.Reshape((3, 2), name="pairs")), DeepenLayer("a", after="pairs"),
    ),
    "a residual block": (
        residual, Plan(DeepenLayer("a", after="six"), DeepenLayer("a", after="bn", name="c"), DeepenLayer("b")),
    ),
    "half precision": (convolved_in_half, DeepenLayer("a")),
    "low-rank factors": (lambda: adapted(stack((4,), L.Dense(6, name="a"))), DeepenLayer("a")),
    "a transformer": (stock, DeepenLayer(("wide", "narrow"))),
    "a transformer from operations": (raw, DeepenLayer(("wide", "narrow", "queries", "values", "mixed"))),
}  # fmt: skip


def adapted(model):
    model.get_layer("a").enable_lora(2)
    return model


def check(model, edit):
    """The model computes what it did, and Keras writes just what the edit wrote; a wrong one would not compute that."""
    randomise(model)
    before, inputs = captured(model), random_inputs(model)
    after = edit(before)
    assert parameters(after) > parameters(before)
    check_rebuilt_record(after)
    truth = compute(before, inputs)
    assert deviation(compute(after, inputs), truth) < 2e-5
    assert deviation(compute(sabotage(after), inputs), truth) > 1e-3


@pytest.mark.keras
@pytest.mark.parametrize("make, edit", marked(LIVE, {"channels first": NEEDS_CHANNELS_FIRST}))
def test_a_deeper_model_has_the_same_outputs(make, edit):
    check(make(), edit)


@pytest.mark.keras
def test_a_wrong_identity_is_found():
    model = LIVE["Conv2D in groups"][0]()
    randomise(model)
    before, inputs = captured(model), random_inputs(model)
    after = DeepenLayer("a")(before)
    shifted = {**after.weights, "a_1": (np.roll(after.weights["a_1"][0], 1, axis=0), after.weights["a_1"][1])}
    assert deviation(compute(Snapshot(after.record, shifted), inputs), compute(before, inputs)) > 1e-2


@pytest.mark.keras
def test_a_deeper_model_can_be_trained():
    model = stack((4,), L.Dense(6, "relu", name="a"))
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    x, y = np.random.default_rng(0).normal(size=(32, 4)), np.random.default_rng(1).normal(size=(32, 3))
    model.fit(x, y, verbose=0)
    deeper = rebuild(DeepenLayer("a")(capture(model)))
    assert int(deeper.optimizer.iterations) == 1
    deeper.fit(x, y, verbose=0)
    assert not np.array_equal(deeper.get_layer("a_1").kernel, np.eye(6))


@pytest.mark.keras
def test_the_seed_of_an_initializer_does_not_matter():
    model = stack((4,), L.Dense(6, "relu", name="a"))
    one, other = (DeepenLayer("a")(capture(model)) for _ in range(2))
    assert one == other
    assert capture(rebuild(one)) == capture(rebuild(other))


@pytest.mark.keras
@pytest.mark.slow
def test_resnet50():
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classifier_activation=None, classes=10)
    randomise(model)
    before, inputs = ConvertDtype("float64")(capture(model)), random_inputs(model)
    plan = Plan(
        DeepenLayer("conv1_conv", after="conv1_relu", kernel_size=3),
        DeepenLayer("conv*_block1_2_conv"),
        DeepenLayer("conv3_block2_2_conv", after="conv3_block2_2_relu"),
        DeepenLayer("conv4_block6_3_conv", after="conv4_block6_out", name="deep"),
    )
    after = plan(before)
    assert len(after.config["layers"]) == len(before.config["layers"]) + 7
    check_rebuilt_record(after)
    truth = compute(before, inputs)
    assert deviation(compute(after, inputs), truth) < 2e-5
    assert deviation(compute(sabotage(after), inputs), truth) > 1e-3
