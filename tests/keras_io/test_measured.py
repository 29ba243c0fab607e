"""What `capture` measures on live layers that the library has no rule for: activations, derived classes, channels."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law, check_round_trip
from helpers.small_models import chain
from kerassurgery_fn import (
    DeleteChannels,
    InsertLayer,
    Plan,
    WidenChannels,
    analyse,
    capture,
    explain,
    load_plan,
    made_for,
    read_model,
    rebuild,
    rule,
    save_plan,
    simplify,
    write_model,
)
from kerassurgery_fn.errors import CannotWiden, InexactCut, NotIndependent, PinnedChannels, UnknownLayer
from kerassurgery_fn.keras_io.measuring import is_elementwise
from kerassurgery_fn.rules.measured import CHANNELS_ALIKE, EACH_CHANNEL
from kerassurgery_fn.rules.registry import RULES, key_of

pytestmark = pytest.mark.keras


def registered(item):
    return keras.saving.register_keras_serializable("measured_tests")(item)


def measured_in(snapshot):
    records = {record["config"]["name"]: record for record in snapshot.config["layers"]}
    return {name: record["measured"] for name, record in records.items() if "measured" in record}


# --- activation functions


@registered
def bend(x):
    return ops.where(x > 0, x, 0.1 * x) + ops.tanh(x)


@registered
def share(x):
    return x / (1 + ops.sum(ops.abs(x), axis=-1, keepdims=True))


@registered
def by_size(x):
    return x * x.shape[-1]


@registered
def failing(x):
    raise ValueError("not today")


@pytest.mark.parametrize("layer", [L.Dense(8, bend, name="layer"), L.Activation(bend, name="layer")])
def test_an_elementwise_activation_is_measured(layer):
    model = chain((6,), L.Dense(9), layer, L.Dense(7))
    snapshot = capture(model)
    assert list(measured_in(snapshot)["layer"]["elementwise"]) == ["measured_tests>bend"]
    check_round_trip(snapshot)
    assert check_law(model).prunable > 0.7


def test_the_activation_of_an_inserted_layer_is_measured():
    model = chain((6,), L.Dense(9, name="first"), L.Dense(7))
    layer = L.Dense(9, bend, name="new")
    layer.build((None, 9))
    edit = Plan(InsertLayer(layer, after="first"), DeleteChannels("new", [0]))
    check_round_trip(edit(capture(model)))


def test_the_activation_of_a_recurrent_layer_is_measured():
    assert check_law(chain((5, 6), L.Dense(7), L.LSTM(8, activation=bend), L.Dense(3))).prunable > 0.7


def test_the_activation_of_a_wrapped_layer_is_measured():
    assert check_law(chain((5, 6), L.Dense(7), L.TimeDistributed(L.Dense(8, bend)), L.Dense(3))).prunable > 0.7


@pytest.mark.parametrize("function", [share, by_size, failing])
def test_other_activations_stay_pinned(function):
    assert not is_elementwise(function)


def test_an_activation_across_channels_stays_pinned():
    snapshot = capture(chain((6,), L.Dense(9, name="first"), L.Dense(8, share, name="layer"), L.Dense(7)))
    assert not measured_in(snapshot)
    flow = analyse(snapshot)
    assert flow.solution.pinned()[flow.solution.resolve(flow.producer("layer").axis)].all()


# --- classes derived from classes of Keras


@registered
class CachedAttention(L.MultiHeadAttention):
    """Attention with a cache of keys and values, as in decoders that write one token after the other."""

    def call(self, query, value, key=None, attention_mask=None, cache=None, training=None):
        query = self._query_dense(query)
        key, value = self._key_dense(value if key is None else key), self._value_dense(value)
        if cache is not None:
            key, value = ops.concatenate([cache[:, 0], key], 1), ops.concatenate([cache[:, 1], value], 1)
        output, _ = self._compute_attention(query, key, value, attention_mask=attention_mask, training=training)
        return self._output_dense(output)


@registered
class Halved(L.Dense):
    def call(self, inputs):
        return super().call(inputs) / 2


@registered
class Deeper(L.Dense):
    def build(self, shape):
        super().build(shape)
        self.extra = self.add_weight(shape=(self.units,), name="extra")

    def call(self, inputs):
        return super().call(inputs) + self.extra


@registered
class Labelled(L.Dense):
    """A class that adds nothing but a field to the config."""

    def __init__(self, units, label="", **kwargs):
        super().__init__(units, **kwargs)
        self.label = label

    def get_config(self):
        return {**super().get_config(), "label": self.label}


def attention_model(layer):
    x = keras.Input((5, 8))
    return keras.Model(x, L.Dense(3)(layer(y := L.Dense(8, name="first")(x), y)))


def test_attention_with_a_cache_has_the_rule_of_attention():
    model = attention_model(CachedAttention(4, 3, name="attention"))
    snapshot = capture(model)
    assert measured_in(snapshot) == {"attention": {"as": "MultiHeadAttention"}}
    check_round_trip(snapshot)
    edit = DeleteChannels({"attention:heads": [1, 2], "attention:key_dim": [0]})
    smaller = check_law(model, edit).smaller
    assert smaller.config["layers"][2]["class_name"] == "CachedAttention"
    assert smaller.weights["attention"][0].shape == (8, 2, 2)


def test_a_class_that_adds_a_field_has_the_rule_of_its_parent():
    assert check_law(chain((6,), L.Dense(9), Labelled(8, label="x"), L.Dense(7))).prunable > 0.7


@pytest.mark.parametrize("layer", [Halved(8, name="layer"), Deeper(8, name="layer")], ids=["call", "build"])
def test_a_class_that_computes_something_else_is_opaque(layer):
    check_law(chain((6,), L.Dense(9), layer, L.Dense(7)), opaque={"layer"})


# --- channels


@registered
class Affine(L.Layer):
    """A scale and an offset for each channel."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale", initializer="ones")
        self.offset = self.add_weight(shape=(shape[-1],), name="offset")

    def call(self, x):
        return x * self.scale + self.offset


@registered
class Centred(Affine):
    """A layer that mixes its channels."""

    def call(self, x):
        return super().call(x) - ops.mean(x, -1, keepdims=True)


@registered
class Rising(Affine):
    """A layer whose channels are not alike."""

    def call(self, x):
        return super().call(x) * ops.arange(x.shape[-1], dtype="float32")


def two_layers():
    return chain((6,), L.Dense(9), Affine(name="affine"), L.Dense(8), Rising(name="rising"), L.Dense(7))


def test_channels_are_measured_where_asked():
    model = two_layers()
    assert analyse(capture(model)).opaque.keys() == {"affine", "rising"}
    snapshot = capture(model, measure="*")
    assert analyse(snapshot).opaque.keys() == {"rising"}
    assert list(measured_in(snapshot)) == ["affine"]


@pytest.mark.parametrize("measure", ["affine", "*@Affine", ["aff*"]])
def test_selected_layers_are_measured(measure):
    assert analyse(capture(two_layers(), measure=measure)).opaque.keys() == {"rising"}


def test_channels_are_copied_through_a_layer_that_computes_each_alone():
    layers = [L.Dense(9, name="first"), Affine(name="affine"), L.Dense(7, name="top")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    x = np.random.default_rng(0).standard_normal((3, 6)).astype("float32")
    wider = rebuild(WidenChannels("first", 12)(capture(model, measure="*")))
    np.testing.assert_allclose(wider(x), model(x), rtol=1e-5, atol=1e-6)
    alike = keras.Sequential([keras.Input((6,)), L.Dense(9, name="first"), Centred(name="centred"), L.Dense(7)])
    with pytest.raises(CannotWiden):
        WidenChannels("first", 12)(capture(alike, measure="*"))


def test_a_layer_whose_channels_are_not_alike_is_refused_by_its_name():
    with pytest.raises(NotIndependent, match=r"'rising' \(Rising\) .* values for its channels in the order"):
        capture(two_layers(), measure="rising")


def test_a_layer_that_mixes_its_channels_and_treats_them_alike_is_cut_inexactly():
    layers = [L.Dense(9, name="first"), Centred(name="centred"), L.Dense(7, name="top")]
    snapshot = capture(keras.Sequential([keras.Input((6,)), *layers]), measure="centred")
    assert measured_in(snapshot)["centred"]["as"] == CHANNELS_ALIKE
    with pytest.warns(InexactCut, match="'centred' mixes its channels"):
        smaller = DeleteChannels("first", [0, 4])(snapshot)
    kernel, bias = snapshot.weights["first"]
    x = np.random.default_rng(0).standard_normal((3, 6)).astype("float32")
    kept = [1, 2, 3, 5, 6, 7, 8]
    scale, shift = (array[kept] for array in snapshot.weights["centred"])
    units = (x @ kernel + bias)[:, kept]
    hidden = units * scale + shift - units.mean(-1, keepdims=True)
    top, offset = smaller.weights["top"]
    np.testing.assert_allclose(rebuild(smaller)(x), hidden @ top + offset, rtol=1e-4, atol=1e-5)
    check_round_trip(smaller)


@pytest.mark.parametrize("measure", ["nowhere", "*@Dense"])
def test_what_names_no_layer_without_a_rule_is_refused(measure):
    with pytest.raises(UnknownLayer, match="no layer without a rule matches"):
        capture(two_layers(), measure=measure)


def test_the_outputs_follow_the_law():
    model = chain((6,), L.Dense(9, name="first"), Affine(name="affine"), L.Dense(7))
    snapshot = capture(model, measure="*")
    smaller = DeleteChannels("first", [0, 4])(snapshot)
    assert [array.shape for array in smaller.weights["affine"]] == [(7,), (7,)]
    assert np.array_equal(smaller.weights["affine"][0], np.delete(snapshot.weights["affine"][0], [0, 4]))


def test_what_was_measured_stays_after_a_rebuild():
    snapshot = capture(two_layers(), measure="*")
    check_round_trip(snapshot)
    assert measured_in(capture(rebuild(snapshot))) == measured_in(snapshot)


def test_a_plan_carries_what_was_measured(tmp_path):
    """It replays on a file, in which nothing could be measured."""
    model = chain((6,), L.Dense(9, name="first"), Affine(name="affine"), L.Dense(7))
    snapshot = capture(model, measure="*")
    plan = made_for(DeleteChannels("first", [0, 4]), snapshot)
    model.save(tmp_path / "model.keras")
    read = read_model(tmp_path / "model.keras")
    with pytest.raises(PinnedChannels, match="Affine"):
        plan.plan(read)
    assert plan(read) == plan(snapshot)
    save_plan(plan, tmp_path / "plan.json")
    replayed = load_plan(tmp_path / "plan.json")
    assert replayed == plan
    assert replayed(read) == plan(snapshot)
    assert simplify(plan, read)(read) == plan(snapshot)
    assert explain(plan, read).measured == explain(plan.plan, snapshot).measured


def test_a_plan_carries_derived_classes_and_activations(tmp_path):
    model = attention_model(CachedAttention(4, 3, name="attention"))
    snapshot = capture(model)
    plan = made_for(DeleteChannels("attention", heads=[1]), snapshot)
    write_model(snapshot, tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").get_layer("attention").num_heads == 4
    read = read_model(tmp_path / "model.keras")
    assert measured_in(read) == measured_in(snapshot)
    assert plan(read).weights["attention"][0].shape == (8, 3, 3)


def test_a_file_with_an_activation_of_ones_own(tmp_path):
    model = chain((6,), L.Dense(9, bend, name="first"), L.Dense(7))
    snapshot = capture(model)
    write_model(snapshot, tmp_path / "model.keras")
    assert read_model(tmp_path / "model.keras") == snapshot
    x = np.ones((2, 6), "float32")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


def test_explain_says_what_was_measured():
    model = chain((6,), L.Dense(9, name="first"), Affine(name="affine"), L.Activation(bend, name="act"), L.Dense(7))
    explanation = explain(DeleteChannels("first", [0]), capture(model, measure="*"))
    assert explanation.measured == (
        "'affine' (Affine) was measured to compute each channel separately",
        "'act' (Activation) applies measured_tests>bend, measured to be elementwise",
    )
    assert "measured to compute each channel separately" in str(explanation)


def test_a_rule_comes_before_a_measurement():
    record = record_named(capture(two_layers(), measure="affine"), "affine")
    before = dict(RULES)
    try:
        rule("measured_tests>Affine")(lambda layer, x: x)
        assert key_of(record) == "measured_tests>Affine"
    finally:
        RULES.clear()
        RULES.update(before)
    assert key_of(record) == EACH_CHANNEL


def record_named(snapshot, name):
    return next(record for record in snapshot.config["layers"] if record["config"]["name"] == name)
