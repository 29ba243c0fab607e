"""The weights that training changes, in the order in which an optimizer lists its variables."""

from __future__ import annotations

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.analysis.weight_sizes import trained_of_opaque
from kerassurgery_fn.archive.layer_groups import layer_groups
from kerassurgery_fn.archive.optimizer_variables import TrainedWeight
from kerassurgery_fn.graph import name_of
from kerassurgery_fn.rules.layer import ADAPTED, STATE
from kerassurgery_fn.values.snapshot import Snapshot


def trained_weights(snapshot: Snapshot, include_frozen: bool = False) -> list[TrainedWeight]:
    """The weights that training changes.

    Args:
        snapshot: the model.
        include_frozen: whether weights of frozen layers are listed, too.
    """
    flow, trained = analyse(snapshot), []
    for layer in layer_groups(snapshot.record):
        arrays, weights = snapshot.weights.get(layer.path, ()), flow.weights.get(layer.path, [])
        if len(weights) != len(arrays):
            flags = trained_of_opaque(layer.record, arrays)
        elif include_frozen:
            adapted = ADAPTED if layer.record["config"].get("lora_rank") else set()
            flags = [weight.name not in STATE | adapted for weight in weights]
        else:
            flags = [weight.trainable for weight in weights]
        for index, array in enumerate(arrays):
            if flags[index]:
                name = weights[index].name if len(weights) == len(arrays) else str(index)
                path = f"{name_of(layer.record)}/{name}"
                trained.append(TrainedWeight((layer.path, index), path, array.ndim))
    return trained
