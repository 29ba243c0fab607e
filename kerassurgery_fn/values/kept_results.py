"""Keeps results so that they are computed once.

A snapshot is immutable, so a result that depends on it is stored with the snapshot, and freed together with it. A
result that only depends on the record is stored with the record. So it is shared by all snapshots with the same record,
such as the result of an edit that only changes weights:

    snapshot a --+--> results of a: channel flow, cost
                 +--> results of the record: graph, channel flow if it does not depend on weights
                 |            ^
    snapshot b --+            '... weak reference ... table: id of a record -> its results

Snapshots own the results of their record; the table only has weak references. When the last snapshot of a record is
freed, its results are freed at once, without the garbage collector. For this reason, no result may refer to a snapshot,
and no result of a record may refer to arrays of weights. Results are not in a field of a snapshot, so they are neither
compared nor pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])
Results = dict[Hashable, tuple[Hashable, Any]]  # (function, arguments) -> (state, result), see `computed_once`


class ResultsOfRecord:
    """The results that depend on one record. They refer to the record, so that no other record can get its id."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.results: Results = {}


_BY_RECORD: WeakValueDictionary[int, ResultsOfRecord] = WeakValueDictionary()


def results_of_record(record: Mapping[str, Any]) -> ResultsOfRecord:
    """The results of a record, shared with other snapshots that have the same record object."""
    known = _BY_RECORD.get(id(record))
    return _BY_RECORD.setdefault(id(record), ResultsOfRecord(record)) if known is None else known


def with_owner(owner: Any) -> Results:
    """The results that are stored with a snapshot, or with another immutable object that has an attribute
    `_results`."""
    return owner._results


def with_record(snapshot: Any) -> Results:
    """The results that are stored with the record of a snapshot."""
    return snapshot._results_of_record.results


def stateless() -> Hashable:
    """The state of a function that only depends on its arguments."""
    return None


def computed_once(
    kept: Callable[[Any], Results] = with_owner, state: Callable[[], Hashable] = stateless
) -> Callable[[Function], Function]:
    """Decorates a pure function of an immutable object and hashable arguments, so that each result is computed once.

    Two threads can compute the same result twice, but neither gets a wrong result: the state is read before the
    computation starts, so a result that was computed during a change of the state belongs to the old state.

    Args:
        kept: object -> its stored results: `with_owner`, or `with_record` for a function of a snapshot that only
            depends on its record.
        state: what the function depends on besides its arguments, such as the version of a table. A result of another
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

        vars(once).update(kept=kept, state=state)
        return once  # type: ignore[return-value]

    return decorate


_NEVER = object()


def kept_until_changed(owner: Any, name: str, state: Hashable, compute: Callable[[], Result]) -> Result:
    """A result that is stored with an owner until it is asked for in another state. Only the last one is stored.

    >>> from types import SimpleNamespace
    >>> text = SimpleNamespace(value="abc", _results={})
    >>> [kept_until_changed(text, "last", n, lambda: text.value[-n:]) for n in (1, 1, 2)], len(text._results)
    (['c', 'c', 'bc'], 1)
    """
    before, result = owner._results.get(name, (_NEVER, None))
    if before != state:
        result = compute()
        owner._results[name] = state, result
    return result


def store(function: Any, owner: Any, result: Any) -> None:
    """Stores the result of a function that `computed_once` decorates, where it is known without a computation.

    >>> from types import SimpleNamespace
    >>> @computed_once()
    ... def length(text):
    ...     raise NotImplementedError
    >>> text = SimpleNamespace(value="abc", _results={})
    >>> store(length, text, 3)
    >>> length(text)
    3
    """
    function.kept(owner)[function.__wrapped__, ()] = function.state(), result


def protect(*values: Any) -> None:
    """Makes the arrays among some values read-only, because all callers share a stored result."""
    for value in values:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
