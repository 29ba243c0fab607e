"""What public functions are given: checked where it enters, by one table of checks a function.

    @takes(plan=as_edit, snapshot=as_snapshot, weights=as_flag)
    def made_for(plan, snapshot, *, weights=False): ...

A check takes a value and what to call it in an error, and returns the value in the form that the function works on.
"""

from kerassurgery_fn.arguments.converters import (
    as_count,
    as_file,
    as_flag,
    as_function,
    as_live_layer,
    as_mapping,
    as_model,
    as_shape,
    as_snapshot,
    as_string,
    optional,
)
from kerassurgery_fn.arguments.decorator import Check, refuse_misspelt, takes
from kerassurgery_fn.arguments.suggestions import is_keras, items_of, kind_of, meant, nearest, shortened

__all__ = [
    "Check", "as_count", "as_file", "as_flag", "as_function", "as_live_layer", "as_mapping", "as_model", "as_shape",
    "as_snapshot", "as_string", "is_keras", "items_of", "kind_of", "meant", "nearest", "optional", "refuse_misspelt",
    "shortened", "takes",
]  # fmt: skip
