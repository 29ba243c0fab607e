"""Rules over a graph: the channel map of every tensor and every weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import as_snapshot, nearest, takes
from kerassurgery_fn.channels import Axis, Reason, Solution, size
from kerassurgery_fn.errors import NoChannels
from kerassurgery_fn.graph import (
    Call,
    Constant,
    Graph,
    Record,
    Ref,
    Shape,
    Trace,
    find_layer,
    find_layers,
    is_pattern,
    leaves,
    map_leaves,
    read_graph,
    refs,
    trace,
)
from kerassurgery_fn.rules import Layer, NoRule
from kerassurgery_fn.rules.constants import given
from kerassurgery_fn.rules.counts import Count
from kerassurgery_fn.rules.findings import Addition, Findings, Inexact, Narrow, Producer, Tensor, Weight
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.rule_checks import shape_fault, source_of, tensor_fault, weights_fault
from kerassurgery_fn.rules.strictness import is_strict
from kerassurgery_fn.values.frozen import Location, get_in
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True)
class Flow:
    """What is known of every channel of a model.

    - `trace`: the calls of the model;
    - `tensors`: the axes of each tensor of the trace; None where nothing is known of a tensor;
    - `weights`: the axes of each weight, by layer path, in the order of `get_weights()`;
    - `constants`: the axes of each array that stands in a call or an operation's config, by its place in the record;
    - `sizes`, `builds`: the places in the record that state something of an axis, or repeat the shapes of inputs;
    - `producers`: which channels a layer makes, by (layer path, kind);
    - `copies`: the axes of equal positions that layers such as RepeatVector make, by the place in the record that
      counts them;
    - `inexact`: channels whose deletion changes more than their consumers;
    - `narrow`: the only positions of axes that are broadcast;
    - `additions`: tensors that layers add with Keras' `ops.add`;
    - `opaque`: layers that nothing is known of, and why;
    - `solution`: what lives and dies together, and what is pinned.
    """

    trace: Trace
    tensors: Mapping[Ref, Tensor | None] = field(repr=False)
    weights: Mapping[str, list[Weight]] = field(repr=False)
    constants: Mapping[Location, Tensor] = field(repr=False)
    sizes: Mapping[Location, Count] = field(repr=False)
    builds: Mapping[Location, Any] = field(repr=False)
    producers: Mapping[tuple[str, str], Producer] = field(repr=False)
    copies: Mapping[Location, Axis] = field(repr=False)
    inexact: list[Inexact] = field(repr=False)
    narrow: list[Narrow] = field(repr=False)
    additions: list[Addition] = field(repr=False)
    opaque: Mapping[str, str]
    solution: Solution = field(repr=False)

    @property
    def graph(self) -> Graph:
        return self.trace.graph

    def producer(self, address: Any) -> Producer:
        """The channels at an address: a layer's own (`conv_1`), or those of one kind (`attention:num_heads`, for
        short `attention:heads`).

        Raises:
            UnknownLayer, AmbiguousLayer: the name is of no layer, or of several.
            NoChannels: the layer makes no channels, or none of that kind.
        """
        name, kind = self._parted(address)
        path = find_layer(self.graph, name)
        own = {k: producer for (p, k), producer in self.producers.items() if p == path}
        if not own:
            reason = f" It {self.opaque[path]}." if path in self.opaque else ""
            raise NoChannels(
                f"layer {path!r} makes no channels of its own; delete those of the layers that feed it.{reason}"
            )
        if kind is None:
            return next(iter(own.values()))
        if (spelled := self._spelled(path, kind)) not in own:
            close = nearest(kind, own)
            hint = f"; did you mean {close!r}?" if close else ""
            raise NoChannels(f"layer {path!r} has channels of the kinds {', '.join(own)}, but none of {kind!r}{hint}")
        return own[spelled]

    def producers_at(self, address: str) -> list[Producer]:
        """The channels at an address whose layer may be a pattern (`block*_conv`, `*@Conv2D`, `*@Dense:units`): those
        of the layers that make any.

        Raises:
            UnknownLayer, AmbiguousLayer: no layer fits, or a bare name is that of several.
            NoChannels: none of them makes channels, or any of that kind.
        """
        name, kind = self._parted(address)
        if not is_pattern(name, self.graph):
            return [self.producer(address)]
        records = {call.path: call.record for call in self.trace.all_calls}
        paths = find_layers(self.graph, name, records)
        wanted = {path: [self._spelled(path, kind)] if kind else self._kinds(path)[:1] for path in paths}
        found = [producer for (path, own), producer in self.producers.items() if own in wanted.get(path, ())]
        if not found:
            raise NoChannels(f"none of the {len(wanted)} layers that fit {address!r} makes such channels of its own")
        return found

    def _parted(self, address: Any) -> tuple[Any, str | None]:
        """The layer of an address, and the kind of channels if it names one."""
        if isinstance(address, str) and address not in self.graph.places and ":" in address:
            name, _, kind = address.rpartition(":")
            return name, kind
        return address, None

    def _kinds(self, path: str) -> list[str]:
        return [kind for owner, kind in self.producers if owner == path]

    def _spelled(self, path: str, kind: str) -> str:
        """A kind of a layer's channels as its config spells it: `heads` may stand for `num_heads`."""
        kinds = self._kinds(path)
        return f"num_{kind}" if kind not in kinds and f"num_{kind}" in kinds else kind


@takes(snapshot=as_snapshot)
def analyse(snapshot: Snapshot) -> Flow:
    """The channels of every tensor and weight of a snapshot, and what becomes of each when others go.

    Layers without a rule pin all they touch and are listed as opaque; nothing is guessed.
    """
    return _Walk(snapshot).flow()


UNKNOWN = "reads a tensor of unknown shape"


class _Walk:
    """One walk through a graph, call by call."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.trace = trace(read_graph(snapshot))
        self.findings = Findings(enter=self.enter)
        self.visited: list[Call] = []
        self.tensors: dict[Ref, Tensor | None] = {}

    def flow(self) -> Flow:
        findings, trace = self.findings, self.trace
        for call in trace.calls:
            self.visit(call)
        for first, later in trace.twins:
            self.tie_twins(first, later)
        for path, arrays in self.snapshot.weights.items():
            self.check_weights(path, arrays)
        for call in self.visited:
            if call.path in findings.opaque:
                self.hold(call)
        for ref in trace.outputs:
            for axis in self.tensors.get(ref) or ():
                findings.constraints.pin(
                    axis, Reason(f"it is an output of the model, made by {ref.path!r}"), output=True
                )
        return Flow(
            trace, self.tensors, findings.weights, findings.constants, findings.sizes, findings.builds,
            findings.producers, findings.copies, findings.inexact, findings.narrow, findings.additions,
            findings.opaque, findings.constraints.solve(),
        )  # fmt: skip

    def visit(self, call: Call) -> None:
        """Applies the rule of a call's layer; whatever goes wrong with it makes the layer opaque."""
        layer = Layer(self.findings, call.path, call.where, call.record, call.node)
        first = self.findings.constraints.count
        self.visited.append(call)
        try:
            for ref in refs([call.args, call.kwargs]):
                if self.tensors.get(ref) is None:
                    raise NoRule(self.unknown(ref))
            args, kwargs = map_leaves(self.axes, call.args), map_leaves(self.axes, call.kwargs)
            self.tensors |= self.checked(call, leaves(layer(*args, **kwargs)))
        except NoRule as reason:
            self.shut(layer, call, str(reason), first)
        except Exception as error:  # a rule that fails on a config nobody thought of must not be trusted
            if is_strict():
                raise
            why = f"is used in a way that its rule cannot follow ({type(error).__name__}: {error})"
            self.shut(layer, call, f"{why}; {self.source(call.record)}", first)

    def enter(self, place: Location, node: tuple[int, ...], step: Tensor) -> Tensor:
        """What the model that a layer wraps makes of one step, the layer being called the `node`-th time.

        Raises:
            NoRule: nothing is known of what the model makes.
        """
        inner = self.trace.inner[place, node]
        self.tensors[inner.step] = step
        for call in inner.calls:
            self.visit(call)
        made = self.tensors.get(inner.made)
        if made is None:
            raise NoRule("wraps a model that makes a tensor of unknown shape")
        return made

    def axes(self, leaf: Any) -> Any:
        """A leaf of a call's arguments with its axes in place of a tensor or an array."""
        if isinstance(leaf, Ref):
            return self.tensors[leaf]
        if isinstance(leaf, Constant):
            return given(self.findings, leaf.where, leaf.array)
        return leaf

    def checked(self, call: Call, made: list[Any]) -> dict[Ref, Tensor]:
        """What a rule makes for the outputs of a call, with unknown sizes taken from the record.

        Raises:
            NoRule: that is no tensors, or the record states more of them, or other shapes.
        """
        tensors = {ref: self.as_recorded(call, ref, axes) for ref, axes in zip(_outputs(call), made, strict=False)}
        if any(Ref(call.path, call.node, len(made) + i) in self.trace.recorded for i in range(3)):
            raise self.defect(call, f"makes more tensors than the {len(made)} that its rule makes")
        return tensors

    def as_recorded(self, call: Call, ref: Ref, axes: Any) -> Tensor:
        """The axes that a rule makes for a tensor, with unknown sizes taken from the record, if that states these axes.

        Raises:
            NoRule: they are none, or the record states another shape.
        """
        if fault := tensor_fault(axes):
            raise self.defect(call, fault)
        recorded = self.trace.recorded.get(ref)
        if recorded is None:
            return axes
        if fault := shape_fault(axes, recorded):
            if self.may_differ(ref, axes, recorded):
                return axes
            raise self.defect(call, fault)
        return tuple(stated if axis is None else axis for axis, stated in zip(axes, recorded, strict=True))

    def may_differ(self, ref: Ref, axes: Tensor, recorded: Shape) -> bool:
        """Whether a tensor may have another shape than its reader was recorded to read: a nested model may be called on
        other sizes than it was recorded for, and a layer of a Sequential model may be built on another rank."""
        if len(axes) == len(recorded):
            return len(ref.node) > 1
        return ref not in self.trace.shapes.values()

    def defect(self, call: Call, fault: str) -> NoRule:
        return NoRule(f"{fault}; {self.source(call.record)}")

    def source(self, record: Record) -> str:
        return source_of(rule_for(record).channels)

    def unknown(self, ref: Ref) -> str:
        """Why a call of a tensor of unknown shape cannot be followed: the layer that makes it, and its reason."""
        why = self.findings.opaque.get(ref.path, "")
        if why.startswith(UNKNOWN):
            return why
        return f"{UNKNOWN}, made by {ref.path!r}" + f", which {why}" * bool(why)

    def shut(self, layer: Layer, call: Call, reason: str, first: int) -> None:
        """Findings that a layer is opaque. What it makes is as recorded and cannot be cut: ids that are pinned for the
        layer's reason carry it to all that they meet. Ids that its rule made are pinned, too."""
        reason = self.findings.opaque.setdefault(call.path, reason)
        constraints = self.findings.constraints
        for ref in _outputs(call, 64):
            recorded = self.trace.recorded.get(ref)
            held = None if recorded is None else tuple(constraints.fresh(n) if n and n > 1 else n for n in recorded)
            self.tensors[ref] = held
        constraints.pin(np.arange(first, constraints.count)[None], layer.reason(reason))

    def hold(self, call: Call) -> None:
        """Pins all that an opaque layer touches at a call: what it reads, its channels and weights, those of a model
        that it wraps."""
        layer, reason = Layer(self.findings, call.path, call.where, call.record), self.findings.opaque[call.path]
        layer.pin([self.tensors.get(ref) or () for ref in refs([call.args, call.kwargs])], reason)
        paths = {*self.findings.weights, *(path for path, _ in self.findings.producers)}
        own = {path for path in paths if path == call.path or path.startswith(f"{call.path}/")}
        layer.pin([producer.axis for producer in self.findings.producers.values() if producer.path in own], reason)
        layer.pin([weight.axes for path in own for weight in self.findings.weights.pop(path, [])], reason)

    def tie_twins(self, first: Ref, later: Ref) -> None:
        """The same tensor of a nested model in two calls, or all that a layer of it makes: what is recorded of their
        shapes holds for both."""
        reason = Reason("is called several times, on different channels", later.path)
        for index in range(64 if first.path == later.path else 1):
            a, b = (self.tensors.get(ref._replace(output=ref.output + index)) for ref in (first, later))
            if a is None or b is None:
                break
            for x, y in zip(a, b, strict=False):
                if size(x) == size(y):
                    self.findings.constraints.tie(x, y, reason)

    def check_weights(self, path: str, arrays: Sequence[np.ndarray]) -> None:
        """A layer whose weights are not as its rule says is opaque after all. Weights yet to be drawn always are."""
        weights = self.findings.weights.get(path, [])
        if path not in self.findings.opaque and arrays and (fault := weights_fault(weights, arrays)):
            record = get_in(self.snapshot.record, self.trace.graph.places[path])
            self.findings.opaque[path] = f"cannot be followed: {fault}; {self.source(record)}"


def _outputs(call: Call, count: int = 1 << 16) -> Iterator[Ref]:
    return (Ref(call.path, call.node, index) for index in range(count))
