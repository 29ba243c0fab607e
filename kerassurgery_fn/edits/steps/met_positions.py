"""Layers that make positions in the number in which other tensors have them, and follow when that number changes.

features (6, 6) ------------------------------------------ Concatenate     DeepLab: the mean of an image, as large
          +---- mean (1, 1) ---- UpSampling2D(6) (6, 6) -----+              as the features
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kerassurgery_fn.analysis.shape_collector import Facts
from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.size_changes import SizeChanges
from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import Graph, Node, Port, Spec, with_layer
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.values.frozen import freeze, set_in


def settled_with_met_sizes(
    draft: Draft, scope: str, before: Mapping[Port, Spec], outputs: Sequence[Port]
) -> tuple[Draft, Facts]:
    """The draft in which layers make as many positions as the tensors have that meet theirs, and the facts of the part
    of a model that leads to some tensors.

    Args:
        draft: the snapshot under way.
        scope: the path of the model.
        before: the specs of the model's tensors before its inputs changed.
        outputs: the tensors.

    Raises:
        MisfitTensor: a layer cannot take what it would read.
    """
    graph = draft.graph(scope)
    try:
        return draft, settled(replace(graph, outputs=[*outputs]), {}, scope)
    except MisfitTensor:
        changed = with_met_sizes(replace(graph, outputs=[*outputs]), scope, before)
        if changed is None:
            raise
    draft = draft.with_graph(scope, replace(changed, outputs=graph.outputs))
    return settled_with_met_sizes(draft, scope, before, outputs)


def with_met_sizes(graph: Graph, scope: str, before: Mapping[Port, Spec]) -> Graph | None:
    """The model in which a layer makes as many positions as the tensors have that its output meets, at the first call
    that fails; None if no layer can."""
    node = first_misfit(graph, scope)
    reads = graph.reads(node)
    changes = SizeChanges(graph, before, settled(replace(graph, outputs=[*reads]), {}, scope).specs)
    wanted = {
        (axis, old): new for port in reads for axis, old, new in _axes(changes, port) if old != new and new is not None
    }
    for port in reads:
        for axis, old, new in _axes(changes, port):
            rank = len(changes.changes(port))
            if old == new and (axis, old) in wanted and (layer := maker(changes, port, rank + axis, wanted[axis, old])):
                key, fields = layer
                config = {**graph.layers[key]["config"], **fields}
                return with_layer(graph, key, freeze(set_in(graph.layers[key], ("config",), config)))
    return None


def _axes(changes: SizeChanges, port: Port) -> list[tuple[int, int | None, int | None]]:
    """The axes of a tensor, counted from the last one, -1, and their sizes before and after."""
    sizes = changes.changes(port)
    return [(axis - len(sizes), old, new) for axis, (old, new) in enumerate(sizes)]


def first_misfit(graph: Graph, scope: str) -> Node:
    """The first call of a model that fails."""
    calls = [node for node in graph.live if node in graph.calls]
    return next(node for node in calls if not can_be_called(graph, scope, node))


def can_be_called(graph: Graph, scope: str, node: Node) -> bool:
    try:
        settled(replace(graph, outputs=[Port(*node)]), {}, scope)
    except MisfitTensor:
        return False
    return True


def maker(changes: SizeChanges, port: Port, axis: int, wanted: int) -> tuple[str, dict[str, Any]] | None:
    """The layer that makes the positions along an axis of a tensor, and the config fields with which it makes as many
    as are wanted; None if no layer does."""
    graph, node = changes.graph, port.node
    if node not in graph.calls:
        return None
    layer, reads = graph.layers[port.layer], graph.reads(node)
    if make := rule_for(layer).makes_positions:
        shape = changes.after[reads[0]].shape
        fields = make(layer["config"], axis, shape[axis] if axis < len(shape) else None, wanted)
        return (port.layer, fields) if fields else None
    size = changes.changes(port)[axis]
    same = (read for read in reads if changes.changes(read)[axis : axis + 1] == [size])
    return next(filter(None, (maker(changes, read, axis, wanted) for read in same)), None)
