"""Channels that only their weights tell apart trade places, and the model computes what it did.

This holds across normalisations and softmax too, where no cut is exact, so that it tries the channel maps of what
`laws.check_law` leaves alone: every position of every weight must move with its channel.
"""

from collections import Counter, defaultdict
from typing import Any, NamedTuple

import keras
import numpy as np

from helpers.laws import TOLERANCE, VISIBLE, deviation, free_ids, random_inputs
from helpers.running import compute, filled, outputs_of
from kerassurgery_fn import analyse
from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, has_ids
from kerassurgery_fn.values.frozen import get_in, set_all
from kerassurgery_fn.values.snapshot import Snapshot


class Trade(NamedTuple):
    """What a check measured: the deviation from the original, that of a trade in all weights but one, and the share
    of the channels that can be cut which have traded places."""

    deviation: float
    sabotaged: float
    traded: float


def check_swaps(model: keras.Model, seed: int = 0, inputs: Any = None, tolerance: float = TOLERANCE) -> Trade:
    """Swaps channels of a model, which gets random weights, in pairs; the outputs must stay what they are."""
    snapshot = filled(model, seed)
    inputs = random_inputs(model, seed) if inputs is None else inputs
    flow = analyse(snapshot)
    partner = partners(flow, np.random.default_rng(seed))
    truth = outputs_of(model, inputs)
    right = deviation(compute(swapped(snapshot, flow, partner), inputs), truth)
    wrong = deviation(compute(swapped(snapshot, flow, partner, leave_out=True), inputs), truth)
    trade = Trade(right, wrong, float(np.mean(partner[free_ids(flow)] != free_ids(flow))))
    assert trade.deviation < tolerance, trade
    assert trade.sabotaged > VISIBLE, f"{trade}: wrong maps would have passed"
    return trade


def maps_of(flow: Flow) -> list[np.ndarray]:
    """The maps of all weights and constants in final ids, each once."""
    axes = [axis for weights in flow.weights.values() for weight in weights for axis in weight.axes]
    axes += [axis for constant in flow.constants.values() for axis in constant]
    return [flow.solution.resolve(axis) for axis in {id(axis): axis for axis in axes if has_ids(axis)}.values()]


def partners(flow: Flow, rng: np.random.Generator) -> np.ndarray:
    """For each final id the one that it trades places with, itself for most that are not alike in every map."""
    partner = np.arange(flow.solution.ids + 1)
    partner[FIXED] = FIXED
    maps = maps_of(flow)
    stands: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for i, ids in enumerate(maps):
        for one, count in Counter(ids.T.ravel().tolist()).items():
            stands[one].append((i, count))
    alike = defaultdict(list)
    for one in free_ids(flow).tolist():
        alike[tuple(stands[one])].append(one)
    for ids in alike.values():
        order = rng.permutation(ids)
        half = len(order) // 2
        a, b = order[:half], order[half : 2 * half]
        partner[a], partner[b] = b, a
    while wrong := [one for ids in maps for one in misplaced(ids, partner)]:
        wrong += partner[wrong].tolist()
        partner[wrong] = wrong
    return partner


def misplaced(ids: np.ndarray, partner: np.ndarray) -> list[int]:
    """The ids that trade in positions of a map for which there is no position to trade with."""
    before, after = columns(ids), columns(partner[ids])
    missing = (Counter(after) - Counter(before)) + (Counter(before) - Counter(after))
    return [one for column in missing for one in column if one != FIXED and partner[one] != one]


def columns(ids: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(column) for column in np.sort(ids, axis=0).T.tolist()]


def moves(ids: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """For each position of a map the one whose contents it takes: the k-th of an id those of its partner's k-th."""
    places: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, column in enumerate(columns(ids)):
        places[column].append(i)
    return np.array([places[column].pop(0) for column in columns(partner[ids])])


def swapped(snapshot: Snapshot, flow: Flow, partner: np.ndarray, leave_out: bool = False) -> Snapshot:
    """The snapshot after all trades; if `leave_out`, with the weight as it was that trades the most elements."""
    known: dict[int, np.ndarray] = {}

    def traded(array: np.ndarray, axes: Any) -> np.ndarray:
        for i, axis in enumerate(axes):
            if has_ids(axis):
                if id(axis) not in known:
                    known[id(axis)] = moves(flow.solution.resolve(axis), partner)
                array = np.take(array, known[id(axis)], axis=i)
        return array

    weights = {
        path: tuple(traded(array, weight.axes) for array, weight in zip(arrays, flow.weights[path], strict=True))
        if path in flow.weights
        else arrays
        for path, arrays in snapshot.weights.items()
    }
    if leave_out:
        changed = {
            (path, i): int((a != b).sum())
            for path, arrays in snapshot.weights.items()
            for i, (a, b) in enumerate(zip(arrays, weights[path], strict=True))
        }
        path, i = max(changed, key=lambda each: changed[each])
        weights[path] = (*weights[path][:i], snapshot.weights[path][i], *weights[path][i + 1 :])
    constants = {
        where: traded(np.asarray(get_in(snapshot.record, where)), axes).tolist()
        for where, axes in flow.constants.items()
    }
    return Snapshot(set_all(snapshot.record, constants), weights)
