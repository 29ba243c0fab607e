"""Calls by position, by keyword and mixed: rules name their arguments as the layers of Keras do."""

import inspect

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.keras_classes import key_of_class, layer_classes, operation_classes
from helpers.records import call, functional, layer, tensor
from kerassurgery_fn import DeleteChannels, KeepChannels, Plan, Snapshot, analyse, capture, cost, rebuild
from kerassurgery_fn.rules import RULES

X, Y, MASK, STATE = (
    tensor("x", (None, 5, 8)), tensor("y", (None, 5, 8)), tensor("mask", (None, 5, 5)), tensor("state", (None, 4)),
)  # fmt: skip


def named(function):
    """The parameters of a rule or a call after the first, without those that take all others."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def agree(function, call):
    """Whether the parameters have the same names in the same order; what a call took in an older Keras is optional."""
    ours, theirs = named(function), named(call)
    common, older = min(len(ours), len(theirs)), ours[len(theirs) :]
    parameters = inspect.signature(function).parameters
    return ours[:common] == theirs[:common] and all(parameters[name].default is None for name in older)


@pytest.mark.keras
def test_rules_name_arguments_as_keras_does():
    wrong = {}
    for cls in layer_classes() | operation_classes():
        key = key_of_class(cls)
        if key in RULES and (channels := RULES[key].channels) and not agree(channels, cls.call):
            wrong[key] = (named(channels), named(cls.call))
    assert wrong == {}


@pytest.mark.keras
def test_counts_of_macs_name_arguments_as_keras_does():
    wrong = {}
    for cls in layer_classes() | operation_classes():
        key = key_of_class(cls)
        if key in RULES and (macs := RULES[key].macs) and not agree(macs, cls.call):
            wrong[key] = (named(macs), named(cls.call))
    assert wrong == {}


# --- one layer, called in different ways

ATTENTION = {
    "num_heads": 2, "key_dim": 4, "value_dim": 4, "use_bias": True, "output_shape": None, "attention_axes": None,
    "dropout": 0.0, "use_gate": False,
}  # fmt: skip
GROUPED = {
    "head_dim": 4, "num_query_heads": 4, "num_key_value_heads": 2, "use_bias": True, "use_gate": False, "dropout": 0.0,
}  # fmt: skip
LISTED = {"use_scale": True, "score_mode": "dot", "dropout": 0.0}
RECURRENT = {"units": 4, "return_sequences": False, "return_state": False}
SINGLE = {"axis": -1, "dtype": "float32"}

STYLES = {  # class, config, calls of which all mean the same: positional arguments and keyword arguments
    "attention": ("MultiHeadAttention", ATTENTION, [([X, Y], {}), ([X], {"value": Y}), ([], {"value": Y, "query": X})]),
    "attention, masked": (
        "MultiHeadAttention", ATTENTION,
        [([X, Y, None, None, None, None, MASK], {}), ([], {"query": X, "value": Y, "attention_mask": MASK}),
         ([], {"attention_mask": MASK, "value": Y, "query": X, "training": True}), ([X, Y], {"attention_mask": MASK})],
    ),
    "attention, causal": (
        "MultiHeadAttention", ATTENTION,
        [([X, Y], {"use_causal_mask": True}), ([X, Y, None, None, None, None, None, False, None, True], {})],
    ),
    "grouped attention": (
        "GroupQueryAttention", GROUPED,
        [([X, Y, Y, None, None, None, MASK], {}), ([], {"attention_mask": MASK, "query": X, "value": Y, "key": Y})],
    ),
    "dot attention": (
        "Attention", LISTED,
        [([[X, Y], [MASK, MASK]], {}), ([], {"mask": [MASK, MASK], "inputs": [X, Y]}),
         ([[X, Y]], {"mask": [MASK] * 2})],
    ),
    "additive attention": (
        "AdditiveAttention", LISTED,
        [([[X, Y]], {}), ([], {"inputs": [X, Y]}), ([], {"training": None, "inputs": [X, Y]})],
    ),
    "recurrent": (
        "GRU", {**RECURRENT, "reset_after": True},
        [([X, [STATE], MASK], {}), ([], {"mask": MASK, "initial_state": [STATE], "sequences": X}),
         ([X], {"initial_state": [STATE], "mask": MASK, "training": True})],
    ),
    "a cell": ("SimpleRNNCell", RECURRENT, [([STATE, [STATE]], {}), ([], {"states": [STATE], "sequence": STATE})]),
    "softmax": (
        "Softmax", SINGLE,
        [([X, MASK], {}), ([], {"mask": MASK, "inputs": X}), ([X], {"mask": MASK}), ([], {"inputs": X, "mask": MASK})],
    ),
    "normalisation": ("BatchNormalization", {}, [([X, None, MASK], {}), ([], {"mask": MASK, "inputs": X})]),
    "pooling": (
        "GlobalAveragePooling1D", {"data_format": "channels_last", "keepdims": False},
        [([X, MASK], {}), ([], {"mask": MASK, "inputs": X})],
    ),
    "dropout": ("Dropout", {}, [([X], {"training": True}), ([X, True], {}), ([], {"training": True, "inputs": X})]),
    "sum": ("Add", {}, [([[X, Y]], {}), ([], {"inputs": [X, Y]})]),
}  # fmt: skip


def calling(class_name, config, args, kwargs):
    """The snapshot of a model that calls a layer in one way on the outputs of others."""
    record = functional(
        "net", {"i": (None, 5, 3), "mask": (None, 5, 5), "j": (None, 2)},
        call(layer("Dense", "x", units=8), "i"), call(layer("Dense", "y", units=8), "i"),
        call(layer("Dense", "state", units=4), "j"),
        call(layer(class_name, "z", **config), ["x", "y", "state", "mask"], out=(None, 5, 8)), outputs="z",
    )  # fmt: skip
    (z,) = [one for one in record["config"]["layers"] if one["config"]["name"] == "z"]
    z["inbound_nodes"] = [{"args": args, "kwargs": kwargs}]
    z.pop("build_config", None)
    return Snapshot(record, {})


@pytest.mark.parametrize("class_name, config, styles", STYLES.values(), ids=STYLES)
def test_every_style_of_a_call_means_the_same(class_name, config, styles):
    snapshots = [calling(class_name, config, *style) for style in styles]
    flows = [analyse(snapshot) for snapshot in snapshots]
    assert [flow.opaque for flow in flows] == [{}] * len(flows)
    for flow in flows[1:]:
        assert [weight.name for weight in flow.weights.get("z", ())] == [w.name for w in flows[0].weights.get("z", ())]
        assert np.array_equal(flow.solution.table, flows[0].solution.table)
        assert np.array_equal(flow.solution.pinned(output=False), flows[0].solution.pinned(output=False))
    rows = [[(row.path, row.macs, row.note) for row in cost(snapshot).layers] for snapshot in snapshots]
    assert all(sorted(row) == sorted(rows[0]) for row in rows)


# --- what is computed


@pytest.mark.keras
def test_attention_called_by_keywords_is_cut_as_by_position():
    """The usual style of a transformer's block, its mask first."""
    x, mask = keras.Input((4, 3)), keras.Input((4, 4), dtype="int32")
    y = L.Dense(6, name="d")(x)
    model = keras.Model(
        [x, mask], L.Dense(2)(L.MultiHeadAttention(2, 4, name="a")(attention_mask=mask, query=y, value=y))
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    before = capture(model)
    smaller = rebuild(Plan(KeepChannels("a", num_heads=[1]), DeleteChannels("a", value_dim=[0]))(before))
    arrays = [array.copy() for array in before.weights["a"]]
    arrays[6][0], arrays[6][:, 0] = 0, 0  # what reads the first head and the first place of every value
    zeroed = rebuild(Snapshot(before.record, {**before.weights, "a": tuple(arrays)}))
    inputs = [rng.normal(size=(3, 4, 3)).astype("float32"), rng.integers(0, 2, (3, 4, 4)) | np.eye(4, dtype=int)]
    assert smaller.get_layer("a").num_heads == 1
    assert np.allclose(smaller(inputs), zeroed(inputs), atol=1e-4)
    assert not np.allclose(smaller(inputs), model(inputs), atol=1e-2)


@pytest.mark.keras
def test_a_layer_that_names_a_mask_before_its_inputs_is_built_for_its_inputs():
    x, mask = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    y = L.Dense(6, name="d")(x)
    model = keras.Model([x, mask], L.Dense(2)(L.AdditiveAttention(name="a")(mask=[mask, mask], inputs=[y, y])))
    smaller = rebuild(DeleteChannels("d", [1, 4])(capture(model)))
    assert smaller.get_layer("a").weights[0].shape == (4,)


@pytest.mark.keras
def test_a_model_that_is_called_by_keywords_in_any_order():
    inner = keras.Sequential([keras.Input((3,)), L.Dense(5, name="d")], name="inner")
    x = keras.Input((3,))
    before = capture(keras.Model(x, L.Dense(2, name="e")(inner(training=False, inputs=x))))
    smaller = DeleteChannels("inner/d", [0])(before)
    assert analyse(before).opaque == {}
    assert np.array_equal(smaller.weights["e"][0], before.weights["e"][0][1:])
    assert rebuild(smaller).count_params() == 3 * 4 + 4 + 4 * 2 + 2


@pytest.mark.keras
def test_a_sum_that_names_its_inputs_loses_one_of_them():
    x = keras.Input((3,))
    y, z = L.Dense(4, name="a")(x), L.Dense(4, name="b")(L.Dense(2, name="gone")(x))
    model = keras.Model(x, L.Dense(2)(L.Add(name="sum")(inputs=[y, z])))
    smaller = DeleteChannels("gone", [0, 1])(capture(model))
    assert {"a", "b", "sum", "gone"} & set(smaller.weights) == {"a"}
    assert rebuild(smaller).count_params() == 3 * 4 + 4 + 4 * 2 + 2
