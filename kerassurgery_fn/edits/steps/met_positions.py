"""Updates layers whose config repeats the number of positions of another tensor, after that number changes.

DeepLab upsamples the mean of an image to the size of the features, so that it can concatenate both:

    features (6, 6) ------------------------------------------ Concatenate
              +---- mean (1, 1) ---- UpSampling2D(6) (6, 6) -----+

If the features become (8, 8), the Concatenate fails until the layer becomes UpSampling2D(8).
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
    """The draft in which such layers are updated, and the facts about the part of a model that computes some tensors.

    Args:
        draft: the model.
        scope: the path of the model, or of a nested model.
        before: port -> spec of the tensor before the inputs changed.
        outputs: the tensors.

    Raises:
        MisfitTensor: a layer cannot take its new input, and no other layer can be updated to change that.
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
    """The model with one updated layer before the first call that fails; None if no layer can be updated.

    A call such as that of a Concatenate fails if one operand has a new size and another operand still has the old size.
    The layer that computes the operand of the old size is updated.
    """
    node = first_misfit(graph, scope)
    reads = graph.reads(node)
    changes = SizeChanges(graph, before, settled(replace(graph, outputs=[*reads]), {}, scope).specs)
    new_sizes = {
        (axis, old): new for port in reads for axis, old, new in _axes(changes, port) if old != new and new is not None
    }
    for port in reads:
        for axis, old, new in _axes(changes, port):
            if old != new or (axis, old) not in new_sizes:
                continue
            rank = len(changes.changes(port))
            if layer := layer_to_update(changes, port, rank + axis, new_sizes[axis, old]):
                key, fields = layer
                config = {**graph.layers[key]["config"], **fields}
                return with_layer(graph, key, freeze(set_in(graph.layers[key], ("config",), config)))
    return None


def _axes(changes: SizeChanges, port: Port) -> list[tuple[int, int | None, int | None]]:
    """The axes of a tensor, numbered from the last axis, which is -1, with their sizes before and after."""
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


def layer_to_update(changes: SizeChanges, port: Port, axis: int, positions: int) -> tuple[str, dict[str, Any]] | None:
    """The key of the layer that determines the number of positions along an axis of a tensor, and the config fields for
    a new number of positions; None if there is no such layer."""
    graph, node = changes.graph, port.node
    if node not in graph.calls:
        return None
    layer, reads = graph.layers[port.layer], graph.reads(node)
    if fields_for := rule_for(layer).makes_positions:
        shape = changes.after[reads[0]].shape
        fields = fields_for(layer["config"], axis, shape[axis] if axis < len(shape) else None, positions)
        return (port.layer, fields) if fields else None
    size = changes.changes(port)[axis]
    same = (read for read in reads if changes.changes(read)[axis : axis + 1] == [size])
    return next(filter(None, (layer_to_update(changes, read, axis, positions) for read in same)), None)
