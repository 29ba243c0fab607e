"""Collects the multiply-accumulates of the calls of a model, by the field `macs` of the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count, takewhile
from math import prod
from typing import Any

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.graph import Call, Constant, Ref, leaves, map_leaves, refs
from kerassurgery_fn.rules.macs import Shape, Use
from kerassurgery_fn.values.snapshot import Snapshot

Measure = Callable[[Axis], int]  # axis -> the number of its positions


class MacCollector:
    """Collects the multiply-accumulates of the layers of a model for a whole batch.

    - `calls`: the calls of the model, and the calls inside wrapped models;
    - `times`: path and node of each call -> how often it is made;
    - `weights`: path -> name and shape of the weights of each layer;
    - `macs`: path -> multiply-accumulates of all calls of the layer;
    - `by_call`: path and node -> multiply-accumulates of one call;
    - `notes`: path -> why the figure is only an estimate.
    """

    expected: tuple[type[Exception], ...] = ()

    def __init__(self, snapshot: Snapshot, flow: Flow, measure: Measure) -> None:
        self.flow, self.measure = flow, measure
        timed = list(timed_calls(flow, flow.trace.calls, measure))
        self.calls = [call for call, _ in timed]
        self.times = {(call.path, call.node): times for call, times in timed}
        paths = dict.fromkeys(call.path for call in self.calls)
        self.weights = {path: weight_shapes(snapshot, flow, path, measure) for path in paths}
        self.macs: dict[str, int] = defaultdict(int)
        self.by_call: dict[tuple[str, tuple[int, ...]], int] = {}
        self.notes: dict[str, str] = {}

    def rule(self, call: Call) -> Use:
        """The function that counts the multiply-accumulates of a call. An opaque layer gets its reason as a note."""
        if call.path in self.flow.opaque:
            self.notes[call.path] = f"it {self.flow.opaque[call.path]}"
        outputs = (self.flow.tensors.get(Ref(call.path, call.node, index)) for index in count())
        known = takewhile(lambda axes: axes is not None, outputs)
        return Use(call.record, self.weights[call.path], [tuple(map(self.measure, axes or ())) for axes in known])

    def arguments(self, call: Call, use: Use) -> tuple[list[Any], dict[str, Any]]:
        return map_leaves(self.shape, call.args), map_leaves(self.shape, call.kwargs)

    def shape(self, leaf: Any) -> Any:
        """The shape of a tensor or array among the arguments of a call, None if the shape is unknown; any other
        argument unchanged."""
        if isinstance(leaf, Ref):
            axes = self.flow.tensors.get(leaf)
        elif isinstance(leaf, Constant):
            axes = self.flow.constants.get(leaf.where, leaf.array.shape)
        else:
            return leaf
        return None if axes is None else tuple(map(self.measure, axes))

    def collect(self, call: Call, use: Use, outputs: list[Any]) -> None:
        macs = self.times[call.path, call.node] * outputs[0]
        self.macs[call.path] += macs
        self.by_call[call.path, call.node] = macs

    def refuse(self, call: Call, use: Use, error: Exception) -> None:
        """Counts an estimate in place of the figure from the record of the class."""
        self.notes.setdefault(call.path, f"the count of its MACs fails ({type(error).__name__}: {error})")
        self.collect(call, use, [estimate(use, leaves([*self.arguments(call, use)]))])


def estimate(use: Use, arguments: Sequence[Any]) -> int:
    """An estimate of the MACs: every kernel element once for each position of the first tensor of known shape."""
    known = [*use.outputs, *(leaf for leaf in arguments if isinstance(leaf, tuple))]
    return use.kernels * (use.positions(known[0]) if known else 1)


def timed_calls(flow: Flow, calls: Sequence[Call], measure: Measure, times: int = 1) -> Iterator[tuple[Call, int]]:
    """All calls, and how often each is made: the calls inside a wrapped model are made at every time step."""
    for call in calls:
        yield call, times
        if inner := flow.trace.within(call):
            whole, step = (flow.tensors.get(ref) or () for ref in (*refs(call.args)[:1], inner.step))
            steps = prod(map(measure, whole[1 : 1 + len(whole) - len(step)]))
            yield from timed_calls(flow, inner.calls, measure, times * steps)


def weight_shapes(snapshot: Snapshot, flow: Flow, path: str, measure: Measure) -> list[tuple[str, Shape]]:
    """The name and shape of each weight of a layer. The weights of an opaque layer have no names."""
    if path in flow.opaque:
        return [("", array.shape) for array in snapshot.weights.get(path, ())]
    return [(weight.name, tuple(map(measure, weight.axes))) for weight in flow.weights.get(path, ())]
