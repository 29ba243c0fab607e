"""Where the channels of a layer are seen: the tensors at which a criterion on activations reads them.

From a layer the ways go forward to the first nonlinear activation, the layer's own included, through everything that
leaves the channels where they are (normalisation, pooling, dropout, Add) or puts others beside them (Concatenate,
Flatten). A way that ends without one, because something reads the linear values (another kernel, an output of the
model), sees the layer's own output.

Where the way forks, every end counts: a channel that is silent behind one branch's ReLU and read by another branch is
not silent. So a layer has several views, and a criterion takes, channel by channel, the one that speaks most for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import count, takewhile
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis, as_map, has_ids, same_axis
from kerassurgery_fn.graph import Call, Constant, Record, Ref, leaves, refs
from kerassurgery_fn.rules.activations import applied_last
from kerassurgery_fn.rules.layer import Producer, Tensor


class View(NamedTuple):
    """Channels on a tensor: one of its axes, and where on it the first of them stands.

    There are several `starts` where the channels stand on the axis several times, as after a Flatten.
    """

    tensor: Ref
    axis: int
    starts: tuple[int, ...]


def views(flow: Flow, producer: Producer) -> list[list[View]]:
    """For each call of a layer, where its channels are seen. Empty where no output of the layer carries them."""
    walk = _Walk(flow, producer)
    return [found for call in flow.graph.calls if call.path == producer.path and (found := walk.views(call))]


def address(flow: Flow, producer: Producer) -> str:
    """The shortest address of a layer's channels: its path, or `path:kind` for others than its first kind."""
    return producer.path if flow.producer(producer.path) is producer else f"{producer.path}:{producer.kind}"


def nonlinear(record: Record) -> bool:
    """Whether a layer or operation is known to be an activation, or to end with one, that is not linear; a wrapper as
    what it wraps.

    >>> nonlinear({"module": "keras.layers", "class_name": "LeakyReLU", "config": {}})
    True
    >>> nonlinear({"module": "keras.layers", "class_name": "Conv2D", "config": {"activation": "linear"}})
    False
    """
    return applied_last(record) not in (None, "linear")


def starts(axis: Axis, channels: np.ndarray) -> tuple[int, ...]:
    """Where on an axis all channels of a map stand one after the other.

    >>> starts(np.array([[9, 7, 8, 5, 7, 8, 7]]), np.array([[7, 8]]))
    (1, 4)
    """
    if not isinstance(axis, np.ndarray) or len(axis) != len(channels) or axis.shape[1] < channels.shape[1]:
        return ()
    n = channels.shape[1]
    firsts = np.flatnonzero((axis[:, : axis.shape[1] - n + 1] == channels[:, :1]).all(axis=0))
    windows = axis[:, firsts[:, None] + np.arange(n)]
    return tuple(firsts[(windows == channels[:, None]).all(axis=(0, 2))].tolist())


class _Walk:
    """The ways of one layer's channels through a graph."""

    def __init__(self, flow: Flow, producer: Producer) -> None:
        self.flow, self.producer = flow, producer
        self.final = flow.solution.resolve(as_map(producer.axis))
        self.readers: dict[Ref, list[Call]] = defaultdict(list)
        for call in flow.graph.calls:
            for ref in dict.fromkeys(refs([call.args, call.kwargs])):
                self.readers[ref].append(call)

    def views(self, call: Call) -> list[View]:
        """Where the channels that one call makes are seen."""
        own = self.standing([Ref(call.path, call.node, 0)], as_map(self.producer.axis))[:1]
        if not own or nonlinear(call.record):
            return own
        found: dict[View, None] = {}
        passed, waiting = set(own), list(own)
        while waiting:
            view = waiting.pop()
            ways = [(reader, self.after(reader, view)) for reader in self.readers[view.tensor]]
            if view.tensor in self.flow.graph.outputs or not all(after for _, after in ways):
                found[own[0]] = None
            for reader, after in ways:
                if nonlinear(reader.record):
                    found.update(dict.fromkeys(after))
                else:
                    waiting += [one for one in after if one not in passed]
                    passed.update(after)
        return list(found) or own

    def after(self, call: Call, view: View) -> list[View]:
        """The channels on what a call makes of a tensor that carries them; none where it ends their way."""
        channels = self.axis(view)[:, view.starts[0] :][:, : self.final.shape[1]]
        if np.isin(self.born(call.path), channels).any():
            return []
        made = list(takewhile(self.flow.tensors.__contains__, (Ref(call.path, call.node, i) for i in count())))
        return self.standing(made, channels) or self.joined(call, made)

    def born(self, path: str) -> np.ndarray:
        """The ids that a layer makes."""
        return np.concatenate(
            [np.empty(0, int), *(as_map(m.axis)[0] for m in self.flow.producers.values() if m.path == path)]
        )

    def standing(self, tensors: Iterable[Ref], channels: np.ndarray) -> list[View]:
        """Where on tensors a channel map stands."""
        axes = ((ref, i, axis) for ref in tensors for i, axis in enumerate(self.flow.tensors[ref] or ()))
        return [View(ref, i, found) for ref, i, axis in axes if (found := starts(axis, channels))]

    def joined(self, call: Call, made: Iterable[Ref]) -> list[View]:
        """Where the channels stand on what a merge makes that goes on with the map of another input, tied to theirs."""
        given = [axis for leaf in leaves([call.args, call.kwargs]) for axis in self.axes(leaf) if has_ids(axis)]
        return [
            View(ref, i, found)
            for ref in made
            for i, axis in enumerate(self.flow.tensors[ref] or ())
            if any(same_axis(axis, one) for one in given)
            and (found := starts(self.flow.solution.resolve(as_map(axis)), self.final))
        ]

    def axes(self, leaf: Any) -> Tensor:
        """The axes of a tensor or an array among a call's arguments."""
        if isinstance(leaf, Ref):
            return self.flow.tensors[leaf] or ()
        return self.flow.constants.get(leaf.where, ()) if isinstance(leaf, Constant) else ()

    def axis(self, view: View) -> Any:
        return (self.flow.tensors[view.tensor] or ())[view.axis]
