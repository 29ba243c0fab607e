"""Tests by experiments whether a layer computes each channel separately.

The experiment, for a layer that scales each channel:

    x      7 channels   a b c d e f g   -> layer         -> A B C D E F G
    part   channels     c a f           -> smaller copy  -> must be C A F

The smaller copy has the weights of the kept channels. If the outputs agree for several selections, also in other
orders, each output channel only depends on one input channel, and channels can be cut.

If the outputs agree for all channels in other orders, but not for a part of the channels, the layer mixes its channels
and treats them alike, as a normalisation does. Then a cut is well-defined, but not exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from kerassurgery_fn.errors import NotIndependent, WrongShape
from kerassurgery_fn.keras_io.own_objects import scope_of

Shape = Sequence[int | None]
WeightShape = tuple[int | None, ...]  # the shape of a weight, None for axes that have the size of the channel axis

CHANNELS, FEWER = 7, 5  # sizes that rarely occur in a layer for another reason
TOLERANCE = 1e-5  # relative to the largest value; float32 rounding is about 1e-7


class Independent(NamedTuple):
    """A successful experiment.

    - `input_shape`, `output_shape`: the shapes of the input and the output of the layer;
    - `weights`: the name and the shape of each weight, with None for axes that have the size of the channel axis;
    - `mixes`: whether the output channels depend on all input channels, on each in the same way.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    weights: list[tuple[str, WeightShape]]
    mixes: bool = False

    def as_data(self) -> dict[str, Any]:
        """The data for the rule of such a layer, see `rules/measured.py`."""
        weights = [[name, list(shape)] for name, shape in self.weights]
        return {"rank": len(self.input_shape), "output_rank": len(self.output_shape), "weights": weights}


def measure_independence(
    layer: keras.layers.Layer, shape: Shape | None, rng: np.random.Generator, *, may_mix: bool = False
) -> Independent:
    """Runs the experiment on a layer.

    Args:
        layer: the layer; it is not changed.
        shape: the shape of the input, batch axis first; by default the shape for which the layer was called or built.
        rng: the source of weights and inputs.
        may_mix: whether a layer is accepted that mixes its channels and treats them alike.

    Raises:
        NotIndependent: the layer does not compute each channel separately, or does not treat them alike.
        WrongShape: the layer has no input shape, and none is passed.
    """
    shape = _input_shape(layer, shape)
    whole = _copy(layer, (*shape, CHANNELS))
    fewer = _copy(layer, (*shape, FEWER))
    weight_shapes = [_weight_shape(layer, *pair) for pair in zip(whole.weights, fewer.weights, strict=True)]
    _randomize_weights(whole, rng)
    inputs = _random_inputs((*shape, CHANNELS), rng)
    outputs = [_run(layer, whole, x) for x in inputs]
    _check_outputs(layer, outputs, [_run(layer, whole, x) for x in inputs])
    mixes = False
    for kept in _selections(rng):
        part = _copy(layer, (*shape, len(kept)))
        _assign_kept(part, whole, weight_shapes, kept)
        results = [_run(layer, part, x[..., kept]) for x in inputs]
        agrees = all(_are_close(a, b[..., kept]) for a, b in zip(results, outputs, strict=True))
        _check_agreement(layer, kept, agrees, may_mix)
        mixes |= not agrees
    names = [weight.name for weight in whole.weights]
    return Independent(inputs[0].shape, outputs[0].shape, list(zip(names, weight_shapes, strict=True)), mixes)


def _check_agreement(layer: keras.layers.Layer, kept: list[int], agrees: bool, may_mix: bool) -> None:
    """Raises NotIndependent if a copy for some channels, or for all channels in another order, computes other
    values."""
    if agrees or (may_mix and len(kept) < CHANNELS):
        return
    if len(kept) == CHANNELS:
        raise _refusal(layer, f"computes other values for its channels in the order {kept}")
    raise _refusal(layer, f"computes other values for channels {kept} alone than among all {CHANNELS} channels")


def _weight_shape(layer: keras.layers.Layer, whole: keras.Variable, fewer: keras.Variable) -> WeightShape:
    """The shape of a weight, with None for the axes whose size is the number of channels."""
    if len(whole.shape) == len(fewer.shape):
        pairs = list(zip(whole.shape, fewer.shape, strict=True))
        if all(a == b or (a, b) == (CHANNELS, FEWER) for a, b in pairs):
            return tuple(a if a == b else None for a, b in pairs)
    shapes = f"{tuple(whole.shape)} for {CHANNELS} channels and {tuple(fewer.shape)} for {FEWER}"
    raise _refusal(layer, f"has a weight {whole.name!r} of shape {shapes}")


def _randomize_weights(layer: keras.layers.Layer, rng: np.random.Generator) -> None:
    """Assigns random values away from zero. Zeros and ones, the usual initial values, would hide the effect of a
    weight."""
    for weight in layer.weights:
        if "float" in str(weight.dtype):
            signs = rng.choice([-1, 1] if weight.trainable else [1], weight.shape)  # a variance must stay positive
            weight.assign(signs * rng.uniform(0.5, 1.5, weight.shape))


def _random_inputs(shape: tuple[int, ...], rng: np.random.Generator) -> list[np.ndarray]:
    """Small values, large values (beyond thresholds), and values between 0 and 1 (for logarithms and roots)."""
    inputs = [scale * rng.standard_normal(shape).astype("float32") for scale in (1, 10)]
    return [*inputs, rng.uniform(0.1, 0.9, shape).astype("float32")]


def _check_outputs(layer: keras.layers.Layer, outputs: list[np.ndarray], repeated: list[np.ndarray]) -> None:
    """Raises NotIndependent for outputs that cannot be compared: other shapes, random values, NaN."""
    if outputs[0].ndim < 2 or outputs[0].shape[-1] != CHANNELS:
        raise _refusal(layer, f"outputs a tensor of shape {outputs[0].shape} for {CHANNELS} channels")
    if not all(map(_are_close, outputs, repeated)):
        raise _refusal(layer, "gives different outputs for the same input")
    if not np.isfinite(np.concatenate([output.ravel() for output in outputs])).mean() > 0.5:
        raise _refusal(layer, "outputs NaN or infinity for random inputs")


def _selections(rng: np.random.Generator) -> Iterator[list[int]]:
    """Channels to keep: all but the first, all but the last, a single one, random ones, all in another order."""
    yield list(range(1, CHANNELS))
    yield list(range(CHANNELS - 1))
    yield [int(rng.integers(CHANNELS))]
    for n in (3, FEWER, CHANNELS, CHANNELS):
        yield rng.choice(CHANNELS, n, replace=False).tolist()


def _assign_kept(
    part: keras.layers.Layer, whole: keras.layers.Layer, weight_shapes: list[WeightShape], kept: list[int]
) -> None:
    """Gives a smaller copy the weights of the kept channels."""
    for weight, source, shape in zip(part.weights, whole.weights, weight_shapes, strict=True):
        array = np.asarray(source)
        for axis, size in enumerate(shape):
            array = np.take(array, kept, axis) if size is None else array
        weight.assign(array)


def _are_close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    largest = np.abs(b[np.isfinite(b)]).max(initial=1e-3)
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * largest, equal_nan=True))


def _run(layer: keras.layers.Layer, copy: keras.layers.Layer, x: np.ndarray) -> np.ndarray:
    """The output of a copy of a layer for an input, as float64."""
    try:
        outputs = keras.tree.flatten(copy(keras.ops.convert_to_tensor(x)))
        arrays = [keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")) for output in outputs]
    except Exception as error:
        raise _refusal(layer, f"cannot be run on a tensor of shape {x.shape} ({_first_line(error)})") from error
    if len(arrays) != 1:
        raise _refusal(layer, f"outputs {len(arrays)} tensors")
    return np.asarray(arrays[0], "float64")


# --- the layer


def _copy(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.layers.Layer:
    """A new layer with the same config, built for another number of channels."""
    options = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
    try:
        with scope_of({type(layer).__name__: type(layer)}):
            copy = type(layer).from_config(layer.get_config(), **options)
        copy(keras.ops.zeros(shape))
    except Exception as error:
        raise _refusal(layer, f"cannot be built for {shape[-1]} channels ({_first_line(error)})") from error
    return copy


def _input_shape(layer: keras.layers.Layer, shape: Shape | None) -> tuple[int, ...]:
    """The shape of the input without its channel axis; axes of variable size get small, distinct sizes."""
    shape = shape or _known_shape(layer)
    if shape is None or len(shape) < 2:
        raise WrongShape(
            f"the input shape of layer {layer.name!r} is unknown; pass it: probe_rule(layer, (None, 32, 32, 8))"
        )
    return (shape[0] or 2, *(size or 4 + i for i, size in enumerate(shape[1:-1])))


def _known_shape(layer: keras.layers.Layer) -> Shape | None:
    if layer._inbound_nodes:
        tensors = keras.tree.flatten(layer._inbound_nodes[0].input_tensors)
        if len(tensors) > 1:
            raise _refusal(layer, f"takes {len(tensors)} tensors")
        return tuple(tensors[0].shape)
    return (layer.get_build_config() or {}).get("input_shape")


def _refusal(layer: keras.layers.Layer, reason: str) -> NotIndependent:
    return NotIndependent(
        f"layer {layer.name!r} ({type(layer).__name__}) does not compute each channel separately: it {reason}. Its "
        "channels stay pinned; write a rule if you know how the layer uses them"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
