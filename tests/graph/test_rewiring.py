"""Calls taken out of a config and the tensors around them joined again."""

import copy

import pytest

from helpers.records import call, functional, layer, operation, sequential
from kerassurgery_fn.graph import FreeNames, Rewiring, read_graph, rewire, trace, unused
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.snapshot import Snapshot

X = {"x": (None, 4)}


def dense(name, units=4):
    return layer("Dense", name, units=units)


def cat(name="cat"):
    return layer("Concatenate", name)


# --- one model


def test_no_changes_give_the_very_same_record():
    net = freeze(functional("net", X, call(dense("a"), "x"), outputs="a"))
    assert rewire(net, Rewiring()) is net


def test_a_layer_is_removed_and_its_reader_reads_its_input():
    before = functional(
        "net", X, call(dense("a"), "x"), call(layer("ReLU", "r"), "a"), call(dense("b"), "r"), outputs="b"
    )
    after = functional("net", X, call(dense("a"), "x"), call(dense("b"), "a"), outputs="b")
    assert rewire(before, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("a", 0, 0)})) == after


def test_replacements_are_followed_to_the_last():
    relus = [call(layer("ReLU", f"r{i}"), "a" if i == 0 else f"r{i - 1}") for i in range(3)]
    before = functional("net", X, call(dense("a"), "x"), *relus, call(dense("b"), "r2"), outputs="b")
    after = functional("net", X, call(dense("a"), "x"), call(dense("b"), "a"), outputs="b")
    replaced = {("r2", 0, 0): ("r1", 0, 0), ("r1", 0, 0): ("r0", 0, 0), ("r0", 0, 0): ("a", 0, 0)}
    assert rewire(before, Rewiring({("r0", 0), ("r1", 0), ("r2", 0)}, replaced=replaced)) == after


def test_a_merge_loses_some_of_its_inputs_and_their_shapes():
    def net(**widths):
        layers = [call(dense(name, units), "x") for name, units in widths.items()]
        return functional("net", X, *layers, call(cat(), [*widths], out=(None, 9)), outputs="cat")

    assert rewire(net(a=2, b=3, c=4), Rewiring({("b", 0)}, {("cat", 0): {1}})) == net(a=2, c=4)


def test_a_merge_that_is_called_twice_loses_an_input_of_one_call():
    def net(first, second):
        layers = [call(dense(name), "x") for name in ("a", "b", "c")]
        return functional(
            "net", X, *layers, call(cat(), first, out=(None, 9)), call("cat", second, out=(None, 9)),
            outputs=["cat", ("cat", 1, 0)],
        )  # fmt: skip

    every = ["a", "b", "c"]
    assert rewire(net(every, every), Rewiring(shortened={("cat", 0): {0}})) == net(["b", "c"], every)
    assert rewire(net(every, every), Rewiring(shortened={("cat", 1): {0, 2}})) == net(every, ["b"])


def test_an_output_of_the_model_is_replaced():
    before = functional("net", X, call(dense("a"), "x"), call(layer("ReLU", "r"), "a"), outputs=["r", "a"])
    after = functional("net", X, call(dense("a"), "x"), outputs=["a", "a"])
    assert rewire(before, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("a", 0, 0)})) == after


def test_outputs_keep_their_structure():
    before = functional(
        "net", X, call(dense("a"), "x"), call(layer("ReLU", "r"), "a"), outputs={"one": ["r"], "two": "a"}
    )
    after = functional("net", X, call(dense("a"), "x"), outputs={"one": ["a"], "two": "a"})
    assert rewire(before, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("a", 0, 0)})) == after


def test_the_calls_of_a_shared_layer_are_renumbered():
    def net(*sources):
        inputs = dict.fromkeys("xyz", (None, 4))
        calls = [call(dense("a") if i == 0 else "a", source) for i, source in enumerate(sources)]
        return functional("net", inputs, *calls, outputs=[("a", i, 0) for i in range(len(sources))])

    three = net("x", "y", "z")
    three["config"]["output_layers"] = [["a", 0, 0], ["a", 2, 0]]
    assert rewire(three, Rewiring({("a", 1)})) == net("x", "z")


def test_readers_of_a_later_call_use_its_new_number():
    def net(*sources):
        calls = [call(dense("a") if i == 0 else "a", source) for i, source in enumerate(sources)]
        last = ("a", len(sources) - 1, 0)
        return functional("net", {"x": (None, 4), "y": (None, 4)}, *calls, call(dense("b"), last), outputs="b")

    assert rewire(net("x", "y"), Rewiring({("a", 0)})) == net("y")


def test_tensors_deep_in_arguments_and_keyword_arguments_are_renamed():
    def net(source, *between):
        gate = layer("Gate", "gate")
        return functional(
            "net", X, call(dense("a"), "x"), *between,
            call(gate, {"deep": [source, 2.0]}, by=[{"to": source}], out=(None, 4)), outputs="gate",
        )  # fmt: skip

    before = net("r", call(layer("ReLU", "r"), "a"))
    assert rewire(before, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("a", 0, 0)})) == net("a")


def test_operations_are_removed_like_layers():
    double = call(operation("Multiply", "mul"), "a", 2.0, out=(None, 4))
    before = functional("net", X, call(dense("a"), "x"), double, call(dense("b"), "mul"), outputs="b")
    after = functional("net", X, call(dense("a"), "x"), call(dense("b"), "a"), outputs="b")
    assert rewire(before, Rewiring({("mul", 0)}, replaced={("mul", 0, 0): ("a", 0, 0)})) == after


def test_unread_inputs_stay():
    before = functional(
        "net", {"x": (None, 4), "y": (None, 4)}, call(dense("a"), "x"), call(dense("b"), "y"), outputs="a"
    )
    after = functional("net", {"x": (None, 4), "y": (None, 4)}, call(dense("a"), "x"), outputs="a")
    assert rewire(before, Rewiring({("b", 0)})) == after


def test_layers_of_a_sequential_model():
    before = sequential("net", (None, 4), dense("a"), layer("ReLU", "r"), dense("b"))
    assert rewire(before, Rewiring({("r", 0)})) == sequential("net", (None, 4), dense("a"), dense("b"))


# --- models in models


def inner(*names, name="inner"):
    """A model with one branch for each name, all of which it adds up."""
    branches = [call(dense(one), "i") for one in names]
    summed = call(layer("Add", "sum"), list(names)) if len(names) > 1 else None
    return functional(
        name, {"i": (None, 4)}, *branches, *([summed] if summed else []), outputs="sum" if summed else names[0]
    )


def test_a_branch_within_a_nested_model():
    def net(*names):
        return functional("net", X, call(dense("a"), "x"), call(inner(*names), "a"), outputs="inner")

    changes = Rewiring({("inner/b", 0), ("inner/sum", 0)}, replaced={("inner/sum", 0, 0): ("inner/a", 0, 0)})
    assert rewire(net("a", "b"), changes) == net("a")


def test_a_layer_of_the_same_name_outside_stays():
    def net(*names):
        return functional("net", X, call(dense("b"), "x"), call(inner(*names), "b"), outputs="inner")

    changes = Rewiring({("inner/b", 0), ("inner/sum", 0)}, replaced={("inner/sum", 0, 0): ("inner/a", 0, 0)})
    assert rewire(net("a", "b"), changes)["config"]["layers"][1] == net("a", "b")["config"]["layers"][1]
    assert rewire(net("a", "b"), changes) == net("a")


def test_a_nested_model_is_removed_and_later_calls_are_renumbered():
    def net(*sources):
        calls = [call(inner("a") if i == 0 else "inner", source) for i, source in enumerate(sources)]
        return functional("net", {"x": (None, 4), "y": (None, 4)}, *calls, outputs=("inner", len(sources) - 1, 0))

    assert net("x", "y")["config"]["output_layers"] == ["inner", 2, 0]
    assert rewire(net("x", "y"), Rewiring({("inner", 0)})) == net("y")


def test_an_output_moves_from_a_nested_functional_model_to_a_layer_and_back():
    first = functional("net", X, call(dense("a"), "x"), call(inner("p"), "a"), outputs="inner")
    moved = rewire(first, Rewiring({("inner", 0)}, replaced={("inner", 0, 0): ("a", 0, 0)}))
    assert moved == functional("net", X, call(dense("a"), "x"), outputs="a")
    second = functional("net", X, call(inner("p"), "x"), call(layer("ReLU", "r"), "inner"), outputs="r")
    moved = rewire(second, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("inner", 0, 0)}))
    assert moved == functional("net", X, call(inner("p"), "x"), outputs="inner")


def test_models_in_models_in_models():
    def net(*names):
        middle = functional("middle", {"m": (None, 4)}, call(inner(*names), "m"), outputs="inner")
        return functional("net", X, call(sequential("tail", (None, 4), dense("s"), middle), "x"), outputs="tail")

    changes = Rewiring(
        {("tail/middle/inner/b", 0), ("tail/middle/inner/sum", 0)},
        replaced={("tail/middle/inner/sum", 0, 0): ("tail/middle/inner/a", 0, 0)},
    )
    assert rewire(net("a", "b"), changes) == net("a")


# --- purity and sharing


@pytest.fixture
def net():
    tail = sequential("tail", (None, 4), dense("s"), layer("ReLU", "t"))
    return freeze(
        functional(
            "net", X, call(inner("a", "b"), "x"), call(tail, "inner"), call(layer("ReLU", "r"), "tail"),
            call(dense("c"), "r"), call(dense("d"), "c"), outputs="d",
        )
    )  # fmt: skip


def test_the_old_record_is_left_as_it_was(net):
    before = copy.deepcopy(dict(net))
    rewire(net, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("tail", 0, 0)}))
    assert net == before


def test_layers_and_nested_models_that_do_not_change_are_shared(net):
    made = rewire(net, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("tail", 0, 0)}))
    old = {one["config"]["name"]: one for one in net["config"]["layers"]}
    new = {one["config"]["name"]: one for one in made["config"]["layers"]}
    assert [name for name in new if new[name] is not old[name]] == ["c"]
    assert new["c"]["config"] is old["c"]["config"]


def test_the_rewired_record_can_be_read(net):
    made = rewire(net, Rewiring({("r", 0)}, replaced={("r", 0, 0): ("tail", 0, 0)}))
    assert [call.path for call in trace(read_graph(Snapshot(made, {}))).calls][-2:] == ["c", "d"]


# --- names


def test_free_names_are_the_first_that_a_search_finds():
    taken = ["a", "a_1", "a_3", "b_2"]
    names = FreeNames(taken)
    for name in ["a", "a", "b", "b", "b_2", "a", "a_1", "b"]:
        expected = unused(name, taken)
        assert names.take(name) == expected
        taken.append(expected)


def test_a_name_that_is_released_is_free_again_if_it_was_taken_once():
    names = FreeNames(["a", "a_1", "a_2", "b", "b"])
    assert names.take("a") == "a_3"
    names.release("a_1")
    names.release("b")
    assert (names.take("a"), names.take("a"), names.take("b")) == ("a_1", "a_4", "b_1")
