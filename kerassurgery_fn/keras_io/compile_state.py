"""Models as if they had not been compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def uncompiled(*models: keras.Model) -> Iterator[None]:
    """Within it, Keras writes nothing of what models were compiled with, which it may not be able to save."""
    configs = [(model, vars(model).pop("_compile_config")) for model in models if "_compile_config" in vars(model)]
    try:
        yield
    finally:
        for model, config in configs:
            vars(model)["_compile_config"] = config
