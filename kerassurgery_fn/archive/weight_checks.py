"""Checks that the weights of a file match its config."""

from __future__ import annotations

from collections.abc import Iterator

from kerassurgery_fn.analysis.channel_flow import analyse
from kerassurgery_fn.archive.h5_weights import WeightFile
from kerassurgery_fn.archive.layer_groups import LayerGroup, layer_groups
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import BadFile
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.findings import Weight
from kerassurgery_fn.rules.registry import class_key
from kerassurgery_fn.values.snapshot import Snapshot


def check_weights(snapshot: Snapshot, source: str) -> None:
    """Raises BadFile if the weights of a layer do not match its config."""
    if faults := list(weight_faults(snapshot)):
        more = f"; {len(faults) - 1} more layers differ" if len(faults) > 1 else ""
        raise BadFile(f"{source} does not fit together: {faults[0]}{more}")


def weight_faults(snapshot: Snapshot) -> Iterator[str]:
    """What is wrong with the number and the shapes of the weights of each layer, in words."""
    for layer, expected in expected_weights(snapshot.record):
        wanted = [shape_of(weight) for weight in expected]
        shapes = [array.shape for array in snapshot.weights.get(layer.path, ())]
        if wanted != shapes:
            yield (
                f"layer {layer.path!r} ({layer.record['class_name']}) has weights of shapes {shapes}, and by its "
                f"config they are {wanted}"
            )


def expected_weights(record: Record) -> Iterator[tuple[LayerGroup, list[Weight]]]:
    """The layers of a model whose weights are known from the config, and these weights.

    Layers that have no rule, and those that are not of Keras, may have any weights. An activation with weights has none
    before Keras has run the layer.
    """
    flow = analyse(Snapshot(record, {}))  # without arrays, the axes are those of the config
    for layer in layer_groups(record):
        known = layer.path not in flow.opaque and ">" not in class_key(layer.record)
        if known and not isinstance(layer.record["config"].get("activation"), dict):
            yield layer, flow.weights.get(layer.path, [])


def shape_of(weight: Weight) -> tuple[int | None, ...]:
    return tuple(map(size, weight.axes))


def check_groups(config: Record, weights: WeightFile, source: str) -> None:
    """Raises BadFile if a file has weights of layers that its config does not have."""
    for group in surplus_groups(config, weights):
        raise BadFile(f"{source} has weights in {group}, and its config has no layer for them")


def surplus_groups(config: Record, weights: WeightFile) -> Iterator[str]:
    """The groups of a file that have weights of layers that its config does not have."""
    groups = {layer.group for layer in layer_groups(config)}
    above = {parent for group in groups for parent in _parents(group)}
    for container in sorted({"layers", *(parent for parent in above if parent.endswith("/layers"))}):
        for name in weights.subgroups(container):
            if (group := f"{container}/{name}") not in groups | above:
                yield group


def _parents(group: str) -> list[str]:
    """
    >>> _parents("layers/functional/layers/dense")
    ['layers', 'layers/functional', 'layers/functional/layers']
    """
    parts = group.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]
