"""Constraints, which Keras applies after every training step, and edits that change weights."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import compute, deviation
from helpers.records import call, functional, layer, numbers, thing
from kerassurgery_fn import (
    DeepenLayer,
    DeleteChannels,
    FoldBatchNorm,
    KeepChannels,
    Plan,
    ReorderChannels,
    ReplaceHead,
    SetConfig,
    WidenChannels,
    analyse,
    capture,
    rebuild,
)
from kerassurgery_fn.errors import BadValue, CannotWiden, NotFoldable, PinnedChannels
from kerassurgery_fn.rules.constrained import Constraint, constraint_of, projected
from kerassurgery_fn.values.snapshot import Snapshot


def constraint(class_name, module="keras.constraints", **config):
    return thing(module, class_name, config, None if module.startswith("keras") else f"mine>{class_name}")


NON_NEG = constraint("NonNeg")
UNIT = constraint("UnitNorm", axis=0)
UNIT_ACROSS = constraint("UnitNorm", axis=1)
MAX = constraint("MaxNorm", max_value=0.5, axis=0)
MAX_ACROSS = constraint("MaxNorm", max_value=0.5, axis=1)
BETWEEN = constraint("MinMaxNorm", min_value=0.5, max_value=0.6, rate=1.0, axis=0)
CLIP = constraint("Clip", "mine", limit=1)


def fulfilled(record, array):
    after = projected(Constraint("", record), array) if record else None
    return array if after is None else after.astype(array.dtype)


def pair(first=None, second=None, bias=None, training=True):
    """Dense layers a (5 units) and b (2 units), their kernels as their constraints want them if they were trained."""
    calls = [
        call(layer("Dense", "a", units=5, kernel_constraint=first, bias_constraint=bias, activation="relu"), "x"),
        call(layer("Dense", "b", units=2, kernel_constraint=second), "a"),
    ]
    rng, keep = np.random.default_rng(0), training
    arrays = {"a": [rng.normal(size=(3, 5)), rng.normal(size=5)], "b": [rng.normal(size=(5, 2)), rng.normal(size=2)]}
    wanted = {"a": (first, bias), "b": (second, None)}
    weights = {
        path: tuple(fulfilled(c if keep else None, a.astype("float32")) for c, a in zip(wanted[path], own, strict=True))
        for path, own in arrays.items()
    }
    return Snapshot(functional("net", {"x": (None, 3)}, *calls, outputs="b"), weights)


STAY = {
    "copies of units of norm one": pair(first=UNIT),
    "copies of units that will have norm one": pair(first=UNIT, training=False),
    "copies, and halves, of what is not negative": pair(first=NON_NEG, second=NON_NEG),
    "halves of norms that may be smaller": pair(second=MAX),
    "copies of a bias": pair(bias=NON_NEG),
}
UNDONE = {
    "halves of norm one": (pair(second=UNIT), "UnitNorm constraint on the kernel of layer 'b'"),
    "halves of norms that may not be smaller": (pair(second=BETWEEN), "MinMaxNorm constraint on the kernel"),
    "norms across copies": (pair(first=UNIT_ACROSS), "UnitNorm constraint on the kernel of layer 'a'"),
    "norms across copies that grow": (pair(first=MAX_ACROSS), "MaxNorm constraint on the kernel of layer 'a'"),
    "a bias of norm one": (pair(bias=UNIT), "on the bias of layer 'a'.*SetConfig.'a', bias_constraint=None"),
    "a constraint that nobody knows": (pair(second=CLIP), "Clip constraint on the kernel of layer 'b'"),
}


@pytest.mark.parametrize("before", STAY.values(), ids=STAY)
def test_a_constraint_that_leaves_wider_weights_alone_stays(before):
    after = WidenChannels("a", 9)(before)
    assert after.weights["a"][0].shape == (3, 9)
    assert [one["config"].get("kernel_constraint") for one in after.config["layers"]] == [
        one["config"].get("kernel_constraint") for one in before.config["layers"]
    ]


@pytest.mark.parametrize("before, words", UNDONE.values(), ids=UNDONE)
def test_a_constraint_that_would_undo_a_widening_is_refused(before, words):
    with pytest.raises(CannotWiden, match=words):
        WidenChannels("a", 9)(before)
    free = Plan(SetConfig("b", kernel_constraint=None), SetConfig("a", kernel_constraint=None, bias_constraint=None))
    assert WidenChannels("a", 9)(free(before)).weights["a"][0].shape == (3, 9)


def test_the_constraint_of_a_layer_in_a_wrapper_is_removed_there():
    inner = layer("Dense", "inner", units=2, kernel_constraint=UNIT)
    calls = [
        call(layer("Dense", "a", units=5), "x"),
        call(layer("TimeDistributed", "t", layer=inner), "a", out=(None, 4, 2)),
    ]
    weights = {"a": (numbers(3, 5), numbers(5)), "t": (numbers(5, 2), numbers(2))}
    before = Snapshot(functional("net", {"x": (None, 4, 3)}, *calls, outputs="t"), weights)
    with pytest.raises(CannotWiden, match=r"on the kernel of layer 't' .* from the layer inside the wrapper"):
        WidenChannels("a", 9)(before)


def kept(snapshot, name):
    config = next(one["config"] for one in snapshot.config["layers"] if one["config"]["name"] == name)
    return config["kernel_constraint"], config["bias_constraint"]


def test_a_new_layer_has_the_constraints_that_leave_the_identity_alone():
    for record in (UNIT, UNIT_ACROSS, NON_NEG, constraint("MaxNorm", max_value=2, axis=0)):
        assert kept(DeepenLayer("a")(pair(first=record)), "a_1") == (record, None)
    for record in (MAX, MAX_ACROSS, BETWEEN, CLIP):
        deeper = DeepenLayer("a")(pair(first=record, bias=NON_NEG))
        assert (kept(deeper, "a"), kept(deeper, "a_1")) == ((record, NON_NEG), (None, NON_NEG))
    decay = thing("keras.regularizers", "L2", {"l2": 0.1})
    deeper = DeepenLayer("a")(SetConfig("a", kernel_regularizer=decay)(pair()))
    assert (
        next(one["config"] for one in deeper.config["layers"] if one["config"]["name"] == "a_1")["kernel_regularizer"]
        == decay
    )


def normalised(gamma, kind="Dense", shape=(None, 3), kernel=(3, 2), **config):
    sizes = {"Dense": {"units": 2}, "DepthwiseConv2D": {"kernel_size": [1, 1]}}[kind]
    record = functional(
        "net", {"x": shape}, call(layer(kind, "d", **sizes, **config), "x"),
        call(layer("BatchNormalization", "n"), "d"), outputs="n",
    )  # fmt: skip
    ones = np.ones(2, "float32")
    array = np.abs(np.random.default_rng(0).normal(size=kernel)).astype("float32")
    array /= np.linalg.norm(array, axis=0)
    return Snapshot(record, {"d": (array, 0.1 * ones), "n": (gamma * ones, ones, 0 * ones, ones)})


FOLDED = {
    "what is not negative": (normalised(3.0, kernel_constraint=NON_NEG), normalised(-3.0, kernel_constraint=NON_NEG)),
    "norms that may be smaller": (
        normalised(0.3, kernel_constraint=constraint("MaxNorm", max_value=1.0, axis=0)),
        normalised(3.0, kernel_constraint=constraint("MaxNorm", max_value=1.0, axis=0)),
    ),
    "norms of one": (normalised(1.001**0.5, kernel_constraint=UNIT), normalised(3.0, kernel_constraint=UNIT)),
    "a bias": (normalised(3.0, bias_constraint=NON_NEG), normalised(3.0, bias_constraint=MAX)),
    "by depth": (
        normalised(3.0, "DepthwiseConv2D", (None, 4, 4, 2), (1, 1, 2, 1), depthwise_constraint=NON_NEG),
        normalised(3.0, "DepthwiseConv2D", (None, 4, 4, 2), (1, 1, 2, 1), depthwise_constraint=UNIT),
    ),
}


@pytest.mark.parametrize("stays, undone", FOLDED.values(), ids=FOLDED)
def test_a_constraint_that_would_undo_a_folding_raises_for_names_and_patterns(stays, undone):
    assert "n" not in FoldBatchNorm()(stays).weights
    for edit in (FoldBatchNorm(), FoldBatchNorm("n")):
        with pytest.raises(NotFoldable, match=r"'n' cannot be folded: .* of layer 'd' .* SetConfig\('d', \w+=None\)"):
            edit(undone)


def test_old_classes_under_a_constraint():
    """Norms of each class stay; norms across classes would change those that are kept."""
    before = pair(second=UNIT)
    after = ReplaceHead(4, keep=[1])(before)
    assert np.array_equal(after.weights["b"][0][:, 0], before.weights["b"][0][:, 1])
    assert ReplaceHead(4)(pair(second=UNIT_ACROSS)).weights["b"][0].shape == (5, 4)
    with pytest.raises(BadValue, match="classes cannot be kept: the UnitNorm constraint on the kernel of layer 'b'"):
        ReplaceHead(4, keep=[1])(pair(second=UNIT_ACROSS))


def test_cuts_and_orders_keep_constraints():
    """A constraint does to a smaller weight what it does to one with zeros in place of what is cut."""
    before = pair(first=UNIT, second=UNIT)
    after = KeepChannels("a", [1, 3, 4])(before)
    assert kept(after, "b") == (UNIT, None)
    zeros = before.weights["b"][0] * np.isin(np.arange(5), [1, 3, 4])[:, None]
    rule = Constraint("kernel_constraint", UNIT)
    assert np.allclose(projected(rule, zeros)[[1, 3, 4]], projected(rule, after.weights["b"][0]))
    turned = ReorderChannels("a", [4, 3, 2, 1, 0])(before)
    assert np.allclose(projected(rule, turned.weights["b"][0]), turned.weights["b"][0], atol=1e-6)


def test_the_constraint_of_each_weight():
    lstm = {"kernel_constraint": UNIT, "recurrent_constraint": None, "bias_constraint": MAX}
    assert [constraint_of(lstm, name) for name in ("kernel", "recurrent_kernel", "bias")] == [
        Constraint("kernel_constraint", UNIT), None, Constraint("bias_constraint", MAX),
    ]  # fmt: skip
    separable = {"depthwise_constraint": UNIT, "pointwise_constraint": MAX}
    assert constraint_of(separable, "pointwise_kernel").title == "MaxNorm"
    assert constraint_of({"gamma_constraint": NON_NEG}, "gamma").title == "NonNeg"
    assert [Constraint("", one).shrinks for one in (NON_NEG, MAX, UNIT, BETWEEN, CLIP)] == [
        True,
        True,
        False,
        False,
        False,
    ]


CONSTRAINTS = {
    "UnitNorm": (keras.constraints.UnitNorm(axis=1), UNIT_ACROSS),
    "MaxNorm": (keras.constraints.MaxNorm(0.5), MAX),
    "MinMaxNorm": (keras.constraints.MinMaxNorm(0.5, 0.6, rate=0.3, axis=[0, 1]), None),
    "NonNeg": (keras.constraints.NonNeg(), NON_NEG),
}


@pytest.mark.keras
@pytest.mark.parametrize("theirs, ours", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_constraints_agree_with_keras(theirs, ours):
    record = keras.saving.serialize_keras_object(theirs)
    assert ours is None or {**record, "config": {**record["config"]}} == {**ours, "config": {**record["config"]}}
    array = numbers(4, 3) - 5
    assert np.allclose(projected(Constraint("", record), array), theirs(array), rtol=1e-5)


@pytest.mark.keras
def test_a_training_step_that_learns_nothing_changes_nothing():
    """After a deepening, a widening, and the cut of an attention whose queries a constraint would scale."""
    keras.utils.set_random_seed(0)
    x, y = np.random.default_rng(0).normal(size=(4, 5)).astype("float32"), np.zeros((4, 2))
    model = keras.Sequential([
        keras.Input((5,)),
        L.Dense(6, activation="relu", kernel_constraint=keras.constraints.MaxNorm(0.5), name="d"),
        L.Dense(2, kernel_constraint="non_neg", name="h"),
    ])  # fmt: skip
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    model.train_on_batch(x, y)
    snapshot = capture(model)
    made = rebuild(Plan(WidenChannels("d", 9), DeepenLayer("d"))(snapshot))
    made.train_on_batch(x, y)
    assert deviation(compute(capture(made), x), compute(snapshot, x)) < 1e-5
    tokens = keras.Input((4, 6))
    attended = L.MultiHeadAttention(2, 4, kernel_constraint="unit_norm", name="mha")(tokens, tokens)
    heads = capture(keras.Model(tokens, L.Dense(2)(attended)))
    assert analyse(heads).weights["mha"][0].constraint.title == "UnitNorm"
    assert DeleteChannels("mha", heads=[0])(heads).weights["mha"][0].shape == (6, 1, 4)
    with pytest.raises(PinnedChannels, match="would scale its query_kernel, which its UnitNorm constraint would undo"):
        DeleteChannels("mha", key_dim=[0])(heads)
