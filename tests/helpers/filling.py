"""Random weights and inputs for the laws: such that the outputs of a model depend on all of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from helpers.judging import bits


def randomise(model: keras.Model, seed: int = 0, *, apart: bool = True, batch: Any = None) -> None:
    """Fills a model with random weights that its outputs depend on, all elements of an array different if `apart`.

    Kernels keep the variance of what they read, and batch normalisation has the statistics of one batch, of random
    inputs by default.
    """
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]:
            if "float" in variable.dtype:
                values = keras.ops.cast(drawn(rng, layer, variable), variable.dtype)
                variable.assign(distinct(keras.ops.convert_to_numpy(values)) if apart else values)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    if not any(layer._non_trainable_variables for layer in model._flatten_layers()):
        return  # nothing has statistics
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    with without_momentum(norms):
        model(random_inputs(model, seed + 1, batch=16) if batch is None else batch, training=True)
    for norm in norms:
        for variable in (norm.moving_mean, norm.moving_variance):
            variable.assign(distinct(keras.ops.convert_to_numpy(variable)))


def drawn(rng: np.random.Generator, layer: keras.layers.Layer, variable: Any) -> np.ndarray:
    """Random float32 values for a variable, by its name and the fan-in of its layer."""
    shape, name = tuple(variable.shape), variable.name
    if name in {"gamma", "variance", "moving_variance", "scale"}:
        return rng.uniform(0.5, 1.5, shape).astype("float32")
    if name == "alpha":
        return rng.uniform(0.1, 0.4, shape).astype("float32")
    spread = (2 / fan_in(type(layer).__name__, name, shape)) ** 0.5 if len(shape) > 1 and "bias" not in name else 0.3
    return (spread * rng.standard_normal(shape)).astype("float32")


def fan_in(layer: str, name: str, shape: tuple[int, ...]) -> int:
    """How many numbers an element of a kernel's product sums up.

    >>> fan_in("Conv2D", "kernel", (3, 3, 4, 8)), fan_in("DepthwiseConv2D", "kernel", (3, 3, 4, 1))
    (36, 9)
    """
    if layer == "Embedding":
        return 1
    if layer.startswith("DepthwiseConv") or name == "depthwise_kernel":
        return int(np.prod(shape[:-2]))
    if layer.endswith("Transpose"):
        return int(np.prod(shape[:-2])) * shape[-1]
    return int(np.prod(shape[:-1]))


def distinct(array: np.ndarray) -> np.ndarray:
    """The array with no two elements alike: equal bit patterns are moved on by a few units in the last place.

    >>> distinct(np.array([2, 1, 2, 2], "float32"))
    array([2.       , 1.       , 2.0000002, 2.0000005], dtype=float32)
    """
    flat = bits(array).ravel().astype("int64")
    order, steps = np.argsort(flat, kind="stable"), np.arange(len(flat))
    flat[order] = np.maximum.accumulate(flat[order] - steps) + steps
    return flat.astype(f"u{array.itemsize}").view(array.dtype).reshape(array.shape)


@contextmanager
def without_momentum(norms: list[keras.layers.BatchNormalization]) -> Iterator[None]:
    """Within it one call in training mode sets the moving statistics to those of the batch."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    yield
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def random_inputs(model: keras.Model, seed: int = 0, batch: int = 11) -> Any:
    """Random tensors in the structure of a model's inputs; unknown sizes become 8, integers are below 6."""
    rng = np.random.default_rng(seed + 1000)

    def tensor(spec: Any) -> Any:
        shape = (spec.shape[0] or batch, *(n or 8 for n in spec.shape[1:]))
        if "int" in spec.dtype:
            return rng.integers(0, 6, shape).astype(spec.dtype)
        return rng.standard_normal(shape).astype("float32")

    return keras.tree.map_structure(tensor, model.inputs[0] if isinstance(model, keras.Sequential) else model.input)
