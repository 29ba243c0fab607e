"""Results that are computed once: where they are kept, how long, and when they are computed again."""

import gc
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from weakref import ref

import numpy as np
import pytest

from kerassurgery_fn.values.kept_results import computed_once, with_record
from kerassurgery_fn.values.snapshot import Snapshot

RECORD = {"class_name": "Sequential", "config": {"name": "m", "layers": []}}


def snapshot(record=RECORD, **weights):
    return Snapshot(record, {path: (np.array(values),) for path, values in weights.items()})


class Counted:
    """A function that is computed once, and the arguments with which it was computed."""

    def __init__(self, **options):
        self.calls, self.state = [], 0

        @computed_once(state=lambda: self.state, **options)
        def function(owner, *args):
            self.calls.append((owner.name, *args))
            return object()

        self.function = function


def test_a_result_is_computed_once_for_each_snapshot_and_argument():
    counted, a, b = Counted(), snapshot(), snapshot()
    results = [counted.function(each, *args) for each in (a, b, a, b) for args in ((), (1,), ("x", None))]
    assert len(counted.calls) == 6 == len(set(map(id, results)))
    assert results[:6] == results[6:]


def test_a_result_of_the_record_is_shared_by_snapshots_with_the_very_same_record():
    counted, a = Counted(kept=with_record), snapshot(a=1.0)
    b = Snapshot(a.record, {"b": (np.zeros(3),)})
    equal = snapshot(a=1.0)
    assert counted.function(a) is counted.function(b)
    assert equal.record == a.record
    assert counted.function(equal) is not counted.function(a)
    assert len(counted.calls) == 2


def test_results_of_the_record_are_handed_on_from_snapshot_to_snapshot():
    """Each snapshot is dropped before the next one asks."""
    counted, state = Counted(kept=with_record), snapshot(a=1.0)
    first = counted.function(state)
    for value in range(3):
        state = Snapshot(state.record, {"a": (np.array(value),)})
        assert counted.function(state) is first


def test_a_result_of_another_state_is_computed_again():
    counted, a = Counted(), snapshot()
    first = counted.function(a)
    counted.state = 1
    assert counted.function(a) is counted.function(a) is not first
    counted.state = 0
    assert counted.function(a) is not first  # only the last result is kept


def test_a_state_that_changes_during_a_computation_counts_as_the_old_state():
    states = iter([0, 1, 1])

    @computed_once(state=lambda: next(states))
    def function(owner):
        return object()

    a = snapshot()
    assert function(a) is not function(a)


def test_an_error_is_not_kept():
    outcomes = iter([ValueError("first"), 3])

    @computed_once()
    def function(owner):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    a = snapshot()
    with pytest.raises(ValueError, match="first"):
        function(a)
    assert function(a) == function(a) == 3


def test_threads_get_the_result_of_their_own_snapshot():
    start = Barrier(8)

    @computed_once(kept=with_record)
    def function(owner):
        start.wait()  # all threads compute at the same time
        return owner.name, tuple(owner.weights)

    snapshots = [snapshot({**RECORD, "config": {**RECORD["config"], "name": f"m{i % 4}"}}) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(function, snapshots))
    assert results == [(each.name, ()) for each in snapshots]


# --- how long results are kept


@pytest.fixture
def no_collector():
    """The garbage collector is off: what goes must go by the counts of references."""
    gc.disable()
    yield
    gc.enable()


class Result:
    pass


@pytest.mark.parametrize("kept", [{}, {"kept": with_record}])
def test_results_and_weights_go_with_the_last_snapshot(no_collector, kept):
    @computed_once(**kept)
    def function(owner):
        return Result()

    a = snapshot(a=[1.0, 2.0])
    b = Snapshot(a.record, {})
    result, weight, record = ref(function(a)), ref(a.weights["a"][0]), ref(a.record)
    del a
    assert weight() is None
    assert (result() is not None) == bool(kept)  # that of the record stays with b
    del b
    assert result() is None
    assert record() is None


def test_a_new_record_at_the_place_of_an_old_one_has_results_of_its_own(no_collector):
    """CPython gives a new object the address of one that has just gone."""
    counted = Counted(kept=with_record)
    for name in "abc":
        counted.function(snapshot({**RECORD, "config": {**RECORD["config"], "name": name}}))
    assert counted.calls == [("a",), ("b",), ("c",)]


# --- what results do not change


def test_results_are_neither_pickled_nor_compared():
    counted, a, b = Counted(), snapshot(a=1.0), snapshot(a=1.0)
    before = pickle.dumps(a)
    counted.function(a)
    assert pickle.dumps(a) == before
    assert a == b == pickle.loads(before)
    assert repr(a) == repr(b)
    assert sys.getsizeof(a.record) == sys.getsizeof(b.record)
    counted.function(pickle.loads(before))
    assert len(counted.calls) == 2
