"""A scope in which Keras builds layers without drawing initial weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

UNINITIALIZED = "uninitialized_variables"  # the global attribute in which Keras lists variables of stateless scopes


@contextmanager
def without_weights() -> Iterator[list[Any]]:
    """A stateless scope of Keras that has its own list of uninitialized variables.

    Keras has one global list for all scopes, and initializes every variable in it when a scope ends. If an initializer
    raises an error, the variable stays in that list, and every later scope of the process fails with the same error.
    Therefore, the global list is replaced in the scope, and it is empty at the end, so Keras initializes nothing:

        before the scope      in the scope              after the scope
        global list: [a]      global list: [b, c]       global list: [a]; b and c have no values

    Yields:
        The variables created in the scope so far.
    """
    import keras
    from keras.src.backend.common import global_state

    outer_variables, variables = global_state.get_global_attribute(UNINITIALIZED), list[Any]()
    try:
        with keras.StatelessScope():
            global_state.set_global_attribute(UNINITIALIZED, variables)
            try:
                yield variables
            finally:
                # The end of the stateless scope initializes all variables in the list, so it must be empty then.
                global_state.set_global_attribute(UNINITIALIZED, [])
    finally:
        global_state.set_global_attribute(UNINITIALIZED, outer_variables or [])
