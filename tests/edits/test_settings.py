"""How layers are configured and whether they are trained, as pairs of pictures; then held against Keras."""

import pickle

import numpy as np
import pytest

from helpers.laws import differences
from helpers.pictures import chain, momenta, nested
from helpers.records import call, functional, layer, numbers
from kerassurgery_fn import capture, rebuild
from kerassurgery_fn.edits import RenameModel, SetConfig, SetTrainable
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.edits.steps.config_fields import configured
from kerassurgery_fn.errors import BadValue, NameTaken, UnknownField, UnknownLayer
from kerassurgery_fn.graph import of_class, read_graph
from kerassurgery_fn.values.snapshot import Snapshot


def net(rate=0.5, second=0.5, activation="linear", **relu):
    return Snapshot(
        functional(
            "net", {"x": (None, 4)},
            call(layer("Dense", "a", units=4, activation=activation), "x"),
            call(layer("Dropout", "drop_1", rate=rate), "a", training=False),
            call(layer("ReLU", "relu", **relu), "drop_1"),
            call(layer("Dropout", "drop_2", rate=second), "relu", training=False),
            call(layer("Dense", "b", units=2), "drop_2"),
            outputs="b",
        ),
        {},
    )  # fmt: skip


PICTURES = {
    "a rate": (SetConfig("drop_1", rate=0.1), net(), net(rate=0.1)),
    "of all of a class": (SetConfig(of_class("Dropout"), rate=0.0), net(), net(rate=0.0, second=0.0)),
    "of all that fit": (SetConfig("drop_*", rate=0.2), net(), net(rate=0.2, second=0.2)),
    "an activation": (SetConfig("a", activation="gelu"), net(), net(activation="gelu")),
    "two fields": (
        SetConfig("relu", negative_slope=0.1, threshold=1.0), net(), net(negative_slope=0.1, threshold=1.0),
    ),
    "what it is already": (SetConfig("relu", negative_slope=0.0), net(), net()),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    kept = pickle.loads(pickle.dumps(before))
    assert edit(before) == after
    assert before == kept


def test_there_and_back_is_the_identity():
    assert Plan(SetConfig("a", activation="gelu"), SetConfig("a", activation="linear"))(net()) == net()


REFUSED = {
    "a field that is not there": (SetConfig("drop_1", rates=0.1), UnknownField, r"'drop_1' \(Dropout\) .*mean 'rate'"),
    "a field of nothing like it": (SetConfig("relu", zzz=0), UnknownField, "there are max_value, negative_slope"),
    "a name": (SetConfig("a", name="b"), UnknownField, "use RenameLayer"),
    "a flag": (SetConfig("a", trainable=False), UnknownField, "use SetTrainable"),
    "a policy": (SetConfig("a", dtype="float16"), UnknownField, "use ConvertDtype"),
    "an input": (SetConfig("x", batch_shape=[None, 3]), UnknownField, "cannot change 'x': the config of InputLayer"),
    "a rate above one": (SetConfig("drop_1", rate=1.5), BadValue, r"'drop_1' \(Dropout\): rate cannot be 1.5"),
    "a negative count": (SetConfig("a", units=-1), BadValue, "units cannot be -1"),
    "no layer": (SetConfig("zzz", rate=1), UnknownLayer, "zzz"),
}


@pytest.mark.parametrize("edit, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_edit_is_refused_with_a_reason(edit, error, words):
    with pytest.raises(error, match=words):
        edit(net())


# --- weights that come and go


def affine(bias=None, gamma=None):
    """A dense layer with a bias or without, and a normalisation with a scale or without."""
    record = functional(
        "affine", {"x": (None, 3)},
        call(layer("Dense", "a", units=2, use_bias=bias is not None), "x"),
        call(layer("BatchNormalization", "norm", scale=gamma is not None), "a"), outputs="norm",
    )  # fmt: skip
    gammas = () if gamma is None else (np.full(2, gamma, "float32"),)
    biases = () if bias is None else (np.full(2, bias, "float32"),)
    norm = tuple(np.arange(2, dtype="float32") + i for i in range(3))
    return Snapshot(record, {"a": (numbers(3, 2), *biases), "norm": (*gammas, *norm)})


SWITCHED = {
    "a bias comes": (SetConfig("a", use_bias=True), affine(), affine(bias=0)),
    "a bias goes": (SetConfig("a", use_bias=False), affine(bias=0), affine()),
    "a bias goes that is used": (
        SetConfig("a", use_bias=False, allow_function_change=True), affine(bias=3), affine(),
    ),
    "a bias stays": (SetConfig("a", use_bias=True), affine(bias=3), affine(bias=3)),
    "a scale comes": (SetConfig("norm", scale=True), affine(), affine(gamma=1)),
    "a scale goes": (SetConfig("norm", scale=False), affine(gamma=1), affine()),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", SWITCHED.values(), ids=SWITCHED)
def test_weights_are_switched_on_and_off(edit, before, after):
    made = edit(before)
    assert differences(made.record, after.record) == []
    assert made == after


@pytest.mark.parametrize("edit, before", [
    (SetConfig("a", use_bias=False), affine(bias=3)), (SetConfig("norm", scale=False), affine(gamma=2)),
])  # fmt: skip
def test_weights_that_are_used_do_not_go_unasked(edit, before):
    with pytest.raises(BadValue, match=r"would lose its .*allow_function_change=True"):
        edit(before)


@pytest.mark.keras
def test_biases_come_and_go_in_all_kinds_of_layers():
    import keras
    from keras import layers as L

    i = keras.Input((6, 4))
    x = L.Conv1D(4, 3, padding="same", use_bias=False, name="conv")(i)
    x = L.MultiHeadAttention(2, 3, use_bias=False, name="attention")(x, x)
    x = L.LayerNormalization(center=False, scale=False, name="norm")(x)
    x = L.EinsumDense("abc,cd->abd", (6, 3), name="einsum")(x)
    x = L.GRU(3, use_bias=False, return_sequences=True, name="gru")(x)
    x = L.LSTM(3, use_bias=False, name="lstm")(x)
    model = keras.Model(i, L.Dense(2, use_bias=False, name="dense")(x))
    model.compile("adam", "mse")
    snapshot = capture(model)
    on = Plan(
        SetConfig(("conv", "attention", "gru", "lstm", "dense"), use_bias=True),
        SetConfig("norm", center=True, scale=True),
        SetConfig("einsum", bias_axes="d"),
    )
    off = Plan(
        SetConfig(("conv", "attention", "gru", "lstm", "dense"), use_bias=False),
        SetConfig("norm", center=False, scale=False),
        SetConfig("einsum", bias_axes=None),
    )
    wider = on(snapshot)
    again = rebuild(wider)
    assert differences(wider.record, capture(again).record) == []
    inputs = np.random.default_rng(0).standard_normal((5, 6, 4)).astype("float32")
    assert np.allclose(again(inputs), model(inputs), atol=1e-6)
    assert off(wider) == snapshot


def test_the_model_gets_another_name():
    assert RenameModel("other")(net()).name == "other"
    assert Plan(RenameModel("other"), RenameModel("net"))(net()) == net()
    with pytest.raises(NameTaken, match="slash"):
        RenameModel("a/b")


# --- trained or not


def flags(snapshot):
    """The path of each layer that says whether it is trained -> what it says; the model's own under an empty path."""
    graph, found = read_graph(snapshot), {"": snapshot.config["trainable"]}
    for path, place in graph.places.items():
        config = snapshot.record
        for key in (*place, "config"):
            config = config[key]
        if "trainable" in config:
            found[path] = config["trainable"]
    return found


def test_layers_are_frozen_by_pattern():
    made = flags(SetTrainable("*@Dense", False)(net()))
    assert made == {"": True, "a": False, "drop_1": True, "relu": True, "drop_2": True, "b": False}


def test_a_nested_model_is_frozen_with_all_that_is_in_it():
    made = flags(SetTrainable("inner", False)(nested()))
    assert {path for path, trainable in made.items() if not trainable} == {
        path for path in made if path.split("/")[0] == "inner"
    }


def test_models_around_an_unfrozen_layer_are_trainable():
    frozen = SetTrainable("*", False)(SetTrainable("inner", False)(nested()))
    assert not any(trainable for path, trainable in flags(frozen).items() if path)
    made = flags(SetTrainable("inner/a", True)(frozen))
    assert {path for path, trainable in made.items() if trainable} == {"", "inner", "inner/a"}


def test_freezing_and_back_changes_only_the_optimizer():
    assert SetTrainable("*", True)(SetTrainable("*", False)(chain())) == chain()
    trained = chain(training=True)
    frozen = SetTrainable("a", False)(trained)
    left = momenta({path: arrays for path, arrays in trained.weights.items() if path != "a"})
    assert frozen.training == left
    assert SetTrainable("a", True)(frozen).training == left


def test_the_layer_in_a_wrapper_is_frozen_with_it():
    inner = {**layer("LSTM", "lstm", units=2), "build_config": {"input_shape": [None, 3, 4]}}
    wrapper = layer("Bidirectional", "both", layer=inner, backward_layer=inner, merge_mode="concat")
    wrapper["build_config"] = {"input_shape": [None, 3, 4]}
    record = functional("net", {"x": (None, 3, 4)}, call(wrapper, "x", out=(None, 4)), outputs="both")
    config = SetTrainable("both", False)(Snapshot(record, {})).config["layers"][1]["config"]
    assert [config["trainable"]] + [config[k]["config"]["trainable"] for k in ("layer", "backward_layer")] == [
        False
    ] * 3


# --- held against Keras


@pytest.mark.keras
def test_spellings_that_keras_accepts_are_equal():
    import keras
    from keras import layers as L

    from kerassurgery_fn import capture, rebuild

    snapshot = capture(
        keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3, name="conv"), L.Dropout(0.5, name="d")])
    )
    for edit, field, value in [
        (SetConfig("conv", activation="swish"), "activation", "silu"),
        (SetConfig("conv", activation=keras.activations.relu), "activation", "relu"),
        (SetConfig("conv", strides=2), "strides", [2, 2]),
        (SetConfig("conv", padding="SAME"), "padding", "same"),
        (SetConfig("conv", kernel_initializer="he_normal"), "kernel_initializer", None),
        (SetConfig("conv", kernel_regularizer=keras.regularizers.L2(0.1)), "kernel_regularizer", None),
        (SetConfig("d", seed=3), "seed", 3),
    ]:
        made = edit(snapshot)
        assert capture(rebuild(made)) == made
        own = next(one for one in made.config["layers"] if one["config"]["name"] == edit.layer)["config"][field]
        assert own == value if value else own["class_name"] in ("HeNormal", "L2")
    with pytest.raises(BadValue, match=r"'conv' \(Conv2D\) cannot have activation='rleu': .*rleu"):
        SetConfig("conv", activation="rleu")(snapshot)


@pytest.mark.keras
def test_frozen_models_are_frozen_again_after_a_rebuild():
    import keras
    from keras import layers as L

    from kerassurgery_fn import capture, rebuild

    tower = keras.Sequential([keras.Input((4,)), L.Dense(4, name="in")], name="tower")
    x = keras.Input((3, 4))
    y = L.TimeDistributed(keras.Sequential([keras.Input((4,)), L.Dense(4, name="td_in")]), name="steps")(x)
    y = L.Bidirectional(L.LSTM(2), name="both")(y)
    model = keras.Model(x, L.Dense(2, name="top")(tower(y)))
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.zeros((4, 3, 4)), np.zeros((4, 2)), verbose=0)
    snapshot = capture(model)
    for edit, trained in [
        (SetTrainable("*", False), []),
        (SetTrainable("tower", False), ["both", "steps/td_in", "top"]),
        (SetTrainable(("steps", "both"), False), ["top", "tower/in"]),
        (Plan(SetTrainable("*", False), SetTrainable("top")), ["top"]),
        (Plan(SetTrainable("*", False), SetTrainable("*/*in")), ["steps/td_in", "tower/in"]),
    ]:
        made = edit(snapshot)
        again = rebuild(made)
        assert capture(again).record == made.record
        assert sorted({owner[0] for owner in capture(again).training.slots if owner}) == trained
        assert len(again.trainable_variables) == sum(len(made.weights[path]) for path in trained)
        again.fit(np.zeros((4, 3, 4)), np.zeros((4, 2)), verbose=0)


def test_fields_of_an_unknown_class_are_not_validated():
    """A `rate` of 5 is no dropout's."""
    decay = layer("Decay", "d", module="mine", registered_name="mine>Decay", rate=2)
    assert configured("d", decay, {"rate": 5})["config"]["rate"] == 5
    assert configured("d", decay, {"rate": 1.5})["config"]["rate"] == 1.5
    with pytest.raises(BadValue, match="rate cannot be 5"):
        configured("d", layer("Dropout", "d"), {"rate": 5})


@pytest.mark.keras
def test_a_layer_without_weights_gets_such_as_change_nothing():
    import keras
    from keras import layers as L

    x = keras.Input((3, 4))
    y = L.Attention(name="attention")([x, x])
    y = L.AdditiveAttention(use_scale=False, name="additive")([y, y])
    y = L.LayerNormalization(center=False, scale=False, name="norm")(y)
    model = keras.Model(x, L.Dense(2)(y))
    snapshot = capture(model)
    inputs = np.random.default_rng(0).standard_normal((5, 3, 4)).astype("float32")
    for name, field in (("attention", "use_scale"), ("additive", "use_scale"), ("norm", "scale")):
        scaled = SetConfig(name, **{field: True})(snapshot)
        again = rebuild(scaled)
        assert capture(again) == scaled
        assert np.allclose(again(inputs), model(inputs), atol=1e-6)
        assert SetConfig(name, **{field: False})(scaled) == snapshot
