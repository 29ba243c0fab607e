"""Plans: several edits that are one edit."""

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.pictures import chain, fork, grouped, residual
from kerassurgery_fn.documents.plan_files import decode, encode
from kerassurgery_fn.edits import DeleteChannels, Edit, KeepChannels, RenameLayer, WidenChannels
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.errors import ChannelOutOfRange, NothingLeft, PartialGroup, PinnedChannels, SurgeryError

quick = settings(derandomize=True, deadline=None, max_examples=30)


# --- one after the other


def test_a_plan_applies_its_edits_in_order():
    plan = Plan(DeleteChannels("a", [0]), DeleteChannels("a", [0]), DeleteChannels("b", [2]))
    assert plan(chain()) == chain(a=[2, 3], b=[0, 1])


def test_an_empty_plan_is_the_identity():
    net = chain()
    assert Plan()(net) is net
    assert Plan.at_once()(net) is net


def test_a_plan_may_contain_a_plan():
    one, two, three = (DeleteChannels("a", [0]) for _ in range(3))
    assert isinstance(Plan(one), Edit)
    nested = Plan(one, Plan(two, Plan.at_once(three)))
    assert nested(chain()) == Plan(one, two, three)(chain()) == chain(a=[3])


def test_a_plan_may_contain_any_function_of_a_snapshot():
    assert Plan(lambda net: net, DeleteChannels("a", [0]))(chain()) == chain(a=[1, 2, 3])


def test_a_failing_edit_fails_the_plan_and_changes_nothing():
    net = chain()
    with pytest.raises(ChannelOutOfRange, match="layer 'a' has 3 channels"):
        Plan(DeleteChannels("a", [0]), DeleteChannels("a", [3]))(net)
    assert net == chain()


# --- at once


def test_indices_at_once_refer_to_the_first_snapshot():
    edits = DeleteChannels("a", [0]), DeleteChannels("a", [1]), KeepChannels("b", [1, 2])
    assert Plan.at_once(*edits)(chain()) == chain(a=[2, 3], b=[1, 2])
    assert Plan(*edits)(chain()) == chain(a=[1, 3], b=[1, 2])


def test_channels_named_twice_at_once_are_deleted_once():
    assert Plan.at_once(DeleteChannels("p", [1]), DeleteChannels("q", [1]))(residual()) == residual(p=[0, 2])


def test_branches_at_once_are_removed_together():
    assert Plan.at_once(DeleteChannels("p", [0, 1]), DeleteChannels("r", [0]))(fork()) == fork(p=[], r=[])


@quick
@given(st.sets(st.integers(0, 3), max_size=2), st.sets(st.integers(0, 3), max_size=2), st.integers(0, 2))
def test_at_once_is_one_edit_of_the_union(one, two, b):
    union = one | two
    if len(union) == 4:
        with pytest.raises(NothingLeft):
            Plan.at_once(DeleteChannels("a", one), DeleteChannels("a", two))(chain())
        return
    at_once = Plan.at_once(DeleteChannels("a", one), DeleteChannels({"a": two, "b": [b]}))
    assert at_once(chain()) == DeleteChannels({"a": union, "b": [b]})(chain())


@quick
@given(st.permutations([("a", 3), ("b", 1), ("a", 0)]))
def test_at_once_the_order_does_not_matter(order):
    assert Plan.at_once(*(DeleteChannels(layer, i) for layer, i in order))(chain()) == chain(a=[1, 2], b=[0, 2])


@pytest.mark.parametrize(
    "edits, net, error",
    [
        ([DeleteChannels("a", [0]), DeleteChannels("a", [4])], chain(), ChannelOutOfRange),
        ([DeleteChannels("a", [0, 1]), KeepChannels("a", [0, 1])], chain(), NothingLeft),
        ([DeleteChannels("a", [0, 2]), DeleteChannels("b", [0])], grouped(), PartialGroup),
    ],
)
def test_one_refused_edit_at_once_refuses_all(edits, net, error):
    with pytest.raises(error):
        Plan.at_once(*edits)(net)


def test_only_edits_with_permission_change_the_output_at_once():
    allowed = DeleteChannels("a", [0], allow_output_change=True)
    with pytest.raises(PinnedChannels, match="it is an output of the model"):
        Plan.at_once(allowed, DeleteChannels("c", [0]))(chain())
    both = Plan.at_once(DeleteChannels("a", [0]), DeleteChannels("c", [0], allow_output_change=True))
    assert both(chain()) == chain(a=[1, 2, 3], c=[1])


@pytest.mark.parametrize("edit", [Plan(), Plan.at_once(), abs])
def test_only_edits_of_layers_and_channels_are_accepted_at_once(edit):
    with pytest.raises(SurgeryError, match=r"only edits of layers and of channels .* put it in a Plan of its own"):
        Plan.at_once(DeleteChannels("a", [0]), edit)


# --- plans are data


@pytest.mark.parametrize("make", [Plan, Plan.at_once])
def test_plans_are_values(make):
    plan = make(DeleteChannels("a", [0]), KeepChannels("b", [1]))
    assert plan == make(DeleteChannels("a", [0]), KeepChannels("b", [1]))
    assert plan != make(KeepChannels("b", [1]), DeleteChannels("a", [0]))
    assert hash(plan) == hash(make(DeleteChannels("a", [0]), KeepChannels("b", [1])))
    assert pickle.loads(pickle.dumps(plan)) == plan
    with pytest.raises(FrozenInstanceError):
        plan.edits = ()


def test_the_repr_of_a_plan_is_its_constructor():
    assert repr(Plan(DeleteChannels("a", [0]))) == (
        "Plan(edits=(DeleteChannels(channels={'a': (0,)}, allow_output_change=False, allow_input_change=False),))"
    )
    assert repr(Plan.at_once()) == "AtOnce(edits=())"
    assert Plan.at_once() == AtOnce(())


@pytest.mark.parametrize(
    "edit, left",
    [
        (DeleteChannels({"a": [0], "a:units": [1]}), [2, 3]),
        (DeleteChannels({"?": [0], "a": [1], "a:units": [-1]}, allow_output_change=True), [2]),
        (KeepChannels({"a": [0, 1, 2], "a:units": [1, 2, -1]}), [1, 2]),
    ],
)
def test_at_once_two_addresses_of_one_layer_both_count(edit, left):
    """Both count alone, beside an edit of layers, and after a document has put the addresses in another order."""
    beside = RenameLayer("b", "z")
    assert len(edit(chain()).weights["a"][1]) == len(left)
    assert np.array_equal(edit(chain()).weights["a"][1], chain().weights["a"][1][left])
    at_once = Plan.at_once(edit, beside)
    assert at_once(chain()) == beside(edit(chain()))
    assert decode(encode(at_once)) == at_once
    assert decode(encode(at_once))(chain()) == at_once(chain())


def test_two_entries_for_one_address_that_contradict_each_other_are_refused():
    with pytest.raises(SurgeryError, match="DeleteChannels has two entries for 'a'"):
        DeleteChannels({("a", "b"): [0], "a": [1]})
    with pytest.raises(SurgeryError, match=r"two entries for 'a:units', with the width 5 and 6"):
        WidenChannels({("a:units",): 5, "a:units": 6})
    assert DeleteChannels({("a", "b"): [0], "a": [0]}) == DeleteChannels(["a", "b"], [0])


def test_random_values_do_not_depend_on_the_order_of_the_addresses():
    one, other = WidenChannels({"a": 9, "b": 7}), WidenChannels({"b": 7, "a": 9})
    assert one(chain()) == other(chain()) == decode(encode(other))(chain())
