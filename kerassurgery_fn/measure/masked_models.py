"""A live model in which channels of one coupled group are set to zero, to measure the effect of a cut."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.coupled_groups import Group, groups
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.errors import InexactCut
from kerassurgery_fn.keras_io.rebuilding import rebuild
from kerassurgery_fn.keras_io.sublayers import layers_of
from kerassurgery_fn.measure.pruning_run import Evaluate, metric_of
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.masked_weights import masked_weights
from kerassurgery_fn.values.snapshot import Snapshot


class Cut(NamedTuple):
    """Channels of one group that are cut: the name of the group, the ratio, and indices into the group."""

    name: str
    ratio: float
    channels: np.ndarray


def start_masking(snapshot: Snapshot, evaluate: Evaluate) -> Callable[[Cut | None], float]:
    """A function: cut -> the metric of the model with this cut; None -> the metric of the whole model.

    Args:
        snapshot: the model.
        evaluate: a function from a live model to its metric.
    """
    model = rebuild(snapshot)
    layers = {path: layer for path, layer, _ in layers_of(model, snapshot.record, "")}
    named = named_groups(groups(snapshot))

    def measure(cut: Cut | None) -> float:
        if cut is None:
            return metric_of(evaluate, model)
        group = named[cut.name]
        if group.inexact:
            return metric_of(evaluate, smaller_model(snapshot, group, cut.channels))
        masked = masked_weights(snapshot.weights, group, cut.channels)
        try:
            for path, arrays in masked.items():
                layers[path].set_weights(arrays)
            return metric_of(evaluate, model)
        finally:
            for path in masked:
                layers[path].set_weights(snapshot.weights[path])

    return measure


def smaller_model(snapshot: Snapshot, group: Group, channels: np.ndarray) -> Any:
    """The live model without some channels of a group, as an inexact cut leaves it."""
    address, positions = next(iter(group.made.items()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InexactCut)
        return rebuild(DeleteChannels(address, np.unique(positions[channels]))(snapshot))
