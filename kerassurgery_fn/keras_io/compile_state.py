"""Models without their compile config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def uncompiled(*models: keras.Model) -> Iterator[None]:
    """A scope in which Keras serialises models without their compile config.

    Keras serialises the optimizer, the loss and the metrics together with the layers. If it cannot save one of them,
    it cannot save the layers either.
    """
    configs = [(model, vars(model).pop("_compile_config")) for model in models if "_compile_config" in vars(model)]
    try:
        yield
    finally:
        for model, config in configs:
            vars(model)["_compile_config"] = config
