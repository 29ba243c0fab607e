"""The laws of surgery as checks on live models, for the tests of rules, edits and whole networks.

`check_law(model)` fills a model with random weights that its outputs feel, cuts some of its channels and holds the
result against a judge that knows nothing of channel maps. Every law stands next to its sabotage, so that a comparison
which could not fail is found out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import keras
import numpy as np

from kerassurgery_fn import analyse, capture, rebuild
from kerassurgery_fn.channels import FIXED, has_ids, size
from kerassurgery_fn.edits.channels import delete
from kerassurgery_fn.flow import Flow
from kerassurgery_fn.frozen import Location, freeze, set_all
from kerassurgery_fn.graph import is_functional, is_model, name_of
from kerassurgery_fn.snapshot import Snapshot
from kerassurgery_fn.wiring import in_order

TOLERANCE = 2e-5  # of a right surgery, relative to the spread of the output: float32 gives about 5e-7
VISIBLE = 1e-3  # of a wrong one, at the least

Edit = Callable[[Snapshot], Snapshot]


class Verdict(NamedTuple):
    """What a check measured: the deviation from the judge, that of the sabotaged result, and the share of the
    channels that could have been cut."""

    deviation: float
    sabotaged: float
    prunable: float
    smaller: Snapshot


def check_law(
    model: keras.Model,
    edit: Edit | None = None,
    *,
    seed: int = 0,
    inputs: Any = None,
    tolerance: float = TOLERANCE,
    visible: float = VISIBLE,
    inexact: bool = False,
    pinned: bool = False,
    opaque: set[str] = frozenset(),  # type: ignore[assignment]
) -> Verdict:
    """Every law on one model, which gets random weights.

    Args:
        model: a built Sequential or Functional model.
        edit: a function from snapshot to snapshot; a random cut of 30 to 50 % of all channels by default.
        seed: of weights, cut and inputs.
        inputs: what the model is called on; random numbers by default.
        tolerance: the largest deviation of a right surgery, relative to the spread of the output.
        visible: the least one of a wrong surgery.
        inexact: the rules must say that the cut is not exact, and the judge is not asked.
        pinned: the rules must leave nothing to cut.
        opaque: paths of the layers that must be opaque.
    """
    randomise(model, seed)
    inputs = random_inputs(model, seed) if inputs is None else inputs
    snapshot = capture(model)
    flow = analyse(snapshot)
    edit = edit or (lambda before: random_cut(before, seed, inexact=inexact))
    assert set(flow.opaque) == set(opaque), flow.opaque
    check_shapes(model, flow)
    check_round_trip(snapshot)
    if pinned:
        assert not free_ids(flow).size, "everything was to be pinned"
        return Verdict(0, 1, prunable(flow), snapshot)
    smaller = check_purity(snapshot, edit)
    assert parameters(smaller) < parameters(snapshot), "nothing was cut"
    check_rebuilt_record(smaller)
    if inexact:
        assert flow.inexact, "the rules were to say that the cut is not exact"
        return Verdict(0, 1, prunable(flow), smaller)
    result, sabotaged = compute(smaller, inputs), compute(sabotage(smaller), inputs)
    truth = compute(judge(snapshot, smaller), inputs)
    verdict = Verdict(deviation(result, truth), deviation(sabotaged, truth), prunable(flow), smaller)
    assert verdict.deviation < tolerance, verdict
    assert verdict.sabotaged > visible, f"{verdict}: a wrong surgery would have passed"
    return verdict


# --- weights that carry signal


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


# --- the judge


def judge(snapshot: Snapshot, smaller: Snapshot) -> Snapshot:
    """The original with every element of its weights set to zero that is not found in the smaller model.

    So it is with arrays among the arguments of calls. Elements are told apart by their bit patterns alone, array by
    array: what was cut is read off the result, and no mistake of the channel maps can be shared.
    """
    weights = {
        path: tuple(
            np.where(found(array, left), array, array.dtype.type(0))
            for array, left in zip(
                arrays, smaller.weights.get(path, [np.zeros(0, a.dtype) for a in arrays]), strict=True
            )
        )
        for path, arrays in snapshot.weights.items()
    }
    return Snapshot(without_constants(snapshot.record, smaller.record), weights)


def without_constants(record: Any, smaller: Any) -> Any:
    """The record with every element of an array in a call's arguments set to zero that is not found in the smaller."""
    left = {name_of(layer): layer for layer in (smaller or {"config": {"layers": []}})["config"]["layers"]}
    layers = []
    for layer in record["config"]["layers"]:
        other = left.get(name_of(layer))
        if is_model(layer):
            layer = without_constants(layer, other)
        elif any(constants(layer.get("inbound_nodes"))):
            theirs = constants(other["inbound_nodes"]) if other else repeat(((), np.zeros(0)))
            changes = {
                ("inbound_nodes", *place): np.where(np.isin(array, kept), array, 0).tolist()
                for (place, array), (_, kept) in zip(constants(layer["inbound_nodes"]), theirs, strict=False)
            }
            layer = set_all(freeze(layer), changes)
        layers.append(layer)
    return {**record, "config": {**record["config"], "layers": layers}}


def constants(tree: Any, place: Location = ()) -> Iterator[tuple[Location, np.ndarray]]:
    """The arrays in the arguments of a layer's calls, and where they stand."""
    match tree:
        case {"class_name": "__numpy__" | "__tensor__", "config": {"value": list(value)}}:
            if np.asarray(value).dtype.kind == "f":  # whole numbers are indices, which say where and not how much
                yield (*place, "config", "value"), np.asarray(value)
        case dict():
            for key, item in tree.items():
                yield from constants(item, (*place, key))
        case list():
            for index, item in enumerate(tree):
                yield from constants(item, (*place, index))


def found(array: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which elements of an array are among those left of it.

    Those left may all have been multiplied by the root of how much shorter an axis has become, as it is where a layer
    divides by the root of a size.

    >>> found(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0]))
    array([ True, False,  True])
    >>> found(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0]) * np.sqrt(2 / 3))
    array([ True, False,  True])
    """
    ratios = [b / a for a, b in zip(array.shape, left.shape, strict=False) if a > b]
    hit = plain = np.isin(bits(array), bits(left))
    while ratios and hit.sum() < left.size:
        hit = np.isin(bits((array * np.sqrt(ratios.pop(0))).astype(array.dtype)), bits(left))
    return hit if hit.sum() >= left.size else plain


def bits(array: np.ndarray) -> np.ndarray:
    """The bit patterns of an array as unsigned integers, in its shape."""
    return array.ravel().view(f"u{array.itemsize}").reshape(array.shape)


def compute(snapshot: Snapshot, inputs: Any) -> list[np.ndarray]:
    """What the model of a snapshot makes of inputs, its outputs one after the other."""
    outputs = rebuild(snapshot)(inputs, training=False)
    return [keras.ops.convert_to_numpy(keras.ops.cast(one, "float32")) for one in keras.tree.flatten(outputs)]


def deviation(results: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """The largest difference, relative to how much the output varies; infinite for other shapes."""
    if [r.shape for r in results] != [t.shape for t in truths]:
        return float("inf")
    return max(float(np.abs(r - t).max() / t.std()) for r, t in zip(results, truths, strict=True))


def sabotage(snapshot: Snapshot) -> Snapshot:
    """The snapshot with two channels of its first kernel swapped."""
    path, index, axis = next(
        (path, index, axis)
        for path, arrays in snapshot.weights.items()
        for index, array in enumerate(arrays)
        if array.ndim > 1
        for axis in reversed(range(array.ndim))
        if array.shape[axis] > 1
    )
    arrays = list(snapshot.weights[path])
    order = np.arange(arrays[index].shape[axis])
    order[[0, -1]] = order[[-1, 0]]
    arrays[index] = np.take(arrays[index], order, axis)
    return Snapshot(snapshot.record, {**snapshot.weights, path: tuple(arrays)}, snapshot.training)


# --- cuts


def free_ids(flow: Flow, *, inexact: bool = True) -> np.ndarray:
    """The final ids of all channels that can be cut; if not `inexact`, without those whose cut the rules call so."""
    held = flow.fates.pinned()
    for each in () if inexact else flow.inexact:
        held[flow.fates.resolve(each.axis)] = True
    ids = np.unique(np.concatenate([[FIXED], *(flow.fates.resolve(m.axis).ravel() for m in flow.makers.values())]))
    return ids[(ids != FIXED) & ~held[ids]]


def random_dead(flow: Flow, seed: int, share: float | None = None, *, inexact: bool = True) -> np.ndarray:
    """A share of all channels that can be cut, 0.3 to 0.5 by default, so that every axis keeps a position at least."""
    rng = np.random.default_rng(seed + 2000)
    dead, free = flow.fates.nobody(), free_ids(flow, inexact=inexact)
    share = share or rng.uniform(0.3, 0.5)
    dead[rng.permutation(free)[: max(1, round(len(free) * share))]] = True
    maps = [m.axis for m in flow.makers.values()] + [a for t in flow.tensors.values() for a in t or () if has_ids(a)]
    for axis in maps:
        if not len(flow.fates.kept(axis, dead)):
            dead[flow.fates.resolve(axis)[:, rng.integers(axis.shape[1])]] = False
    return dead


def random_cut(snapshot: Snapshot, seed: int, share: float | None = None, *, inexact: bool = True) -> Snapshot:
    flow = analyse(snapshot)
    return delete(snapshot, flow, random_dead(flow, seed, share, inexact=inexact))


def prunable(flow: Flow) -> float:
    """The share of the channels that can be cut, of all that the layers make."""
    held = flow.fates.pinned()
    cuttable = [cuttable_positions(flow.fates.resolve(maker.axis), held) for maker in flow.makers.values()]
    return float(np.concatenate(cuttable).mean()) if cuttable else 0.0


def cuttable_positions(ids: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Which positions of a map can be cut while others stay: they have an id that is not pinned, nor everybody's.

    >>> cuttable_positions(np.array([[0, 1, 2], [3, 3, 3]]), np.array([False, True, False, False, True]))
    array([ True, False,  True])
    """
    ids = np.sort(ids, axis=0)
    once = np.vstack([ids[:1] != FIXED, (ids[1:] != ids[:-1]) & (ids[1:] != FIXED)])
    counts = np.bincount(ids[once], minlength=len(held))
    return (once & ~held[ids] & (counts[ids] < ids.shape[1])).any(axis=0)


def parameters(snapshot: Snapshot) -> int:
    return sum(array.size for arrays in snapshot.weights.values() for array in arrays)


# --- the other laws


def check_shapes(model: keras.Model, flow: Flow) -> None:
    """The sizes of the rules' axes are those that Keras works out, for every output of the model.

    Tensors within it are compared with the record by the analysis itself, which calls a layer opaque that differs.
    """
    for ref, tensor in zip(flow.graph.outputs, model.outputs, strict=True):
        axes = flow.tensors[ref]
        assert axes is None or [size(axis) for axis in axes] == list(tensor.shape), (ref, axes, tensor.shape)


def check_round_trip(snapshot: Snapshot) -> None:
    assert capture(rebuild(snapshot)) == snapshot
    check_order(snapshot.record)


def check_order(record: Any) -> None:
    """The layers of what Keras wrote are in the order that rewiring gives them."""
    if is_functional(record):
        assert [name_of(layer) for layer in in_order(record["config"])] == [
            name_of(layer) for layer in record["config"]["layers"]
        ]
    for layer in record["config"]["layers"]:
        if is_model(layer):
            check_order(layer)


def check_rebuilt_record(smaller: Snapshot) -> None:
    """After an edit the record is what Keras writes of the rebuilt model, to the last derived shape."""
    again = capture(rebuild(smaller))
    assert differences(smaller.record, again.record) == []
    assert again == smaller


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where two records differ, and how.

    >>> differences({"a": [1, 2], "b": 3}, {"a": [1, 4], "b": 3})
    ['a.1: 2 != 4']
    """
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        pairs: Any = ((key, ours[key], theirs[key]) for key in ours)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = zip(range(len(ours)), ours, theirs, strict=True)
    else:
        return [] if ours == theirs else [f"{where}: {ours} != {theirs}"]
    return [line for key, a, b in pairs for line in differences(a, b, f"{where}.{key}".lstrip("."))]


def check_purity(snapshot: Snapshot, edit: Edit) -> Snapshot:
    """An edit leaves its argument as it was and does the same thing twice; its result."""
    before = frozen_copy(snapshot)
    once, twice = edit(snapshot), edit(snapshot)
    assert once == twice
    assert frozen_copy(snapshot) == before
    assert not any(a.flags.writeable for s in (snapshot, once) for arrays in s.weights.values() for a in arrays)
    return once


def frozen_copy(snapshot: Snapshot) -> tuple[str, dict[str, list[bytes]]]:
    return json.dumps(snapshot.record), {p: [a.tobytes() for a in arrays] for p, arrays in snapshot.weights.items()}
