"""The door to layers that nothing is known of: a rule found by running one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from kerassurgery_fn.arguments import as_live_layer, as_shape, optional, takes
from kerassurgery_fn.edits.steps.indices import as_seed
from kerassurgery_fn.errors import NotIndependent, WrongShape
from kerassurgery_fn.rules import RULES, Layer, NoRule, key_of, rule_for
from kerassurgery_fn.rules.layer import Tensor

Shape = Sequence[int | None]
Cut = tuple[int | None, ...]  # the shape of a weight with None for the axes that are the channels'

CHANNELS, FEWER = 7, 5
TOLERANCE = 1e-5  # relative to the largest number; float32 gives about 1e-7
IGNORED = ("name", "trainable", "dtype")  # fields of a config that change nothing about channels


class Finding(NamedTuple):
    """What was seen of a layer: its config, the shapes of what it read and made, and its weights."""

    config: str
    read: tuple[int, ...]
    made: tuple[int, ...]
    weights: list[tuple[str, Cut]]


@takes(layer=as_live_layer, shape=optional(as_shape), seed=as_seed)
def probe_rule(layer: keras.layers.Layer, shape: Shape | None = None, *, seed: int = 0) -> Callable[..., Any]:
    """The rule of a layer that treats each channel alone, found by running copies of the layer; it is registered.

    Channels are on the last axis. Copies are made for 7 channels and for some of these, with random weights that are
    the same along the axes that grow with the channels, and run on random inputs. What is made of some channels must be
    what is made of them among all others, whichever they are and in whatever order. The rule passes channels through
    layers of this class and this config, and holds all other axes; for other layers of the class the rule stays that
    there was.

    This is measured, not proven: a layer might do otherwise on inputs that were not tried, or while it is trained.

    Args:
        layer: the layer, which is not changed; one that reads one tensor and makes one.
        shape: the shape of what it reads, batch first; by default what it was called on or built for.
        seed: of weights and inputs.

    Raises:
        NotIndependent: what was seen that forbids it; nothing is registered.
        WrongShape: no shape is given, and the layer has none.
    """
    record = _record(layer)
    finding = _find(layer, _facts(record["config"]), _read_shape(layer, shape), np.random.default_rng(seed))
    known = rule_for(record)
    before = known.channels
    findings = [*getattr(before, "findings", []), finding]
    written = getattr(before, "written", before)

    def probed(layer: Layer, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        config = _facts(layer.config)
        found = [one for one in findings if one.config == config and len(one.read) == len(x)]
        return _passed(layer, x, found[-1]) if found else (written or _unknown)(layer, x, *args, **kwargs)

    probed.findings, probed.written = findings, written  # type: ignore[attr-defined]
    RULES[key_of(record)] = replace(known, channels=probed)
    return probed


def _unknown(layer: Layer, *_: Any, **__: Any) -> Any:
    key = key_of(layer.record)
    raise NoRule(
        rule_for(layer.record).pins or f"is of the class {key}, which was probed with another config or on other axes"
    )


def _passed(layer: Layer, x: Tensor, found: Finding) -> Tensor:
    """Channels passed through a layer of which something was found."""
    layer.pin(x[:-1], "was probed for its last axis alone")
    for name, axes in found.weights:
        layer.weight(name, tuple(x[-1] if n is None else n for n in axes))
    return (x[0], *(None for _ in found.made[1:-1]), x[-1])


def _find(layer: keras.layers.Layer, config: str, shape: tuple[int, ...], rng: np.random.Generator) -> Finding:
    """What copies of a layer show.

    Raises:
        NotIndependent: that it does not treat every channel alone.
    """
    whole = _copy(layer, (*shape, CHANNELS))
    cuts = [_cut(layer, *pair) for pair in zip(whole.weights, _copy(layer, (*shape, FEWER)).weights, strict=True)]
    for weight in whole.weights:
        if "float" in str(weight.dtype):
            signs = rng.choice([-1, 1] if weight.trainable else [1], weight.shape)
            weight.assign(signs * rng.uniform(0.5, 1.5, weight.shape))
    inputs = [scale * rng.standard_normal((*shape, CHANNELS)).astype("float32") for scale in (1, 10)]
    inputs.append(rng.uniform(0.1, 0.9, (*shape, CHANNELS)).astype("float32"))
    made = [_run(layer, whole, x) for x in inputs]
    _check_whole(layer, made, [_run(layer, whole, x) for x in inputs])
    for kept in _selections(rng):
        part = _copy(layer, (*shape, len(kept)))
        for weight, source, cut in zip(part.weights, whole.weights, cuts, strict=True):
            weight.assign(_taken(np.asarray(source), kept, cut))
        for x, y in zip(inputs, made, strict=True):
            if not _alike(_run(layer, part, x[..., kept]), y[..., kept]):
                raise _refusal(layer, f"makes something else of channels {kept} alone than of them among {CHANNELS}")
    names = [weight.name for weight in whole.weights]
    return Finding(config, inputs[0].shape, made[0].shape, list(zip(names, cuts, strict=True)))


def _cut(layer: keras.layers.Layer, whole: keras.Variable, part: keras.Variable) -> Cut:
    """The shape of a weight with None where it grows with the channels."""
    if len(whole.shape) == len(part.shape):
        pairs = list(zip(whole.shape, part.shape, strict=True))
        if all(a == b or (a, b) == (CHANNELS, FEWER) for a, b in pairs):
            return tuple(a if a == b else None for a, b in pairs)
    shapes = f"{tuple(whole.shape)} for {CHANNELS} channels and {tuple(part.shape)} for {FEWER}"
    raise _refusal(layer, f"has a weight {whole.name!r} of shape {shapes}")


def _check_whole(layer: keras.layers.Layer, made: list[np.ndarray], again: list[np.ndarray]) -> None:
    if made[0].ndim < 2 or made[0].shape[-1] != CHANNELS:
        raise _refusal(layer, f"makes a tensor of shape {made[0].shape} of {CHANNELS} channels")
    if not all(map(_alike, made, again)):
        raise _refusal(layer, "makes something else of the same at every call")
    if not np.isfinite(np.concatenate([one.ravel() for one in made])).mean() > 0.5:
        raise _refusal(layer, "makes no numbers of random inputs")


def _selections(rng: np.random.Generator) -> Iterator[list[int]]:
    """Channels to keep: all but the first, all but the last, one, random ones, and all of them in another order."""
    yield list(range(1, CHANNELS))
    yield list(range(CHANNELS - 1))
    yield [int(rng.integers(CHANNELS))]
    for n in (3, FEWER, CHANNELS):
        yield rng.choice(CHANNELS, n, replace=False).tolist()


def _taken(array: np.ndarray, kept: list[int], cut: Cut) -> np.ndarray:
    """A weight less the channels that are not kept."""
    for axis, n in enumerate(cut):
        array = np.take(array, kept, axis) if n is None else array
    return array


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    largest = np.abs(b[np.isfinite(b)]).max(initial=1e-3)
    return bool(np.allclose(a, b, rtol=0, atol=TOLERANCE * largest, equal_nan=True))


def _run(layer: keras.layers.Layer, copy: keras.layers.Layer, x: np.ndarray) -> np.ndarray:
    """What a copy of a layer makes of an input, as float64."""
    try:
        made = copy(keras.ops.convert_to_tensor(x))
        arrays = [keras.ops.convert_to_numpy(keras.ops.cast(one, "float32")) for one in keras.tree.flatten(made)]
    except Exception as error:
        raise _refusal(layer, f"cannot be run on a tensor of shape {x.shape} ({_words(error)})") from error
    if len(arrays) != 1:
        raise _refusal(layer, f"makes {len(arrays)} tensors")
    return np.asarray(arrays[0], "float64")


def _copy(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.layers.Layer:
    """A new layer with the same config, built for another number of channels."""
    options = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
    try:
        with keras.saving.custom_object_scope({type(layer).__name__: type(layer)}):
            copy = type(layer).from_config(layer.get_config(), **options)
        copy(keras.ops.zeros(shape))
    except Exception as error:
        raise _refusal(layer, f"cannot be made for {shape[-1]} channels ({_words(error)})") from error
    return copy


def _read_shape(layer: keras.layers.Layer, shape: Shape | None) -> tuple[int, ...]:
    """The shape that a layer is to be run on, less its channels; axes of open size get some."""
    shape = shape or _known_shape(layer)
    if shape is None or len(shape) < 2:
        raise WrongShape(
            f"nothing tells the shape of what layer {layer.name!r} reads; give it: probe_rule(layer, (None, 32, 32, 8))"
        )
    return (shape[0] or 2, *(n or 4 + i for i, n in enumerate(shape[1:-1])))


def _known_shape(layer: keras.layers.Layer) -> Shape | None:
    if layer._inbound_nodes:
        tensors = keras.tree.flatten(layer._inbound_nodes[0].input_tensors)
        if len(tensors) > 1:
            raise _refusal(layer, f"reads {len(tensors)} tensors")
        return tuple(tensors[0].shape)
    return (layer.get_build_config() or {}).get("input_shape")


def _record(layer: keras.layers.Layer) -> dict[str, Any]:
    return json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))


def _facts(config: Mapping[str, Any]) -> str:
    """A config less what says nothing of channels."""
    return json.dumps({key: value for key, value in config.items() if key not in IGNORED}, sort_keys=True)


def _refusal(layer: keras.layers.Layer, reason: str) -> NotIndependent:
    return NotIndependent(
        f"layer {layer.name!r} ({type(layer).__name__}) does not treat every channel alone: it {reason}. "
        "It holds its channels; write a rule if you know what it does to them"
    )


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
