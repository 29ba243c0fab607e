"""Sets channels of a coupled group to zero in the weights, so that the model computes the same as the cut model."""

from __future__ import annotations

import numpy as np

from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.rules.layer import STATE
from kerassurgery_fn.values.snapshot import Weights


def masked_weights(weights: Weights, group: Group, channels: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights of the layers that have channels of a group, with some channels set to zero.

    The layers that read the channels multiply them by zero, so that the outputs are those of a model without them, if
    the cut is exact. Statistics of normalisations stay.

    Args:
        weights: the weights of the model.
        group: the group.
        channels: indices into the group.

    Returns:
        Path of each layer whose weights change -> all its weights.
    """
    masked: dict[str, list[np.ndarray]] = {}
    for carrier in group.carried:
        if carrier.name in STATE:
            continue
        arrays = masked.setdefault(carrier.path, list(weights[carrier.path]))
        positions = np.unique(carrier.positions[channels])
        arrays[carrier.slot] = zeroed(arrays[carrier.slot], carrier.axis, positions)
    return {path: tuple(arrays) for path, arrays in masked.items()}


def zeroed(array: np.ndarray, axis: int, positions: np.ndarray) -> np.ndarray:
    """A copy of an array that is zero at some positions of an axis.

    >>> zeroed(np.ones((2, 3)), 1, np.array([0, 2]))
    array([[0., 1., 0.],
           [0., 1., 0.]])
    """
    copy = np.array(array)
    np.moveaxis(copy, axis, 0)[positions] = 0
    return copy
