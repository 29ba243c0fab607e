"""Layers taken out, put in, replaced, told apart and renamed, as pairs of pictures; then held against Keras."""

import itertools
import pickle

import numpy as np
import pytest

from helpers.pictures import momenta
from helpers.records import call, functional, layer, numbers, sequential
from kerassurgery_fn.edits import (
    ConvertDtype,
    DeepenLayer,
    DeleteChannels,
    DeleteLayer,
    InsertLayer,
    RenameLayer,
    ReplaceLayer,
    SetConfig,
    SetTrainable,
    UnshareLayer,
)
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.errors import (
    AmbiguousLayer,
    BadValue,
    MisfitTensor,
    NameTaken,
    NotALayer,
    NothingLeft,
    SurgeryError,
    UnknownCall,
    UnknownLayer,
)
from kerassurgery_fn.graph import of_class
from kerassurgery_fn.rules import RULES, Rule
from kerassurgery_fn.values.snapshot import Snapshot, Training, same_arrays

X = {"x": (None, 4)}


def dense(name, units=4, **config):
    return layer("Dense", name, units=units, **config)


def relu(name):
    return layer("ReLU", name)


def drop(name, **config):
    return layer("Dropout", name, **config)


def dropped(name, source, **config):
    """A call of a Dropout layer, to which Keras adds an argument."""
    return call(drop(name, **config), source, training=False)


def net(*calls, outputs, inputs=X, made=()):
    """A model with weights for its Dense layers; `made` are those that are yet to be drawn."""
    record = functional("net", inputs, *calls, outputs=outputs)
    return Snapshot(record, weights_of(record, made))


def weights_of(record, made=()):
    found = {}
    for one in record["config"]["layers"]:
        if one["class_name"] == "Dense":
            name, units = one["config"]["name"], one["config"]["units"]
            found[name] = (numbers(one["build_config"]["input_shape"][-1], units), numbers(units))
    return found | dict.fromkeys(made, ())


def built(name, inputs=4, units=4):
    """A Dense layer with weights."""
    record = {**dense(name, units), "build_config": {"input_shape": [None, inputs]}}
    return Snapshot(record, {"": (numbers(inputs, units), numbers(units))})


# --- pictures: edit, before, after


def chain(*names):
    """Dense layers, ReLUs (r...) and dropouts (d...) one after the other."""
    calls, last = [], "x"
    for name in names:
        calls.append(
            dropped(name, last) if name[0] == "d" else call(relu(name) if name[0] == "r" else dense(name), last)
        )
        last = name
    return net(*calls, outputs=last)


def readers(**sources):
    """Two dense layers that read the same tensor, or what comes after it."""
    calls = [call(dense("stem"), "x")]
    calls += [call(relu(name), source) for name, source in sources.items() if name[0] == "r"]
    calls += [call(dense(name), source) for name, source in sources.items() if name[0] != "r"]
    return net(*calls, call(layer("Add", "sum"), ["a", "b"]), outputs="sum")


def shared(*sources, between=()):
    """A dense layer that is called on several tensors."""
    calls = [call(dense("s") if i == 0 else "s", source) for i, source in enumerate(sources)]
    return net(
        *between, *calls, call(layer("Add", "sum"), [("s", i, 0) for i in range(len(sources))]), outputs="sum",
        inputs={"x": (None, 4), "y": (None, 4)},
    )  # fmt: skip


def inner(*names):
    calls, last = [], "i"
    for name in names:
        calls.append(call(relu(name) if name[0] == "r" else dense(name), last))
        last = name
    return functional("inner", {"i": (None, 4)}, *calls, outputs=last)


def nested(*names):
    record = functional(
        "net", X, call(dense("a"), "x"), call(inner(*names), "a"), call(dense("z"), "inner"), outputs="z"
    )
    weights = {f"inner/{name}": (numbers(4, 4), numbers(4)) for name in names if name[0] != "r"}
    return Snapshot(record, weights_of(record) | weights)


def row(*names):
    """A Sequential model."""
    layers = [relu(name) if name[0] == "r" else drop(name) if name[0] == "d" else dense(name) for name in names]
    record = sequential("row", (None, 4), *layers)
    return Snapshot(record, {name: (numbers(4, 4), numbers(4)) for name in names if name[0] not in "rd"})


DELETE = {
    "a layer between two": (DeleteLayer("r"), chain("a", "r", "b"), chain("a", "b")),
    "the first layer": (DeleteLayer("r"), chain("r", "b"), chain("b")),
    "the last layer": (DeleteLayer("r"), chain("b", "r"), chain("b")),
    "a layer with weights": (DeleteLayer("b"), chain("a", "b", "c"), chain("a", "c")),
    "layers in a row": (DeleteLayer(("r1", "r2")), chain("a", "r1", "r2", "b"), chain("a", "b")),
    "all of a class": (DeleteLayer(of_class("Dropout")), chain("d1", "a", "d2", "b", "d3"), chain("a", "b")),
    "all that fit a pattern": (DeleteLayer("r?"), chain("r1", "a", "r2", "b"), chain("a", "b")),
    "a layer that two read": (DeleteLayer("r"), readers(r="stem", a="r", b="r"), readers(a="stem", b="stem")),
    "a layer that one reads": (DeleteLayer("r"), readers(r="stem", a="stem", b="r"), readers(a="stem", b="stem")),
    "a layer of a nested model": (DeleteLayer("inner/r"), nested("b", "r"), nested("b")),
    "a layer of a Sequential model": (DeleteLayer("r"), row("a", "r", "b"), row("a", "b")),
    "the last one of a Sequential model": (DeleteLayer("d"), row("a", "d"), row("a")),
}  # fmt: skip

INSERT = {
    "between two": (InsertLayer(relu("r"), before="b"), chain("a", "b"), chain("a", "r", "b")),
    "after the first": (InsertLayer(relu("r"), after="a"), chain("a", "b"), chain("a", "r", "b")),
    "after the last": (InsertLayer(relu("r"), after="b"), chain("a", "b"), chain("a", "b", "r")),
    "before the first": (InsertLayer(relu("r"), before="a"), chain("a"), chain("r", "a")),
    "after an input": (InsertLayer(relu("r"), after="x"), chain("a"), chain("r", "a")),
    "a layer to which Keras adds arguments": (InsertLayer(drop("d"), after="a"), chain("a", "b"), chain("a", "d", "b")),
    "a layer with weights": (InsertLayer(built("b"), after="a"), chain("a", "c"), chain("a", "b", "c")),
    "before one of two readers": (
        InsertLayer(relu("r"), before="b"), readers(a="stem", b="stem"), readers(r="stem", a="stem", b="r"),
    ),
    "after what two read": (
        InsertLayer(relu("r"), after="stem"), readers(a="stem", b="stem"), readers(r="stem", a="r", b="r"),
    ),
    "under a name that is free": (
        InsertLayer(relu("a"), after="a"), chain("a", "b"),
        net(call(dense("a"), "x"), call(relu("a_1"), "a"), call(dense("b"), "a_1"), outputs="b"),
    ),
    "under another name": (InsertLayer(relu("a"), after="a", name="r"), chain("a"), chain("a", "r")),
    "several at once": (
        InsertLayer(relu("r"), after=("a", "b")), chain("a", "b"),
        net(call(dense("a"), "x"), call(relu("r"), "a"), call(dense("b"), "r"), call(relu("r_1"), "b"), outputs="r_1"),
    ),
    "before one operand of a merge": (
        InsertLayer(relu("r"), before="sum", operand=1), readers(a="stem", b="stem"),
        net(
            call(dense("stem"), "x"), call(dense("a"), "stem"), call(dense("b"), "stem"), call(relu("r"), "b"),
            call(layer("Add", "sum"), ["a", "r"]), outputs="sum",
        ),
    ),
    "in a nested model": (InsertLayer(relu("r"), after="inner/b"), nested("b"), nested("b", "r")),
    "in a Sequential model": (InsertLayer(relu("r"), before="b"), row("a", "b"), row("a", "r", "b")),
    "at the end of a Sequential model": (InsertLayer(built("b"), after="a"), row("a"), row("a", "b")),
}  # fmt: skip

REPLACE = {
    "a layer by another": (ReplaceLayer("r", drop("d")), chain("a", "r", "b"), chain("a", "d", "b")),
    "a layer that was given arguments": (ReplaceLayer("d", relu("r")), chain("a", "d", "b"), chain("a", "r", "b")),
    "a layer by one of its name": (ReplaceLayer("a", built("a")), chain("a", "b"), chain("a", "b")),
    "a layer by one with weights": (ReplaceLayer("r", built("b")), chain("a", "r", "c"), chain("a", "b", "c")),
    "a merge": (
        ReplaceLayer("sum", layer("Multiply", "sum")), readers(a="stem", b="stem"),
        net(
            call(dense("stem"), "x"), call(dense("a"), "stem"), call(dense("b"), "stem"),
            call(layer("Multiply", "sum"), ["a", "b"]), outputs="sum",
        ),
    ),
    "in a nested model": (ReplaceLayer("inner/r", built("c")), nested("b", "r"), nested("b", "c")),
    "in a Sequential model": (ReplaceLayer("r", built("b")), row("a", "r"), row("a", "b")),
}  # fmt: skip

CALLS = {
    "deleted at the first call": (
        DeleteLayer("s", calls=[0]), shared("x", "y"),
        net(
            call(dense("s"), "y"), call(layer("Add", "sum"), ["x", "s"]), outputs="sum",
            inputs={"x": (None, 4), "y": (None, 4)},
        ),
    ),
    "preceded at the last call": (
        InsertLayer(relu("r"), before="s", calls=[-1]), shared("x", "y"),
        shared("x", "r", between=[call(relu("r"), "y")]),
    ),
    "preceded at both calls by one layer": (
        InsertLayer(relu("r"), before="s"), shared("x", "y"),
        shared(("r", 0, 0), ("r", 1, 0), between=[call(relu("r"), "x"), call("r", "y")]),
    ),
    "unshared": (
        UnshareLayer("s", calls=[1], name="t"), shared("x", "y"),
        net(
            call(dense("s"), "x"), call(dense("t"), "y"), call(layer("Add", "sum"), ["s", "t"]), outputs="sum",
            inputs={"x": (None, 4), "y": (None, 4)},
        ),
    ),
    "unshared, the first call": (
        UnshareLayer("s", calls=[0], name="t"), shared("x", "y"),
        net(
            call(dense("t"), "x"), call(dense("s"), "y"), call(layer("Add", "sum"), ["t", "s"]), outputs="sum",
            inputs={"x": (None, 4), "y": (None, 4)},
        ),
    ),
    "each call a layer": (
        UnshareLayer("s"), shared("x", "y", "x"),
        net(
            call(dense("s"), "x"), call(dense("s_1"), "y"), call(dense("s_2"), "x"),
            call(layer("Add", "sum"), ["s", "s_1", "s_2"]), outputs="sum", inputs={"x": (None, 4), "y": (None, 4)},
        ),
    ),
    "replaced at one call": (
        ReplaceLayer("s", relu("r"), calls=[1]), shared("x", "y"),
        net(
            call(dense("s"), "x"), call(relu("r"), "y"), call(layer("Add", "sum"), ["s", "r"]), outputs="sum",
            inputs={"x": (None, 4), "y": (None, 4)},
        ),
    ),
}  # fmt: skip

RENAME = {
    "a layer": (RenameLayer("a", "z"), chain("a", "r", "b"), chain("z", "r", "b")),
    "the output": (RenameLayer("b", "z"), chain("a", "b"), chain("a", "z")),
    "a layer of a nested model": (RenameLayer("inner/b", "c"), nested("b"), nested("c")),
    "a layer of a Sequential model": (RenameLayer("a", "z"), row("a", "b"), row("z", "b")),
}

PICTURES = {
    f"{verb}: {what}": pair
    for verb, pairs in [
        ("delete", DELETE), ("insert", INSERT), ("replace", REPLACE), ("calls", CALLS), ("rename", RENAME),
    ]
    for what, pair in pairs.items()
}  # fmt: skip
of_all = pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)


@of_all
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    made = edit(before)
    assert made.record == after.record
    assert made == after


@of_all
def test_an_edit_leaves_its_argument_unchanged(edit, before, after):
    kept = pickle.loads(pickle.dumps(before))
    assert edit(before) == edit(before)
    assert before == kept


@of_all
def test_unchanged_weights_are_shared(edit, before, after):
    arrays = {id(array) for own in before.weights.values() for array in own}
    stays = [own for path, own in edit(before).weights.items() if path in before.weights]
    replaced = getattr(edit, "new", getattr(edit, "layer", None))
    given = {id(array) for own in getattr(replaced, "weights", {}).values() for array in own}
    assert all(id(array) in arrays | given for own in stays for array in own)


# --- weights that are yet to be drawn


def test_a_layer_without_weights_gets_them_at_rebuild():
    made = InsertLayer(dense("b"), after="a")(chain("a", "c"))
    assert made.record == chain("a", "b", "c").record
    assert made.weights["b"] == ()
    assert made.weights.keys() == {"a", "b", "c"}


def test_channels_of_a_layer_without_initial_weights_can_be_deleted():
    made = DeleteChannels("b", [1])(InsertLayer(dense("b"), after="a")(chain("a", "c")))
    assert made.weights["b"] == ()
    assert made.weights["c"][0].shape == (3, 4)
    assert next(one for one in made.config["layers"] if one["name"] == "b")["config"]["units"] == 3


def test_a_layer_replaced_by_one_without_weights_loses_its_own():
    made = ReplaceLayer("a", dense("a", units=4))(chain("a", "b"))
    assert made.weights["a"] == ()


# --- algebra


@pytest.mark.parametrize("before", [chain("a", "b"), readers(a="stem", b="stem"), row("a", "b")])
@pytest.mark.parametrize("where", [{"before": "b"}, {"after": "b"}, {"after": "a"}, {"before": "a"}])
def test_insert_then_delete_is_the_identity(before, where):
    assert DeleteLayer("new")(InsertLayer(built("new"), **where)(before)) == before


@pytest.mark.parametrize("before", [shared("x", "y"), shared("x", "y", "x")])
def test_insert_at_some_calls_then_delete_is_the_identity(before):
    for calls in ([0], [1], None):
        assert DeleteLayer("new")(InsertLayer(relu("new"), before="s", calls=calls)(before)) == before


def test_rename_there_and_back_is_the_identity():
    for before, path, back in ((nested("b"), "inner/b", "inner/q"), (chain("a", "b"), "a", "q")):
        assert RenameLayer(back, path.rpartition("/")[2])(RenameLayer(path, "q")(before)) == before


def test_renaming_a_nested_model_renames_the_paths_in_it():
    made = RenameLayer("inner", "encoder")(nested("b"))
    assert made.weights.keys() == {"a", "z", "encoder/b"}
    assert RenameLayer("encoder", "inner")(made) == nested("b")


def test_replace_and_back_is_the_identity():
    before = chain("a", "r", "b")
    assert ReplaceLayer("d", relu("r"))(ReplaceLayer("r", drop("d"))(before)) == before


# --- at once: names and calls are those of the first snapshot


def test_edits_at_once_refer_to_the_first_model():
    edits = [
        DeleteLayer("s", calls=[0]),
        InsertLayer(relu("r"), before="s", calls=[1]),
        RenameLayer("s", "t"),
    ]
    after = net(
        call(relu("r"), "y"), call(dense("t"), "r"), call(layer("Add", "sum"), ["x", "t"]), outputs="sum",
        inputs={"x": (None, 4), "y": (None, 4)},
    )  # fmt: skip
    for order in (edits, edits[::-1], [edits[1], edits[2], edits[0]]):
        assert Plan.at_once(*order)(shared("x", "y")) == after


def test_call_numbers_at_once_refer_to_the_first_model():
    before = shared("x", "y", "x")
    edits = [
        UnshareLayer("s", calls=[0], name="t"),
        ReplaceLayer("s", relu("r"), calls=[1]),
        DeleteLayer("s", calls=[2]),
    ]
    after = net(
        call(dense("t"), "x"), call(relu("r"), "y"), call(layer("Add", "sum"), ["t", "r", "x"]), outputs="sum",
        inputs={"x": (None, 4), "y": (None, 4)},
    )  # fmt: skip
    made = [Plan.at_once(*order)(before) for order in itertools.permutations(edits)]
    assert all(one.record == after.record for one in made)
    assert all(same_arrays(one.weights["t"], before.weights["s"]) for one in made)
    with pytest.raises(UnknownCall, match="call 0 of layer 's' belongs to another"):
        Plan.at_once(edits[0], DeleteLayer("s", calls=[0]))(before)


@pytest.mark.parametrize("new", [relu("new"), row("a")], ids=["a layer", "a model"])
def test_a_model_that_is_replaced_at_once_with_edits_of_its_layers(new):
    before, replaced = nested("b", "r"), ReplaceLayer("inner", new)
    inside = [SetTrainable("inner", False), RenameLayer("inner/b", "c"), DeleteLayer("inner/r")]
    for edit in inside:
        assert Plan.at_once(edit, replaced)(before) == replaced(before)
        with pytest.raises(UnknownLayer, match=r"'inner.*' no longer exists: .*use Plan"):
            Plan.at_once(replaced, edit)(before)
    for layers in (("inner/b", "inner"), ("inner", "inner/b")):
        assert ReplaceLayer(layers, new)(before) == replaced(before)
    frozen = Plan.at_once(replaced, SetTrainable("*", False))(before)
    assert frozen == SetTrainable(("a", "z"), False)(replaced(before))


INSIDE = [
    ConvertDtype("float16"), SetTrainable("inner/b", False), SetConfig("inner/r", negative_slope=0.1),
    InsertLayer(relu("new"), after="inner/b"), RenameLayer("inner/b", "c"), DeleteLayer("inner/r"),
    ReplaceLayer("inner/b", dense("new")), DeepenLayer("inner/b"),
]  # fmt: skip


@pytest.mark.parametrize("edit", INSIDE, ids=[type(edit).__name__ for edit in INSIDE])
def test_a_model_that_is_copied_or_renamed_at_once_with_edits_of_its_layers(edit):
    record = functional("net", X, call(inner("b", "r"), "x"), call("inner", "inner"), outputs=("inner", 1, 0))
    before = trained(Snapshot(record, {"inner/b": (numbers(4, 4), numbers(4))}))
    copied, renamed = UnshareLayer("inner", name="copy"), RenameLayer("inner", "other")
    assert Plan.at_once(edit, copied)(before) == Plan(edit, copied)(before)
    assert Plan.at_once(edit, renamed)(before) == Plan.at_once(renamed, edit)(before) == Plan(edit, renamed)(before)


def test_names_can_be_exchanged_at_once():
    swap = Plan.at_once(RenameLayer("a", "b"), RenameLayer("b", "a"))
    assert swap(chain("a", "b")) == chain("b", "a")
    assert swap(swap(chain("a", "b"))) == chain("a", "b")


def test_channels_at_once_with_layers():
    plan = Plan.at_once(DeleteChannels({"a": [0], "b:units": [1, 2]}), RenameLayer("a", "b"), RenameLayer("b", "a"))
    one_by_one = DeleteChannels({"b": [0], "a": [1, 2]})
    before = chain("a", "b", "c")
    assert plan(before) == one_by_one(chain("b", "a", "c"))


def test_channels_of_all_layers_that_fit_a_pattern():
    assert DeleteChannels("[ab]", [0])(chain("a", "b", "c")) == DeleteChannels({"a": [0], "b": [0]})(
        chain("a", "b", "c")
    )
    assert DeleteChannels(of_class("Dense", among="a*"), [0])(chain("a", "b")) == DeleteChannels("a", [0])(
        chain("a", "b")
    )


# --- the optimizer's state


def trained(snapshot):
    return Snapshot(snapshot.record, snapshot.weights, momenta(snapshot.weights))


def owners(training: Training):
    return sorted({owner[0] for owner in training.slots if owner})


def test_the_optimizer_state_of_a_deleted_layer_is_removed():
    made = DeleteLayer("b")(trained(chain("a", "b", "c"))).training
    assert made == momenta(chain("a", "c").weights)


def test_the_state_of_a_renamed_layer_stays():
    assert RenameLayer("a", "z")(trained(chain("a", "b"))) == trained(chain("z", "b"))


def test_a_copy_starts_with_the_optimizer_state_of_the_layer():
    made = UnshareLayer("s", name="t")(trained(shared("x", "y")))
    assert owners(made.training) == ["s", "t"]
    values = made.training.by_owner()
    assert all(np.array_equal(values["s", i][0], values["t", i][0]) for i in range(2))


def test_a_new_layer_has_no_state_not_even_under_an_old_name():
    assert owners(ReplaceLayer("a", built("a"))(trained(chain("a", "b"))).training) == ["b"]
    assert owners(InsertLayer(built("n"), after="a")(trained(chain("a", "b"))).training) == ["a", "b"]


def test_the_compile_config_follows_a_renamed_output():
    before = chain("a", "b")
    compiled = Snapshot({**before.record, "compile_config": {"loss": {"b": "mse"}, "metrics": None}}, before.weights)
    after = RenameLayer("b", "z")(compiled)
    assert after.record["compile_config"] == {"loss": {"z": "mse"}, "metrics": None}


@pytest.mark.parametrize("inside", ["a", "n"])
def test_a_layer_replaced_by_a_model_leaves_no_weights(inside):
    model = Snapshot(sequential("row", (None, 4), relu(inside)), {})
    for before, path in [(chain("a", "b"), "a"), (nested("a"), "inner")]:
        after = ReplaceLayer(path, model)(before)
        assert not [one for one in after.weights if one.startswith("row")]
        assert not [one for one in ReplaceLayer(path, model, name=path)(before).weights if one.startswith(path)]


# --- refusals


def wide(name, units):
    return net(call(dense("a", 6), "x"), call(dense(name, units), "a"), outputs=name)


def masked():
    """An LSTM that begins with states that are given."""
    return Snapshot(functional(
        "masked", {"x": (None, 3, 4), "h": (None, 4), "c": (None, 4)},
        call(layer("LSTM", "lstm", units=4), "x", initial_state=["h", "c"], training=False, mask=None), outputs="lstm",
    ), {})  # fmt: skip


UNKNOWN = layer("Oracle", "oracle", module="mine", registered_name="mine>Oracle")
REFUSED = {
    "deleting what changes a shape": (
        DeleteLayer("a"), wide("b", 3), MisfitTensor, r"'a' .* \(None, 4\) and an output of shape \(None, 6\)",
    ),
    "deleting it all the same": (
        DeleteLayer("a", allow_shape_change=True), wide("b", 3), MisfitTensor,
        r"'b' \(Dense\) would be .* \(None, 4\) in place of .* \(None, 6\).*kernel has the shape \(6, 3\).*\(4, 3\)",
    ),
    "inserting what changes a shape": (
        InsertLayer(dense("n", 5), before="b"), wide("b", 3), MisfitTensor, r"\(None, 5\) in place of .* \(None, 6\)",
    ),
    "inserting what cannot take the tensor": (
        InsertLayer(layer("Conv2D", "n", filters=2), after="a"), wide("b", 3), MisfitTensor, r"tensors of 4 axes",
    ),
    "inserting weights for another size": (
        InsertLayer(built("n", 5), after="a"), wide("b", 3), MisfitTensor,
        r"'n' .* kernel has the shape \(5, 4\).*\(6, 4\)",
    ),
    "a sum of different sizes": (
        InsertLayer(dense("n", 5), before="sum", operand=0), readers(a="stem", b="stem"), MisfitTensor,
        r"'sum' \(Add\).*\(None, 5\), \(None, 4\) in place of .*\(None, 4\), \(None, 4\).*sizes 5 and 4",
    ),
    "a nested model on another size": (
        InsertLayer(dense("n", 5), before="inner"), nested("b"), MisfitTensor, r"'inner' .*\(None, 5\).*\(None, 4\)",
    ),
    "another size out of a nested model": (
        InsertLayer(dense("n", 5), after="inner/b"), nested("b"), MisfitTensor, r"'z' .*\(None, 5\) in place",
    ),
    "deleting a merge": (DeleteLayer("sum"), readers(a="stem", b="stem"), UnknownCall, "2 inputs, those of a, b"),
    "inserting before a merge": (
        InsertLayer(relu("r"), before="sum"), readers(a="stem", b="stem"), UnknownCall, "operand=",
    ),
    "one for several tensors": (
        ReplaceLayer("sum", relu("r")), readers(a="stem", b="stem"), MisfitTensor, "takes one tensor, not a list",
    ),
    "a sum of one tensor": (
        InsertLayer(layer("Add", "n"), after="a"), wide("b", 3), MisfitTensor, "it takes a list of tensors",
    ),
    "a state for a layer without": (
        ReplaceLayer("lstm", dense("n")), masked(), MisfitTensor, "it takes no argument 'initial_state'",
    ),
    "a state for a model": (
        ReplaceLayer("lstm", row("a")), masked(), MisfitTensor, "'row'.* it takes no argument 'initial_state'",
    ),
    "two states for a layer of one": (
        ReplaceLayer("lstm", layer("GRU", "n", units=4)), masked(), MisfitTensor, "state of 1 tensors, not 2",
    ),
    "deleting an input": (DeleteLayer("x"), chain("a"), UnknownCall, "input of the model"),
    "replacing an input": (ReplaceLayer("x", relu("r")), chain("a"), UnknownCall, "input of the model"),
    "a call that is not there": (DeleteLayer("s", calls=[2]), shared("x", "y"), UnknownCall, r"2 times .* no call 2"),
    "a call named twice": (DeleteLayer("s", calls=[0, -2]), shared("x", "y"), UnknownCall, "different numbers"),
    "no calls": (DeleteLayer("s", calls=[]), shared("x", "y"), UnknownCall, "different numbers"),
    "unsharing all calls": (UnshareLayer("s", calls=[0, 1]), shared("x", "y"), UnknownCall, "RenameLayer"),
    "a name that is taken": (RenameLayer("a", "b"), chain("a", "b"), NameTaken, "2 layers would be named 'b'"),
    "a new layer under a name that is taken": (
        InsertLayer(relu("r"), after="a", name="b"), chain("a", "b"), NameTaken, "'b'",
    ),
    "no layer of the name": (DeleteLayer("zzz"), chain("a"), UnknownLayer, "zzz"),
    "no layer of the class": (DeleteLayer("*@Dropout"), chain("a"), UnknownLayer, "InputLayer, Dense"),
    "several layers where one is meant": (RenameLayer("*", "z"), chain("a", "b"), AmbiguousLayer, "selects 3 layers"),
    "all of a Sequential model": (DeleteLayer("*@Dense"), row("a", "b"), NothingLeft, "'row' would be left without"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_edit_is_refused_with_a_reason(edit, before, error, words):
    kept = pickle.loads(pickle.dumps(before))
    with pytest.raises(error, match=words):
        edit(before)
    assert before == kept
    assert issubclass(error, SurgeryError)


def test_invalid_arguments_are_refused_when_the_edit_is_created():
    for wrong in (lambda: InsertLayer(relu("r")), lambda: InsertLayer(relu("r"), before="a", after="b")):
        with pytest.raises(BadValue, match="before= or after="):
            wrong()
    with pytest.raises(NotALayer, match="'relu' is not a layer"):
        InsertLayer("relu", after="a")
    for name in ("", "a/b", None, 3):
        with pytest.raises(NameTaken, match="cannot be a layer's name"):
            RenameLayer("a", name)
    with pytest.raises(UnknownCall, match="calls= takes numbers"):
        DeleteLayer("a", calls=["0"])


def test_a_shape_may_change_where_all_consumers_accept_it():
    pool = layer("MaxPooling2D", "pool")
    pixels = {"x": (None, 8, 8, 3)}
    mean = call(layer("GlobalAveragePooling2D", "mean"), "pool")
    before = Snapshot(functional("net", pixels, call(pool, "x"), mean, outputs="mean"), {})
    with pytest.raises(MisfitTensor, match=r"\(None, 7, 7, 3\)|\(None, 4, 4, 3\)"):
        DeleteLayer("pool")(before)
    after = functional("net", pixels, call(layer("GlobalAveragePooling2D", "mean"), "x"), outputs="mean")
    assert DeleteLayer("pool", allow_shape_change=True)(before).record == after


def test_shapes_are_updated_in_all_later_layers():
    before = net(
        call(dense("a"), "x"), call(dense("b"), "a"), call(relu("r"), "b"), call(dense("c", 2), "r"), outputs="c"
    )
    plan = Plan(ReplaceLayer("c", dense("c", 2)), ReplaceLayer("b", dense("b", 9)))
    with pytest.raises(MisfitTensor, match="'c'"):
        ReplaceLayer("b", dense("b", 9))(before)
    after = net(
        call(dense("a"), "x"), call(dense("b", 9), "a"), call(relu("r"), "b"), call(dense("c", 2), "r"), outputs="c"
    )
    assert plan(before).record == after.record
    assert plan(before).weights["c"] == ()


def test_an_unknown_layer_with_unchanged_inputs_is_unchanged():
    oracle = call(UNKNOWN, "r", out=(None, 4))
    before = net(call(dense("a"), "x"), call(relu("r"), "a"), oracle, call(dense("b"), "oracle"), outputs="b")
    after = net(call(dense("a"), "x"), call(UNKNOWN, "a", out=(None, 4)), call(dense("b"), "oracle"), outputs="b")
    assert DeleteLayer("r")(before) == after


@pytest.mark.keras  # which is asked, and does not know either
def test_an_unknown_class_cannot_be_inserted():
    with pytest.raises(MisfitTensor, match=r"'oracle' \(Oracle\) for input \(None, 4\) is unknown: .* no rule"):
        InsertLayer(UNKNOWN, after="a")(chain("a", "b"))


def test_a_rule_of_ones_own_is_enough_to_insert_a_layer(monkeypatch):
    monkeypatch.setitem(RULES, "mine>Mystery", Rule(lambda layer, x: x))
    gate = layer("Mystery", "gate", module="mine", registered_name="mine>Mystery")
    made = InsertLayer(gate, after="a")(chain("a", "b"))
    assert (
        made.record
        == net(call(dense("a"), "x"), call(gate, "a", out=(None, 4)), call(dense("b"), "gate"), outputs="b").record
    )


def test_a_change_of_config_that_asks_for_other_weights_is_refused():
    with pytest.raises(MisfitTensor, match=r"kernel has the shape \(4, 4\), but would need the shape \(4, 5\)"):
        SetConfig("a", units=5)(chain("a", "b"))
