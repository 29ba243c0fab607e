"""What there is to draw of a model: boxes of layers, the lines between them, and how wide each is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.layer_costs import LayerCost, cost_of
from kerassurgery_fn.channels import Axis, has_ids, size
from kerassurgery_fn.differences import Diff
from kerassurgery_fn.graph import Ref, is_input, refs
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True)
class Layer:
    """A layer as it is shown: what it makes (shape, channels) and what it costs."""

    path: str
    class_name: str
    shape: tuple[int | None, ...]
    channels: int | None
    weights: tuple[tuple[int, ...], ...]
    cost: LayerCost


@dataclass(frozen=True)
class Drawing:
    """A model as it is drawn.

    - `layers`: every layer by its path, in the order of the model;
    - `boxes`: layers that are drawn as one: a layer with what only carries its channels on, one behind the other;
    - `lines`: from which box to which, named by their first layers.
    """

    layers: Mapping[str, Layer]
    boxes: Sequence[tuple[str, ...]]
    lines: Sequence[tuple[str, str]]


def drawing_of(snapshot: Snapshot, flow: Flow | None = None) -> Drawing:
    """What there is to draw of a model."""
    flow = flow or analyse(snapshot)
    layers = {cost.path: _layer(snapshot, flow, cost) for cost in cost_of(snapshot, flow).layers}
    edges = dict.fromkeys((ref.path, call.path) for call in flow.graph.calls for ref in refs([call.args, call.kwargs]))
    head = _heads(flow, layers, [*edges])
    boxes: dict[str, list[str]] = defaultdict(list)
    for path in layers:
        boxes[head[path]].append(path)
    lines = dict.fromkeys((head[a], head[b]) for a, b in edges if head[a] != head[b])
    return Drawing(layers, [tuple(box) for box in boxes.values()], [*lines])


def lost_of(flow: Flow, difference: Diff) -> dict[str, list[int]]:
    """For each layer which positions of the channels that it gives on are gone, by what a difference says of the
    layers that make them."""
    dead = flow.solution.none_dead()
    came_from = {source: path for path, source in difference.sources.items()}
    for (path, kind), producer in flow.producers.items():
        first = next(own for owner, own in flow.producers if owner == path)
        name = came_from.get(path, path)
        index = difference.channels.get(name if kind == first else f"{name}:{kind}")
        if index is not None and difference.pick(index).of == size(producer.axis):
            dead[flow.solution.resolve(producer.axis)[:, difference.pick(index).lost]] = True  # type: ignore[arg-type]
    dead[-1] = False
    found = {}
    for path in dict.fromkeys(call.path for call in flow.graph.all_calls):
        axis = channel_axis(flow, path)
        if isinstance(axis, np.ndarray):
            found[path] = np.setdiff1d(np.arange(axis.shape[1]), flow.solution.kept(axis, dead)).tolist()
    return found


def inner_of(flow: Flow, difference: Diff) -> dict[str, str]:
    """What each layer of the old model has lost of each kind of channels: `num_heads: 1 of 4, key_dim: 2 of 8`."""
    kinds = dict(reversed([*flow.producers]))
    found: dict[str, list[str]] = defaultdict(list)
    for address, index in difference.channels.items():
        path, _, kind = address.rpartition(":")
        source = difference.sources.get(path or address, path or address)
        picks = difference.pick(index)
        found[source].append(f"{kind if path else kinds.get(source, 'channels')}: {len(picks.lost)} of {picks.of}")
    return {path: ", ".join(words) for path, words in found.items()}


def channel_axis(flow: Flow, path: str) -> Axis:
    """The axis of channels of what a layer makes: the last that can be cut, or the last there is."""
    axes = flow.tensors.get(first_output(flow, path)) or ()
    return next((axis for axis in reversed(axes) if has_ids(axis)), axes[-1] if axes else None)


def first_output(flow: Flow, path: str) -> Ref:
    node = next(call.node for call in flow.graph.all_calls if call.path == path)
    return Ref(path, node, 0)


def _layer(snapshot: Snapshot, flow: Flow, cost: LayerCost) -> Layer:
    axes = flow.tensors.get(first_output(flow, cost.path)) or ()
    shapes = tuple(array.shape for array in snapshot.weights.get(cost.path, ()))
    return Layer(cost.path, cost.class_name, tuple(map(size, axes)), size(channel_axis(flow, cost.path)), shapes, cost)


def _heads(flow: Flow, layers: Mapping[str, Layer], edges: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The first layer of the box that each layer is drawn in: that of the one layer before it, if that is the only
    one that reads it and it makes no channels of its own."""
    read, readers = defaultdict(list), defaultdict(list)
    for a, b in edges:
        read[b].append(a)
        readers[a].append(b)
    calls = {call.path: call for call in flow.graph.calls}
    producers = {path for path, _ in flow.producers}
    outputs = {ref.path for ref in flow.graph.outputs}
    head: dict[str, str] = {}
    for path in layers:
        alone = len(read[path]) == 1 and len(readers[read[path][0]]) == 1
        joins = not alone or path in producers or is_input(calls[path].record) or is_input(calls[read[path][0]].record)
        head[path] = path if joins or read[path][0] in outputs else head[read[path][0]]
    return head


def in_order(before: Drawing, after: Drawing, sources: Mapping[str, str]) -> Iterator[tuple[str | None, str | None]]:
    """Every layer of two models: those of the first in their order, each with what became of it, and new ones behind
    the layer that stands before them."""
    became = {sources.get(path, path): path for path in after.layers}
    waiting = [*after.layers]
    for path in before.layers:
        own = became.get(path) if became.get(path) in after.layers else None
        while (
            own is not None
            and waiting
            and waiting[0] != own
            and sources.get(waiting[0], waiting[0]) not in before.layers
        ):
            yield None, waiting.pop(0)
        if own in waiting:
            waiting.remove(own)
        yield path, own
    yield from ((None, path) for path in waiting)


def as_text(shape: Sequence[Any]) -> str:
    """A shape in few words.

    >>> as_text((None, 7, 7, 512))
    '?x7x7x512'
    """
    return "x".join("?" if n is None else str(n) for n in shape)
