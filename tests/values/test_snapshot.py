"""A model as a value."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from helpers.records import layer, numbers, sequential
from kerassurgery_fn.values.frozen import FrozenDict, FrozenList
from kerassurgery_fn.values.snapshot import Snapshot, Training


def snapshot(kernel=None, name="net", units=4, training=None):
    kernel = numbers(6, 4) if kernel is None else kernel
    return Snapshot(
        sequential(name, (None, 6), layer("Dense", "a", units=units)), {"a": (kernel, numbers(4))}, training
    )


def trained(value=1.0, owner=("a", 0)):
    return Training((owner, None), (np.full((6, 4), value), np.array(3)))


# --- equality

NAN = np.array([1.0, np.nan], np.float32)

EQUAL = {
    "the same model, created twice": lambda: snapshot(),
    "with NaN in the weights": lambda: snapshot(NAN.copy()),
    "with infinities": lambda: snapshot(np.array([np.inf, -np.inf])),
    "with integer weights": lambda: snapshot(np.arange(3)),
    "with empty weights": lambda: snapshot(np.zeros((0, 3))),
    "with 16-bit weights": lambda: snapshot(np.ones(3, np.float16)),
    "with the state of an optimizer": lambda: snapshot(training=trained()),
    "with NaN in the state of the optimizer": lambda: snapshot(training=trained(np.nan)),
}

DIFFERENT = {
    "another element": (snapshot(numbers(6, 4)), snapshot(numbers(6, [0, 1, 2, 4]))),
    "another dtype": (snapshot(np.ones(2, np.float32)), snapshot(np.ones(2, np.float64))),
    "another shape": (snapshot(np.ones((2, 3))), snapshot(np.ones((3, 2)))),
    "a shape that broadcasts": (snapshot(np.ones((1, 3))), snapshot(np.ones((2, 3)))),
    "NaN where the other has a number": (snapshot(NAN), snapshot(np.ones(2, np.float32))),
    "NaN elsewhere": (snapshot(NAN), snapshot(NAN[::-1])),
    "another name": (snapshot(name="a"), snapshot(name="b")),
    "another config": (snapshot(units=4), snapshot(units=5)),
    "a weight more": (Snapshot({}, {"a": (np.ones(1),)}), Snapshot({}, {"a": (np.ones(1), np.ones(1))})),
    "a layer more": (Snapshot({}, {}), Snapshot({}, {"a": (np.ones(1),)})),
    "another layer": (Snapshot({}, {"b": (np.ones(1),)}), Snapshot({}, {"a": (np.ones(1),)})),
    "training and none": (snapshot(), snapshot(training=trained())),
    "another state of training": (snapshot(training=trained(1.0)), snapshot(training=trained(2.0))),
    "state of another weight": (snapshot(training=trained()), snapshot(training=trained(owner=("a", 1)))),
}


@pytest.mark.parametrize("make", EQUAL.values(), ids=EQUAL)
def test_equality_is_by_value(make):
    assert make() == make()


@pytest.mark.parametrize("a, b", DIFFERENT.values(), ids=DIFFERENT)
def test_any_difference_makes_snapshots_unequal(a, b):
    assert a != b
    assert b != a


def test_a_snapshot_is_not_equal_to_other_types():
    assert snapshot() != snapshot().record
    assert trained() != trained().values


def test_equality_ignores_the_order_of_layers_in_the_weights():
    a, b = (np.ones(1),), (np.zeros(1),)
    assert Snapshot({}, {"a": a, "b": b}) == Snapshot({}, {"b": b, "a": a})


# --- immutability


@pytest.mark.parametrize(
    "change, error",
    [
        (lambda s: setattr(s, "record", {}), FrozenInstanceError),
        (lambda s: s.weights.update(a=()), TypeError),
        (lambda s: s.record["config"].update(name="other"), TypeError),
        (lambda s: s.record["config"]["layers"].append({}), TypeError),
        (lambda s: s.weights["a"][0].__setitem__(0, 1), ValueError),
        (lambda s: s.training.values[0].__setitem__(0, 1), ValueError),
    ],
)
def test_a_snapshot_cannot_be_changed(change, error):
    one = snapshot(training=trained())
    with pytest.raises(error):
        change(one)
    assert one == snapshot(training=trained())


def test_the_original_arrays_stay_writeable():
    kernel = numbers(6, 4)
    snapshot(kernel)
    kernel[0] = 1


def test_read_only_arrays_are_shared_and_not_copied():
    one = snapshot()
    again = Snapshot(one.record, one.weights)
    assert again.weights["a"] is one.weights["a"]
    assert again.record is one.record


def test_writeable_arrays_are_viewed_and_not_copied():
    kernel = numbers(6, 4)
    assert np.shares_memory(snapshot(kernel).weights["a"][0], kernel)


def test_snapshots_have_no_hash():
    for value in (snapshot(), trained()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(value)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_is_equal_and_immutable(copied):
    one = copied(snapshot(training=trained()))
    assert one == snapshot(training=trained())
    assert isinstance(one.record, FrozenDict)
    assert isinstance(one.record["config"]["layers"], FrozenList)
    assert not any(array.flags.writeable for array in (*one.weights["a"], *one.training.values))


# --- name, config and repr


def test_name_and_config_are_read_from_the_record():
    assert snapshot(name="other").name == "other"
    assert snapshot().config == snapshot().record["config"]


def test_the_repr_counts_parameters():
    assert repr(snapshot()) == "<Snapshot of 'net': 1 layer with weights, 28 parameters>"
    assert repr(trained()) == "Training(slots=(('a', 0), None))"
