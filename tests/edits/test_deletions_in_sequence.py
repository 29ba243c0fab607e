"""Deletions one after the other are one analysis, and give what deletions of newly analysed models give."""

import gc
import weakref
from random import Random

import numpy as np
import pytest
from toolz import pipe

from helpers.kept import fresh
from helpers.records import call, functional, layer, numbers, sequential, snapshot
from helpers.sequences import deleted
from kerassurgery_fn import DeleteChannels, KeepChannels, SurgeryError, analyse, groups
from kerassurgery_fn.analysis import channel_flow
from kerassurgery_fn.channels import size
from kerassurgery_fn.edits.steps import channel_deletion
from kerassurgery_fn.edits.steps.remainders import remainder_of
from kerassurgery_fn.rules.registry import RULES, rule

pytestmark = pytest.mark.filterwarnings("ignore::kerassurgery_fn.InexactCut")


def dense(name, units):
    return layer("Dense", name, units=units)


NORM = layer("LayerNormalization", "norm", axis=-1, center=True, scale=True, epsilon=0.001)
CHAIN = snapshot(sequential("chain", (None, 4), dense("a", 6), dense("b", 5), dense("c", 3)))
RESIDUAL = snapshot(
    functional(
        "residual",
        {"x": (None, 4)},
        call(dense("a", 6), "x"),
        call(dense("b", 6), "a"),
        call(layer("Add", "sum"), ["a", "b"]),
        call(NORM, "sum", out=(None, 6)),
        call(dense("c", 5), "norm"),
        call(layer("Concatenate", "join", axis=-1), ["c", "a"], out=(None, 11)),
        call(dense("end", 2), "join"),
        outputs="end",
    )
)
IMAGES = snapshot(
    functional(
        "images",
        {"x": (None, 8, 8, 3)},
        call(layer("Conv2D", "a", filters=6, kernel_size=[3, 3]), "x"),
        call(layer("BatchNormalization", "norm", axis=-1), "a"),
        call(layer("DepthwiseConv2D", "depth", kernel_size=[3, 3], depth_multiplier=2), "norm"),
        call(layer("Flatten", "flat"), "depth"),
        call(dense("end", 2), "flat"),
        outputs="end",
    )
)
GROUPED = snapshot(
    sequential(
        "grouped",
        (None, 8, 8, 3),
        layer("Conv2D", "a", filters=8, kernel_size=[3, 3]),
        layer("Conv2D", "b", filters=8, kernel_size=[3, 3], groups=2),
        layer("Conv2D", "c", filters=2, kernel_size=[3, 3]),
    )
)


def with_weights(model):
    """The model with weights, all elements of an array different."""
    layers = analyse(model).weights.items()
    weights = {path: tuple(numbers(*map(size, weight.axes)) for weight in several) for path, several in layers}
    return snapshot(model.record, weights)


CHAIN, RESIDUAL, IMAGES, GROUPED = map(with_weights, (CHAIN, RESIDUAL, IMAGES, GROUPED))
MODELS = {"chain": CHAIN, "residual": RESIDUAL, "images": IMAGES, "grouped": GROUPED}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(12))
def test_a_deletion_after_others_gives_what_a_new_analysis_gives(name, seed):
    for after_others, after_none in deleted(MODELS[name], Random(seed)):
        assert after_others == after_none


def test_later_deletions_need_no_analysis(monkeypatch):
    first = DeleteChannels("a", [0])(RESIDUAL)
    monkeypatch.setattr(channel_flow, "trace", lambda graph: pytest.fail("the model is analysed again"))
    last = pipe(first, DeleteChannels("a", [2]), DeleteChannels("c", [-1]))
    assert last.weights["end"][0].shape == (4 + 4, 2)


def test_a_wrong_remainder_would_be_noticed(monkeypatch):
    def confused(snapshot, flow, sources):
        return copied(snapshot, flow, lambda axis: None if (kept := sources(axis)) is None else kept[::-1])

    copied = channel_deletion.copied
    first = DeleteChannels("a", [0])(RESIDUAL)
    right = DeleteChannels("a", [2])(fresh(first))
    monkeypatch.setattr(channel_deletion, "copied", confused)
    assert DeleteChannels("a", [2])(first) != right


@pytest.mark.parametrize(
    "model, edit",
    [
        (GROUPED, DeleteChannels("a", [0, 1, 4, 5])),  # a grid
        (CHAIN, KeepChannels("a", [1])),  # an axis with one position
        (RESIDUAL, DeleteChannels("x", [0], allow_input_change=True)),  # ids that other analyses do not have
    ],
)
def test_where_sizes_may_decide_the_smaller_model_is_analysed_anew(model, edit):
    assert remainder_of(edit(model)) is None


def test_a_rule_of_a_user_is_asked_again():
    @rule("mine>Even")
    def even(layer, inputs, **_):
        """Its channels can only be cut where they are more than five."""
        if inputs[-1].shape[1] < 6:
            layer.pin(inputs[-1], "needs five channels")
        return inputs

    own = layer("Even", "own", module="mine", registered_name="mine>Even")
    try:
        calls = call(dense("a", 6), "x"), call(own, "a", out=(None, 6)), call(dense("b", 2), "own")
        model = snapshot(functional("f", {"x": (None, 4)}, *calls, outputs="b"))
        first = DeleteChannels("a", [0])(model)
        with pytest.raises(SurgeryError, match="needs five channels"):
            DeleteChannels("a", [0])(first)
    finally:
        RULES.pop("mine>Even")


def test_a_new_rule_ends_what_is_known():
    first = DeleteChannels("a", [0])(CHAIN)
    assert remainder_of(first)
    rule("mine>Unused")(lambda layer, inputs, **_: inputs)
    RULES.pop("mine>Unused")
    assert remainder_of(first) is None


def test_a_long_sequence_keeps_no_earlier_model():
    large = with_weights(snapshot(sequential("large", (None, 4), dense("a", 200), dense("b", 200), dense("c", 2))))
    earlier, model = [], large
    for number in range(150):
        model = DeleteChannels("ab"[number % 2], [number % 7])(model)
        earlier.append(weakref.ref(model.weights["a"][0]))
    gc.collect()
    assert sum(ref() is not None for ref in earlier[:-2]) == 0
    assert model.weights["b"][0].shape == (125, 125)


def test_groups_after_deletions_are_those_of_the_smaller_model():
    smaller = DeleteChannels("c", [1])(DeleteChannels("a", [0, 3])(RESIDUAL))
    assert str(groups(smaller)) == str(groups(fresh(smaller)))


def test_positions_count_among_those_that_are_left():
    smaller = DeleteChannels("a", [4])(DeleteChannels("a", [1])(CHAIN))
    np.testing.assert_array_equal(smaller.weights["b"][0], CHAIN.weights["b"][0][[0, 2, 3, 4]])
