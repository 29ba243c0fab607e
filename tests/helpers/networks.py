"""Networks of keras.applications, each built once in a session."""

from functools import cache

import keras


@cache
def application(name: str) -> keras.Model:
    """A network in its usual size, with random weights."""
    return getattr(keras.applications, name)(weights=None)
