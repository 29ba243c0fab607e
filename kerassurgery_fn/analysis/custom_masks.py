"""Masks that a custom layer computes in its own `compute_mask`.

Keras writes the operations of this method into the calls after the layer, where they look like a mask that a person
passed. The config does not say how to compute them again, so an edit that removes their source raises an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from toolz import dissoc, unique

from kerassurgery_fn.analysis.masks import first_argument, has_mask
from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import Graph, Node, Record, Use, leaves
from kerassurgery_fn.keras_io.mask_methods import computes_masks
from kerassurgery_fn.rules.mask_rules import is_source
from kerassurgery_fn.rules.registry import is_foreign, rule_for


def refuse_left_masks(before: Graph, after: Graph) -> None:
    """Raises MisfitTensor if a call still states a mask whose source is removed or changed.

    Args:
        before: the model before the edit, with all masks.
        after: the model after the edit, without the masks that Keras passes automatically.
    """
    used = set(after.live)
    for node, call in before.calls.items():
        if node not in used or not has_mask(call) or not has_mask(after.calls[node]):
            continue
        chain = list(unique(masked_by(before, node)))
        lost = [key for key in chain if makes_masks(before.layers[key]) and is_changed(before, after, key, used)]
        if lost and (computing := [key for key in chain if computes(before.layers[key])]):
            raise MisfitTensor(
                f"layer {after.name(node[0])!r} has a mask that the compute_mask of layer {computing[0]!r} "
                f"({before.layers[computing[0]]['class_name']}) computes. The mask depends on {lost[0]!r}, which the "
                "edit changes, and cannot be computed again; keep that layer, or build this part of the model anew"
            )


def masked_by(graph: Graph, node: Node) -> Iterator[str]:
    """The layers that can have created or passed on the mask of the first argument of a call, the nearest layer
    first."""
    for leaf in leaves(first_argument(graph.calls[node])):
        if not isinstance(leaf, Use) or leaf.port.node not in graph.calls:
            continue
        record = graph.layers[leaf.port.layer]
        if is_foreign(record) or rule_for(record).masks:
            yield leaf.port.layer
            yield from masked_by(graph, leaf.port.node)


def makes_masks(record: Record) -> bool:
    return is_source(record) or is_foreign(record)


def computes(record: Record) -> bool:
    return is_foreign(record) and computes_masks(record)


def is_changed(before: Graph, after: Graph, key: str, used: set[Node]) -> bool:
    """Whether a layer is removed or replaced by another one."""
    if not any(node in used for node in after.nodes(key)):
        return True
    return kind(before.layers[key]) != kind(after.layers[key])


def kind(record: Record) -> Any:
    """The class of a layer, and the part of its config that determines what it computes."""
    return record["class_name"], dissoc(record["config"], "name", "trainable", "dtype")
