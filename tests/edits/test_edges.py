"""New edges of a model: skip connections, inputs and outputs; as pictures, and against models that Keras builds."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_purity, check_rebuilt_record, compute, deviation, differences, random_inputs, randomise
from helpers.pictures import chain
from helpers.records import call, functional, layer, numbers
from helpers.running import captured
from kerassurgery_fn import (
    AddInput,
    ConvertDtype,
    InsertLayer,
    Plan,
    ReplaceLayer,
    SetOutputs,
    capture,
    rebuild,
)
from kerassurgery_fn.errors import BadValue, MisfitTensor, NameTaken, UnknownCall, UnknownLayer
from kerassurgery_fn.values.snapshot import Snapshot

# --- pictures, without Keras


def dense(name, units):
    return layer("Dense", name, units=units)


WEIGHTS = {name: (numbers(3, 3), numbers(3)) for name in "abc"}


def row(*between, outputs="c", inputs=None, c="b", also=()):
    """Three dense layers, and what is between the last two."""
    record = functional(
        "row", inputs or {"x": (None, 3)},
        call(dense("a", 3), "x"), call(dense("b", 3), "a"), *between, call(dense("c", 3), c), *also, outputs=outputs,
    )  # fmt: skip
    names = {one["name"] for one in record["config"]["layers"]}
    return Snapshot(record, {name: arrays for name, arrays in WEIGHTS.items() if name in names})


ADD, JOIN = layer("Add", "sum"), layer("Concatenate", "both", axis=1)
PICTURES = {
    "a skip connection after": (
        InsertLayer(ADD, after="b", also=["a"]), row(), row(call(ADD, ["b", "a"]), c="sum"),
    ),
    "a skip connection before": (
        InsertLayer(ADD, before="c", also="a"), row(), row(call(ADD, ["b", "a"]), c="sum"),
    ),
    "from an input": (InsertLayer(ADD, after="b", also=["x"]), row(), row(call(ADD, ["b", "x"]), c="sum")),
    "of three": (InsertLayer(ADD, after="b", also=["a", "x"]), row(), row(call(ADD, ["b", "a", "x"]), c="sum")),
    "with itself": (InsertLayer(ADD, after="b", also=["b"]), row(), row(call(ADD, ["b", "b"]), c="sum")),
    "an input": (
        AddInput("y", (2,)), row(), row(inputs={"x": (None, 3), "y": (None, 2)}),
    ),
    "an input that is read": (
        Plan(AddInput("y", (3,)), InsertLayer(ADD, before="c", also=["y"])), row(),
        row(call(ADD, ["b", "y"]), c="sum", inputs={"x": (None, 3), "y": (None, 3)}),
    ),
    "one more output": (SetOutputs(["c", "a"]), row(), row(outputs=["c", "a"])),
    "one less": (SetOutputs("c"), row(outputs=["c", "a"]), row()),
    "another": (
        SetOutputs("b"), row(),
        Snapshot(
            functional("row", {"x": (None, 3)}, call(dense("a", 3), "x"), call(dense("b", 3), "a"), outputs="b"),
            {name: WEIGHTS[name] for name in "ab"},
        ),
    ),
    "the same": (SetOutputs("c"), row(), row()),
    "at once": (
        Plan.at_once(InsertLayer(ADD, after="b", also=["a"]), SetOutputs(["c", "a"])), row(),
        row(call(ADD, ["b", "a"]), c="sum", outputs=["c", "a"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    made = check_purity(before, edit)
    assert differences(made.record, after.record) == []
    assert made == after


WIDE = Snapshot(
    functional("wide", {"x": (None, 3)}, call(dense("a", 4), "x"), call(dense("b", 3), "a"), outputs="b"), {}
)
REFUSED = {
    "shapes": (
        InsertLayer(ADD, after="b", also=["a"]), WIDE, MisfitTensor,
        r"'sum' \(Add\) would be called on tensors of shapes \(None, 3\), \(None, 4\) \(of 'b' and 'a'\).* 3 and 4",
    ),
    "a cycle after": (InsertLayer(ADD, after="a", also=["b"]), row(), BadValue, "at 'a' .*of 'b', which depends"),
    "a cycle before": (InsertLayer(ADD, before="b", also=["c"]), row(), BadValue, "insert it after 'c'"),
    "its own layer": (InsertLayer(ADD, before="b", also=["b"]), row(), BadValue, "insert it after 'b'"),
    "no layer": (InsertLayer(ADD, after="b", also=["z"]), row(), UnknownLayer, "'z'"),
    "no call": (InsertLayer(ADD, after="b", also=["a:1"]), row(), UnknownCall, "no call 1"),
    "a layer of one tensor": (
        InsertLayer(layer("ReLU", "relu"), after="b", also=["a"]), row(), MisfitTensor, "1 tensor by position, not 2",
    ),
    "a name": (AddInput("a", (3,)), row(), NameTaken, "'a'"),
    "no output": (SetOutputs("a:0:1"), row(), UnknownCall, "has no output 1"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_edit_is_refused_with_a_reason(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


def test_a_row_of_layers_becomes_a_graph():
    made = InsertLayer(ADD, after="relu", also=["a"])(chain())
    assert made.record["class_name"] == "Functional"
    assert made == Snapshot(made.record, chain().weights)


# --- against Keras


def network(skip=False, second=False, outputs=1):
    i, j = keras.Input((8, 8, 3), name="img"), keras.Input((8, 8, 2), name="more")
    x = L.Conv2D(4, 3, padding="same", name="a")(L.Concatenate(name="both")([i, j]) if second else i)
    y = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    y = L.Conv2D(4, 3, padding="same", name="b")(y)
    y = L.Add(name="sum")([y, x]) if skip else y
    z = L.Dense(2, name="top")(L.GlobalAveragePooling2D(name="mean")(y))
    ends = [z, y, L.GlobalMaxPooling2D(name="peak")(x)][:outputs]
    return keras.Model([i, j] if second else i, ends if outputs > 1 else z, name="net")


def trained(model, outputs=1):
    randomise(model)
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    inputs = random_inputs(model, batch=2)
    results = model(inputs)
    model.fit(inputs, [np.zeros(r.shape) for r in results] if outputs > 1 else np.zeros(results.shape), verbose=0)
    return captured(model)


@pytest.mark.keras
def test_a_skip_connection_is_that_of_keras():
    model = network()
    snapshot = trained(model)
    edited = check_purity(snapshot, InsertLayer(L.Add(name="sum"), after="b", also=["a"]))
    check_rebuilt_record(edited)
    truth = network(skip=True)
    truth.set_weights(model.get_weights())
    inputs = random_inputs(model)
    expected = [keras.ops.convert_to_numpy(truth(inputs))]
    assert deviation(compute(edited, inputs), expected) < 1e-5
    assert deviation(compute(snapshot, inputs), expected) > 1e-3
    assert (
        differences(edited.record, {**capture(truth).record, "compile_config": snapshot.record["compile_config"]}) == []
    )


@pytest.mark.keras
def test_a_second_input_is_that_of_keras():
    model = network()
    plan = Plan(
        AddInput("more", (8, 8, 2)),
        Plan.at_once(
            InsertLayer(L.Concatenate(name="both"), before="a", also=["more"]),
            ReplaceLayer("a", L.Conv2D(4, 3, padding="same", name="a")),
        ),
    )
    snapshot = capture(model)
    truth = network(second=True)
    truth.set_weights([np.ones(v.shape) for v in truth.weights])
    edited = plan(snapshot)
    assert differences(edited.record, capture(truth).record) == []
    assert edited.weights["a"] == ()
    assert rebuild(edited).input_shape == [(None, 8, 8, 3), (None, 8, 8, 2)]


@pytest.mark.keras
def test_outputs_agree_with_keras():
    model = network()
    snapshot = trained(model)
    edited = check_purity(snapshot, SetOutputs(["top", "b"]))
    check_rebuilt_record(edited)
    truth = keras.Model(model.input, [model.output, model.get_layer("b").output], name="net")
    inputs = random_inputs(model)
    assert deviation(compute(edited, inputs), [keras.ops.convert_to_numpy(one) for one in truth(inputs)]) < 1e-5
    assert edited.training == snapshot.training
    again = SetOutputs("top")(edited)
    check_rebuilt_record(again)
    assert again == snapshot


@pytest.mark.keras
def test_losses_stay_with_their_outputs():
    i = keras.Input((3,), name="x")
    h = L.Dense(4, name="h")(i)
    model = keras.Model(i, [L.Dense(2, name="p")(h), L.Dense(1, name="q")(h)])
    model.compile("sgd", {"p": "mse", "q": "mae"}, loss_weights={"p": 1.0, "q": 0.5}, metrics={"q": ["mse"]})
    snapshot = capture(model)
    one, three = SetOutputs("q")(snapshot), SetOutputs(["h", "q", "p"])(snapshot)
    for edited in (one, three):
        check_rebuilt_record(edited)
    compiled = one.record["compile_config"]
    assert (compiled["loss"], compiled["loss_weights"], compiled["metrics"]) == ("mae", 0.5, ["mse"])
    compiled = three.record["compile_config"]
    assert (compiled["loss"], compiled["metrics"]) == ({"p": "mse", "q": "mae", "h": None}, {"q": ["mse"]})
    live = rebuild(three)
    live.fit(np.ones((4, 3)), [np.ones((4, 4)), np.ones((4, 1)), np.ones((4, 2))], verbose=0)
    assert not rebuild(SetOutputs("h")(snapshot)).compiled


@pytest.mark.keras
def test_outputs_in_nested_structures_are_not_compiled():
    i = keras.Input((3,), name="x")
    h = L.Dense(4, name="h")(i)
    model = keras.Model(i, L.Dense(2, name="p")(h))
    model.compile("sgd", "mse")
    edited = SetOutputs({"one": ["p", "h"], "other": "h"})(capture(model))
    check_rebuilt_record(edited)
    assert not rebuild(edited).compiled


@pytest.mark.keras
@pytest.mark.parametrize("kind", ["row", "dict", "nested"])
def test_other_models(kind):
    if kind == "row":
        model = keras.Sequential([keras.Input((4,)), L.Dense(4, name="a"), L.Dense(4, name="b"), L.Dense(2, name="c")])
        edits = [
            InsertLayer(L.Multiply(), after="b", also=["a"]),
            AddInput("y", (None, 2)),
            SetOutputs({"o": "b", "p": "c"}),
        ]
    elif kind == "dict":
        i = {"x": keras.Input((4,), name="x"), "z": keras.Input((4,), name="z")}
        model = keras.Model(i, {"o": L.Dense(2, name="c")(L.Dense(4, name="a")(i["x"]) + i["z"])})
        edits = [InsertLayer(L.Add(), before="c", also=["a", "z"]), AddInput("y", (5,), "int32"), SetOutputs(["c"])]
    else:
        i = keras.Input((4,))
        inner = keras.Model(i, L.Dense(4, name="b")(L.Dense(4, name="a")(i)), name="inner")
        x = keras.Input((4,), name="x")
        model = keras.Model(x, L.Dense(2, name="c")(inner(x)))
        edits = [
            InsertLayer(L.Add(), after="inner/b", also=["inner/a"]),
            InsertLayer(L.Add(), after="inner", also=["x"]),
        ]
        with pytest.raises(
            BadValue, match="in the outer model and cannot read 'inner/a', which is in the nested model"
        ):
            InsertLayer(L.Add(), before="c", also=["inner/a"])(capture(model))
    for edit in edits:
        check_rebuilt_record(edit(captured(model)))
        check_rebuilt_record(Plan(edit, ConvertDtype("float64"))(captured(model)))


@pytest.mark.keras
def test_layers_that_take_tensors_one_by_one_and_models_of_several_inputs():
    i = keras.Input((5, 4), name="x")
    model = keras.Model(i, L.Dense(2, name="c")(L.Dense(4, name="a")(i)))
    snapshot = captured(model)
    attention = InsertLayer(L.MultiHeadAttention(2, 3, name="attention"), after="a", also=["x"])(snapshot)
    assert differences(attention.record, capture(rebuild(attention)).record) == []
    a, b = keras.Input((5, 4)), keras.Input((5, 4))
    gate = keras.Model([a, b], L.Multiply()([L.Dense(4, "sigmoid")(a), b]), name="gate")
    check_rebuilt_record(InsertLayer(capture(gate), after="a", also=["x"])(snapshot))
