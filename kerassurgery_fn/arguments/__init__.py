"""Checks of the arguments of public functions: each function has a table with one check for each parameter.

    @takes(plan=as_edit, snapshot=as_snapshot, weights=as_flag)
    def made_for(plan, snapshot, *, weights=False): ...

A check takes a value and the name of the parameter, for errors. It returns the value in the form
that the function uses.
"""

from kerassurgery_fn.arguments.converters import (
    as_count,
    as_file,
    as_file_or_folder,
    as_flag,
    as_function,
    as_live_layer,
    as_mapping,
    as_model,
    as_model_or_snapshot,
    as_shape,
    as_snapshot,
    as_string,
    one_of,
    optional,
)
from kerassurgery_fn.arguments.decorator import Check, refuse_misspelt, takes
from kerassurgery_fn.arguments.suggestions import counted, is_keras, items_of, kind_of, meant, nearest, shortened

__all__ = [
    "Check", "as_count", "as_file", "as_file_or_folder", "as_flag", "as_function", "as_live_layer", "as_mapping",
    "as_model", "as_model_or_snapshot", "as_shape", "as_snapshot", "as_string", "counted", "is_keras", "items_of",
    "kind_of", "meant", "nearest", "one_of", "optional", "refuse_misspelt", "shortened", "takes",
]  # fmt: skip
