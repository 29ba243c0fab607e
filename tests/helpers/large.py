"""The laws on networks that are too large for `laws.check_law`: one rebuild, and no sorting of millions of weights.

What was cut is read off a second cut: of a snapshot that has, in place of each weight, the number that its place has
in its array. It knows nothing of channel maps either.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from helpers import laws
from helpers.laws import (
    VISIBLE,
    deviation,
    free_ids,
    parameters,
    prunable,
    random_cut,
    randomise,
    sabotage,
    without_momentum,
)
from helpers.swaps import partners, swapped
from kerassurgery_fn import analyse, capture, rebuild
from kerassurgery_fn.values.snapshot import Snapshot, Weights

TOLERANCE = 5e-5  # a hundred layers add up more roundings than a few


class Measured(NamedTuple):
    """The share of the channels that can be cut, the share of the parameters that have gone, and the deviation of a
    cut and of a sabotaged cut from the original without the channels."""

    prunable: float
    gone: float
    deviation: float
    sabotaged: float


def fill(model: keras.Model) -> None:
    """Random weights that outputs depend on."""
    randomise(model, apart=False, batch=images(model, 16, seed=1))


def check_large(model: keras.Model, *, share: float = 0.5) -> Measured:
    """Cuts a share of all channels of a filled image model whose cut is exact, and checks law, round trip and sabotage.

    The model is left without the channels.
    """
    snapshot = capture(model)
    kept = random_cut(numbered(snapshot), 0, share, inexact=False).weights
    snapshot = in_tune(model, snapshot, kept, images(model, 16, seed=1))
    return check_cut(model, snapshot, images(model, 4), share=share, tolerance=TOLERANCE)


def check_cut(
    model: keras.Model,
    snapshot: Snapshot,
    inputs: np.ndarray,
    *,
    seed: int = 0,
    share: float = 0.5,
    tolerance: float = laws.TOLERANCE,
) -> Measured:
    """The laws on a random cut of a snapshot of a model, which is left without the channels."""
    smaller, kept = (random_cut(one, seed, share, inexact=False) for one in (snapshot, numbered(snapshot)))
    check_numbers(snapshot.weights, smaller.weights, kept.weights)
    gone = 1 - parameters(smaller) / parameters(snapshot)
    assert gone > 0, "nothing was cut"
    rebuilt = rebuild(smaller)
    assert capture(rebuilt) == smaller
    result = outputs(rebuilt, inputs)
    set_weights(rebuilt, changed(sabotage(smaller).weights, smaller.weights))
    sabotaged = outputs(rebuilt, inputs)
    set_weights(model, judged(snapshot.weights, kept.weights))
    truth = outputs(model, inputs)
    measured = Measured(prunable(analyse(snapshot)), gone, deviation(result, truth), deviation(sabotaged, truth))
    assert measured.deviation < tolerance, measured
    assert measured.sabotaged > VISIBLE, f"{measured}: a wrong surgery would have passed"
    return measured


def in_tune(model: keras.Model, snapshot: Snapshot, kept: Weights, batch: np.ndarray) -> Snapshot:
    """The snapshot with batch normalisation near the statistics of what is left.

    With those of all channels a deep network forgets its input when half of them go, with those of what is left it
    makes much of every rounding.
    """
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return snapshot
    set_weights(model, judged(snapshot.weights, kept))
    with without_momentum(norms):
        model(batch, training=True)
    names = {layer.name for layer in norms}
    tuned = {
        path: nearer(arrays, now) if path.rpartition("/")[2] in names else arrays
        for (path, arrays), now in zip(snapshot.weights.items(), capture(model).weights.values(), strict=True)
    }
    return Snapshot(snapshot.record, tuned)


def nearer(arrays: Sequence[np.ndarray], now: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The weights of a batch normalisation with its statistics moved to those of now, where there are any."""
    moved = [np.where(new, 0.6 * new + 0.4 * old, old) for new, old in zip(now[-2:], arrays[-2:], strict=True)]
    return (*arrays[:-2], *moved)


def check_the_rest(model: keras.Model, *, share: float = 0.5) -> float:
    """What can be checked of cuts that are not exact: round trip, and channels that trade places; the share of the
    channels that have. The model is left as it is."""
    snapshot = capture(model)
    smaller = random_cut(snapshot, 0, share)
    rebuilt = rebuild(smaller)
    assert capture(rebuilt) == smaller
    inputs, flow = images(model, 4), analyse(snapshot)
    assert all(np.isfinite(one).all() for one in outputs(rebuilt, inputs))
    partner = partners(flow, np.random.default_rng(0))
    truth, made = outputs(model, inputs), []
    for wrong in (False, True):
        set_weights(model, swapped(snapshot, flow, partner, leave_out=wrong).weights)
        made.append(deviation(outputs(model, inputs), truth))
    set_weights(model, snapshot.weights)
    assert made[0] < TOLERANCE, made
    assert made[1] > VISIBLE, f"{made}: wrong maps would have passed"
    return float(np.mean(partner[free_ids(flow)] != free_ids(flow)))


def images(model: keras.Model, number: int, seed: int = 0) -> np.ndarray:
    """Random images with values from 0 to 255 that differ in colour, contrast and coarse structure."""
    rng = np.random.default_rng(seed)
    _, high, wide, depth = model.inputs[0].shape
    coarse = rng.uniform(-1, 1, (number, 4, 4, depth)).repeat(high // 4 + 1, axis=1).repeat(wide // 4 + 1, axis=2)
    colour, contrast = rng.uniform(60, 190, (number, 1, 1, depth)), rng.uniform(10, 60, (number, 1, 1, 1))
    fine = rng.uniform(-1, 1, (number, high, wide, depth))
    return (colour + contrast * (coarse[:, :high, :wide] + fine) / 2).astype("float32")


def numbered(snapshot: Snapshot) -> Snapshot:
    """The snapshot with the elements of every weight replaced by their numbers."""
    longest = np.arange(max(array.size for arrays in snapshot.weights.values() for array in arrays), dtype="int32")
    weights = {
        path: tuple(longest[: array.size].reshape(array.shape) for array in arrays)
        for path, arrays in snapshot.weights.items()
    }
    return Snapshot(snapshot.record, weights)


def judged(weights: Weights, kept: Weights) -> dict[str, list[np.ndarray]]:
    """The weights with zeros in place of what is gone."""
    return {
        path: [only(array, kept[path][i] if path in kept else None) for i, array in enumerate(arrays)]
        for path, arrays in weights.items()
    }


def only(array: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
    """The array with zeros in place of all elements but those of some numbers.

    >>> only(np.array([[5, 6], [7, 8]]), np.array([3, 0]))
    array([[5, 0],
           [0, 8]])
    """
    made = np.zeros_like(array)
    if numbers is not None:
        made.flat[numbers.ravel()] = array.flat[numbers.ravel()]
    return made


def check_numbers(weights: Weights, smaller: Weights, kept: Weights) -> None:
    """What is left is what stood at its numbers."""
    for path, arrays in smaller.items():
        for array, left, numbers in zip(weights[path], arrays, kept[path], strict=True):
            assert np.array_equal(left, array.flat[numbers.ravel()].reshape(left.shape)), path


def changed(new: Weights, old: Weights) -> dict[str, tuple[np.ndarray, ...]]:
    return {
        path: arrays for path, arrays in new.items() if any(a is not b for a, b in zip(arrays, old[path], strict=True))
    }


def set_weights(model: keras.Model, weights: Mapping[str, Sequence[np.ndarray]]) -> None:
    for path, arrays in weights.items():
        layer = model
        for name in path.split("/"):
            layer = layer.get_layer(name)
        layer.set_weights(arrays)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def outputs(model: keras.Model, inputs: np.ndarray) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(model(inputs, training=False))]
