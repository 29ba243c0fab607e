"""Immutable dicts and lists."""

import copy
import json
import pickle
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerassurgery_fn.values.frozen import FrozenDict, FrozenList, freeze, get_in, set_all, set_in, thaw

trees = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b", 0.0, 1.0, 0.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=12,
)


def locations(tree, above=()):
    """The location of every part of a tree, the tree itself first."""
    yield above
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from locations(item, (*above, key))


def as_json(value):
    """The value as text, in which 1, 1.0 and true are three things and the order of keys says nothing."""
    return json.dumps(value, sort_keys=True)


# --- freezing


@given(trees)
def test_frozen_values_compare_print_and_dump_like_ordinary_values(tree):
    frozen = freeze(tree)
    assert frozen == tree
    assert repr(frozen) == repr(tree)
    assert json.dumps(frozen) == json.dumps(tree)


@given(trees)
def test_pickle_gives_an_equal_frozen_value(tree):
    frozen = freeze({"tree": tree})
    again = pickle.loads(pickle.dumps(frozen))
    assert again == frozen
    assert [type(get_in(again, at)) for at in locations(again)] == [type(get_in(frozen, at)) for at in locations(again)]


@given(trees)
def test_copies_of_a_frozen_value_are_the_value_itself(tree):
    frozen = freeze([tree])
    assert copy.copy(frozen) is frozen
    assert copy.deepcopy(frozen) is frozen
    assert copy.deepcopy(freeze({"tree": tree})) == {"tree": tree}
    assert copy.copy(part := freeze({"tree": tree})) is part


@given(trees)
def test_equal_frozen_values_have_equal_hashes(tree):
    assert hash(freeze(tree)) == hash(freeze(copy.deepcopy(tree)))


def test_the_hash_does_not_depend_on_the_order_of_keys():
    assert hash(freeze({"a": 1, "b": [2]})) == hash(freeze({"b": [2], "a": 1}))


def test_frozen_parts_are_shared():
    inner = freeze({"a": [1]})
    assert freeze(inner) is inner
    assert freeze([inner, 2])[0] is inner


def test_tuples_become_lists_as_in_json():
    assert freeze({"a": (1, (2, 3))}) == {"a": [1, [2, 3]]}


@given(trees)
def test_a_thawed_value_is_an_equal_copy_that_can_be_changed(tree):
    frozen = freeze({"tree": tree})
    thawed = thaw(frozen)
    assert thawed == frozen
    assert not any(isinstance(get_in(thawed, at), (FrozenDict, FrozenList)) for at in locations(thawed))
    thawed["tree"] = "other"
    assert frozen == {"tree": tree}


DICT_CHANGES = {
    "set": lambda d: d.__setitem__("a", 2),
    "delete": lambda d: d.__delitem__("a"),
    "clear": lambda d: d.clear(),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("b", 2),
    "update": lambda d: d.update(b=2),
    "ior": lambda d: d.__ior__({"b": 2}),
}
LIST_CHANGES = {
    "set": lambda x: x.__setitem__(0, 2),
    "set slice": lambda x: x.__setitem__(slice(1), []),
    "delete": lambda x: x.__delitem__(0),
    "append": lambda x: x.append(1),
    "clear": lambda x: x.clear(),
    "extend": lambda x: x.extend([1]),
    "insert": lambda x: x.insert(0, 1),
    "pop": lambda x: x.pop(),
    "remove": lambda x: x.remove(1),
    "reverse": lambda x: x.reverse(),
    "sort": lambda x: x.sort(),
    "iadd": lambda x: x.__iadd__([1]),
    "imul": lambda x: x.__imul__(2),
}


@pytest.mark.parametrize("change", DICT_CHANGES.values(), ids=DICT_CHANGES)
def test_a_frozen_dict_raises_on_every_change(change):
    value = freeze({"a": 1})
    with pytest.raises(TypeError, match=r"a FrozenDict cannot be changed; build a new one"):
        change(value)
    assert value == {"a": 1}


@pytest.mark.parametrize("change", LIST_CHANGES.values(), ids=LIST_CHANGES)
def test_a_frozen_list_raises_on_every_change(change):
    value = freeze([1, 2])
    with pytest.raises(TypeError, match=r"a FrozenList cannot be changed; build a new one"):
        change(value)
    assert value == [1, 2]


def test_every_method_that_changes_a_dict_or_list_is_tested():
    for frozen, reading, changing, tried in (
        (FrozenDict, Mapping, MutableMapping, DICT_CHANGES),
        (FrozenList, Sequence, MutableSequence, LIST_CHANGES),
    ):
        methods = (set(dir(changing)) - set(dir(reading))) & set(dir(frozen))
        assert all(getattr(frozen, name) is frozen.__setitem__ for name in methods)
        assert len(tried) >= len(methods)


# --- new values from old


@given(trees, trees, st.data())
def test_set_in_replaces_one_part_and_shares_the_others(tree, new, data):
    old = freeze({"tree": tree, "other": [1]})
    at = data.draw(st.sampled_from([*locations(old)][1:]))
    made = set_in(old, at, new)
    expected = thaw(old)
    get_in(expected, at[:-1])[at[-1]] = new
    assert as_json(made) == as_json(expected)
    assert old == {"tree": tree, "other": [1]}
    for other in locations(old):
        part = get_in(old, other)
        if other[: len(at)] != at and at[: len(other)] != other and isinstance(part, (dict, list)):
            assert get_in(made, other) is part


@given(trees, st.data())
def test_setting_parts_to_equal_values_returns_the_same_object(tree, data):
    old = freeze({"tree": tree})
    places = data.draw(st.lists(st.sampled_from([*locations(old)][1:]), unique=True, max_size=3))
    apart = [at for at in places if not any(at != other and at[: len(other)] == other for other in places)]
    assert set_all(old, {at: thaw(get_in(old, at)) for at in apart}) is old


@given(trees, st.data())
def test_set_all_equals_repeated_set_in(tree, data):
    old = freeze({"tree": tree, "other": [1, {"a": 2}]})
    places = data.draw(st.lists(st.sampled_from([*locations(old)][1:]), unique=True, max_size=3))
    apart = [at for at in places if not any(at != other and at[: len(other)] == other for other in places)]
    changes = {at: data.draw(trees) for at in apart}
    one_by_one = old
    for at, new in changes.items():
        one_by_one = set_in(one_by_one, at, new)
    assert as_json(set_all(old, changes)) == as_json(one_by_one)


@pytest.mark.parametrize("old, new", [(1, 1.0), (1, True), (0, False), ([1], [1.0]), ({"a": 0}, {"a": False})])
def test_a_number_of_another_type_is_a_change_at_any_depth(old, new):
    assert json.dumps(set_in(freeze({"a": {"b": old}}), ("a", "b"), new)) == json.dumps({"a": {"b": new}})
    assert json.dumps(set_in(freeze([[old]]), (0,), [new])) == json.dumps([[new]])


def test_a_negative_index_counts_from_the_end():
    assert set_in(freeze([1, 2, [3, 4]]), (-1, -2), 9) == [1, 2, [9, 4]]


def test_the_empty_location_is_the_whole_value():
    assert set_in(freeze({"a": 1}), (), [2]) == freeze([2])
    assert isinstance(set_in(freeze({"a": 1}), (), [2]), FrozenList)


@pytest.mark.parametrize("at, error", [(("x",), KeyError), (("list", 5), IndexError), (("list", 0, "x"), TypeError)])
def test_an_unknown_location_raises(at, error):
    with pytest.raises(error):
        set_in(freeze({"list": [1]}), at, 9)
