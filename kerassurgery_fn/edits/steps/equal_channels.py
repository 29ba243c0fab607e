"""Whether a model computes what it did when some of its channels stand several times."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.errors import CannotWiden
from kerassurgery_fn.graph import Call, Record, Ref, is_model, refs
from kerassurgery_fn.rules.registry import key_of, rule_for

# Channels that are summed over without weights: those of queries and keys.
CONTRACTED = {"key_dim", "head_dim"}


def refuse_unlike(flow: Flow, wider: np.ndarray) -> None:
    """Raises CannotWiden where a layer computes something else when channels stand more often, or may do so."""
    touched = _Touched(flow, wider)
    for producer in flow.producers.values():
        if producer.kind.rpartition(".")[2] in CONTRACTED and touched(producer.axis):
            raise CannotWiden(
                f"layer {producer.path!r} sums over its {producer.kind} without weights that could be divided"
            )
    for note in flow.inexact:
        if touched(note.axis):
            raise CannotWiden(f"layer {note.path!r} {note.reason}, and would do so otherwise with copies among them")
    for path, axis in flow.narrow:
        if touched(axis):
            raise CannotWiden(
                f"layer {path!r} broadcasts the only channel of what it reads to several positions, which it could not "
                "do with several channels; repeat the channel first, by a layer of its own"
            )
    for call in _calls(flow):
        unlike = [layer for layer in _layers(call.record) if not rule_for(layer).equal_channels]
        if unlike and any(map(touched, _axes(flow, call))):
            raise CannotWiden(
                f"layer {call.path!r} ({key_of(unlike[0])}) is not known to compute the same when channels stand "
                "several times; widen layers whose channels it does not see"
            )
    for path, weights in flow.weights.items():
        for weight in weights:
            if weight.summed is None and any(map(touched, weight.axes)):
                raise CannotWiden(
                    f"the rule of layer {path!r} does not say over which axes of its {weight.name} it sums: spell it "
                    "with an arrow, as in `i>o`"
                )


class _Touched:
    """Whether an axis carries any of the channels that get copies; each map is looked at once."""

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
    """All calls, those in models that layers wrap among them."""
    yield from flow.trace.calls
    for inner in flow.trace.inner.values():
        yield from inner.calls


def _axes(flow: Flow, call: Call) -> Iterator[Axis]:
    """The axes of all tensors that a call reads or makes."""
    outputs = takewhile(flow.tensors.__contains__, (Ref(call.path, call.node, i) for i in count()))
    for ref in [*refs([call.args, call.kwargs]), *outputs]:
        yield from flow.tensors.get(ref) or ()


def _layers(record: Record) -> Iterator[Record]:
    """A layer, and those in it."""
    yield record
    for field in ("layer", "backward_layer"):
        inner = record["config"].get(field)
        if isinstance(inner, dict) and "class_name" in inner and not is_model(inner):
            yield from _layers(inner)
