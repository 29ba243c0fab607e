"""Deleting and keeping channels: pictures of models before and after, what is refused, and the algebra."""

import numpy as np
import pytest
from records import call, functional, layer, numbers, sequential, snapshot

from kerassurgery_fn import DeleteChannels, KeepChannels, Plan, SurgeryError
from kerassurgery_fn.errors import (
    AmbiguousLayer,
    ChannelOutOfRange,
    NoChannels,
    NothingLeft,
    PartialLines,
    PinnedChannels,
    UnknownLayer,
)

ALL = range(6)


def chain(a=(0, 1, 2, 3, 4, 5), b=(0, 1, 2, 3)):
    """Three Dense layers, of whose first and second these channels are there."""
    a, b = list(a), list(b)
    return snapshot(
        sequential(
            "net", (None, 3), layer("Dense", "a", units=len(a)), layer("BatchNormalization", "norm"),
            layer("Dense", "b", units=len(b)), layer("Dense", "top", units=2),
        ),
        {
            "a": (numbers(3, a), numbers(a)),
            "norm": (numbers(a), numbers(a), numbers(a), numbers(a)),
            "b": (numbers(a, b), numbers(b)),
            "top": (numbers(b, 2), numbers(2)),
        },
    )  # fmt: skip


def residual(a=ALL, inner=range(4)):
    """y = a(x); top(y + wide(narrow(y))): channels of `a` and `wide` are the same ones."""
    a, inner = list(a), list(inner)
    record = functional(
        "net", {"x": (None, 3)}, call(layer("Dense", "a", units=len(a)), "x"),
        call(layer("Dense", "narrow", units=len(inner)), "a"), call(layer("Dense", "wide", units=len(a)), "narrow"),
        call(layer("Add", "sum"), ["a", "wide"]), call(layer("Dense", "top", units=2), "sum"), outputs="top",
    )  # fmt: skip
    return snapshot(
        record,
        {
            "a": (numbers(3, a), numbers(a)),
            "narrow": (numbers(a, inner), numbers(inner)),
            "wide": (numbers(inner, a), numbers(a)),
            "top": (numbers(a, 2), numbers(2)),
        },
    )


def grouped(o=range(8)):
    """A convolution of 8 filters in 4 groups: two places in each."""
    record = sequential(
        "net", (None, 4, 4, 3), layer("Conv2D", "a", filters=8), layer("Conv2D", "b", filters=8, groups=4),
        layer("Conv2D", "top", filters=2),
    )  # fmt: skip
    weights = {
        "a": (numbers(2, 2, 3, 8), numbers(8)),
        "b": (numbers(2, 2, 2, 8), numbers(8)),
        "top": (numbers(2, 2, 8, 2), numbers(2)),
    }
    return snapshot(record, weights)


def two_of_a_name():
    def inner(name):
        return functional(name, {"x": (None, 3)}, call(layer("Dense", "d", units=3), "x"), outputs="d")

    record = functional(
        "net", {"x": (None, 3)}, call(inner("p"), "x"), call(inner("q"), "p"),
        call(layer("Dense", "top", units=2), "q"), outputs="top",
    )  # fmt: skip
    own = (numbers(3, 3), numbers(3))
    return snapshot(record, {"p/d": own, "q/d": own, "top": (numbers(3, 2), numbers(2))})


def opaque():
    record = functional(
        "net", {"x": (None, 3)}, call(layer("Dense", "a", units=4), "x"),
        call(layer("Strange", "s", module="mine", registered_name="mine>Strange"), "a", out=(None, 4)),
        call(layer("Dense", "top", units=2), "s"), outputs="top",
    )  # fmt: skip
    weights = {"a": (numbers(3, 4), numbers(4)), "top": (numbers(4, 2), numbers(2))}
    return snapshot(record, weights)


# --- before and after

PICTURES = {
    "one channel": (chain(), DeleteChannels("a", [2]), chain(a=[0, 1, 3, 4, 5])),
    "a number": (chain(), DeleteChannels("a", 2), chain(a=[0, 1, 3, 4, 5])),
    "from the end, twice": (chain(), DeleteChannels("a", [-1, 5, 5, 0]), chain(a=[1, 2, 3, 4])),
    "a mask": (chain(), DeleteChannels("b", np.array([True, False, False, True])), chain(b=[1, 2])),
    "a list of bools": (chain(), DeleteChannels("b", [True, False, False, True]), chain(b=[1, 2])),
    "an array of numpy's ints": (chain(), DeleteChannels("a", np.array([1, 3], "uint8")), chain(a=[0, 2, 4, 5])),
    "several layers": (chain(), DeleteChannels({"a": [0], "b": [3]}), chain(a=[1, 2, 3, 4, 5], b=[0, 1, 2])),
    "kept": (chain(), KeepChannels("a", [4, 1]), chain(a=[1, 4])),
    "kept from the end": (chain(), KeepChannels({"a": [-1, 0], "b": [2]}), chain(a=[0, 5], b=[2])),
    "by kind": (chain(), DeleteChannels("a", units=[0, 1]), chain(a=[2, 3, 4, 5])),
    "by address": (chain(), DeleteChannels({"a:units": [0, 1]}), chain(a=[2, 3, 4, 5])),
    "tied": (residual(), DeleteChannels("wide", [0, 5]), residual(a=[1, 2, 3, 4])),
    "tied, from the other side": (residual(), DeleteChannels("a", [0, 5]), residual(a=[1, 2, 3, 4])),
    "tied, kept": (residual(), KeepChannels({"a": [1, 2], "narrow": [3]}), residual(a=[1, 2], inner=[3])),
    "nothing": (chain(), DeleteChannels("a", []), chain()),
    "all kept": (chain(), KeepChannels("a", range(6)), chain()),
    "one after the other": (chain(), Plan(DeleteChannels("a", [0]), DeleteChannels("a", [0])), chain(a=[2, 3, 4, 5])),
    "at once": (
        chain(), Plan.at_once(DeleteChannels("a", [0, 2]), DeleteChannels("a", [2]), KeepChannels("b", [1])),
        chain(a=[1, 3, 4, 5], b=[1]),
    ),
    "a plan of none": (chain(), Plan(), chain()),
    "at once, of none": (chain(), Plan.at_once(), chain()),
}  # fmt: skip


@pytest.mark.parametrize("before, edit, after", PICTURES.values(), ids=PICTURES.keys())
def test_pictures(before, edit, after):
    assert edit(before) == after


def test_whole_lines_of_a_grid_go():
    smaller = DeleteChannels("b", [2, 3])(grouped())
    a, b, top = (record["config"] for record in smaller.config["layers"][1:])
    assert (a["filters"], b["filters"], b["groups"], top["filters"]) == (6, 6, 3, 2)
    assert np.array_equal(smaller.weights["b"][0], numbers(2, 2, 2, [0, 1, 4, 5, 6, 7]))
    places = DeleteChannels("b", [1, 3, 5, 7])(grouped())
    assert [record["config"].get("groups") for record in places.config["layers"][1:]] == [1, 4, 1]
    assert np.array_equal(places.weights["top"][0], numbers(2, 2, [0, 2, 4, 6], 2))


def test_outputs_go_only_if_that_is_wanted():
    smaller = DeleteChannels("top", [0], allow_output_change=True)(chain())
    assert np.array_equal(smaller.weights["top"][0], numbers(4, [1]))
    with pytest.raises(PinnedChannels, match=r"1 channels of top .* output of the model.*allow_output_change=True"):
        DeleteChannels("top", [0])(chain())


def test_what_is_not_touched_is_shared():
    before = chain()
    after = DeleteChannels("b", [0])(before)
    assert after.weights["a"] is before.weights["a"]
    assert after.weights["norm"] is before.weights["norm"]
    assert after.weights["top"][1] is before.weights["top"][1]
    assert after.config["layers"][1] is before.config["layers"][1]


def test_a_layer_object_will_do_for_its_name():
    class Named:
        name = "a"

    assert DeleteChannels(Named(), [0]) == DeleteChannels("a", [0])
    assert DeleteChannels({Named(): [0]}) == DeleteChannels("a", [0])


# --- refusals

REFUSED = {
    "an unknown layer": (
        chain, DeleteChannels("aa", [0]), UnknownLayer, r"no layer named 'aa' among \d+ layers; did you mean 'a'",
    ),
    "an ambiguous name": (two_of_a_name, DeleteChannels("d", [0]), AmbiguousLayer, "2 layers are named 'd': p/d, q/d"),
    "no channels of its own": (chain, DeleteChannels("norm", [0]), NoChannels, "'norm' makes no channels of its own"),
    "no such kind": (chain, DeleteChannels("a", heads=[0]), NoChannels, "kinds units, but none of 'heads'"),
    "too large": (chain, DeleteChannels("a", [6]), ChannelOutOfRange, "'a' has 6 channels .0 to 5, or -6 to -1., so"),
    "too small": (chain, DeleteChannels("a", [0, -7]), ChannelOutOfRange, "there is no -7"),
    "kept beyond": (chain, KeepChannels("a", [6]), ChannelOutOfRange, "there is no 6"),
    "an output": (chain, DeleteChannels("top", [0]), PinnedChannels, "output of the model"),
    "kept of an output": (chain, KeepChannels("top", [0]), PinnedChannels, "output of the model"),
    "what an opaque layer reads": (
        opaque, DeleteChannels("a", [0]), PinnedChannels, r"'s' \(Strange\) is of the class mine>Strange.*rule",
    ),
    "a part of a line": (grouped, DeleteChannels("b", [0]), PartialLines, r"\[0\] of 'b' belong to lines of a grid"),
    "a part of two lines": (grouped, DeleteChannels("b", [0, 3]), PartialLines, r"\[0, 3\] of 'b'"),
    "all channels of the only way": (chain, DeleteChannels("a", ALL), NothingLeft, "keep at least one channel"),
    "nothing kept": (chain, KeepChannels("b", []), NothingLeft, "keep at least one channel"),
    "all outputs": (
        chain, DeleteChannels("top", [0, 1], allow_output_change=True), NothingLeft, "the output that 'top' makes",
    ),
    "all channels of a sum": (residual, DeleteChannels("a", ALL), NothingLeft, "keep at least one channel"),
    "the second of two edits": (
        chain, Plan(DeleteChannels("a", [0]), DeleteChannels("a", [5])), ChannelOutOfRange, "5 channels .*no 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make, edit, error, words", REFUSED.values(), ids=REFUSED.keys())
def test_refusals(make, edit, error, words):
    before = make()
    with pytest.raises(error, match=words) as refusal:
        edit(before)
    assert isinstance(refusal.value, SurgeryError)
    assert before == make()


def test_fractions_are_no_channels():
    with pytest.raises(ChannelOutOfRange, match="not float64"):
        DeleteChannels("a", [0.5])


def test_only_channel_edits_are_done_at_once():
    with pytest.raises(SurgeryError, match="only channel edits"):
        Plan.at_once(Plan())


# --- algebra

MODELS = {"chain": (chain, "a", 6), "residual": (residual, "wide", 6), "narrow": (residual, "narrow", 4)}


@pytest.mark.parametrize("make, name, n", MODELS.values(), ids=MODELS.keys())
def test_algebra(make, name, n):
    before, rng = make(), np.random.default_rng(0)
    assert KeepChannels(name, range(n))(before) == before
    for _ in range(20):
        dead = rng.choice(n, rng.integers(1, n), replace=False)
        alive = np.setdiff1d(np.arange(n), dead)
        once = DeleteChannels(name, dead)(before)
        assert KeepChannels(name, alive)(before) == once
        first = rng.choice(dead, rng.integers(1, len(dead) + 1), replace=False)
        rest = np.flatnonzero(np.isin(np.setdiff1d(np.arange(n), first), dead))
        two = Plan(DeleteChannels(name, first), DeleteChannels(name, rest))
        assert two(before) == once
        assert Plan.at_once(DeleteChannels(name, first), DeleteChannels(name, dead))(before) == once
        assert Plan(Plan(DeleteChannels(name, first)), DeleteChannels(name, rest))(before) == once


def test_edits_of_different_layers_commute():
    one, other = DeleteChannels("a", [0, 3]), DeleteChannels("narrow", [1])
    assert Plan(one, other)(residual()) == Plan(other, one)(residual()) == Plan.at_once(one, other)(residual())


def test_edits_are_values():
    assert DeleteChannels("a", (0, 1)) == DeleteChannels({"a": np.array([0, 1])})
    assert hash(DeleteChannels("a", [0, 1])) == hash(DeleteChannels("a", [0, 1]))
    assert DeleteChannels("a", [0]) != KeepChannels("a", [0])
    assert Plan(DeleteChannels("a", [0])) == Plan(DeleteChannels("a", [0])) != Plan()
    assert hash(Plan(DeleteChannels("a", [0]))) == hash(Plan(DeleteChannels("a", [0])))
