"""Checks that the outputs of a model stay the same when some of its channels are copied."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.errors import CannotWiden
from kerassurgery_fn.graph import Call, Record, Ref, is_model, refs
from kerassurgery_fn.rules.registry import key_of, rule_for

# Kinds of channels that a layer sums over without weights: attention sums over the channels of queries and keys.
CONTRACTED = {"key_dim", "head_dim"}


def refuse_unlike(flow: Flow, wider: np.ndarray) -> None:
    """Raises CannotWiden if a layer would compute different outputs with copied channels, or if this is not known.

    Args:
        flow: the channels before the edit.
        wider: boolean mask over the final ids that are copied, shape (ids + 1,).
    """
    touched = _Touched(flow, wider)
    for producer in flow.producers.values():
        if producer.kind.rpartition(".")[2] in CONTRACTED and touched(producer.axis):
            raise CannotWiden(
                f"layer {producer.path!r} sums over its {producer.kind} without weights, so no weights could be "
                "divided among the copies; widen another kind of channels"
            )
    for note in flow.inexact:
        if touched(note.axis):
            raise CannotWiden(
                f"layer {note.path!r} {note.reason}, so copies of channels would change its output; widen other layers"
            )
    for path, axis in flow.narrow:
        if touched(axis):
            raise CannotWiden(
                f"layer {path!r} broadcasts the only channel of its input to several positions, which is not possible "
                "with several channels; first insert a layer that repeats the channel"
            )
    for call in _calls(flow):
        unlike = [layer for layer in _layers(call.record) if not rule_for(layer).equal_channels]
        if unlike and any(map(touched, _axes(flow, call))):
            raise CannotWiden(
                f"layer {call.path!r} ({key_of(unlike[0])}) is not known to compute the same with copied channels; "
                "widen layers whose channels it does not read, or set equal_channels in its rule"
            )
    for path, weights in flow.weights.items():
        for weight in weights:
            if weight.summed is None and any(map(touched, weight.axes)):
                raise CannotWiden(
                    f"the rule of layer {path!r} does not say over which axes of its {weight.name} the layer sums; "
                    "spell the weight with an arrow, as in `i>o`"
                )


class _Touched:
    """Whether an axis carries any of the copied channels. Each channel map is examined once."""

    def __init__(self, flow: Flow, wider: np.ndarray) -> None:
        self.flow, self.wider = flow, wider
        self.known: dict[int, bool] = {}

    def __call__(self, axis: Axis) -> bool:
        if not isinstance(axis, np.ndarray):
            return False
        if id(axis) not in self.known:
            self.known[id(axis)] = bool(self.wider[self.flow.solution.resolve(axis)].any())
        return self.known[id(axis)]


def _calls(flow: Flow) -> Iterator[Call]:
    """All calls, including those in models that layers wrap."""
    yield from flow.trace.calls
    for inner in flow.trace.inner.values():
        yield from inner.calls


def _axes(flow: Flow, call: Call) -> Iterator[Axis]:
    """The axes of all inputs and outputs of a call."""
    outputs = takewhile(flow.tensors.__contains__, (Ref(call.path, call.node, i) for i in count()))
    for ref in [*refs([call.args, call.kwargs]), *outputs]:
        yield from flow.tensors.get(ref) or ()


def _layers(record: Record) -> Iterator[Record]:
    """A layer, and the layers in its config."""
    yield record
    for field in ("layer", "backward_layer"):
        inner = record["config"].get(field)
        if isinstance(inner, dict) and "class_name" in inner and not is_model(inner):
            yield from _layers(inner)
