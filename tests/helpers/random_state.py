"""The random state that every test starts from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

SEED = 0
_seeded: list[Any] = []  # the state of TensorFlow's generator of seeds right after it was seeded


def reset() -> None:
    """Sets the random seeds of Python, numpy, Keras and TensorFlow.

    To seed TensorFlow drops all kernels that it has prepared, which is half the CPU time of a small test. So
    TensorFlow is seeded again only after a test that drew seeds from it.
    """
    import keras
    from keras.src.backend.common import global_state

    if _seeded and tensorflow_state() == _seeded[0]:
        global_state.set_global_attribute("global_seed_generator", None)
        random.seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002 (Keras and its layers draw from it)
        return
    keras.utils.set_random_seed(SEED)
    state = tensorflow_state()
    _seeded[:] = [] if state is None else [state]


def tensorflow_state() -> Any:
    """The state of the generator that TensorFlow draws the seeds of operations from, None if it has none."""
    from tensorflow.python.eager import context

    generator = getattr(context.context(), "_rng", None)
    return generator and generator.getstate()
