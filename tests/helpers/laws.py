"""The laws of surgery as checks on live models, for the tests of rules, edits and whole networks.

`check_law(model)` fills a model with random weights that its outputs feel, cuts some of its channels and holds the
result against a judge that knows nothing of channel maps. Every law stands next to its sabotage, so that a comparison
which could not fail is found out.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from helpers.filling import random_inputs
from helpers.filling import randomise as randomise
from helpers.filling import without_momentum as without_momentum
from helpers.judging import judge
from helpers.records import in_order
from helpers.running import compute as compute
from helpers.running import filled, remember, set_weights
from kerassurgery_fn import analyse, capture, rebuild
from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, has_ids, size
from kerassurgery_fn.edits.steps.additions import refuse_misplaced
from kerassurgery_fn.edits.steps.channel_deletion import delete
from kerassurgery_fn.edits.steps.cutting import keeper
from kerassurgery_fn.errors import InexactCut, PinnedChannels
from kerassurgery_fn.graph import is_functional, is_model, name_of
from kerassurgery_fn.values.snapshot import Snapshot

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
    tolerance: float = TOLERANCE,
    visible: float = VISIBLE,
    **options: Any,
) -> Verdict:
    """Every law on one model, which gets random weights.

    Args:
        model: a built Sequential or Functional model.
        edit: a function from snapshot to snapshot; a random cut of 30 to 50 % of all channels by default.
        tolerance: the largest deviation of a right surgery, relative to the spread of the output.
        visible: the least one of a wrong surgery.
        options: those of `measure_law`.
    """
    verdict = measure_law(model, edit, **options)
    assert verdict.deviation < tolerance, verdict
    assert verdict.sabotaged > visible, f"{verdict}: a wrong surgery would have passed"
    return verdict


def measure_law(
    model: keras.Model,
    edit: Edit | None = None,
    *,
    seed: int = 0,
    inputs: Any = None,
    inexact: bool = False,
    pinned: bool = False,
    opaque: set[str] = frozenset(),  # type: ignore[assignment]
) -> Verdict:
    """Every law but the surgery law on one model, which gets random weights; what the surgery law is judged by.

    One model is rebuilt, of the smaller snapshot: it is the one that must survive the round trip, and what it computes
    is held against the model itself.

    Args:
        model: a built Sequential or Functional model.
        edit: a function from snapshot to snapshot; a random cut of 30 to 50 % of all channels by default.
        seed: of weights, cut and inputs.
        inputs: what the model is called on; random numbers by default.
        inexact: the rules must say that the cut is not exact, and the judge is not asked.
        pinned: the rules must leave nothing to cut.
        opaque: paths of the layers that must be opaque.
    """
    snapshot = filled(model, seed)
    inputs = random_inputs(model, seed) if inputs is None else inputs
    flow = analyse(snapshot)
    edit = warned(edit or (lambda before: random_cut(before, seed, inexact=inexact)), inexact)
    assert set(flow.opaque) == set(opaque), flow.opaque
    check_shapes(model, flow)
    if pinned:
        check_round_trip(snapshot)
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
    set_weights(model, snapshot)
    return Verdict(deviation(result, truth), deviation(sabotaged, truth), prunable(flow), smaller)


def warned(edit: Edit, inexact: bool) -> Edit:
    """The same edit, which must warn if and only if it is not exact."""

    def call(before: Snapshot) -> Snapshot:
        if inexact:
            with pytest.warns(InexactCut):
                return edit(before)
        with warnings.catch_warnings():
            warnings.simplefilter("error", InexactCut)
            return edit(before)

    return call


# --- the judgement


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
    held = flow.solution.pinned().copy()
    for each in () if inexact else flow.inexact:
        held[flow.solution.resolve(each.axis)] = True
    ids = np.unique(
        np.concatenate([[FIXED], *(flow.solution.resolve(m.axis).ravel() for m in flow.producers.values())])
    )
    return ids[(ids != FIXED) & ~held[ids]]


def random_dead(flow: Flow, seed: int, share: float | None = None, *, inexact: bool = True) -> np.ndarray:
    """A share of all channels that can be cut, 0.3 to 0.5 by default, so that every axis keeps a position at least."""
    rng = np.random.default_rng(seed + 2000)
    dead, free = flow.solution.none_dead(), free_ids(flow, inexact=inexact)
    share = share or rng.uniform(0.3, 0.5)
    dead[rng.permutation(free)[: max(1, round(len(free) * share))]] = True
    maps = [m.axis for m in flow.producers.values()] + [a for t in flow.tensors.values() for a in t or () if has_ids(a)]
    for axis in maps:
        if axis.shape[1] and not len(flow.solution.kept(axis, dead)):
            dead[flow.solution.resolve(axis)[:, rng.integers(axis.shape[1])]] = False
    return right_additions(flow, dead, rng)


def right_additions(flow: Flow, dead: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dead ids less as many as it takes for Keras to add everything along the right axis."""
    while True:
        try:
            refuse_misplaced(flow, keeper(flow, dead.copy()))
            return dead
        except PinnedChannels:
            dead[rng.choice(np.flatnonzero(dead))] = False


def random_cut(snapshot: Snapshot, seed: int, share: float | None = None, *, inexact: bool = True) -> Snapshot:
    flow = analyse(snapshot)
    return delete(snapshot, flow, random_dead(flow, seed, share, inexact=inexact))


def prunable(flow: Flow) -> float:
    """The share of the channels that can be cut, of all that the layers make."""
    held = flow.solution.pinned().copy()
    cuttable = [cuttable_positions(flow.solution.resolve(producer.axis), held) for producer in flow.producers.values()]
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
    for ref, tensor in zip(flow.trace.outputs, model.outputs, strict=True):
        axes = flow.tensors[ref]
        assert axes is None or [size(axis) for axis in axes] == list(tensor.shape), (ref, axes, tensor.shape)


def check_round_trip(snapshot: Snapshot) -> None:
    assert capture(remember(snapshot, rebuild(snapshot))) == snapshot
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
    again = capture(remember(smaller, rebuild(smaller)))
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
