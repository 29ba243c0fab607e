"""Channel ids: who lives and dies together.

Every channel that can be cut has an id. `axes` has what is done to the ids of an axis: joined, repeated, laid flat. In
a `Ledger` a walk through a model writes down which ids are tied to which, and which cannot be cut; it settles their
`Fates`.
"""

from kerassurgery_fn.channels.axes import (
    FIXED,
    Axis,
    column,
    has_ids,
    join,
    merge,
    repeat,
    same_axis,
    select,
    size,
    tile,
)
from kerassurgery_fn.channels.fates import Fates, Pin, Tie
from kerassurgery_fn.channels.ledger import Ledger

__all__ = [
    "FIXED", "Axis", "Fates", "Ledger", "Pin", "Tie", "column", "has_ids", "join", "merge", "repeat", "same_axis",
    "select", "size", "tile",
]  # fmt: skip
