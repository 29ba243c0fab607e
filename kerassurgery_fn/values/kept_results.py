"""Results that are computed once.

A snapshot is immutable, so a result that follows from it is kept with it and goes with it. A result that follows from
the record alone is kept with the record, so that it is handed on to every snapshot with the same record, such as the
result of an edit that changes weights only:

    snapshot a --+--> results of a: channel flow, cost
                 +--> results of the record: graph, channel flow as far as it does not depend on weights
                 |            ^
    snapshot b --+            '... weak reference ... table: id of a record -> its results

Snapshots own the results of their record, the table does not: with the last snapshot of a record its results go at
once, without the garbage collector. So no result may refer to a snapshot, nor one of a record to arrays of weights.
Results are in no field of a snapshot, so they are neither compared nor pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Results = dict[Hashable, tuple[Hashable, Any]]  # (function, arguments) -> (state, result), see `computed_once`


class ResultsOfRecord:
    """The results that follow from one record. The record is held, so that its id cannot become another record's."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.results: Results = {}


_BY_RECORD: WeakValueDictionary[int, ResultsOfRecord] = WeakValueDictionary()


def results_of_record(record: Mapping[str, Any]) -> ResultsOfRecord:
    """The results of a record; those of other snapshots with the very same record, if there are any."""
    known = _BY_RECORD.get(id(record))
    return _BY_RECORD.setdefault(id(record), ResultsOfRecord(record)) if known is None else known


def with_owner(owner: Any) -> Results:
    """The results that are kept with a snapshot, or with another immutable object that has a `_results`."""
    return owner._results


def with_record(snapshot: Any) -> Results:
    """The results that are kept with the record of a snapshot."""
    return snapshot._results_of_record.results


def stateless() -> Hashable:
    """The state of a function that depends on its arguments only."""
    return None


def computed_once(
    kept: Callable[[Any], Results] = with_owner, state: Callable[[], Hashable] = stateless
) -> Callable[[Function], Function]:
    """Decorates a pure function of an immutable object, and of hashable arguments, so that a result is computed once.

    Two threads may compute the same result twice, and neither gets a wrong one: the state is read before the
    computation starts, so a result that was computed while the state changed counts as one of the old state.

    Args:
        kept: where the results of an object are kept: `with_owner`, or `with_record` for a function of a snapshot that
            depends on its record only.
        state: what the function depends on beside its arguments, such as the version of a table. A result of another
            state is computed again.

    >>> from types import SimpleNamespace
    >>> @computed_once()
    ... def length(text):
    ...     print("computing")
    ...     return len(text.value)
    >>> text = SimpleNamespace(value="abc", _results={})
    >>> length(text), length(text)
    computing
    (3, 3)
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def once(owner: Any, *args: Hashable) -> Any:
            results, now = kept(owner), state()
            before, result = results.get((function, args), (_NEVER, None))
            if before != now:
                result = function(owner, *args)
                results[function, args] = now, result
            return result

        return once  # type: ignore[return-value]

    return decorate


_NEVER = object()


def protect(*values: Any) -> None:
    """Makes the arrays among some values read-only: a result that is kept is everybody's."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
