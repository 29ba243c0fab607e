"""The diagram of a model as data: layers, boxes, lines between boxes, and the channels that a difference deletes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from toolz import groupby

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.layer_costs import LayerCost, cost_of
from kerassurgery_fn.channels import Axis, has_ids, size
from kerassurgery_fn.differences import Diff
from kerassurgery_fn.graph import Ref, is_input, refs
from kerassurgery_fn.values.snapshot import Snapshot

Edge = tuple[str, str]


@dataclass(frozen=True)
class DiagramLayer:
    """A layer in a diagram: the shape and the channels of its first output, the shapes of its weights, its cost."""

    path: str
    class_name: str
    shape: tuple[int | None, ...]
    channels: int | None
    weights: tuple[tuple[int, ...], ...]
    cost: LayerCost


@dataclass(frozen=True)
class Diagram:
    """The diagram of a model.

    - `layers`: all layers by path, in the order of the model;
    - `boxes`: the paths of the layers in each box: a producer of channels, and the layers after it that only pass its
      channels on;
    - `lines`: pairs of boxes, from and to, each named by the first layer of the box.
    """

    layers: Mapping[str, DiagramLayer]
    boxes: Sequence[tuple[str, ...]]
    lines: Sequence[Edge]


def diagram_of(snapshot: Snapshot, flow: Flow | None = None) -> Diagram:
    """The diagram of a model."""
    flow = flow or analyse(snapshot)
    layers = {cost.path: _layer(snapshot, flow, cost) for cost in cost_of(snapshot, flow).layers}
    edges = dict.fromkeys((ref.path, call.path) for call in flow.trace.calls for ref in refs([call.args, call.kwargs]))
    first_layers = _first_layers_of_boxes(flow, layers, [*edges])
    boxes = groupby(first_layers.__getitem__, layers)
    box_edges = dict.fromkeys((first_layers[source], first_layers[target]) for source, target in edges)
    lines = [(source, target) for source, target in box_edges if source != target]
    return Diagram(layers, [tuple(box) for box in boxes.values()], lines)


def _layer(snapshot: Snapshot, flow: Flow, cost: LayerCost) -> DiagramLayer:
    axes = flow.tensors.get(first_output(flow, cost.path)) or ()
    return DiagramLayer(
        cost.path,
        cost.class_name,
        shape=tuple(map(size, axes)),
        channels=size(channel_axis(flow, cost.path)),
        weights=tuple(array.shape for array in snapshot.weights.get(cost.path, ())),
        cost=cost,
    )


def channel_axis(flow: Flow, path: str) -> Axis:
    """The channel axis of a layer's output: the last axis with channel ids, or simply the last axis."""
    axes = flow.tensors.get(first_output(flow, path)) or ()
    return next((axis for axis in reversed(axes) if has_ids(axis)), axes[-1] if axes else None)


def first_output(flow: Flow, path: str) -> Ref:
    node = next(call.node for call in flow.trace.all_calls if call.path == path)
    return Ref(path, node, 0)


def _first_layers_of_boxes(flow: Flow, layers: Mapping[str, DiagramLayer], edges: Sequence[Edge]) -> dict[str, str]:
    """Layer -> the first layer of its box.

    A layer joins the box of the layer before it if the graph is a chain there (one input, one consumer), if it creates
    no channels, and if there is neither an input nor an output of the model between them.
    """
    inputs_of, consumers_of = defaultdict(list), defaultdict(list)
    for source, target in edges:
        inputs_of[target].append(source)
        consumers_of[source].append(target)
    calls = {call.path: call for call in flow.trace.calls}
    producers = {path for path, _ in flow.producers}
    outputs = {ref.path for ref in flow.trace.outputs}

    def joins_its_input(path: str) -> bool:
        if path in producers or len(inputs_of[path]) != 1:
            return False
        (source,) = inputs_of[path]
        is_chain = len(consumers_of[source]) == 1 and source not in outputs
        return is_chain and not is_input(calls[path].record) and not is_input(calls[source].record)

    first_layers: dict[str, str] = {}
    for path in layers:  # in topological order: the box of the layer before is known
        first_layers[path] = first_layers[inputs_of[path][0]] if joins_its_input(path) else path
    return first_layers


# --- channels that a difference deletes


def lost_channels_by_layer(flow: Flow, difference: Diff) -> dict[str, list[int]]:
    """Layer of the old model -> the channels of its output that the new model does not have.

    A difference lists the lost channels of producers. The channel flow of the old model has their ids, and these ids
    determine the lost channels of all layers that pass them on.
    """
    dead = flow.solution.none_dead()
    old_to_new = {old: new for new, old in difference.sources.items()}
    for (path, kind), producer in flow.producers.items():
        first_kind = next(other_kind for other_path, other_kind in flow.producers if other_path == path)
        name = old_to_new.get(path, path)
        picks_index = difference.channels.get(name if kind == first_kind else f"{name}:{kind}")
        if picks_index is not None and difference.pick(picks_index).of == size(producer.axis):
            lost = difference.pick(picks_index).lost
            dead[flow.solution.resolve(producer.axis)[:, lost]] = True  # type: ignore[arg-type]
    dead[-1] = False  # the last entry is for positions without an id, which are never deleted
    channels = {}
    for path in dict.fromkeys(call.path for call in flow.trace.all_calls):
        axis = channel_axis(flow, path)
        if isinstance(axis, np.ndarray):
            channels[path] = np.setdiff1d(np.arange(axis.shape[1]), flow.solution.kept(axis, dead)).tolist()
    return channels


def lost_kinds_by_layer(flow: Flow, difference: Diff) -> dict[str, str]:
    """Layer of the old model -> the number of lost channels of each kind: `num_heads: 1 of 4, key_dim: 2 of 8`."""
    first_kinds = dict(reversed([*flow.producers]))  # if a path has several kinds, the first kind is used
    losses: dict[str, list[str]] = defaultdict(list)
    for address, picks_index in difference.channels.items():
        path, _, kind = address.rpartition(":")
        source = difference.sources.get(path or address, path or address)
        picks = difference.pick(picks_index)
        kind_name = kind if path else first_kinds.get(source, "channels")
        losses[source].append(f"{kind_name}: {len(picks.lost)} of {picks.of}")
    return {path: ", ".join(texts) for path, texts in losses.items()}


# --- two models side by side


def paired_layers(
    before: Diagram, after: Diagram, sources: Mapping[str, str]
) -> Iterator[tuple[str | None, str | None]]:
    """Pairs of old and new paths of all layers of two models, in order; None on one side for added and removed layers.

    The old model determines the order. An added layer comes before the first kept layer that follows it in the new
    model:

        old  a  b  c          pairs  (a, a) (b, None) (None, x) (c, c)
        new  a  x  c

    Args:
        sources: new path -> old path, for renamed layers.
    """
    new_paths = {sources.get(path, path): path for path in after.layers}
    waiting = [*after.layers]  # layers of the new model that are not in a pair yet
    for old_path in before.layers:
        new_path = new_paths.get(old_path)
        while new_path is not None and waiting and waiting[0] != new_path and _is_added(waiting[0], before, sources):
            yield None, waiting.pop(0)
        if new_path in waiting:
            waiting.remove(new_path)
        yield old_path, new_path
    yield from ((None, path) for path in waiting)


def _is_added(path: str, before: Diagram, sources: Mapping[str, str]) -> bool:
    return sources.get(path, path) not in before.layers


def shape_text(shape: Sequence[Any]) -> str:
    """A shape as short text.

    >>> shape_text((None, 7, 7, 512))
    '?x7x7x512'
    """
    return "x".join("?" if length is None else str(length) for length in shape)
