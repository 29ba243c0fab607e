"""The algebra of channel ids: which channels are deleted together.

Every channel that can be cut has an integer id. `axes` has the operations on the ids of an axis: join, repeat, tile,
select, merge. A walk through a model collects `Constraints`: which ids are tied to each other, which axes are grids,
and which ids are pinned. `Constraints.solve` gives the `Solution`: the ids that are deleted together, and the reasons
for each pin.
"""

from kerassurgery_fn.channels.axes import (
    FIXED,
    Axis,
    as_map,
    has_ids,
    join,
    merge,
    repeat,
    same_axis,
    select,
    size,
    sizes_of,
    tile,
)
from kerassurgery_fn.channels.constraints import Constraints
from kerassurgery_fn.channels.solution import Pin, Reason, Solution, Tie, is_ascending

__all__ = [
    "FIXED", "Axis", "Constraints", "Pin", "Reason", "Solution", "Tie", "as_map", "has_ids", "is_ascending", "join",
    "merge", "repeat", "same_axis", "select", "size", "sizes_of", "tile",
]  # fmt: skip
