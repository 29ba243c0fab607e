"""Results that are kept, compared with results that are computed anew."""

from dataclasses import fields, is_dataclass
from types import FunctionType

import numpy as np

from kerassurgery_fn import analyse, cost, groups
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.snapshot import Snapshot


def fresh(snapshot):
    """An equal snapshot of which nothing has been computed."""
    return Snapshot(FrozenDict(snapshot.record), snapshot.weights, snapshot.training)


def plain(value):
    """A value in a form that `==` compares by content: arrays as lists, objects as their attributes."""
    match value:
        case np.ndarray():
            return value.dtype.str, value.tolist()
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted(map(repr, value))
        case FunctionType() | type() | str() | int() | float() | None:
            return value
    if is_dataclass(value):
        return [plain(getattr(value, field.name)) for field in fields(value) if field.compare]
    return type(value).__name__, plain(vars(value)) if hasattr(value, "__dict__") else repr(value)


def results(snapshot):
    """All that is kept of a snapshot, in a form that `==` compares."""
    return plain([analyse(snapshot), groups(snapshot), cost(snapshot)])
