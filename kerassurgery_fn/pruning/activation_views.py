"""The tensors at which a criterion on activations, such as APoZ, reads the channels of a layer.

The channels are followed from the layer to the first nonlinear activation, through layers that keep the channels
(normalisation, pooling, dropout, Add) or place them next to others (Concatenate, Flatten):

    conv -> batch norm -> ReLU                the channels are read behind the ReLU
    conv -> batch norm -+-> ReLU -> ...       the channels are read behind the ReLU and, because another
                        +-> conv_2 -> ...     kernel reads the linear values, at the output of conv

A layer whose own activation is nonlinear is read at its own output, and so is a path that ends at another kernel or at
an output of the model. Each of these tensors is a view. A channel that is zero behind the ReLU of one branch may be
used by another branch, so that a criterion takes for each channel the view in which it is most active.
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
    """The position of the channels of a layer in a tensor: an axis, and the index of the first channel on it.

    The channels may occur several times on the axis, as after a Flatten; `starts` then has several indices.
    """

    tensor: Ref
    axis: int
    starts: tuple[int, ...]


def views(flow: Flow, producer: Producer) -> list[list[View]]:
    """The views of the channels for each call of a layer. Empty if the channels are on no output of the layer."""
    walk = _Walk(flow, producer)
    calls = [call for call in flow.trace.calls if call.path == producer.path]
    return [call_views for call in calls if (call_views := walk.views(call))]


def address(flow: Flow, producer: Producer) -> str:
    """The address of the channels of a layer: its path, or `path:kind` unless it is the first kind of the layer."""
    return producer.path if flow.producer(producer.path) is producer else f"{producer.path}:{producer.kind}"


def nonlinear(record: Record) -> bool:
    """Whether a layer or operation is, or ends with, an activation that is known to be nonlinear. A wrapper counts as
    the layer that it wraps.

    >>> nonlinear({"module": "keras.layers", "class_name": "LeakyReLU", "config": {}})
    True
    >>> nonlinear({"module": "keras.layers", "class_name": "Conv2D", "config": {"activation": "linear"}})
    False
    """
    return applied_last(record) not in (None, "linear")


def starts(axis: Axis, channels: np.ndarray) -> tuple[int, ...]:
    """The indices of an axis at which all channels of a map start, one after the other.

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
    """Follows the channels of a layer through the graph."""

    def __init__(self, flow: Flow, producer: Producer) -> None:
        self.flow, self.producer = flow, producer
        self.final = flow.solution.resolve(as_map(producer.axis))
        self.readers: dict[Ref, list[Call]] = defaultdict(list)
        for call in flow.trace.calls:
            for ref in dict.fromkeys(refs([call.args, call.kwargs])):
                self.readers[ref].append(call)

    def views(self, call: Call) -> list[View]:
        """The views of the channels that one call produces.

        The loop visits each view at most once, so that it ends.
        """
        output = self.occurrences([Ref(call.path, call.node, 0)], as_map(self.producer.axis))[:1]
        if not output or nonlinear(call.record):
            return output
        ends: dict[View, None] = {}
        visited, waiting = set(output), list(output)
        while waiting:
            view = waiting.pop()
            branches = [(reader, self.after(reader, view)) for reader in self.readers[view.tensor]]
            # An output of the model, or a reader that the channels do not pass, reads the linear values.
            if view.tensor in self.flow.trace.outputs or not all(after for _, after in branches):
                ends[output[0]] = None
            for reader, after in branches:
                if nonlinear(reader.record):
                    ends.update(dict.fromkeys(after))
                else:
                    waiting += [next_view for next_view in after if next_view not in visited]
                    visited.update(after)
        return list(ends) or output

    def after(self, call: Call, view: View) -> list[View]:
        """The views of the channels after a call that reads them; empty if the call does not pass them on."""
        channels = self.axis(view)[:, view.starts[0] :][:, : self.final.shape[1]]
        if np.isin(self.ids_of(call.path), channels).any():
            return []  # the layer is called on its own output, where its channels are other channels
        outputs = list(takewhile(self.flow.tensors.__contains__, (Ref(call.path, call.node, i) for i in count())))
        return self.occurrences(outputs, channels) or self.tied_occurrences(call, outputs)

    def ids_of(self, path: str) -> np.ndarray:
        """The ids of all channels that a layer produces."""
        producers = [producer for producer in self.flow.producers.values() if producer.path == path]
        return np.concatenate([np.empty(0, int), *(as_map(producer.axis)[0] for producer in producers)])

    def occurrences(self, tensors: Iterable[Ref], channels: np.ndarray) -> list[View]:
        """The views of a channel map in some tensors."""
        axes = ((ref, i, axis) for ref in tensors for i, axis in enumerate(self.flow.tensors[ref] or ()))
        return [View(ref, i, indices) for ref, i, axis in axes if (indices := starts(axis, channels))]

    def tied_occurrences(self, call: Call, outputs: Iterable[Ref]) -> list[View]:
        """The views of the channels after a merge whose output has the channel map of another input.

        An Add of tied channels has the map of its first input. The final ids of both inputs are equal, so that they
        show the channels of the second input, too.
        """
        inputs = [axis for leaf in leaves([call.args, call.kwargs]) for axis in self.axes(leaf) if has_ids(axis)]
        return [
            View(ref, i, indices)
            for ref in outputs
            for i, axis in enumerate(self.flow.tensors[ref] or ())
            if any(same_axis(axis, input_axis) for input_axis in inputs)
            and (indices := starts(self.flow.solution.resolve(as_map(axis)), self.final))
        ]

    def axes(self, leaf: Any) -> Tensor:
        """The axes of a tensor or of an array in the arguments of a call."""
        if isinstance(leaf, Ref):
            return self.flow.tensors[leaf] or ()
        return self.flow.constants.get(leaf.where, ()) if isinstance(leaf, Constant) else ()

    def axis(self, view: View) -> Any:
        """The axis of a tensor that a view is on."""
        return (self.flow.tensors[view.tensor] or ())[view.axis]
