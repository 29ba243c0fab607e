"""Initial values of weights, drawn without Keras by the initializers in the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.graph import Record

Shape = tuple[int, ...]
Draw = Callable[[Mapping[str, Any], Shape, np.random.Generator], np.ndarray]
CUT_OFF = 0.87962566103423978  # the standard deviation of a standard normal distribution truncated at 2


def initializer_of(record: Record, weight: str) -> Record | None:
    """The record of the initializer of a weight of a layer, or of the layer that it wraps; None if it has none.

    >>> initializer_of({"config": {"layer": {"config": {"bias_initializer": {"class_name": "Zeros"}}}}}, "bias")
    {'class_name': 'Zeros'}
    """
    wrapped = record["config"].get("layer")
    inner = wrapped.get("config", {}) if isinstance(wrapped, dict) else {}
    for config in (record["config"], inner):
        for name in (weight, weight.removesuffix("_kernel")):
            if isinstance(initializer := config.get(f"{name}_initializer"), dict):
                return initializer
    return None


def drawn(path: str, record: Record, weight: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Initial values of a weight, drawn by its initializer.

    Raises:
        BadValue: the weight has no initializer, or an unknown one.
    """
    initializer = initializer_of(record, weight)
    if initializer is None:
        raise BadValue(f"layer {path!r} ({record['class_name']}) has no initializer for its {weight}")
    if initializer["class_name"] not in DRAWS:
        raise BadValue(
            f"the initializer {initializer['class_name']} of the {weight} of layer {path!r} is unknown; use one of "
            f"{', '.join(DRAWS)}, as in SetConfig({path!r}, {weight}_initializer='glorot_uniform')"
        )
    return DRAWS[initializer["class_name"]](initializer["config"], shape, rng)


def fans(shape: Shape) -> tuple[int, int]:
    """The fan-in and fan-out of a kernel: the number of inputs of an output, and of outputs of an input.

    >>> fans((8, 10)), fans((3, 3, 4, 5)), fans((7,))
    ((8, 10), (36, 45), (7, 7))
    """
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    window = int(np.prod(shape[:-2]))
    return shape[-2] * window, shape[-1] * window


def truncated(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Random numbers of a standard normal distribution truncated at 2."""
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return values


def scaled(scale: float, mode: str, distribution: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Random numbers whose variance depends on the fans of the kernel, as in `keras.initializers.VarianceScaling`."""
    fan_in, fan_out = fans(shape)
    variance = scale / max(1.0, {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode])
    match distribution:
        case "uniform":
            return rng.uniform(-1, 1, shape) * np.sqrt(3 * variance)
        case "untruncated_normal":
            return rng.standard_normal(shape) * np.sqrt(variance)
    return truncated(shape, rng) * np.sqrt(variance) / CUT_OFF


def scaling(scale: float, mode: str, distribution: str) -> Draw:
    return lambda config, shape, rng: scaled(scale, mode, distribution, shape, rng)


# The class of an initializer -> the function that draws values as it does.
DRAWS: dict[str, Draw] = {
    "GlorotUniform": scaling(1, "fan_avg", "uniform"),
    "GlorotNormal": scaling(1, "fan_avg", "truncated_normal"),
    "HeUniform": scaling(2, "fan_in", "uniform"),
    "HeNormal": scaling(2, "fan_in", "truncated_normal"),
    "LecunUniform": scaling(1, "fan_in", "uniform"),
    "LecunNormal": scaling(1, "fan_in", "truncated_normal"),
    "VarianceScaling": lambda c, shape, rng: scaled(c["scale"], c["mode"], c["distribution"], shape, rng),
    "RandomUniform": lambda c, shape, rng: rng.uniform(c["minval"], c["maxval"], shape),
    "RandomNormal": lambda c, shape, rng: c["mean"] + c["stddev"] * rng.standard_normal(shape),
    "TruncatedNormal": lambda c, shape, rng: c["mean"] + c["stddev"] * truncated(shape, rng),
    "Zeros": lambda c, shape, rng: np.zeros(shape),
    "Ones": lambda c, shape, rng: np.ones(shape),
    "Constant": lambda c, shape, rng: np.full(shape, float(c["value"])),
}
