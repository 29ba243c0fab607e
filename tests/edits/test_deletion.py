"""Deleting and keeping channels, as pairs of pictures."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.pictures import chain, fork, grouped, image, momenta, nested, residual, shared
from helpers.records import call, constant, functional, layer, numbers, operation, sequential, snapshot
from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.edits import EDITS, DeleteChannels, Edit, KeepChannels
from kerassurgery_fn.edits.steps.channel_deletion import located
from kerassurgery_fn.errors import (
    AmbiguousLayer,
    ChannelOutOfRange,
    NoChannels,
    NothingLeft,
    PartialGroup,
    PinnedChannels,
    SurgeryError,
    UnknownLayer,
)
from kerassurgery_fn.values.frozen import get_in

quick = settings(derandomize=True, deadline=None, max_examples=30)


# --- what is deleted, and what goes with it


PICTURES = {
    "a channel of a layer": (DeleteChannels("a", [0]), chain(), chain(a=[1, 2, 3])),
    "channels in the middle of a chain": (DeleteChannels("b", [0, 2]), chain(), chain(b=[1])),
    "channels of several layers": (DeleteChannels({"a": [3], "b": [1]}), chain(), chain(a=[0, 1, 2], b=[0, 2])),
    "through a normalisation and a flattened image": (DeleteChannels("a", [1, 2]), image(), image(a=[0, 3])),
    "both sides of a sum": (DeleteChannels("p", [1]), residual(), residual(p=[0, 2])),
    "both sides of a sum, by the other": (DeleteChannels("q", [1]), residual(), residual(p=[0, 2])),
    "one side of a join": (DeleteChannels("q", [0]), fork(), fork(q=[1, 2])),
    "both sides of a join": (DeleteChannels({"p": [1], "q": [1]}), fork(), fork(p=[0], q=[0, 2])),
    "a layer that is called twice": (DeleteChannels("s", [1]), shared(), shared(s=[0, 2])),
    "what a layer is called on twice": (DeleteChannels("q", [1]), shared(), shared(p=[0])),
    "in a model that is called twice": (DeleteChannels("inner/a", [0, 2]), nested(), nested(a=[1])),
    "what a model makes": (DeleteChannels("inner/b", [1]), nested(), nested(b=[0])),
    "what a model is called on": (DeleteChannels("p", [0]), nested(), nested(p=[1])),
    "a group of a grouped convolution": (DeleteChannels("b", [3, 4, 5]), grouped(), grouped(groups=[0])),
    "a group of what it reads": (DeleteChannels("a", [0, 1]), grouped(), grouped(groups=[1])),
    "a place in every group": (DeleteChannels("b", [1, 4]), grouped(), grouped(b=[0, 2])),
    "a place in every group of what it reads": (DeleteChannels("a", [1, 3]), grouped(), grouped(a=[0])),
    "a group and a place": (DeleteChannels("b", [0, 1, 2, 4]), grouped(), grouped(groups=[1], b=[0, 2])),
    "channels kept": (KeepChannels("a", [3, 1]), chain(), chain(a=[1, 3])),
    "channels of several layers kept": (KeepChannels({"a": [0], "b": [2]}), chain(), chain(a=[0], b=[2])),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    assert edit(before) == after


def test_the_pictures_show_all_there_is():
    assert chain() != chain(a=[0, 1, 2, 4])
    for net in (chain(), image(), residual(), fork(), shared(), nested(), grouped()):
        flow = analyse(net)
        assert flow.opaque == {}
        assert set(flow.weights) == set(net.weights)


def test_sizes_that_the_config_repeats_stay_consistent():
    after = DeleteChannels("a", [0])(image())
    config = {one["config"]["name"]: one for one in after.config["layers"]}
    assert config["a"]["config"]["filters"] == 3
    assert config["norm"]["build_config"] == {"input_shape": [None, 2, 2, 3]}
    assert config["b"]["build_config"] == {"input_shape": [None, 12]}
    assert config["flat"]["inbound_nodes"][0]["args"][0]["config"]["shape"] == [None, 2, 2, 3]


def test_an_array_among_arguments_is_cut():
    def net(names):
        scale = constant(numbers([9], names)[0])
        record = functional(
            "net", {"x": (None, 5)}, call(layer("Dense", "a", units=len(names)), "x"),
            call(operation("Multiply", "m"), "a", scale, out=(None, len(names))),
            call(layer("Dense", "b", units=1), "m"), outputs="b",
        )  # fmt: skip
        return snapshot(record, {"a": (numbers(5, names), numbers(names)), "b": (numbers(names, 1), numbers(1))})

    assert DeleteChannels("a", [0, 2])(net([0, 1, 2, 3])) == net([1, 3])


def test_the_optimizer_state_is_cut_like_the_weights():
    assert DeleteChannels({"a": [0], "b": [2]})(chain(training=True)) == chain([1, 2, 3], [0, 1], training=True)


def test_optimizer_state_of_another_shape_is_unchanged():
    before = chain(training=True)
    odd = type(before.training)((("a", 0), ("a", 0)), (np.ones((5, 4)), np.ones(5)))
    after = DeleteChannels("a", [0])(type(before)(before.record, before.weights, odd))
    assert [value.shape for value in after.training.values] == [(5, 3), (5,)]


# --- how channels are named


SAME = {
    "a number": 2,
    "a number of numpy's": np.int64(2),
    "a list": [2],
    "a tuple": (2,),
    "a set": {2},
    "a generator": (i for i in [2]),
    "an array": np.array([2], "uint8"),
    "from the end": [-2],
    "twice": [2, 2, -2],
    "a mask": [False, False, True, False],
    "a mask of numpy's": np.array([False, False, True, False]),
}


@pytest.mark.parametrize("channels", SAME.values(), ids=SAME)
def test_channels_may_be_given_in_many_forms(channels):
    assert DeleteChannels("a", channels)(chain()) == chain(a=[0, 1, 3])


@pytest.mark.parametrize("address", ["a", "a:units", type("Layer", (), {"name": "a"})()])
def test_layers_by_name_by_kind_or_as_objects(address):
    assert DeleteChannels(address, [0])(chain()) == chain(a=[1, 2, 3])
    assert DeleteChannels({address: [0]})(chain()) == chain(a=[1, 2, 3])


def test_kinds_may_be_given_by_keyword():
    assert DeleteChannels("a", units=[0]) == DeleteChannels({"a:units": [0]})
    assert DeleteChannels("a", units=[0])(chain()) == chain(a=[1, 2, 3])


def test_a_bare_name_addresses_a_nested_layer():
    net = functional(
        "net", {"x": (None, 5)}, call(sequential("inner", (None, 5), layer("Dense", "a", units=2)), "x"),
        call(layer("Dense", "t", units=1), "inner"), outputs="t",
    )  # fmt: skip
    after = DeleteChannels("a", [0])(snapshot(net, {"inner/a": (numbers(5, 2), numbers(2))}))
    assert after.weights["inner/a"][1].tolist() == [1]


def test_the_data_of_an_edit_is_plain():
    edit = DeleteChannels({"a": np.array([0, 2]), "b": 1}, allow_output_change=True)
    assert edit.channels == {"a": (0, 2), "b": (1,)}
    assert all(type(index) is int for index in edit.channels["a"])
    assert repr(edit) == (
        "DeleteChannels(channels={'a': (0, 2), 'b': (1,)}, allow_output_change=True, allow_input_change=False)"
    )
    assert pickle.loads(pickle.dumps(edit)) == copy.deepcopy(edit) == edit
    assert hash(edit) == hash(copy.copy(edit))
    assert edit != KeepChannels({"a": [0, 2], "b": 1}, allow_output_change=True)


def test_edits_are_listed_by_name():
    assert EDITS["DeleteChannels"] is DeleteChannels
    assert EDITS["KeepChannels"] is KeepChannels
    assert isinstance(DeleteChannels("a", [0]), Edit)


# --- refusals


@pytest.mark.parametrize(
    "edit, net, error, message",
    [
        (DeleteChannels("aa", [0]), chain(), UnknownLayer, r"no layer named 'aa' among 5 layers; did you mean 'a'\?"),
        (DeleteChannels("relu", [0]), chain(), NoChannels, r"layer 'relu' creates no channels; delete"),
        (DeleteChannels("a:filters", [0]), chain(), NoChannels, r"layer 'a' has channels of the kinds units, but"),
        (DeleteChannels("a", [4]), chain(), ChannelOutOfRange,
         r"layer 'a' has 4 channels \(0 to 3, or -4 to -1\), so there is no 4"),
        (DeleteChannels("a", [0, -5]), chain(), ChannelOutOfRange, r"so there is no -5"),
        (KeepChannels("a", [9]), chain(), ChannelOutOfRange, r"so there is no 9"),
        (DeleteChannels("c", [0]), chain(), PinnedChannels,
         r"1 channel of 'c' cannot be deleted: it is an output of the model, computed by 'c'\. Pass allow_output"),
        (KeepChannels("c", [0]), chain(), PinnedChannels, r"1 channel of 'c' cannot be deleted"),
        (DeleteChannels("a", [0, 1, 2, 3]), chain(), NothingLeft,
         r"the output of 'c', .* would be left without channels; keep at least one channel"),
        (KeepChannels("a", []), chain(), NothingLeft, None),
        (DeleteChannels("c", [0, 1], allow_output_change=True), chain(), NothingLeft, r"the output of 'c', which"),
        (DeleteChannels("p", [0, 1, 2]), residual(), NothingLeft, None),
        (DeleteChannels("s", [0, 1, 2]), shared(), NothingLeft, None),
        (DeleteChannels("b", [0]), grouped(), PartialGroup,
         r"channels \[0\] of 'b' are part of heads or groups that can only be deleted as a whole: "
         r"delete all channels of a group, such as \[0, 3\]; \[0, 1, 2\]"),
        (DeleteChannels("b", [0, 1]), grouped(), PartialGroup, r"channels \[0, 1\] of 'b'.*\[0, 3\]; \[1, 4\]; \[0"),
        (KeepChannels("a", [0, 1, 2]), grouped(), PartialGroup, r"channels \[3\] of 'a' .*\[1, 3\]; \[2, 3\]$"),
    ],
)  # fmt: skip
def test_an_impossible_deletion_is_refused_and_changes_nothing(edit, net, error, message):
    before = copy.deepcopy(net)
    with pytest.raises(error, match=message) as caught:
        edit(net)
    assert isinstance(caught.value, SurgeryError)
    assert net == before


def test_a_name_that_two_nested_models_have_is_ambiguous():
    inner = [sequential(name, (None, 5), layer("Dense", "a", units=5)) for name in ("left", "right")]
    net = functional("net", {"x": (None, 5)}, call(inner[0], "x"), call(inner[1], "left"), outputs="right")
    with pytest.raises(AmbiguousLayer, match="left/a, right/a; give one of these paths"):
        DeleteChannels("a", [0])(snapshot(net))


@pytest.mark.parametrize("channels", [[0.5], ["0"], [1.0], [None]])
def test_an_invalid_index_is_refused_when_the_edit_is_created(channels):
    with pytest.raises(ChannelOutOfRange, match="channels are indices or a boolean mask, not"):
        DeleteChannels("a", channels)


@pytest.mark.parametrize("edit", [DeleteChannels, KeepChannels])
@pytest.mark.parametrize("n", [3, 5])
def test_a_mask_of_another_length_is_refused(edit, n):
    with pytest.raises(ChannelOutOfRange, match=f"'a' has 4 channels, and the mask is for {n}"):
        edit("a", np.arange(n) == 1)(chain())


def test_the_error_shows_how_to_teach_a_layer_without_a_rule():
    gate = layer("Gate", "gate", module="mine", registered_name="mine>Gate")
    net = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "a", units=2), "x"), call(gate, "a", out=(None, 2)),
        call(layer("Dense", "b", units=1), "gate"), outputs="b",
    )  # fmt: skip
    with pytest.raises(PinnedChannels) as caught:
        DeleteChannels("a", [0])(snapshot(net))
    assert str(caught.value) == (
        "1 channel of 'a' cannot be deleted: 'gate' (Gate) is of the class mine>Gate, which has no rule; add one by a "
        'function under @kerassurgery_fn.rule("mine>Gate"). Keep these channels, or delete the layer that pins '
        "them first."
    )


def test_the_error_names_every_layer_with_pinned_channels():
    sep = layer("DepthwiseConv2D", "d", depth_multiplier=2)
    net = functional(
        "net", {"x": (None, 4, 4, 2)}, call(layer("Conv2D", "a", filters=2), "x"), call(sep, "a"), outputs="d"
    )
    with pytest.raises(PinnedChannels, match=r"2 channels of 'a', 'd' cannot be deleted: it is an output"):
        DeleteChannels({"a": [0], "d": [1]})(snapshot(net))


def test_the_error_names_the_pinned_kinds_of_channels():
    deep = layer("DepthwiseConv2D", "d", depth_multiplier=2)
    net = functional("net", {"x": (None, 4, 4, 2)}, call(deep, "x"), outputs="d")
    flow = analyse(snapshot(net))
    own = flow.producer("d")
    two = {("d", "more"): own._replace(kind="more"), ("d", "less"): own._replace(kind="less", axis=own.axis[:, :1])}
    assert located(dataclasses.replace(flow, producers=two), np.array([1])) == ["d"]
    assert located(dataclasses.replace(flow, producers=two), np.array([0])) == ["d", "d:less"]


def test_an_output_loses_channels_on_request():
    assert DeleteChannels("c", [0], allow_output_change=True)(chain()) == chain(c=[1])
    assert KeepChannels("c", [1], allow_output_change=True)(chain()) == chain(c=[1])


def test_channels_pinned_by_more_than_an_output_stay_pinned():
    gate = layer("Gate", "gate", module="mine")
    net = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "a", units=2), "x"), call(gate, "a", out=(None, 2)),
        outputs=["a", "gate"],
    )  # fmt: skip
    with pytest.raises(PinnedChannels, match=r"'gate' \(Gate\) is of the class mine>Gate.*Keep these channels"):
        DeleteChannels("a", [0], allow_output_change=True)(snapshot(net))


@pytest.mark.parametrize(
    "give", [lambda: DeleteChannels("a"), lambda: KeepChannels("a", None), lambda: DeleteChannels({"a": [0]}, [1])]
)
def test_an_edit_without_a_layer_or_channels_is_refused(give):
    with pytest.raises(SurgeryError, match="takes a layer and its channels, or a mapping of layers to channels"):
        give()


def test_an_empty_choice_is_the_identity():
    net = chain()
    assert DeleteChannels("a", [])(net) is net
    assert KeepChannels("a", range(4))(net) is net


# --- branches


def test_a_branch_without_channels_is_removed_up_to_the_concatenation():
    assert DeleteChannels("p", [0, 1])(fork()) == fork(p=[])


def test_a_concatenation_of_one_branch_is_removed():
    assert DeleteChannels({"p": [0, 1], "r": [0]})(fork()) == fork(p=[], r=[])


def test_branches_and_channels_in_one_edit():
    assert DeleteChannels({"p": [0, 1], "q": [0]})(fork()) == fork(p=[], q=[1, 2])


def two_nets(*branches, wide=(0, 1)):
    """A nested model with a branch for each name, called on a dense layer, and a dense layer on what it makes."""
    joined = [16 * "pq".index(name) + channel for name in branches for channel in wide]
    sides = [call(layer("Dense", name, units=len(wide)), "i") for name in branches]
    merged = [call(layer("Concatenate", "cat"), [*branches])] if len(branches) > 1 else []
    inner = functional("inner", {"i": (None, 3)}, *sides, *merged, outputs="cat" if merged else branches[0])
    record = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "a", units=3), "x"), call(inner, "a"),
        call(layer("Dense", "t", units=1), "inner"), outputs="t",
    )  # fmt: skip
    weights = {f"inner/{name}": (numbers(3, wide), numbers(wide)) for name in branches}
    return snapshot(record, {"a": (numbers(5, 3), numbers(3)), **weights, "t": (numbers(joined, 1), numbers(1))})


def test_a_branch_in_a_nested_model_is_removed():
    assert DeleteChannels("inner/p", [0, 1])(two_nets("p", "q")) == two_nets("q")
    assert DeleteChannels("inner/q", [0, 1])(two_nets("p", "q")) == two_nets("p")


def test_a_nested_model_that_is_a_branch_is_removed():
    def net(*branches):
        inner = functional("inner", {"i": (None, 5)}, call(layer("Dense", "a", units=2), "i"), outputs="a")
        tail = sequential("tail", (None, 5), layer("Dense", "a", units=2))
        sides = [call({"inner": inner, "tail": tail}[name], "x") for name in branches]
        merged = [call(layer("Concatenate", "cat"), [*branches])] if len(branches) > 1 else []
        record = functional(
            "net", {"x": (None, 5)}, *sides, *merged,
            call(layer("Dense", "t", units=1), "cat" if merged else branches[0]), outputs="t",
        )  # fmt: skip
        rows = [16 * ["inner", "tail"].index(name) + i for name in branches for i in range(2)]
        weights = {f"{name}/a": (numbers(5, 2), numbers(2)) for name in branches}
        return snapshot(record, {**weights, "t": (numbers(rows, 1), numbers(1))})

    assert DeleteChannels("inner/a", [0, 1])(net("inner", "tail")) == net("tail")
    assert DeleteChannels("tail/a", [0, 1])(net("inner", "tail")) == net("inner")


def test_a_call_of_a_shared_layer_is_removed_and_the_others_are_renumbered():
    def net(*sources):
        producers = [call(layer("Dense", name, units=2), "x") for name in ("p", "q") if name in sources]
        calls = [call(layer("ReLU", "r") if i == 0 else "r", source) for i, source in enumerate(sources)]
        merged = [call(layer("Concatenate", "cat"), [("r", i, 0) for i in range(len(sources))])] * (len(sources) > 1)
        record = functional(
            "net", {"x": (None, 5)}, *producers, *calls, *merged,
            call(layer("Dense", "t", units=1), "cat" if merged else "r"), outputs="t",
        )  # fmt: skip
        rows = [16 * "pq".index(name) + i for name in sources for i in range(2)]
        weights = {name: (numbers(5, 2), numbers(2)) for name in sources}
        return snapshot(record, {**weights, "t": (numbers(rows, 1), numbers(1))})

    assert DeleteChannels("p", [0, 1])(net("p", "q")) == net("q")
    assert DeleteChannels("q", [0, 1])(net("p", "q")) == net("p")


def test_the_optimizer_state_of_a_branch_is_removed():
    def training(net):
        return type(net)(net.record, net.weights, momenta(net.weights))

    assert DeleteChannels("p", [0, 1])(training(fork())) == training(fork(p=[]))


def test_a_side_of_a_sum_is_removed_where_the_other_is_wider():
    def net(*sides):
        producers = [call(layer("Dense", name, units=3 if name == "p" else 1), "x") for name in sides]
        merged = [call(layer("Add", "sum"), [*sides], out=(None, 3))] if len(sides) > 1 else []
        record = functional(
            "net", {"x": (None, 5)}, *producers, *merged, call(layer("Dense", "t", units=1), "sum" if merged else "p"),
            outputs="t",
        )  # fmt: skip
        weights = {"p": (numbers(5, 3), numbers(3)), "q": (numbers(5, 1), numbers(1))}
        return snapshot(record, {**{name: weights[name] for name in sides}, "t": (numbers(3, 1), numbers(1))})

    assert DeleteChannels("q", [0])(net("p", "q")) == net("p")


def combined(kind, narrow=1):
    """Dense layers p and, of the given number of units and behind another, q; combined, and joined with r."""
    record = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "p", units=3), "x"), call(layer("Dense", "z", units=2), "x"),
        call(layer("Dense", "q", units=narrow), "z"), call(layer("Dense", "r", units=2), "x"),
        call(layer(kind, "m"), ["p", "q"], out=(None, 3)), call(layer("Concatenate", "cat"), ["m", "r"], out=(None, 5)),
        call(layer("Dense", "t", units=1), "cat"), outputs="t",
    )  # fmt: skip
    units = {"p": (5, 3), "z": (5, 2), "q": (2, narrow), "r": (5, 2), "t": (5, 1)}
    return snapshot(record, {name: (numbers(*shape), numbers(shape[1])) for name, shape in units.items()})


@pytest.mark.parametrize("kind", ["Subtract", "Multiply", "Maximum", "Average"])
@pytest.mark.parametrize("edit, narrow", [(DeleteChannels("q", [0]), 1), (DeleteChannels("z", [0, 1]), 3)])
def test_a_needed_side_of_a_merge_is_not_removed(kind, edit, narrow):
    with pytest.raises(NothingLeft, match=rf"'m' \({kind}\) combines the output of 'q' with other tensors"):
        edit(combined(kind, narrow))


def test_a_part_of_a_concatenation_along_another_axis_is_not_removed():
    record = functional(
        "net", {"x": (None, 4, 5)}, call(layer("Dense", "p", units=3), "x"), call(layer("Dense", "z", units=2), "x"),
        call(layer("Dense", "q", units=3), "z"),
        call(layer("Concatenate", "cat", axis=1), ["p", "q"], out=(None, 8, 3)),
        call(layer("Dense", "t", units=1), "cat"), outputs="t",
    )  # fmt: skip
    with pytest.raises(NothingLeft, match=r"'cat' \(Concatenate\) combines the output of 'q'"):
        DeleteChannels("z", [0, 1])(snapshot(record))


def test_a_product_is_removed_with_its_sides():
    def net(*branches):
        gate = [
            call(layer("Dense", "p", units=2), "x"), call(layer("Dense", "q", units=2), "x"),
            call(layer("Multiply", "m"), ["p", "q"]),
        ] if "m" in branches else []  # fmt: skip
        merged = [call(layer("Concatenate", "cat"), ["m", "r"])] if gate else []
        record = functional(
            "net", {"x": (None, 5)}, *gate, call(layer("Dense", "r", units=2), "x"), *merged,
            call(layer("Dense", "t", units=1), "cat" if gate else "r"), outputs="t",
        )  # fmt: skip
        kept = (("p", "q", "r") if gate else ("r",), range(4) if gate else [2, 3])
        return snapshot(
            record, {**{n: (numbers(5, 2), numbers(2)) for n in kept[0]}, "t": (numbers(kept[1], 1), numbers(1))}
        )

    assert DeleteChannels("p", [0, 1])(net("m", "r")) == net("r")


def test_an_output_of_a_nested_model_with_other_readers_is_not_removed():
    inner = functional(
        "inner", {"i": (None, 5)}, call(layer("Dense", "a", units=2), "i"), call(layer("Dense", "b", units=2), "i"),
        outputs=["a", "b"],
    )  # fmt: skip
    net = functional(
        "net", {"x": (None, 5)}, call(inner, "x"), call(layer("Concatenate", "cat"), ["inner", ("inner", 0, 1)]),
        call(layer("Dense", "t", units=1), "cat"), outputs="t",
    )  # fmt: skip
    with pytest.raises(
        NothingLeft, match="the output 'inner/a' of nested model 'inner' would be left without channels"
    ):
        DeleteChannels("inner/a", [0, 1])(snapshot(net))


def test_unread_outputs_of_a_nested_model_stay():
    def net(*branches):
        inner = functional(
            "inner", {"i": (None, 5)}, call(layer("Dense", "a", units=2), "i"), call(layer("Dense", "b", units=2), "i"),
            outputs=["a", "b"],
        )  # fmt: skip
        sides = [call(layer("Dense", name, units=2), "x") for name in branches]
        record = functional(
            "net", {"x": (None, 5)}, call(inner, "x"), *sides,
            call(layer("Concatenate", "cat"), ["inner", *branches]), call(layer("Dense", "t", units=1), "cat"),
            outputs="t",
        )  # fmt: skip
        rows = [*range(2), *(10 * "pq".index(name) + i + 2 for name in branches for i in range(2))]
        return snapshot(record, {"t": (numbers(rows, 1), numbers(1))})

    assert DeleteChannels("p", [0, 1])(net("p", "q")) == net("q")


def test_a_branch_needed_in_one_call_of_a_nested_model_is_not_removed():
    inner = functional("inner", {"i": (None, 3), "j": (None, 3)}, call(layer("Add", "sum"), ["i", "j"]), outputs="sum")
    net = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "p", units=3), "x"), call(layer("Dense", "z", units=2), "x"),
        call(layer("Dense", "q", units=3), "z"), call(inner, ["p", "q"]), call("inner", ["p", "p"]),
        call(layer("Concatenate", "cat"), ["inner", ("inner", 1, 0)]), call(layer("Dense", "t", units=1), "cat"),
        outputs="t",
    )  # fmt: skip
    with pytest.raises(NothingLeft, match="the input 'q' of nested model 'inner' would be left without channels"):
        DeleteChannels("z", [0, 1])(snapshot(net))


def test_a_nested_model_that_reads_a_removed_branch():
    inner = functional("inner", {"i": (None, 3), "j": (None, 3)}, call(layer("Add", "sum"), ["i", "j"]), outputs="sum")
    net = functional(
        "net", {"x": (None, 5)}, call(layer("Dense", "p", units=3), "x"), call(layer("Dense", "z", units=2), "x"),
        call(layer("Dense", "q", units=3), "z"), call(inner, ["p", "q"]), call(layer("Dense", "t", units=1), "inner"),
        outputs="t",
    )  # fmt: skip
    with pytest.raises(NothingLeft, match="the input 'q' of nested model 'inner' would be left without channels"):
        DeleteChannels("z", [0, 1])(snapshot(net))


def test_an_unread_input_of_a_nested_model_stays():
    def net(*branches):
        own = {"a": "i", "b": "j"}
        sides = [call(layer("Dense", name, units=2), own[name]) for name in branches]
        merged = [call(layer("Concatenate", "cat"), [*branches])] if len(branches) > 1 else []
        inner = functional(
            "inner", {"i": (None, 3), "j": (None, 3)}, *sides, *merged, outputs="cat" if merged else branches[0]
        )
        record = functional(
            "net", {"x": (None, 5)}, call(layer("Dense", "p", units=3), "x"), call(layer("Dense", "q", units=3), "x"),
            call(inner, ["p", "q"]), call(layer("Dense", "t", units=1), "inner"), outputs="t",
        )  # fmt: skip
        weights = {f"inner/{name}": (numbers(3, 2), numbers(2)) for name in branches}
        fed = {name: (numbers(5, 3), numbers(3)) for name in "pq"}
        rows = [10 * "ab".index(name) + i for name in branches for i in range(2)]
        return snapshot(record, {**fed, **weights, "t": (numbers(rows, 1), numbers(1))})

    assert DeleteChannels("inner/b", [0, 1])(net("a", "b")) == net("a")


# --- purity and sharing


@pytest.mark.parametrize("net", [chain(training=True), image(), residual(), fork(), shared(), nested(), grouped()])
def test_an_edit_is_pure_and_repeatable(net):
    name = next(path for path in net.weights)
    before = pickle.loads(pickle.dumps(net))
    edit = DeleteChannels(name, [0, 1] if name == "a" and len(net.weights["a"][1]) == 4 else [0])
    assert edit(net) == edit(net)
    assert net == before


def test_unchanged_parts_are_shared():
    net = chain(training=True)
    after = DeleteChannels("a", [0])(net)
    assert after.weights["c"] is net.weights["c"]
    assert after.weights["b"][1] is net.weights["b"][1]
    assert after.weights["b"][0] is not net.weights["b"][0]
    assert after.training.values[5] is net.training.values[5]
    changed = [one["config"]["name"] for one, old in zip(after.config["layers"], net.config["layers"], strict=True)
               if one is not old]  # fmt: skip
    assert changed == ["a", "relu", "b"][: len(changed)] or changed == ["a", "b"]
    dense = ("config", "layers", 3)
    assert get_in(after.record, (*dense, "config")) is get_in(net.record, (*dense, "config"))


def test_unchanged_parts_are_shared_when_a_branch_is_removed():
    net = fork()
    after = DeleteChannels("p", [0, 1])(net)
    old = {one["config"]["name"]: one for one in net.config["layers"]}
    assert all(one is old[one["config"]["name"]] for one in after.config["layers"] if one["config"]["name"] in "xqr")
    assert after.weights["q"] is net.weights["q"]


def test_the_arrays_that_an_edit_makes_are_read_only():
    after = DeleteChannels("a", [0])(chain(training=True))
    assert not any(a.flags.writeable for arrays in after.weights.values() for a in arrays)
    assert not any(value.flags.writeable for value in after.training.values)


# --- algebra

INDICES = st.sets(st.integers(0, 3), max_size=3)


@quick
@given(INDICES)
def test_deleting_is_keeping_the_rest(gone):
    kept = sorted(set(range(4)) - gone)
    assert DeleteChannels("a", gone)(chain()) == KeepChannels("a", kept)(chain()) == chain(a=kept)


@quick
@given(st.sets(st.integers(0, 5), max_size=3), st.data())
def test_two_deletions_compose_to_one(first, data):
    left = [one for one in range(6) if one not in first]
    second = data.draw(st.sets(st.integers(0, len(left) - 1), max_size=len(left) - 1))
    both = first | {left[i] for i in second}
    for name, net in (("a", chain(a=range(6))), ("a", image(a=range(6))), ("q", residual(p=range(6)))):
        assert DeleteChannels(name, second)(DeleteChannels(name, first)(net)) == DeleteChannels(name, both)(net)


@quick
@given(INDICES, st.sets(st.integers(0, 2), max_size=2))
def test_deletions_of_different_layers_commute(a, b):
    one, two = DeleteChannels("a", a), DeleteChannels("b", b)
    assert one(two(chain())) == two(one(chain())) == DeleteChannels({"a": a, "b": b})(chain())


@quick
@given(
    st.sets(st.integers(0, 2), max_size=1),
    st.sets(st.integers(0, 2), max_size=2),
    st.sets(st.integers(0, 3), max_size=3),
)
def test_any_number_of_whole_lines_of_a_grid_is_deleted(groups, a, b):
    def lines(width, places):
        return {width * g + p for g in range(3) for p in range(width) if g in groups or p in places}

    net = grouped(range(3), range(3), range(4))
    left = [sorted(set(range(n)) - gone) for n, gone in ((3, groups), (3, a), (4, b))]
    assert DeleteChannels({"a": lines(3, a), "b": lines(4, b)})(net) == grouped(*left)


@quick
@given(st.sets(st.integers(0, 11), min_size=1, max_size=11))
def test_positions_of_a_grid_are_deleted_exactly_or_not_at_all(gone):
    net = grouped(range(3), range(2), range(4))
    try:
        after = DeleteChannels("b", gone)(net)
    except PartialGroup:
        return
    left = [8 * (i // 4) + i % 4 for i in range(12) if i not in gone]
    assert after.weights["b"][1].tolist() == left
