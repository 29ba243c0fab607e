"""Channels in another order, and more of them: as pictures, by hand, and on live models that compute what they did."""

import pickle
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import (
    check_law,
    check_rebuilt_record,
    compute,
    deviation,
    parameters,
    random_inputs,
    randomise,
    sabotage,
)
from helpers.needs import NEEDS_CHANNELS_FIRST, marked
from helpers.pictures import chain, fork, grouped, image, momenta, nested, residual, shared
from helpers.records import call, functional, layer, numbers, operation
from helpers.running import captured
from kerassurgery_fn import (
    ConvertDtype,
    DeleteChannels,
    KeepChannels,
    Plan,
    ReorderChannels,
    WidenChannels,
    analyse,
    capture,
    rebuild,
)
from kerassurgery_fn.errors import (
    BadValue,
    CannotWiden,
    ChannelOutOfRange,
    InexactCut,
    PartialGroup,
    PinnedChannels,
    SurgeryError,
)
from kerassurgery_fn.rules import RULES
from kerassurgery_fn.values.snapshot import Snapshot

# --- another order, as pictures

ORDERS = {
    "a layer": (ReorderChannels("a", [2, 0, 1, 3]), chain(), chain(a=[2, 0, 1, 3])),
    "two layers": (ReorderChannels({"a": [3, 2, 1, 0], "b": [1, 2, 0]}), chain(), chain(a=[3, 2, 1, 0], b=[1, 2, 0])),
    "negative indices": (ReorderChannels("b", [-1, -2, -3]), chain(), chain(b=[2, 1, 0])),
    "through a flattened image": (ReorderChannels("a", [1, 3, 0, 2]), image(), image(a=[1, 3, 0, 2])),
    "both sides of a sum": (ReorderChannels("p", [2, 0, 1]), residual(), residual(p=[2, 0, 1])),
    "both sides of a sum, by the other": (ReorderChannels("q", [2, 0, 1]), residual(), residual(p=[2, 0, 1])),
    "one side of a join": (ReorderChannels("q", [1, 0, 2]), fork(), fork(q=[1, 0, 2])),
    "a layer that is called twice": (ReorderChannels("s", [2, 1, 0]), shared(), shared(s=[2, 1, 0])),
    "in a model that is called twice": (ReorderChannels("inner/a", [2, 0, 1]), nested(), nested(a=[2, 0, 1])),
    "groups of a grouped convolution": (ReorderChannels("b", [3, 4, 5, 0, 1, 2]), grouped(), grouped(groups=[1, 0])),
    "places in every group": (ReorderChannels("b", [1, 0, 2, 4, 3, 5]), grouped(), grouped(b=[1, 0, 2])),
    "the order that they have": (ReorderChannels("a", [0, 1, 2, 3]), chain(training=True), chain(training=True)),
    "an output that may": (ReorderChannels("c", [1, 0], allow_output_change=True), chain(), chain(c=[1, 0])),
}  # fmt: skip
of_orders = pytest.mark.parametrize("edit, before, after", ORDERS.values(), ids=ORDERS)


@of_orders
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    kept = pickle.loads(pickle.dumps(before))
    assert edit(before) == after
    assert before == kept


def test_orders_go_together():
    first, second = np.array([2, 0, 3, 1]), np.array([1, 3, 2, 0])
    plan = Plan(ReorderChannels("a", first), ReorderChannels("a", second))
    assert plan(chain()) == ReorderChannels("a", first[second])(chain())
    assert ReorderChannels("a", np.argsort(first))(ReorderChannels("a", first)(chain())) == chain()


def test_kept_channels_keep_their_order_and_can_be_reordered():
    kept = KeepChannels("a", [3, 1])(chain())
    assert ReorderChannels("a", [1, 0])(kept) == chain(a=[3, 1])


def test_the_optimizer_state_is_reordered_with_the_weights():
    before = chain(training=True)
    made = ReorderChannels("a", [2, 0, 1, 3])(before)
    assert made == chain(a=[2, 0, 1, 3], training=True)
    assert made.training == momenta(made.weights)


def sliced():
    """A layer whose channels are split in two halves that are read by different layers."""
    record = functional(
        "net", {"x": (None, 3)},
        call(layer("Dense", "a", units=4), "x"),
        call(operation("Split", "halves", indices_or_sections=2, axis=-1), "a", out=[(None, 2), (None, 2)]),
        call(layer("Dense", "p", units=2), ("halves", 0, 0)), call(layer("Dense", "q", units=2), ("halves", 0, 1)),
        call(layer("Add", "sum"), ["p", "q"]), outputs="sum",
    )  # fmt: skip
    weights = {"a": (numbers(3, 4), numbers(4)), "p": (numbers(2, 2), numbers(2)), "q": (numbers(2, 2), numbers(2))}
    return Snapshot(record, weights)


def test_channels_change_places_within_the_half_that_is_split_off():
    made = ReorderChannels("a", [1, 0, 3, 2])(sliced())
    assert made.record == sliced().record
    for path, order in (("p", [1, 0]), ("q", [1, 0])):
        assert np.array_equal(made.weights[path][0], sliced().weights[path][0][order])


REFUSED_ORDERS = {
    "too few": (ReorderChannels("a", [0, 1]), chain(), ChannelOutOfRange, "each of 0 to 3 once"),
    "one twice": (ReorderChannels("a", [0, 1, 2, 2]), chain(), ChannelOutOfRange, "each of 0 to 3 once"),
    "one too large": (ReorderChannels("a", [0, 1, 2, 4]), chain(), ChannelOutOfRange, "each of 0 to 3 once"),
    "an output": (ReorderChannels("c", [1, 0]), chain(), PinnedChannels, "2 channels of 'c' cannot be moved"),
    "across halves": (ReorderChannels("a", [2, 1, 0, 3]), sliced(), PartialGroup, "of which 'halves' has only one"),
    "across groups": (ReorderChannels("b", [3, 1, 2, 0, 4, 5]), grouped(), PartialGroup, "whole lines"),
    "tied layers, differently": (
        ReorderChannels({"p": [2, 0, 1], "q": [1, 0, 2]}), residual(), PartialGroup, "for tied layers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED_ORDERS.values(), ids=REFUSED_ORDERS)
def test_an_impossible_order_is_refused(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


# --- more channels, by hand


def test_copies_follow_their_channel_and_share_its_consumers():
    before = chain(a=[0, 1], b=[0, 1, 2], c=[0, 1])
    made = WidenChannels("a", 5, seed=1)(before)
    kernel, bias = made.weights["a"]
    old_kernel, old_bias = before.weights["a"]
    columns = [int(np.flatnonzero((column == old_kernel.T).all(axis=1))[0]) for column in kernel.T]
    assert columns == sorted(columns)
    assert set(columns) == {0, 1}
    assert np.array_equal(bias, old_bias[columns])
    times = np.bincount(columns)
    reader = made.weights["b"][0]
    for channel, count in enumerate(times):
        rows = reader[np.array(columns) == channel]
        assert np.allclose(rows, before.weights["b"][0][channel] / count)
    assert made.weights["b"][1] is before.weights["b"][1]
    assert made.weights["c"] is before.weights["c"]


@pytest.mark.parametrize("width", [4, 5, 8, 30])
def test_widths_are_counted_wherever_a_config_counts_them(width):
    made = WidenChannels("a", width)(chain(training=True))
    assert made.record == chain(a=range(width)).record
    assert [value.shape for value in made.training.values] == [
        value.shape for value in chain(a=range(width), training=True).training.values
    ]


def test_widening_is_the_same_each_time_and_by_the_seed():
    assert WidenChannels("a", 9, seed=3)(chain()) == WidenChannels("a", 9, seed=3)(chain())
    assert WidenChannels("a", 9, seed=3)(chain()) != WidenChannels("a", 9, seed=4)(chain())
    assert WidenChannels("a", 4)(chain()) == chain()
    kept = pickle.loads(pickle.dumps(before := chain()))
    WidenChannels("a", 9, noise=0.1)(before)
    assert before == kept


def test_the_order_of_names_does_not_matter():
    before = chain()
    one, other = WidenChannels({"b": 7, "a": 8}, seed=3), WidenChannels({"a": 8, "b": 7}, seed=3)
    assert one == other
    assert one(before) == other(before)


def test_noise_changes_copies_but_not_their_original():
    plain, noisy = (WidenChannels("a", 12, noise=noise)(chain()) for noise in (0.0, 0.1))
    kernel, other = plain.weights["a"][0], noisy.weights["a"][0]
    first = np.unique(kernel, axis=1, return_index=True)[1]
    assert np.array_equal(kernel[:, first], other[:, first])
    assert len(np.unique(kernel, axis=1).T) == 4
    assert len(np.unique(other, axis=1).T) == 12
    assert np.array_equal(plain.weights["a"][1], noisy.weights["a"][1])
    assert np.array_equal(plain.weights["b"][0], noisy.weights["b"][0])


def test_layers_that_are_tied_are_widened_together():
    made = WidenChannels({"p": 7, "q": 7})(residual())
    assert made.record == residual(p=range(7)).record
    assert made == WidenChannels("q", 7)(residual())


def normed(name="LayerNormalization"):
    record = functional(
        "net", {"x": (None, 3)},
        call(layer("Dense", "a", units=4), "x"),
        call(layer(name, "norm", axis=-1, scale=True, center=True, rms_scaling=False, epsilon=0.1), "a", out=(None, 4)),
        call(layer("Dense", "b", units=2), "norm"), outputs="b",
    )  # fmt: skip
    return Snapshot(record, {})


def summed():
    record = functional(
        "net", {"x": (None, 5, 3)},
        call(layer("Dense", "a", units=4), "x"),
        call(operation("Sum", "sum", axis=[-1], keepdims=False), "a", out=(None, 5)),
        call(layer("Dense", "b", units=2), "sum"), outputs="b",
    )  # fmt: skip
    return Snapshot(record, {})


REFUSED_WIDTHS = {
    "fewer": (WidenChannels("a", 3), chain(), BadValue, "has 4 channels already, more than 3"),
    "an output": (WidenChannels("c", 3), chain(), PinnedChannels, "of 'c' cannot be copied: it is an output"),
    "no multiple": (WidenChannels("b", 7), grouped(), PartialGroup, "a grid of 2 x 3 .* a multiple of 2 or 3"),
    "tied layers, differently": (WidenChannels({"p": 7, "q": 8}), residual(), BadValue, "a layer that gets 7 channels"),
    "a normalisation": (WidenChannels("a", 5), normed(), CannotWiden, "'norm' normalises over the channels"),
    "a sum over channels": (WidenChannels("a", 5), summed(), CannotWiden, r"'sum' \(ops.Sum\) is not known"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED_WIDTHS.values(), ids=REFUSED_WIDTHS)
def test_an_impossible_width_is_refused(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)
    assert issubclass(error, SurgeryError)


def test_a_rule_without_summed_axes_is_refused(monkeypatch):
    def silent(layer, x, **_):
        o = layer.fresh("units")
        layer.weights(kernel="io", bias="o", i=x[-1], o=o)
        return (*x[:-1], o)

    monkeypatch.setitem(RULES, "Dense", replace(RULES["Dense"], channels=silent))
    with pytest.raises(CannotWiden, match="rule of layer 'a' does not say over which axes of its kernel"):
        WidenChannels("a", 5)(chain())


def test_widths_are_validated():
    for wrong in (0, 2.5, "4", True, [5]):
        with pytest.raises(BadValue, match="number of channels of a layer is an integer"):
            WidenChannels("a", wrong)
    with pytest.raises(SurgeryError, match="takes a layer and its width"):
        WidenChannels({"a": 5}, 3)


# --- live models compute what they did


def one(make, shape, dtype="float32"):
    """A model with a layer whose channels a dense layer reads."""
    x = keras.Input(shape, dtype=dtype)
    return keras.Model(x, L.Dense(3, name="top")(L.Flatten()(make(x))))


def stack(*layers):
    def make(x):
        for each in layers:
            x = each(x)
        return x

    return make


def residual_block(x):
    y = L.Conv2D(6, 3, padding="same", name="a")(x)
    z = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y))
    y = L.Add()([y, L.Conv2D(6, 1, name="b")(L.ReLU()(z))])
    return L.Concatenate()([y, L.SeparableConv2D(4, 3, padding="same", name="c")(y)])


def squeezed(x):
    y = L.Conv2D(6, 3, name="a")(x)
    gate = L.Dense(6, activation="sigmoid", name="up")(
        L.Dense(3, name="down")(L.GlobalAveragePooling2D(keepdims=True)(y))
    )
    return L.Multiply()([y, gate])


def transformer(x):
    y = L.Embedding(9, 8, name="embedding")(x)
    z = L.MultiHeadAttention(2, 4, value_dim=3, name="attention")(y, y)
    y = L.LayerNormalization()(L.Add()([y, z]))
    z = L.Dense(8, name="narrow")(L.Dense(16, activation="gelu", name="wide")(y))
    return L.LayerNormalization()(L.Add()([y, z]))


def transformer_by_operations(x):
    """A transformer whose attention is written with operations, on two heads of four."""

    def split(y):
        return keras.ops.transpose(keras.ops.reshape(y, (-1, 5, 2, 4)), (0, 2, 1, 3))

    y = L.Embedding(9, 8, name="embedding")(x)
    queries, keys, values = (split(L.Dense(8, name=name)(y)) for name in ("queries", "keys", "values"))
    scores = keras.ops.softmax(keras.ops.matmul(queries, keras.ops.transpose(keys, (0, 1, 3, 2))) / 2.0)
    z = keras.ops.reshape(keras.ops.transpose(keras.ops.matmul(scores, values), (0, 2, 1, 3)), (-1, 5, 8))
    y = L.LayerNormalization(name="norm")(y + L.Dense(8, name="mixed")(z))
    z = L.Dense(8, name="narrow")(keras.ops.gelu(L.Dense(16, name="wide")(y)))
    return L.LayerNormalization()(L.Add()([y, z]))


def by_operations(x):
    y = L.Dense(8, name="a")(x) * np.arange(8, dtype="float32") + 1.0
    left, right = keras.ops.split(y, 2, axis=-1)
    return keras.ops.concatenate([left * 2.0, keras.ops.relu(right)], axis=-1)


def shared_layer(x):
    dense = L.Dense(6, name="a")
    return L.Add()([dense(x), L.ReLU()(dense(x * 2.0))])


def channels_first(x):
    y = L.Conv2D(5, 3, data_format="channels_first", name="a")(x)
    return L.Conv2D(4, 3, data_format="channels_first", name="b")(y)


def repeated_and_once(x):
    y = L.Dense(4, name="a")(x)
    return L.Concatenate()([L.Flatten()(L.RepeatVector(3)(y)), y])


def split_by_einsums(x):
    y = L.EinsumDense("abc,cde->abde", (6, 3, 4), name="a")(x)
    return L.EinsumDense("abde,def->abf", (6, 5), bias_axes="f", name="b")(y)


IMAGE, STEPS = (8, 8, 3), (6, 4)
TALL = (3, 13, 13)  # Keras on TensorFlow adds a bias along the last axis where that is as long as there are channels
# name -> model, and how many channels some of its layers are to have
LIVE = {
    "dense layers": (
        lambda: one(stack(L.Dense(6, "relu", name="a"), L.Dense(5, "tanh", name="b")), (4,)), {"a": 9, "b": 7},
    ),
    "convolutions": (
        lambda: one(
            stack(
                L.Conv2D(6, 3, name="a"), L.BatchNormalization(), L.PReLU(shared_axes=[1, 2]), L.MaxPooling2D(),
                L.Conv2D(5, 2, name="b"),
            ),
            IMAGE,
        ),
        {"a": 9, "b": 11},
    ),
    "a residual block": (lambda: one(residual_block, IMAGE), {"a": 9, "c": 7}),
    "squeeze and excite": (lambda: one(squeezed, IMAGE), {"a": 8, "down": 5}),
    "transposed convolutions": (
        lambda: one(stack(L.Conv2DTranspose(5, 2, name="a"), L.Conv2DTranspose(4, 2, name="b")), IMAGE),
        {"a": 8, "b": 9},
    ),
    "a depth multiplier": (
        lambda: one(stack(L.Conv2D(4, 3, name="a"), L.DepthwiseConv2D(3, depth_multiplier=3)), IMAGE), {"a": 7},
    ),
    "channels first": (lambda: one(channels_first, TALL), {"a": 8, "b": 6}),
    "a transformer": (
        lambda: one(transformer, (5,), "int32"), {"wide": 24, "attention:num_heads": 5, "attention:value_dim": 4},
    ),
    "a transformer from operations": (lambda: one(transformer_by_operations, (5,), "int32"), {"wide": 24}),
    "recurrent layers": (
        lambda: one(
            stack(
                L.LSTM(5, return_sequences=True, name="a"), L.GRU(4, return_sequences=True, name="b"),
                L.SimpleRNN(3, name="c"),
            ),
            STEPS,
        ),
        {"a": 7, "b": 6, "c": 5},
    ),
    "convolutional recurrence": (lambda: one(L.ConvLSTM2D(4, 2, name="a"), (3, 5, 5, 2)), {"a": 7}),
    "both directions": (
        lambda: one(stack(L.Bidirectional(L.GRU(3, return_sequences=True), name="a"), L.Dense(4, name="b")), STEPS),
        {"a:forward.units": 5, "b": 6},
    ),
    "steps": (lambda: one(stack(L.TimeDistributed(L.Dense(5), name="a"), L.Dense(3, name="b")), STEPS), {"a": 8}),
    "operations and constants": (lambda: one(by_operations, (4,)), {"a": 13}),
    "a shared layer": (lambda: one(shared_layer, (4,)), {"a": 9}),
    "a nested model": (
        lambda: one(keras.Sequential([keras.Input((4,)), L.Dense(5, name="a"), L.ReLU()], name="inner"), (4,)),
        {"inner/a": 8},
    ),
    "einsums": (lambda: one(split_by_einsums, STEPS), {"a:d": 5, "a:e": 6, "b": 8}),
    "a vector that is repeated": (lambda: one(repeated_and_once, (5,)), {"a": 7}),
}  # fmt: skip
HALVES = [1, 3, 0, 2, 7, 5, 6, 4]  # an order that leaves each half where it is
ONEDNN = {"channels first": NEEDS_CHANNELS_FIRST}
of_live = pytest.mark.parametrize("make, widths", marked(LIVE, ONEDNN))


def check(model, edit, more, dtype="float32"):
    """The model computes what it did, and so does the one that Keras makes of the record; a wrong one would not."""
    randomise(model)
    before, inputs = ConvertDtype(dtype)(captured(model)), random_inputs(model)
    after = edit(before)
    assert (parameters(after) > parameters(before)) == more
    check_rebuilt_record(after)
    truth = compute(before, inputs)
    assert deviation(compute(after, inputs), truth) < 2e-5
    assert deviation(compute(sabotage(after), inputs), truth) > 1e-3
    return before, after


@pytest.mark.keras
@of_live
def test_a_wider_model_has_the_same_outputs(make, widths):
    check(make(), WidenChannels(widths), True)


@pytest.mark.keras
@pytest.mark.parametrize("name", marked(list(LIVE), ONEDNN))
def test_a_reordered_model_has_the_same_outputs(name):
    make, widths = LIVE[name]
    model = make()
    flow, rng = analyse(capture(model)), np.random.default_rng(0)
    orders = {address: rng.permutation(flow.producer(address).axis.shape[1]) for address in widths}
    if name == "operations and constants":
        orders = {"a": HALVES}
    before, after = check(model, ReorderChannels(orders), False)
    assert after != before
    back = {address: np.argsort(order) for address, order in orders.items()}
    assert ReorderChannels(back)(after) == before


@pytest.mark.keras
def test_copies_of_a_wider_model_diverge_in_training_with_noise():
    model = one(stack(L.Dense(6, "relu", name="a"), L.Dense(5, "tanh", name="b")), (4,))
    randomise(model)
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    x, y = np.random.default_rng(0).normal(size=(32, 4)), np.random.default_rng(1).normal(size=(32, 3))
    model.fit(x, y, verbose=0)
    before = capture(model)
    alike, apart = (rebuild(WidenChannels({"a": 12, "b": 10}, noise=noise)(before)) for noise in (0.0, 0.01))
    for wider in (alike, apart):
        wider.fit(x, y, epochs=3, verbose=0)
    columns = [len(np.unique(m.get_layer("a").kernel.numpy().round(4), axis=1).T) for m in (alike, apart)]
    assert columns == [6, 12]


HEADS = {"queries": [4, 5, 6, 7, 0, 1, 2, 3], "values": [2, 0, 3, 1, 6, 4, 7, 5]}  # heads, and places in all heads
STREAM = [3, 1, 0, 2, 7, 5, 6, 4]
ATTENTION = {
    "places in heads": (transformer, {"attention:num_heads": [1, 0], "attention:value_dim": [2, 0, 1]}),
    "queries and keys": (transformer, {"attention:key_dim": [3, 1, 0, 2]}),
    "the residual stream": (transformer, {"narrow": STREAM}),
    "heads, from operations": (transformer_by_operations, {"queries": HEADS["queries"]}),
    "places in heads, from operations": (transformer_by_operations, {"values": HEADS["values"]}),
    "the residual stream, from operations": (transformer_by_operations, {"mixed": STREAM}),
}


@pytest.mark.keras
@pytest.mark.parametrize("make, orders", ATTENTION.values(), ids=ATTENTION)
def test_a_reordered_transformer_has_the_same_outputs(make, orders):
    before, after = check(one(make, (5,), "int32"), ReorderChannels(orders), False)
    assert after != before


@pytest.mark.keras
def test_heads_from_operations_are_not_widened():
    snapshot = capture(one(transformer_by_operations, (5,), "int32"))
    for name in ("queries", "keys", "values"):
        with pytest.raises(CannotWiden, match=r"ops\.Matmul\) is not known to compute the same"):
            WidenChannels(name, 16)(snapshot)
    with pytest.raises(CannotWiden, match="'norm' normalises over the channels"):
        WidenChannels("mixed", 12)(snapshot)


def groups_of_channels():
    i = keras.Input((6, 6, 3))
    x = L.GroupNormalization(4, name="norm")(L.Conv2D(12, 3, name="a")(i))
    x = L.Conv2D(6, 1, name="c")(L.Conv2D(8, 3, groups=4, activation="relu", name="b")(x))
    return keras.Model(i, L.Dense(3, name="top")(L.GlobalAveragePooling2D(name="mean")(x)))


@pytest.mark.keras
def test_whole_groups_go_and_are_copied():
    """The channels of a group normalisation and of a grouped convolution are a grid: groups, and places in them."""
    model = groups_of_channels()
    check_law(model, DeleteChannels("a", [3, 4, 5]))
    check_law(model, DeleteChannels("b", [2, 3]))
    check_law(model, KeepChannels("a", range(6)))
    snapshot = captured(model)
    smaller = DeleteChannels("a", [3, 4, 5])(snapshot)
    assert [smaller.config["layers"][i]["config"]["groups"] for i in (2, 3)] == [3, 3]
    with pytest.warns(InexactCut, match="'norm'"):
        DeleteChannels("a", [0, 3, 6, 9])(snapshot)
    inputs = random_inputs(model)
    for edit in [
        WidenChannels("a", 18),
        WidenChannels("b", 10),
        WidenChannels("b", 12),
        ReorderChannels("a", [3, 4, 5, 0, 1, 2, 6, 7, 8, 9, 10, 11]),
    ]:
        edited = edit(snapshot)
        check_rebuilt_record(edited)
        assert deviation(compute(edited, inputs), compute(snapshot, inputs)) < 1e-5
    with pytest.raises(CannotWiden, match="'norm' normalises over the channels of a group"):
        WidenChannels("a", 16)(snapshot)


@pytest.mark.keras
def test_queries_and_keys_are_not_widened():
    snapshot = capture(one(transformer, (5,), "int32"))
    with pytest.raises(CannotWiden, match="sums over its key_dim without weights"):
        WidenChannels("attention", key_dim=6)(snapshot)
    with pytest.raises(CannotWiden, match="normalises over the channels"):
        WidenChannels("narrow", 12)(snapshot)


@pytest.mark.keras
@pytest.mark.exhaustive
def test_resnet50():
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classifier_activation=None, classes=10)
    rng = np.random.default_rng(0)
    convolutions = {
        m.path: m.axis.shape[1] for m in analyse(capture(model)).producers.values() if m.path != "predictions"
    }
    inner = {path: n for path, n in convolutions.items() if path.endswith(("_1_conv", "_2_conv"))}
    stream = {"conv2_block1_3_conv": 300, "conv3_block2_3_conv": 600, "conv1_conv": 80}
    check(model, WidenChannels({path: n + n // 4 for path, n in inner.items()} | stream), True, "float64")
    orders = {path: rng.permutation(n) for path, n in inner.items()}
    orders |= {path: rng.permutation(convolutions[path]) for path in stream}
    check(model, ReorderChannels(orders), False, "float64")
