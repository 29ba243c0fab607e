"""Plans concatenated, simplified and compared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.records import call, functional, layer, numbers, sequential, snapshot
from kerassurgery_fn.documents.plan_algebra import concatenate, diff_plans, lost_channels, simplify, steps
from kerassurgery_fn.documents.preconditions import MadeFor, made_for
from kerassurgery_fn.edits import DeleteChannels, KeepChannels
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.errors import SurgeryError

CHAIN = snapshot(
    sequential(
        "net", (None, 3), layer("Dense", "a", units=6), layer("Dense", "b", units=5), layer("Dense", "c", units=2)
    ),
    {
        "a": (numbers(3, 6), numbers(6)),
        "b": (numbers(6, 5), numbers(5)),
        "c": (numbers(5, 2), numbers(2)),
    },
)
TIED = snapshot(
    functional(
        "net",
        {"x": (None, 3)},
        call(layer("Dense", "a", units=6), "x"),
        call(layer("Dense", "b", units=6), "x"),
        call(layer("Add", "sum"), ["a", "b"]),
        call(layer("Dense", "c", units=2), "sum"),
        outputs="c",
    ),
    {"a": (numbers(3, 6), numbers(6)), "b": (numbers(3, 6), numbers(6)), "c": (numbers(6, 2), numbers(2))},
)


def plain(snapshot):
    """An edit without effect, of a class that the library does not know."""
    return snapshot


def turned(snapshot):
    """An edit that cancels itself out when it is applied twice."""
    kernel, bias = snapshot.weights["a"]
    return type(snapshot)(snapshot.record, {**snapshot.weights, "a": (-kernel, bias)})


def test_nested_plans_are_flattened():
    a, b, c = (DeleteChannels(name, [0]) for name in "abc")
    assert concatenate(Plan(a, Plan(b)), c, Plan()) == Plan(a, b, c)
    assert list(steps(a)) == [a]


def test_consecutive_deletions_become_one_with_the_original_indices():
    plan = Plan(DeleteChannels("a", [0]), DeleteChannels("a", [0, 2]), DeleteChannels("b", [-1]))
    assert simplify(plan, CHAIN) == Plan(DeleteChannels({"a": [0, 1, 3], "b": [4]}))


def test_keep_channels_becomes_a_deletion_of_the_others():
    assert simplify(KeepChannels("a", [1, 2]), CHAIN) == Plan(DeleteChannels("a", [0, 3, 4, 5]))


def test_channels_of_a_group_are_named_at_one_layer():
    plan = Plan(DeleteChannels({"a": [1, 2], "b": [2, 4]}), Plan.at_once(DeleteChannels("b", [0])))
    assert simplify(plan, TIED) == Plan(DeleteChannels("a", [0, 1, 2, 4]))


def test_edits_without_effect_are_removed():
    plan = Plan(KeepChannels("a", range(6)), plain, DeleteChannels("a", [0]), plain, DeleteChannels({}))
    assert simplify(plan, CHAIN) == Plan(DeleteChannels("a", [0]))


def test_edits_that_cancel_out_are_removed():
    plan = Plan(DeleteChannels("a", [0]), turned, turned, DeleteChannels("a", [0]))
    assert simplify(plan, CHAIN) == Plan(DeleteChannels("a", [0, 1]))
    assert simplify(Plan(turned, plain, turned), CHAIN) == Plan()


def test_other_edits_keep_their_place():
    plan = Plan(DeleteChannels("a", [0]), turned, DeleteChannels("a", [0]))
    assert simplify(plan, CHAIN) == plan


def test_a_simplified_plan_keeps_its_fingerprint():
    plan = made_for(Plan(DeleteChannels("a", [0]), DeleteChannels("a", [0])), CHAIN)
    assert simplify(plan, CHAIN) == MadeFor(Plan(DeleteChannels("a", [0, 1])), plan.fingerprint)


def test_a_simplified_plan_keeps_its_permission_to_change_outputs():
    plan = Plan(DeleteChannels("a", [0]), DeleteChannels("c", [0], allow_output_change=True))
    assert simplify(plan, CHAIN) == Plan(DeleteChannels({"a": [0], "c": [0]}, allow_output_change=True))


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=50)
def test_any_simplified_plan_has_the_same_result(data):
    model = data.draw(st.sampled_from([CHAIN, TIED]))
    kinds = st.sampled_from([DeleteChannels, KeepChannels])
    lists = st.lists(st.integers(0, 3), max_size=3)
    edits = data.draw(
        st.lists(
            st.builds(lambda kind, name, which: kind(name, which), kinds, st.sampled_from("ab"), lists)
            | st.sampled_from([plain, turned]),
            max_size=5,
        )
    )
    try:
        after = Plan(*edits)(model)
    except SurgeryError:
        return
    short = simplify(Plan(*edits), model)
    assert short(model) == after
    assert len(short.edits) <= len(edits)
    assert simplify(short, model) == short


# --- lost channels and differences between plans


def test_lost_channels_of_every_layer():
    plan = Plan(DeleteChannels("a", [0]), DeleteChannels("b", [0, 1]))
    assert lost_channels(plan, TIED) == {"a": (0, 1, 2), "b": (0, 1, 2)}
    assert lost_channels(plan, CHAIN) == {"a": (0,), "b": (0, 1)}


def test_diff_plans_compares_the_edits():
    one, two, three = (DeleteChannels(name, [0]) for name in "abc")
    difference = diff_plans(Plan(one, two), Plan(one, Plan(three)))
    assert (difference.added, difference.removed) == ((three,), (two,))
    assert not diff_plans(Plan(one, two), Plan(Plan(one), two))


def test_diff_plans_compares_the_channels_on_a_model():
    difference = diff_plans(
        DeleteChannels("a", [0, 1]), Plan(DeleteChannels("a", [1]), DeleteChannels("a", [1])), CHAIN
    )
    assert (difference.deleted, difference.kept) == ({"a": (2,)}, {"a": (0,)})


def test_different_edits_that_delete_the_same_channels():
    difference = diff_plans(DeleteChannels("a", [0, 1]), DeleteChannels("b", [1, 0]), TIED)
    assert (difference.deleted, difference.kept) == ({}, {})
    assert difference


def test_lost_channels_leaves_out_layers_that_other_edits_resize():
    def narrowed(model):
        return DeleteChannels("a", [0])(model)

    assert lost_channels(Plan(DeleteChannels("b", [1]), narrowed), CHAIN) == {"b": (1,)}


@pytest.mark.parametrize("model", [CHAIN, TIED])
def test_lost_channels_are_the_channels_that_the_result_lacks(model):
    plan = Plan(KeepChannels("b", [0, 2, 3]), DeleteChannels("a", [0]))
    lost = lost_channels(plan, model)
    for name, channels in lost.items():
        left = np.delete(model.weights[name][1], channels)
        assert left.tolist() == plan(model).weights[name][1].tolist()
