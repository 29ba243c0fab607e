"""Nested models dissolved into the models around them; as pictures, and by what they compute."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_purity, check_rebuilt_record, compute, deviation, differences, random_inputs, randomise
from helpers.pictures import between, dense, momenta
from helpers.records import call, functional, layer, sequential
from helpers.running import captured
from kerassurgery_fn import (
    DeleteLayer,
    ExtractModel,
    FlattenModel,
    NestLayers,
    Plan,
    RenameLayer,
    SetOutputs,
    SetTrainable,
    capture,
    rebuild,
)
from kerassurgery_fn.errors import BadValue, NameTaken, UnknownLayer
from kerassurgery_fn.values.snapshot import Snapshot

# --- pictures, without Keras

WIDTH = (0, 1, 2)


def d(name, reads=None):
    record = dense(name, WIDTH)
    return record if reads is None else call(record, reads)


def weights_of(record):
    """The weights of all Dense layers: each has those of its last letter."""
    found = {}
    for one in record["config"]["layers"]:
        name = one["config"]["name"]
        if one["class_name"] == "Dense":
            found[name] = between(WIDTH, [ord(name[-1])] * 3)
        if "layers" in one["config"]:
            found |= {f"{name}/{path}": arrays for path, arrays in weights_of(one).items()}
    return found


def snap(record, training=False):
    weights = weights_of(record)
    return Snapshot(record, weights, momenta(weights) if training else None)


def net(*calls, outputs="z", **kwargs):
    return snap(functional("net", {"x": (None, 3)}, *calls, outputs=outputs), **kwargs)


def inner(*calls, outputs="b", name="bb"):
    return functional(name, {"i": (None, 3)}, *calls, outputs=outputs)


BB = inner(d("a", "i"), d("b", "a"))
ADD = layer("Add", "sum")
ROW = sequential("row", (None, 3), d("p"), sequential("bb", (None, 3), d("a"), d("b")), d("z"))
FLAT_ROW = sequential("row", (None, 3), d("p"), d("a"), d("b"), d("z"))

DEEP_BB = inner(call(inner(d("a", "i"), name="in", outputs="a"), "i"), d("b", "in"))
DEEP = net(call(DEEP_BB, "x"), d("z", "bb"))
TWO_OUTPUTS = inner(d("a", "i"), d("b", "a"), outputs=["b", "a"])

PICTURES = {
    "a model": (FlattenModel("bb"), net(call(BB, "x"), d("z", "bb")), net(d("a", "x"), d("b", "a"), d("z", "b"))),
    "by its class": (
        FlattenModel("*@Functional"), net(call(BB, "x"), d("z", "bb")), net(d("a", "x"), d("b", "a"), d("z", "b")),
    ),
    "at the end": (FlattenModel("bb"), net(call(BB, "x"), outputs="bb"), net(d("a", "x"), d("b", "a"), outputs="b")),
    "a name that clashes": (
        FlattenModel("bb"), net(d("a", "x"), call(BB, "a"), d("z", "bb")),
        net(d("a", "x"), d("bb_a", "a"), d("b", "bb_a"), d("z", "b")),
    ),
    "two calls": (
        FlattenModel("bb"), net(call(BB, "x"), call("bb", "bb"), d("z", ("bb", 1, 0))),
        net(d("a", "x"), d("b", "a"), call("a", "b"), call("b", ("a", 1, 0)), d("z", ("b", 1, 0))),
    ),
    "two outputs": (
        FlattenModel("bb"),
        net(call(TWO_OUTPUTS, "x"), call(ADD, ["bb", ("bb", 0, 1)]), d("z", "sum")),
        net(d("a", "x"), d("b", "a"), call(ADD, ["b", "a"]), d("z", "sum")),
    ),
    "an output that is the input": (
        FlattenModel("bb"),
        net(call(inner(d("a", "i"), outputs=["a", "i"]), "x"), call(ADD, ["bb", ("bb", 0, 1)]), d("z", "sum")),
        net(d("a", "x"), call(ADD, ["a", "x"]), d("z", "sum")),
    ),
    "a model in a model": (
        FlattenModel("bb"), DEEP,
        net(call(inner(d("a", "i"), name="in", outputs="a"), "x"), d("b", "in"), d("z", "b")),
    ),
    "the inner one": (
        FlattenModel("bb/in"), DEEP,
        net(call(BB, "x"), d("z", "bb")),
    ),
    "both": (
        FlattenModel("*@Functional"),
        DEEP,
        net(d("a", "x"), d("b", "a"), d("z", "b")),
    ),
    "a Sequential in a Sequential": (FlattenModel("bb"), snap(ROW), snap(FLAT_ROW)),
    "a Sequential in a Functional": (
        FlattenModel("bb"), net(call(sequential("bb", (None, 3), d("a"), d("b")), "x"), d("z", "bb")),
        net(d("a", "x"), d("b", "a"), d("z", "b")),
    ),
    "the state of the optimizer": (
        FlattenModel("bb"), net(call(BB, "x"), d("z", "bb"), training=True),
        net(d("a", "x"), d("b", "a"), d("z", "b"), training=True),
    ),
    "an edit of the inner model before": (
        Plan.at_once(DeleteLayer("bb/b"), FlattenModel("bb")), net(call(BB, "x"), d("z", "bb")),
        net(d("a", "x"), d("z", "a")),
    ),
    "a new name before": (
        Plan.at_once(RenameLayer("bb/b", "b2b"), FlattenModel("bb")), net(call(BB, "x"), d("z", "bb")),
        net(d("a", "x"), d("b2b", "a"), d("z", "b2b")),
    ),
    "tensors inside and outside": (
        ExtractModel(["bb/a", "z"]), net(call(BB, "x"), d("z", "bb")),
        net(d("a", "x"), d("b", "a"), d("z", "b"), outputs=["a", "z"]),
    ),
    "and the model's own": (
        ExtractModel(["bb/a", "bb"]), net(call(BB, "x"), d("z", "bb")),
        net(d("a", "x"), d("b", "a"), outputs=["a", "b"]),
    ),
    "tensors on two levels": (
        ExtractModel(["bb/in/a", "bb/b", "z"]),
        DEEP,
        net(d("a", "x"), d("b", "a"), d("z", "b"), outputs=["a", "b", "z"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    result = check_purity(before, edit)
    if isinstance(edit, ExtractModel):
        after = Snapshot({**after.record, "compile_config": {}}, after.weights)
    assert differences(result.record, after.record) == []
    assert result == after


FLAT = net(d("a", "x"), d("b", "a"), d("z", "b"))


def stem(reads, *calls, outputs):
    return call(functional("stem", {"stem_input": (None, 3)}, *calls, outputs=outputs), reads, mask=None)


def skip(training=False):
    return net(d("a", "x"), d("b", "a"), call(ADD, ["a", "b"]), d("z", "sum"), training=training)


BLOCK = stem("a", d("b", "stem_input"), call(ADD, ["stem_input", "b"]), outputs="sum")
NESTED = {
    "two layers": (["a", "b"], FLAT, net(stem("x", d("a", "stem_input"), d("b", "a"), outputs="b"), d("z", "stem"))),
    "the last layer": (
        "z", FLAT, net(d("a", "x"), d("b", "a"), stem("b", d("z", "stem_input"), outputs="z"), outputs="stem"),
    ),
    "a block": (["b", "sum"], skip(), net(d("a", "x"), BLOCK, d("z", "stem"))),
    "two outputs": (
        ["a", "b"], skip(),
        net(
            stem("x", d("a", "stem_input"), d("b", "a"), outputs=["a", "b"]), call(ADD, ["stem", ("stem", 0, 1)]),
            d("z", "sum"),
        ),
    ),
    "a nested model": (
        ["bb"], net(call(BB, "x"), d("z", "bb")),
        net(stem("x", call(BB, "stem_input"), outputs="bb"), d("z", "stem")),
    ),
    "the state of the optimizer": (
        ["b", "sum"], skip(training=True), net(d("a", "x"), BLOCK, d("z", "stem"), training=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("layers, before, after", NESTED.values(), ids=NESTED)
def test_layers_become_a_nested_model_and_come_back(layers, before, after):
    result = check_purity(before, NestLayers(layers, "stem"))
    assert differences(result.record, after.record) == []
    assert result == after
    assert FlattenModel("stem")(result) == before


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_nested_model_has_a_name_of_its_own(name):
    with pytest.raises(NameTaken, match=repr(name)):
        NestLayers(["a", "b"], name)(skip())


@pytest.mark.parametrize("layers", [["a", "b"], ["b"], ["b", "z"], ["a", "b", "z"]])
def test_layers_of_a_sequential_model_become_a_nested_model_and_come_back(layers):
    before = snap(FLAT_ROW)
    result = check_purity(before, NestLayers(layers, "stem"))
    assert result.record["class_name"] == "Sequential"
    assert FlattenModel("stem")(result) == before


TWICE = net(call(BB, "x"), call("bb", "bb"), d("z", ("bb", 1, 0)))
REFUSED = {
    "a layer": (FlattenModel("z"), net(call(BB, "x"), d("z", "bb")), BadValue, r"'z' \(Dense\) is not a nested model"),
    "no layer": (FlattenModel("cc"), TWICE, UnknownLayer, "'cc'"),
    "twice": (
        Plan.at_once(FlattenModel("bb"), DeleteLayer("bb/a")), TWICE, UnknownLayer, "another edit of the same plan",
    ),
    "as an output": (
        Plan.at_once(FlattenModel("bb"), SetOutputs(["bb", "z"])), TWICE, UnknownLayer,
        "'bb' no longer exists: another edit of the same plan",
    ),
    "several inputs": (NestLayers(["a", "sum"], "bb"), skip(), BadValue, "read 'x', 'b' of the other.* one input"),
    "a layer between": (NestLayers(["a", "z"], "bb"), FLAT, BadValue, "'x', 'b'"),
    "an input": (NestLayers(["x", "a"], "bb"), FLAT, BadValue, "'x' is an input"),
    "a name": (NestLayers(["a"], "z"), FLAT, NameTaken, "'z'"),
    "two models": (NestLayers(["bb/a", "x"], "dd"), net(call(BB, "x"), d("z", "bb")), BadValue, "different models"),
    "tensors of several calls": (
        ExtractModel(["bb/a", "z"]), TWICE, BadValue,
        r"'bb' is called 2 times; split it first with UnshareLayer\('bb'\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_edit_is_refused_with_a_reason(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


# --- against Keras


def classifier(calls=1):
    """A backbone for images of any size in a classifier for images of one size."""
    i = keras.Input((None, None, 3), name="any")
    x = L.Conv2D(4, 3, name="a")(L.Rescaling(0.5, name="scale")(i))
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    backbone = keras.Model(i, L.Conv2D(5, 3, name="top")(x), name="bb")
    i = keras.Input((12, 12, 3), name="img")
    x = L.GlobalAveragePooling2D(name="mean")(backbone(i))
    if calls > 1:
        x = L.Add(name="sum")([x, L.GlobalAveragePooling2D(name="peak")(backbone(L.MaxPooling2D(name="half")(i)))])
    model = keras.Model(i, L.Dense(2, name="top")(x), name="net")
    randomise(model)
    model.compile("adam", "mse")
    model.fit(random_inputs(model, batch=2), np.zeros((2, 2)), verbose=0)
    return captured(model)


@pytest.mark.keras
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_dissolved_backbone_computes_the_same(calls, frozen):
    before = classifier(calls)
    before = SetTrainable("bb/norm", False)(before) if frozen else before
    after = check_purity(before, FlattenModel("bb"))
    check_rebuilt_record(after)
    assert {*after.weights} == {"a", "norm", "bb_top", "top"}
    assert len(after.training.slots) == len(before.training.slots)
    inputs = random_inputs(rebuild(before))
    assert deviation(compute(after, inputs), compute(before, inputs)) == 0


@pytest.mark.keras
def test_maps_of_a_backbone_and_the_classes_after_it():
    before = classifier()
    part = check_purity(before, ExtractModel(["bb/relu", "top"]))
    check_rebuilt_record(part)
    inputs = random_inputs(rebuild(before))
    maps, classes = compute(part, inputs)
    assert maps.shape == (len(classes), 10, 10, 4)
    assert deviation([classes], compute(before, inputs)) == 0


@pytest.mark.keras
def test_masks_pass_into_a_nested_model_and_through_it():
    i = keras.Input((6, 3), name="i")
    backbone = keras.Model(i, L.LSTM(4, name="b")(L.LSTM(3, return_sequences=True, name="a")(i)), name="bb")
    j = keras.Input((6,), dtype="int32", name="words")
    model = keras.Model(j, L.Dense(2, name="z")(backbone(L.Embedding(9, 3, mask_zero=True, name="emb")(j))))
    randomise(model)
    before = capture(model)
    after = check_purity(before, FlattenModel("bb"))
    check_rebuilt_record(after)
    words = np.array([[1, 2, 0, 0, 0, 0], [3, 4, 5, 6, 7, 8]])
    assert deviation(compute(after, words), compute(before, words)) < 1e-6


@pytest.mark.keras
def test_the_input_of_a_nested_model_can_have_the_name_of_the_tensor_that_it_reads():
    x = keras.Input((4,), name="net_input")
    model = keras.Model(x, L.Dense(2, name="b")(L.Dense(3, name="a")(x)))
    before = captured(model)
    nested = NestLayers(("a",), "net")(before)
    check_rebuilt_record(nested)
    inputs = random_inputs(model)
    assert deviation(compute(nested, inputs), compute(before, inputs)) == 0
