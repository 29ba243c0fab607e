"""Residual blocks: listed and deleted; as pictures, and against models that Keras builds."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_purity, check_rebuilt_record, compute, deviation, differences, random_inputs, randomise
from helpers.pictures import between, dense, momenta, residual
from helpers.records import call, functional, layer, operation
from helpers.running import captured
from kerassurgery_fn import DeleteBlock, DeleteChannels, DeleteLayer, Plan, capture, residual_blocks
from kerassurgery_fn.errors import NoBlock, UnknownLayer
from kerassurgery_fn.values.snapshot import Snapshot

# --- pictures, without Keras

WIDTH = (0, 1, 2)
ADD = layer("Add", "sum")


def net(*calls, outputs="top", training=False):
    """A model of dense layers of width 3."""
    record = functional("net", {"x": (None, 3)}, *calls, outputs=outputs)
    names = [one["name"] for one in record["config"]["layers"] if one["class_name"] == "Dense"]
    weights = {name: between(WIDTH, [ord(letter) for letter in name]) for name in names}
    return Snapshot(record, weights, momenta(weights) if training else None)


def d(name, reads):
    return call(dense(name, WIDTH), reads)


ENTRY, TOP = d("ent", "x"), d("top", "sum")
PLAIN = net(ENTRY, d("top", "ent"))
IDENTITY = net(ENTRY, d("one", "ent"), d("two", "one"), call(ADD, ["two", "ent"]), TOP)
PROJECTED = net(ENTRY, d("pro", "ent"), d("one", "ent"), d("two", "one"), call(ADD, ["pro", "two"]), TOP)
OPERATION = net(
    ENTRY, d("one", "ent"),
    call(operation("Add", "sum"), "ent", "one"), TOP,
)  # fmt: skip
NESTED = net(
    ENTRY, d("one", "ent"), d("two", "one"), call(layer("Add", "inn"), ["one", "two"]), call(ADD, ["inn", "ent"]), TOP,
)  # fmt: skip
READ = net(ENTRY, d("one", "ent"), d("two", "one"), call(ADD, ["two", "ent"]), TOP, outputs=["top", "one"])
TWO_TERMS = net(ENTRY, d("one", "ent"), d("two", "one"), call(ADD, ["ent", "ent", "two"]), TOP)
PARALLEL = net(ENTRY, d("one", "ent"), d("two", "ent"), call(ADD, ["one", "two"]), TOP)
CHAIN = net(
    ENTRY, d("one", "ent"), call(layer("Add", "inn"), ["ent", "one"]), d("two", "inn"), call(ADD, ["inn", "two"]), TOP
)

PICTURES = {
    "by a layer": (DeleteBlock("one"), IDENTITY, PLAIN),
    "by its last layer": (DeleteBlock("two"), IDENTITY, PLAIN),
    "by its sum": (DeleteBlock("sum"), IDENTITY, PLAIN),
    "by a pattern": (DeleteBlock("*@Add"), IDENTITY, PLAIN),
    "by some layers in it and others": (DeleteBlock(["ent", "two", "one"]), IDENTITY, PLAIN),
    "a projection stays": (DeleteBlock("one"), PROJECTED, net(ENTRY, d("pro", "ent"), d("top", "pro"))),
    "an operation": (DeleteBlock("one"), OPERATION, PLAIN),
    "the inner one": (
        DeleteBlock("two"), NESTED, net(ENTRY, d("one", "ent"), call(ADD, ["one", "ent"]), TOP),
    ),
    "the sum of the inner one": (
        DeleteBlock("inn"), NESTED, net(ENTRY, d("one", "ent"), call(ADD, ["one", "ent"]), TOP),
    ),
    "the outer one": (DeleteBlock("sum"), NESTED, PLAIN),
    "both": (DeleteBlock("*@Add"), NESTED, PLAIN),
    "two in a row": (DeleteBlock("*@Add"), CHAIN, PLAIN),
    "two at once": (Plan.at_once(DeleteBlock("one"), DeleteBlock("two")), CHAIN, PLAIN),
    "a layer that is read elsewhere": (
        DeleteBlock("two"), READ, net(ENTRY, d("one", "ent"), d("top", "ent"), outputs=["top", "one"]),
    ),
    "and the shortcut's layer": (
        Plan.at_once(DeleteLayer("pro"), DeleteBlock("one")), PROJECTED, PLAIN,
    ),
    "none": (DeleteBlock(()), IDENTITY, IDENTITY),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    result = check_purity(before, edit)
    assert differences(result.record, after.record) == []
    assert result == after


def test_the_state_of_the_optimizer_is_deleted_with_the_block():
    calls = ENTRY, d("one", "ent"), d("two", "one"), call(ADD, ["two", "ent"]), TOP
    assert DeleteBlock("one")(net(*calls, training=True)) == net(ENTRY, d("top", "ent"), training=True)


LISTED = {
    "identity": (IDENTITY, [("ent", "sum", ("one", "two"))]),
    "projection": (PROJECTED, [("ent", "sum", ("one", "two"))]),
    "nested": (NESTED, [("one", "inn", ("two",)), ("ent", "sum", ("one", "two", "inn"))]),
    "read elsewhere": (READ, [("ent", "sum", ("two",))]),
    "in a row": (CHAIN, [("ent", "inn", ("one",)), ("inn", "sum", ("two",))]),
    "of one picture": (residual(p=WIDTH, q=WIDTH), [("p", "sum", ("q",))]),
    "two shortcuts": (TWO_TERMS, []),
    "two branches of one length": (PARALLEL, []),
    "no sum": (PLAIN, []),
}


@pytest.mark.parametrize("snapshot, blocks", LISTED.values(), ids=LISTED)
def test_the_blocks_of_a_model(snapshot, blocks):
    assert [(block.entry, block.merge, block.layers) for block in residual_blocks(snapshot)] == blocks


REFUSED = {
    "no block": (DeleteBlock("ent"), IDENTITY, NoBlock, "'ent' is in no residual block.* blocks that end at 'sum'"),
    "of the shortcut": (DeleteBlock("pro"), PROJECTED, NoBlock, "'pro'"),
    "no blocks": (DeleteBlock("*"), PLAIN, NoBlock, r"3 layers \('x', \.\.\.\) are .*has no residual blocks"),
    "two branches of one length": (DeleteBlock("sum"), PARALLEL, NoBlock, "a sum with a shortcut"),
    "no layer": (DeleteBlock("z"), PLAIN, UnknownLayer, "'z'"),
}


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_edit_is_refused_with_a_reason(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


ALL_LAYERS = {
    "of a block": (DeleteLayer(["one", "two"]), IDENTITY, PLAIN),
    "of a block with a projection": (
        DeleteLayer(["one", "two"]), PROJECTED, net(ENTRY, d("pro", "ent"), d("top", "pro")),
    ),
    "of a block inside a block": (
        DeleteLayer("two"), NESTED, net(ENTRY, d("one", "ent"), call(ADD, ["one", "ent"]), TOP),
    ),
    "all units of a layer": (DeleteChannels("one", [0, 1, 2]), IDENTITY, PLAIN),
    "one of them": (DeleteLayer("one"), IDENTITY, net(ENTRY, d("two", "ent"), call(ADD, ["two", "ent"]), TOP)),
    "without weights": (
        DeleteLayer("drop"), net(ENTRY, call(layer("Dropout", "drop"), "ent"), call(ADD, ["drop", "ent"]), TOP),
        net(ENTRY, call(ADD, ["ent", "ent"]), TOP),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", ALL_LAYERS.values(), ids=ALL_LAYERS)
def test_a_block_is_deleted_with_all_of_its_layers(edit, before, after):
    result = check_purity(before, edit)
    assert differences(result.record, after.record) == []
    assert result == after


# --- against Keras


def transformer(blocks=(0, 1)):
    """Two blocks of attention and feed-forward layers, each with a shortcut."""
    i = keras.Input((6, 4), name="tokens")
    x = L.Dense(4, name="stem")(i)
    for b in blocks:
        y = L.LayerNormalization(name=f"{b}_norm_1")(x)
        x = L.Add(name=f"{b}_add_1")([x, L.MultiHeadAttention(2, 2, name=f"{b}_attention")(y, y)])
        y = L.Dense(8, activation="gelu", name=f"{b}_up")(L.LayerNormalization(name=f"{b}_norm_2")(x))
        x = x + L.Dense(4, name=f"{b}_down")(L.Dropout(0.1, name=f"{b}_dropout")(y))
    return keras.Model(i, L.Dense(2, name="top")(L.GlobalAveragePooling1D(name="mean")(x)), name="net")


def trained(model):
    randomise(model)
    model.compile("adam", "mse")
    inputs = random_inputs(model, batch=2)
    model.fit(inputs, np.zeros((2, 2)), verbose=0)
    return captured(model)


@pytest.mark.keras
def test_a_transformer_without_a_block_is_what_keras_builds():
    model = transformer()
    before = trained(model)
    after = check_purity(before, DeleteBlock(["1_attention", "1_up"]))
    check_rebuilt_record(after)
    by_hand = transformer(blocks=(0,))
    for one in by_hand.layers:
        one.set_weights(model.get_layer(one.name).get_weights())
    inputs = random_inputs(model)
    assert deviation(compute(after, inputs), compute(capture(by_hand), inputs)) == 0
    assert deviation(compute(after, inputs), compute(before, inputs)) > 1e-3
    assert {owner[0] for owner in after.training.slots if owner} <= after.weights.keys()


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["num_heads", "value_dim"])
def test_attention_without_heads_is_deleted_with_its_block(kind):
    before = trained(transformer())
    without = DeleteBlock("0_attention")(before)
    check_rebuilt_record(without)
    assert DeleteChannels("0_attention", **{kind: [0, 1]})(before) == without
    assert DeleteLayer(["0_attention", "0_norm_1"])(before) == without


@pytest.mark.keras
def test_a_block_in_a_nested_model():
    inner = transformer()
    i = keras.Input((6, 4), name="x")
    model = keras.Model(i, L.Dense(1, name="out")(inner(i)))
    randomise(model)
    before = capture(model)
    after = check_purity(before, DeleteBlock("net/0_up"))
    check_rebuilt_record(after)
    every = residual_blocks(before)
    assert [block.merge for block in residual_blocks(after)] == [every[i].merge for i in (0, 2, 3)]
    assert after == DeleteBlock(every[1].merge)(before)
