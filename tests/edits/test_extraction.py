"""Parts of models: as pictures, and against the model that Keras makes of the same tensors."""

import pickle

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_rebuilt_record, compute, deviation, differences, random_inputs, randomise, sabotage
from helpers.pictures import chain, fork, nested, residual, shared
from helpers.records import call, functional, layer, numbers, sequential
from helpers.running import captured, model_of
from kerassurgery_fn import DeleteChannels, ExtractModel, Plan, capture, explain, rebuild
from kerassurgery_fn.edits.plan import AtOnce
from kerassurgery_fn.errors import AmbiguousLayer, BadValue, MisfitTensor, SurgeryError, UnknownCall, UnknownLayer
from kerassurgery_fn.graph import is_functional
from kerassurgery_fn.values.snapshot import Snapshot

# --- pictures, without Keras


def dense(name, units):
    return layer("Dense", name, units=units)


def part(snapshot, record):
    """A record with the weights that a snapshot has for its layers, as of a model that is not compiled."""
    names = [one["config"]["name"] for one in record["config"]["layers"]]
    weights = {name: snapshot.weights[name] for name in names if name in snapshot.weights}
    return Snapshot({**record, "compile_config": {}}, weights)


def first_of_chain():
    made = sequential("chain", (None, 5), dense("a", 4), layer("ReLU", "relu"), dense("b", 3))
    return part(chain(), made)


def end_of_residual(name):
    record = functional("residual", {name: (None, 3)}, call(dense("r", 2), name), outputs="r")
    return part(residual(), record)


def side_of_fork():
    return part(fork(), functional("fork", {"x": (None, 5)}, call(dense("q", 3), "x"), outputs="q"))


def sides_of_fork(outputs, name="fork"):
    calls = [call(dense("p", 2), "x"), call(dense("q", 3), "x")]
    return part(fork(), functional(name, {"x": (None, 5)}, *calls, outputs=outputs))


def half_of_shared(source, shape):
    calls = [call(dense(source, 2), {"p": "x", "q": "y"}[source]), call(dense("s", 3), source)]
    record = functional("shared", {{"p": "x", "q": "y"}[source]: shape}, *calls, outputs="s")
    return part(shared(), record)


def inner_of_nested():
    whole = nested()
    record = functional("inner", {"i": (None, 2)}, call(dense("a", 3), "i"), outputs="a")
    return Snapshot({**record, "compile_config": {}}, {"a": whole.weights["inner/a"]})


PICTURES = {
    "the first layers": (ExtractModel("b"), chain(), first_of_chain()),
    "one side of a fork": (ExtractModel("q"), fork(), side_of_fork()),
    "both sides": (ExtractModel(["p", "q"]), fork(), sides_of_fork(["p", "q"])),
    "both in the other order": (ExtractModel(["q", "p"]), fork(), sides_of_fork(["q", "p"])),
    "both by name": (ExtractModel({"u": "p", "v": ["q"]}), fork(), sides_of_fork({"u": "p", "v": ["q"]})),
    "both by a pattern": (ExtractModel("[pq]"), fork(), sides_of_fork(["p", "q"])),
    "a pattern among others": (ExtractModel(["q", "[pq]"]), fork(), sides_of_fork(["q", "p", "q"])),
    "another name": (ExtractModel(["p", "q"], name="sides"), fork(), sides_of_fork(["p", "q"], "sides")),
    "the last layers": (ExtractModel("r", inputs="sum"), residual(), end_of_residual("sum_input")),
    "the first call": (ExtractModel("s"), shared(), half_of_shared("p", (None, 5))),
    "the second call": (ExtractModel("s:1"), shared(), half_of_shared("q", (None, 4))),
    "the last call": (ExtractModel("s:-1"), shared(), half_of_shared("q", (None, 4))),
    "what a layer in a nested model makes": (ExtractModel("inner/a"), nested(), inner_of_nested()),
}


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    kept = pickle.loads(pickle.dumps(before))
    made = edit(before)
    assert differences(made.record, after.record) == []
    assert made == after
    assert before == kept


def test_arrays_are_shared_and_the_optimizer_is_dropped():
    before = chain(training=True)
    made = ExtractModel("b")(before)
    assert made.weights["a"][0] is before.weights["a"][0]
    assert made.training is None
    assert made.weights.keys() == {"a", "b"}


def test_layers_are_taken_as_keras_gives_them():
    class Named:
        name = "b"

    assert ExtractModel(Named()) == ExtractModel("b")
    assert ExtractModel([Named(), "a"], inputs={"x": Named()}) == ExtractModel(("b", "a"), {"x": "b"})


def split():
    record = functional(
        "split", {"x": (None, 4)}, call(dense("a", 4), "x"),
        call(layer("LSTM", "lstm", units=3, return_state=True), "a", out=[(None, 3)] * 3), outputs="lstm",
    )  # fmt: skip
    return Snapshot(record, {"a": (numbers(4, 4), numbers(4))})


REFUSED = {
    "no such layer": (ExtractModel("bb"), chain(), UnknownLayer, "did you mean 'b'"),
    "no such pattern": (ExtractModel("x*"), chain(), UnknownLayer, "no layer matches 'x\\*'"),
    "no such call": (ExtractModel("s:2"), shared(), UnknownCall, r"'s' is called 2 times \(0 to 1\).* no call 2"),
    "no such output": (ExtractModel("a:0:1"), chain(), UnknownCall, "layer 'a' has 1 output, so it has no"),
    "no number": (ExtractModel("a:x"), chain(), UnknownCall, "'a:x' is not a tensor: .* as in 'a:0:1'"),
    "too many numbers": (ExtractModel("a:0:0:0"), chain(), UnknownCall, "is not a tensor"),
    "an output from the end": (ExtractModel("a:0:-1"), chain(), UnknownCall, "is not a tensor"),
    "an inner and an outer tensor": (
        ExtractModel(["inner/a", "p"]), nested(), BadValue, "nested model 'inner' is called 2 times",
    ),
    "other inputs": (ExtractModel("cat", inputs="p"), fork(), BadValue, "depend on 'x', too: add that to the inp"),
    "inputs that lie behind": (ExtractModel("a", inputs="b"), chain(), BadValue, "depend on 'chain_input', too"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_part_is_refused(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)
    assert issubclass(error, SurgeryError)


def test_an_ambiguous_name_is_refused():
    record = functional(
        "net", {"x": (None, 2)}, call(functional("m", {"i": (None, 2)}, call(dense("a", 2), "i"), outputs="a"), "x"),
        call(functional("n", {"j": (None, 2)}, call(dense("a", 2), "j"), outputs="a"), "m"), outputs="n",
    )  # fmt: skip
    with pytest.raises(AmbiguousLayer, match="2 layers are named 'a': m/a, n/a"):
        ExtractModel("a")(Snapshot(record, {}))


def test_an_unknown_layer_makes_no_input():
    odd = layer("Odd", "odd", module="mine", registered_name="mine>Odd")
    record = functional(
        "net", {"x": (None, 2)}, call(odd, "x", out=(None, 2)),
        call(dense("a", 2), "odd"), outputs="a",
    )  # fmt: skip
    made = ExtractModel("a", inputs="odd")(Snapshot(record, {}))
    assert made.config["layers"][0]["config"]["batch_shape"] == [None, 2]
    bare = functional("net", {"x": (None, 2)}, call(odd, "x", out=(None, 2)), outputs="odd")
    with pytest.raises(MisfitTensor, match="shape of the output of 'odd' is not known"):
        ExtractModel("odd", inputs="odd")(Snapshot(bare, {}))


@pytest.mark.parametrize("given", [None, 3, [], ["a", None], object()])
def test_an_invalid_tensor_name_is_refused(given):
    with pytest.raises(BadValue, match="is not a tensor"):
        ExtractModel(given)


def test_a_part_is_extracted_alone_in_a_plan():
    with pytest.raises(SurgeryError, match="put it in a Plan of its own"):
        Plan.at_once(ExtractModel("b"))
    assert not isinstance(Plan(ExtractModel("b")), AtOnce)
    told = str(explain(ExtractModel("b"), chain()))
    assert "removed  c" in told


# --- what Keras makes of the same tensors


def branching():
    x, z = keras.Input((6,), name="x"), keras.Input((3,), name="z")
    twice, drop = L.Dense(6, activation="relu", name="twice"), L.Dropout(0.2, name="drop")
    y = twice(x)
    again = twice(y)
    w = drop(again)
    joined = L.Concatenate(name="joined")([w, z])
    model = keras.Model([x, z], {"o": L.Dense(2, name="o")(joined), "p": L.Dense(3, name="p")(y)}, name="net")
    tensors = {"x": x, "z": z, "twice": y, "twice:1": again, "drop": w, "joined": joined}
    return model, tensors | model.output


WANTED = {
    "one": "p", "a list of one": ["p"], "the first call": "twice", "the second call": "twice:1",
    "several": ["drop", "joined"],
    "a dict": {"b": "twice:1", "a": ["joined", "o"]}, "one twice": ["p", "p"], "an input": "x",
    "all": {"o": "o", "p": "p"}, "an input and more": ["z", "o"], "a tuple": ("p", "o"),
}  # fmt: skip


def mapped(do, tree):
    if isinstance(tree, dict):
        return {key: mapped(do, item) for key, item in tree.items()}
    return [mapped(do, item) for item in tree] if isinstance(tree, (list, tuple)) else do(tree)


def inputs_of(tensors, model):
    """Those of a model's inputs that tensors depend on, one alone or in a list."""
    needed = keras.tree.flatten(mapped(lambda one: list(sources(one)), tensors))
    found = [one for one in model.inputs if any(one is other for other in needed)]
    return found if len(found) > 1 else found[0]


def sources(tensor):
    operation, index, _ = tensor._keras_history
    given = operation._inbound_nodes[index].input_tensors
    return [tensor] if not given else [one for each in given for one in sources(each)]


@pytest.mark.keras
@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
def test_the_part_is_the_model_that_keras_makes_of_the_same_tensors(wanted):
    model, tensors = branching()
    randomise(model)
    model.compile("adam", "mse")
    outputs = mapped(tensors.__getitem__, wanted)
    truth = capture(keras.Model(inputs_of(outputs, model), outputs, name="net"))
    made = ExtractModel(wanted)(capture(model))
    assert differences(made.record, truth.record) == []
    assert made == truth
    assert capture(rebuild(made)) == made


@pytest.mark.keras
@pytest.mark.parametrize("inputs", [["x", "z"], {"q": "x", "r": "z"}, ["z", "x"]], ids=str)
def test_inputs_in_another_structure(inputs):
    model, tensors = branching()
    truth = capture(keras.Model(mapped(tensors.__getitem__, inputs), tensors["o"], name="net"))
    assert ExtractModel("o", inputs=inputs)(capture(model)) == truth


@pytest.mark.keras
def test_named_inputs_are_kept_without_readers():
    model, tensors = branching()
    truth = capture(keras.Model([tensors["x"], tensors["z"]], tensors["p"], name="net"))
    assert ExtractModel("p", inputs=["x", "z"])(capture(model)) == truth
    made = ExtractModel("o", inputs=["joined", "twice"])(capture(model))
    assert capture(rebuild(made)) == made
    assert [one["config"]["name"] for one in made.config["layers"]] == ["joined_input", "twice_input", "o"]


# --- two parts compute what the whole does


def row():
    layers = [L.Conv2D(4, 3, name="conv"), L.Dropout(0.2, name="drop"), L.ReLU(name="relu"), L.Flatten(name="flat")]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers, L.Dense(3, name="top")], name="row")


def in_models():
    i = keras.Input((6, 6, 3))
    j = L.Dropout(0.1, name="drop")(L.Conv2D(4, 3, activation="relu", name="conv")(i))
    backbone = keras.Model(i, L.Conv2D(4, 1, name="out")(j), name="backbone")
    head = keras.Sequential([keras.Input((4,)), L.Dense(6, name="hidden"), L.ReLU(name="relu")], name="head")
    x = keras.Input((6, 6, 3))
    return keras.Model(x, L.Dense(2, name="top")(head(L.GlobalMaxPooling2D(name="peak")(backbone(x)))))


def recurrent():
    x = keras.Input((5, 4))
    y, state = L.GRU(6, return_sequences=True, return_state=True, name="gru")(x)
    y = L.LSTM(6, name="lstm")(L.Dropout(0.2, name="drop")(y), initial_state=[state, state])
    return keras.Model(x, L.Dense(2, name="top")(y))


def operators():
    x = keras.Input((6,))
    y = L.Dense(6, name="a")(x) * 2.0
    y = keras.ops.concatenate([y, L.Dense(4, name="b")(y)], axis=-1)
    return keras.Model(x, L.Dense(2, name="top")(keras.ops.relu(y) + np.arange(10, dtype="float32")))


def in_half():
    x = keras.Input((6,))
    y = L.Dense(6, name="a", dtype="mixed_float16")(x)
    return keras.Model(x, L.Dense(2, name="top", dtype="float32")(L.ReLU(name="relu", dtype="mixed_float16")(y)))


# model, where it is cut in two, and the output
HALVES = {
    "a Sequential model": (row, "relu", "top"),
    "a Sequential model in a list": (row, ["relu"], "top"),
    "at a nested model": (in_models, "backbone", "top"),
    "behind a Sequential one": (in_models, "head", "top"),
    "several tensors": (recurrent, ["drop", "gru:0:1"], "top"),
    "several tensors by name": (recurrent, {"sequence": "drop", "state": "gru:0:1"}, "top"),
    "operations": (operators, "a", "top"),
    "half precision": (in_half, "a", "top"),
    "at the input": (operators, "input", "top"),
}


@pytest.mark.keras
@pytest.mark.parametrize("make, middle, last", HALVES.values(), ids=HALVES)
def test_both_halves_of_a_model_compute_what_the_whole_does(make, middle, last):
    model = make()
    randomise(model)
    whole, inputs = captured(model), random_inputs(model)
    middle = model.layers[0].name if middle == "input" else middle
    first, second = ExtractModel(middle)(whole), ExtractModel(last, inputs=middle)(whole)
    for half in (first, second):
        check_rebuilt_record(half)
    between, truth = model_of(first)(inputs, training=False), compute(whole, inputs)
    assert deviation(compute(second, between), truth) < 2e-5
    assert deviation(compute(sabotage(second), between), truth) > 1e-3


@pytest.mark.keras
def test_a_part_of_a_sequential_model_is_sequential_while_it_is_a_chain():
    whole = capture(row())
    for edit in (ExtractModel("relu"), ExtractModel("top", inputs="conv"), ExtractModel("top"), ExtractModel("drop")):
        assert edit(whole).record["class_name"] == "Sequential"
    assert ExtractModel("top")(whole) == whole
    for edit in (ExtractModel(["relu"]), ExtractModel(["relu", "top"]), ExtractModel("top", inputs=["conv"])):
        made = edit(whole)
        assert is_functional(made.record)
        assert differences(capture(rebuild(made)).record, made.record) == []
    conv, drop, relu, flat, top = (type(one).from_config(one.get_config()) for one in rebuild(whole).layers)
    x = keras.Input((8, 8, 3), name=whole.config["layers"][0]["config"]["name"])
    y = relu(drop(conv(x)))
    truth = keras.Model(x, [y, top(flat(y))], name="row")
    truth.set_weights([array for arrays in whole.weights.values() for array in arrays])
    assert ExtractModel(["relu", "top"])(whole) == capture(truth)


@pytest.mark.keras
def test_a_part_of_a_nested_model_is_a_model_of_its_own():
    model = in_models()
    randomise(model)
    model.get_layer("backbone").trainable = False
    whole, inner = capture(model), model.get_layer("backbone")
    conv = ExtractModel("backbone/conv")(whole)
    truth = keras.Model(inner.inputs[0], inner.get_layer("conv").output, name="backbone")
    assert conv.weights.keys() == {"conv"}
    assert capture(rebuild(conv)) == conv
    images = random_inputs(model)
    assert deviation(compute(conv, images), [np.asarray(truth(images))]) < 1e-6
    assert ExtractModel("backbone/out")(whole) == capture(inner)
    assert ExtractModel("head/hidden")(whole).record["class_name"] == "Sequential"


@pytest.mark.keras
def test_a_part_of_a_model_inside_time_distributed():
    x = keras.Input((3, 4))
    step = keras.Sequential([keras.Input((4,)), L.Dense(5, name="a"), L.ReLU(name="b")], name="step")
    model = keras.Model(x, L.Flatten()(L.TimeDistributed(step, name="steps")(x)))
    made = ExtractModel("steps/a")(capture(model))
    assert capture(rebuild(made)) == made
    assert rebuild(made).output_shape == (None, 5)


@pytest.mark.keras
def test_parts_are_edited_like_any_model():
    model = row()
    randomise(model)
    plan = Plan(ExtractModel("flat"), DeleteChannels("conv", [0, 2], allow_output_change=True))
    made = plan(capture(model))
    assert capture(rebuild(made)) == made
    assert made.weights["conv"][0].shape == (3, 3, 3, 2)


@pytest.mark.keras
def test_a_backbone_without_its_head_is_what_keras_makes_without_a_top():
    top, bare = (
        keras.applications.MobileNetV2(
            input_tensor=keras.Input((96, 96, 3), name="image"), weights=None, include_top=with_top, classes=5,
            alpha=0.35, name="net",
        )
        for with_top in (True, False)
    )  # fmt: skip
    bare.set_weights(top.get_weights()[:-2])
    assert ExtractModel("out_relu")(capture(top)) == capture(bare)
