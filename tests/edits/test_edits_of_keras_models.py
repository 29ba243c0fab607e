"""Edits of layers on live models: the record is what Keras writes after a rebuild, and the model computes what it
should."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.edited_models import compiled, plain, siamese
from helpers.laws import compute, deviation, differences, random_inputs, randomise
from kerassurgery_fn import (
    DeleteChannels,
    DeleteLayer,
    InsertLayer,
    Plan,
    RenameLayer,
    ReplaceLayer,
    SetConfig,
    UnshareLayer,
    capture,
    of_class,
    rebuild,
)
from kerassurgery_fn.errors import MisfitTensor, NoChannels, NotALayer

pytestmark = pytest.mark.keras


EDITS = {
    "plain": [
        DeleteLayer("drop"), DeleteLayer("relu_1"), DeleteLayer("conv_2"), DeleteLayer(("conv_2", "drop", "bn_1")),
        InsertLayer(L.BatchNormalization(), after="conv_2"), InsertLayer(L.Dropout(0.1), before="top"),
        InsertLayer(L.MaxPooling2D(), before="mean"), InsertLayer(L.MaxPooling2D(), after="image"),
        InsertLayer(L.Conv2D(4, 1), before="sum", operand=1), InsertLayer(L.LayerNormalization(), after="*@Conv2D"),
        ReplaceLayer("relu_1", L.PReLU(shared_axes=[1, 2])), ReplaceLayer("dense", L.Dense(5, name="top")),
        ReplaceLayer("sum", L.Maximum()), ReplaceLayer("conv_2", L.DepthwiseConv2D(3, padding="same")),
        RenameLayer("image", "picture"), RenameLayer("top", "logits"), SetConfig("conv_*", activation="relu"),
        SetConfig("dense", activation="softmax"),
    ],
    "siamese": [
        DeleteLayer("drop"), DeleteLayer("drop", calls=[1]), DeleteLayer("tower", calls=[1]), UnshareLayer("tower"),
        UnshareLayer("tower", calls=[0], name="left"), UnshareLayer("drop"),
        InsertLayer(L.Dense(6), before="tower"), InsertLayer(L.Dense(6), after="tower", calls=[2]),
        InsertLayer(L.GaussianNoise(0.1), before="tower", calls=[0, -1]), ReplaceLayer("tower", L.Dense(6), calls=[1]),
        InsertLayer(L.ReLU(), after="far"), RenameLayer("near", "nearby"),
    ],
    "nested": [
        DeleteLayer("backbone/drop"), DeleteLayer(of_class("Dropout")),
        InsertLayer(L.BatchNormalization(), after="conv"),
        InsertLayer(L.Dense(6), after="hidden"), ReplaceLayer("relu", L.Softmax()), RenameLayer("backbone", "encoder"),
        RenameLayer("backbone/conv", "stem"), DeleteLayer("*/relu"), InsertLayer(L.MaxPooling2D(), after="backbone"),
        ReplaceLayer("backbone/out", L.Conv2D(4, 3)),
    ],
    "row": [
        DeleteLayer("drop"), InsertLayer(L.MaxPooling2D(1), before="flat"), ReplaceLayer("top", L.Dense(7, name="top")),
        InsertLayer(L.Softmax(), after="top"), InsertLayer(L.Rescaling(0.5), before="conv"), RenameLayer("conv", "c"),
    ],
    "recurrent": [
        DeleteLayer("drop"), InsertLayer(L.Dense(4), after="steps"), DeleteLayer("steps/relu"),
        InsertLayer(L.Dropout(0.3), before="both"), ReplaceLayer("both", L.GRU(6)), RenameLayer("steps/step", "s"),
        ReplaceLayer("both", L.Bidirectional(L.GRU(3))), InsertLayer(L.Dense(6), before="lstm", operand=0),
        ReplaceLayer("again", L.RepeatVector(7)), InsertLayer(L.LSTM(4, return_sequences=True), after="steps"),
    ],
    "operators": [
        InsertLayer(L.ReLU(), before="b"), InsertLayer(L.ReLU(), after="a"), RenameLayer("b", "bb"),
        InsertLayer(L.Dropout(0.1), before="top"), ReplaceLayer("b", L.Dense(4)), DeleteLayer(of_class("Relu")),
    ],
}  # fmt: skip
CASES = [pytest.param(name, edit, id=f"{name}: {edit!r}"[:90]) for name, edits in EDITS.items() for edit in edits]


@pytest.mark.parametrize("name, edit", CASES)
def test_the_record_is_what_keras_writes(name, edit):
    made = edit(compiled(name))
    rebuilt = rebuild(made)
    again = capture(rebuilt)
    assert differences(again.record, made.record) == []
    assert again.weights.keys() == made.weights.keys()
    drawn = {path for path, arrays in made.weights.items() if not arrays}
    for path in made.weights.keys() - drawn:
        assert all(np.array_equal(a, b) for a, b in zip(again.weights[path], made.weights[path], strict=True))
    rebuilt(random_inputs(rebuilt), training=False)


# --- what is computed


def same(a, b):
    return deviation(a, b) < 2e-5


@pytest.fixture(scope="module")
def model():
    made = plain()
    randomise(made)
    return made


def by_hand(model, inputs, change):
    """The outputs of the plain model, computed layer by layer, after a change of what some layers do."""
    do = {layer.name: layer for layer in model.layers} | change
    y = do["relu_1"](do["bn_1"](do["conv_1"](inputs)))
    y = do["sum"]([do["y"](y), do["drop"](do["conv_2"](y))])
    return [np.asarray(do["top"](do["dense"](do["mean"](y))))]


def nothing(x):
    return x


WHAT = {
    "a dropout": (DeleteLayer("drop"), {}),
    "an activation": (DeleteLayer("relu_1"), {"relu_1": nothing}),
    "a convolution": (DeleteLayer("conv_2"), {"conv_2": nothing}),
    "a merge": (ReplaceLayer("sum", L.Multiply()), {"sum": lambda ab: ab[0] * ab[1]}),
    "an activation in the config": (
        SetConfig("conv_2", activation="relu"), {"drop": lambda x: keras.ops.maximum(x, 0)},
    ),
    "before one of two readers": (
        InsertLayer(L.Rescaling(3.0), before="conv_2"), {"y": nothing, "conv_2": 3.0},
    ),
    "before the other": (InsertLayer(L.Rescaling(3.0), before="sum", operand=0), {"y": lambda y: 3 * y}),
    "after what both read": (InsertLayer(L.Rescaling(3.0), after="relu_1"), {"relu_1": 3.0}),
    "another name": (RenameLayer("conv_1", "stem"), {}),
}  # fmt: skip


@pytest.mark.parametrize("edit, change", WHAT.values(), ids=WHAT)
def test_the_edited_model_computes_what_is_computed_by_hand(model, edit, change):
    layers = {layer.name: layer for layer in model.layers}
    scaled = {"conv_2": lambda x: layers["conv_2"](3 * x), "relu_1": lambda x: 3 * layers["relu_1"](x)}
    change = {name: scaled[name] if do == 3.0 else do for name, do in change.items()}
    inputs = random_inputs(model)
    truth = by_hand(model, inputs, {"y": nothing} | change)
    assert same(compute(edit(capture(model)), inputs), truth)
    if change:
        assert not same(compute(capture(model), inputs), truth), "the change was to show"


def test_a_built_layer_keeps_its_weights(model):
    dense = L.Dense(5, name="more")
    dense.build((None, 5))
    made = InsertLayer(dense, before="top")(capture(model))
    assert all(np.array_equal(a, b) for a, b in zip(made.weights["more"], dense.get_weights(), strict=True))
    dense.set_weights([np.zeros((5, 5)), np.zeros(5)])
    assert made.weights["more"][0].any()


def test_seeded_layers_get_the_same_weights_each_time(model):
    def drawn(**kwargs):
        made = InsertLayer(L.Dense(5, name="more", **kwargs), before="top")(capture(model))
        return [capture(rebuild(made)).weights["more"][0] for _ in range(2)]

    a, b = drawn(kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    assert np.array_equal(a, b)
    a, b = drawn()
    assert not np.array_equal(a, b)


def test_unshared_layers_compute_what_the_shared_layer_did():
    made = siamese()
    randomise(made)
    inputs = random_inputs(made)
    before, after = capture(made), UnshareLayer("tower")(capture(made))
    assert same(compute(after, inputs), compute(before, inputs))
    changed = {**after.weights, "tower_1": tuple(2 * a for a in after.weights["tower_1"])}
    assert not same(compute(type(after)(after.record, changed), inputs), compute(before, inputs))


def test_structure_of_inputs_and_outputs_stays():
    made = InsertLayer(L.ReLU(), after="far")(DeleteLayer("drop")(capture(siamese())))
    result = rebuild(made)({"a": np.ones((2, 6)), "b": np.ones((2, 6))})
    assert result.keys() == {"far", "near"}


def test_training_continues_after_surgery():
    model = plain()
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    x, y = np.random.default_rng(0).normal(size=(8, 8, 8, 3)), np.zeros((8, 3))
    model.fit(x, y, verbose=0)
    plan = Plan(DeleteLayer("drop"), InsertLayer(L.Dense(5), before="top"), RenameLayer("conv_1", "stem"))
    made = plan(capture(model))
    again = rebuild(made)
    old, new = made.training.by_owner(), capture(again).training.by_owner()
    assert all(np.array_equal(a, b) for owner in old for a, b in zip(old[owner], new[owner], strict=True))
    assert {owner[0] for owner in new.keys() - old.keys()} == {"dense_1"} or len(new) == len(old) + 2
    assert not any(value.any() for owner in new.keys() - old.keys() for value in new[owner])
    assert int(again.optimizer.iterations) == 1
    again.fit(x, y, verbose=0)


# --- classes that no rule knows


@keras.saving.register_keras_serializable(package="live")
class Twice(keras.layers.Layer):
    def __init__(self, times=2, **kwargs):
        super().__init__(**kwargs)
        self.times = times

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return keras.ops.concatenate([x * self.scale] * self.times, axis=-1)

    def get_config(self):
        return {**super().get_config(), "times": self.times}


def test_keras_computes_shapes_of_classes_without_a_rule():
    before = capture(plain())
    with pytest.raises(
        MisfitTensor, match=r"'dense' \(Dense\) would be called on .*\(None, 8\) in place of .*\(None, 4\)"
    ):
        InsertLayer(Twice(), before="dense")(before)
    twice = InsertLayer(Twice(name="twice"), before="dense")
    made = Plan.at_once(ReplaceLayer("dense", L.Dense(5, name="dense")), twice)(before)
    again = capture(rebuild(made))
    assert differences(again.record, made.record) == []
    assert made.weights["twice"] == ()
    assert again.weights["dense"][0].shape == (8, 5)


def test_only_layers_are_accepted_as_layers():
    with pytest.raises(NotALayer, match=r"is a model: pass capture\(model\)"):
        InsertLayer(plain(), after="drop")
    with pytest.raises(NotALayer, match="is not a layer"):
        InsertLayer(L.ReLU, after="drop")
    inner = keras.Sequential([keras.Input((5,)), L.Dense(5, name="in")], name="inner")
    made = InsertLayer(capture(inner), before="top")(capture(plain()))
    assert capture(rebuild(made)) == made
    assert "inner/in" in made.weights
    short = InsertLayer({"class_name": "Dropout", "config": {"rate": 0.2}}, before="top")(capture(plain()))
    assert capture(rebuild(short)) == short
    with pytest.raises(NotALayer, match=r"is not built: add a keras\.Input"):
        InsertLayer(L.TimeDistributed(keras.Sequential([L.Dense(2)])), after="drop")


@pytest.mark.parametrize("form", ["unbuilt", "built", "a record"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_wrapper_brings_the_weights_of_the_model_in_it(form, depth):
    wrapper = keras.Sequential([keras.Input((4,)), L.Dense(4, name="in"), L.Dropout(0.1)])
    for _ in range(depth):
        wrapper = L.TimeDistributed(wrapper, name="steps")
    shape = (3,) * depth + (4,)
    if form == "built":
        wrapper(keras.Input(shape))
    new = keras.saving.serialize_keras_object(wrapper) if form == "a record" else wrapper
    made = InsertLayer(new, after="r")(capture(keras.Sequential([keras.Input(shape), L.ReLU(name="r")])))
    assert [array.shape for array in made.weights["steps/in"]] == [(4, 4), (4,)]
    assert capture(rebuild(made)) == made
    if form != "a record":
        x = np.random.default_rng(0).uniform(size=(2, *shape))
        assert np.allclose(rebuild(made)(x), wrapper(x))


def test_an_input_in_a_wrapper_that_does_not_state_whether_it_is_optional_is_completed():
    wrapper = L.TimeDistributed(keras.Sequential([keras.Input((4,)), L.ReLU()]), name="steps")
    record = keras.saving.serialize_keras_object(wrapper)
    record["config"]["layer"]["config"]["layers"][0]["config"].pop("optional", None)  # as Keras before 3.11 writes it
    made = InsertLayer(record, after="r")(capture(keras.Sequential([keras.Input((3, 4)), L.ReLU(name="r")])))
    assert capture(rebuild(made)) == made


def test_a_model_in_a_wrapper_reads_steps_of_the_shape_of_its_input():
    steps = L.TimeDistributed(keras.Sequential([keras.Input((4,)), L.Flatten(), L.ReLU()]), name="steps")
    snapshot = capture(keras.Sequential([keras.Input((3, 4)), L.ReLU(name="r"), steps]))
    with pytest.raises(MisfitTensor, match=r"'steps'.* input of shape \(None, 4\), but a step has the shape "):
        ReplaceLayer("r", L.Dense(5))(snapshot)


# --- masks


def reader(*middle):
    ids = keras.Input((7,), dtype="int32", name="ids")
    y = L.Embedding(9, 6, mask_zero=True, name="embedding")(ids)
    for one in middle:
        y = one(y)
    return keras.Model(ids, L.Dense(2, name="top")(L.LSTM(5, name="last")(y)), name="reader")


def lstm():
    return L.LSTM(6, return_sequences=True, name="first")


MASKED = {
    "deleted": (DeleteLayer("first"), lambda: reader()),
    "preceded": (
        InsertLayer(L.Dropout(0.1, name="new"), before="first"), lambda: reader(L.Dropout(0.1, name="new"), lstm()),
    ),
    "replaced by what takes no mask": (
        ReplaceLayer("first", L.Dense(6, name="new")), lambda: reader(L.Dense(6, name="new")),
    ),
    "replaced by what takes one": (
        ReplaceLayer("first", L.GRU(6, return_sequences=True, name="new")),
        lambda: reader(L.GRU(6, return_sequences=True, name="new")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, expected", MASKED.values(), ids=MASKED)
def test_a_mask_is_passed_on_with_the_inputs_of_a_layer(edit, expected):
    keras.backend.clear_session()  # the operations of masks are numbered
    before = capture(reader(lstm()))
    keras.backend.clear_session()
    after = edit(before)
    assert after.record == capture(expected()).record
    compute(after, [np.array([[1, 2, 3, 0, 0, 0, 0]])])


def test_attention_called_without_keywords():
    x = keras.Input((5, 4))
    snapshot = capture(keras.Model(x, L.MultiHeadAttention(4, 2, name="mix")(x, x)))
    smaller = DeleteChannels("mix", heads=[0, 3])(snapshot)
    assert smaller == DeleteChannels("mix:num_heads", [0, 3])(snapshot)
    assert smaller == DeleteChannels("*@MultiHeadAttention", heads=[0, 3])(snapshot)
    assert smaller.record["config"]["layers"][1]["config"]["num_heads"] == 2
    with pytest.raises(NoChannels, match="of the kinds num_heads, key_dim, value_dim, but none of 'units'"):
        DeleteChannels("mix", units=[0])(snapshot)
