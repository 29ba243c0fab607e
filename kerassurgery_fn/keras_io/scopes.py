"""A scope in which Keras builds layers and draws no weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WAITING = "uninitialized_variables"  # where Keras lists the variables that were made in a stateless scope


@contextmanager
def without_weights() -> Iterator[list[Any]]:
    """A stateless scope of Keras with a list of its own for the variables that are made in it.

    Keras has one list for all scopes and fills its variables when a scope ends. If one of them cannot be filled, the
    list keeps it, and every later scope of the process fails, too.

    Yields:
        The variables made so far. After the scope they are without values, and Keras has forgotten them.
    """
    import keras
    from keras.src.backend.common import global_state

    others, variables = global_state.get_global_attribute(WAITING), list[Any]()
    try:
        with keras.StatelessScope():
            global_state.set_global_attribute(WAITING, variables)
            try:
                yield variables
            finally:
                global_state.set_global_attribute(WAITING, [])
    finally:
        global_state.set_global_attribute(WAITING, others or [])
