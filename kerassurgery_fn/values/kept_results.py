"""Results that are computed once for each snapshot.

A snapshot is immutable, so a result that follows from it is kept with it and dropped with it. Most results follow from
the record alone, and edits of weights share the record, so results are kept by record:

    snapshot a ----+                                  a and b have the same record: their results are the same
                   +--> Results --> record, Flow, ...
    snapshot b ----+        ^
                            '.... weak reference ....  table: id of a record -> its Results

Snapshots own the results, and the table does not: with the last snapshot of a record its results go, without the help
of the garbage collector. No result may refer to a snapshot or to its weights. The results are in no field of a
snapshot, so they are neither compared nor pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakValueDictionary

Function = TypeVar("Function", bound=Callable[..., Any])
Key = tuple[Hashable, ...]


class Results:
    """The results that follow from one record: (function, arguments) -> (what else the result depends on, result).

    The record is held, so that its id cannot become that of another record.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.by_key: dict[Key, tuple[Hashable, Any]] = {}


_BY_RECORD: WeakValueDictionary[int, Results] = WeakValueDictionary()


def results_for(record: Mapping[str, Any]) -> Results:
    """The results of a record: those of the snapshots that have the very same record, if there are any."""
    results = _BY_RECORD.get(id(record))
    return _BY_RECORD.setdefault(id(record), Results(record)) if results is None else results


def always() -> Hashable:
    """The state of a function that depends on its arguments only."""
    return None


def computed_once(
    key: Callable[[Any], Hashable] = lambda snapshot: None, state: Callable[[], Hashable] = always
) -> Callable[[Function], Function]:
    """Decorates a pure function of a snapshot, and of hashable arguments, that depends on no array's elements: its
    result is computed once for each record.

    Threads may compute a result twice, and never get a wrong one: the state is read before the computation, so that a
    result which began in an older state is never taken for one of the new state.

    Args:
        key: snapshot -> what the result depends on beside the record, such as the shapes of the weights.
        state: what else it depends on, such as the version of a table. A result of another state is dropped.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def kept(snapshot: Any, *args: Hashable) -> Any:
            results, now = snapshot._results.by_key, state()
            place = (function, key(snapshot), args)
            before, result = results.get(place, (_NEVER, None))
            if before != now:
                result = function(snapshot, *args)
                results[place] = now, result
            return result

        return kept  # type: ignore[return-value]

    return decorate


_NEVER = object()
