"""Collects what the rules state about the channels of a model, on one walk through its calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.opened_inputs import Opened
from kerassurgery_fn.analysis.rule_walk import walk
from kerassurgery_fn.analysis.vocabularies import vocabulary_of
from kerassurgery_fn.channels import Reason, select, size
from kerassurgery_fn.graph import Call, Constant, Record, Ref, Shape, Trace, map_leaves, refs
from kerassurgery_fn.rules import Layer, NoRule
from kerassurgery_fn.rules.constants import given
from kerassurgery_fn.rules.findings import Findings, Tensor
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.rule_checks import shape_fault, source_of, tensor_fault, weights_fault
from kerassurgery_fn.values.frozen import Location
from kerassurgery_fn.values.named_tuples import new
from kerassurgery_fn.values.snapshot import Weights

UNKNOWN = "reads a tensor of unknown shape"


class ChannelCollector:
    """Collects the channels of a model.

    A layer is opaque if its rule cannot follow one of its calls. An opaque layer pins all channels that it reads or
    creates, in all of its calls.

    - `findings`: the results of the rules;
    - `tensors`: the axes of each tensor of the trace; None for a tensor of unknown shape;
    - `recorded_outputs`: path and node of a call -> the smallest number of outputs that the record implies;
    - `visited`: path and node of each visited call -> the call, and the number of ids before it.
    """

    expected: tuple[type[Exception], ...] = (NoRule,)

    def __init__(self, trace: Trace, opened: Opened) -> None:
        self.trace = trace
        self.recorded_outputs = recorded_outputs(trace)
        self.findings = Findings(enter=self.enter, opened=opened)
        self.tensors: dict[Ref, Tensor | None] = {}
        self.visited: dict[tuple[str, tuple[int, ...]], tuple[Call, int]] = {}

    # --- one call

    def rule(self, call: Call) -> Layer:
        self.visited[call.path, call.node] = call, self.findings.constraints.count
        return Layer(self.findings, call.path, call.where, call.record, call.node)

    def arguments(self, call: Call, layer: Layer) -> tuple[list[Any], dict[str, Any]]:
        args = [self.known(arg) if isinstance(arg, Ref) else map_leaves(self.axes, arg) for arg in call.args]
        return args, map_leaves(self.axes, call.kwargs) if call.kwargs else {}

    def collect(self, call: Call, layer: Layer, outputs: list[Any]) -> None:
        """Keeps the axes of the outputs of a call. Sizes that the rule does not know are taken from the record.

        Raises:
            NoRule: the outputs are not tensors, or the record states more outputs, or other shapes.
        """
        for number, axes in enumerate(outputs):
            ref = new(Ref, (call.path, call.node, number))
            self.tensors[ref] = self.as_recorded(call, ref, axes)
        if self.recorded_outputs.get((call.path, call.node), 0) > len(outputs):
            raise self.defect(call, f"has more outputs than the {len(outputs)} that its rule returns")

    def refuse(self, call: Call, layer: Layer, error: Exception) -> None:
        """Lists a layer as opaque. Its outputs have the recorded shapes and pinned ids, so that layers which read them
        report its reason. The ids that its rule created before it failed are pinned, too."""
        why = str(error)
        if not isinstance(error, NoRule):
            why = f"is used in a way that its rule cannot follow ({type(error).__name__}: {error})"
            why = f"{why}; {source(call.record)}"
        reason = self.findings.opaque.setdefault(call.path, why)
        constraints = self.findings.constraints
        for ref in (Ref(call.path, call.node, number) for number in range(64)):
            recorded = self.trace.recorded.get(ref)
            axes = None if recorded is None else tuple(constraints.fresh(n) if n and n > 1 else n for n in recorded)
            self.tensors[ref] = axes
        _, first = self.visited[call.path, call.node]
        constraints.pin(np.arange(first, constraints.count)[None], layer.reason(reason))

    def enter(self, place: Location, node: tuple[int, ...], step: Tensor) -> Tensor:
        """The axes of the output of a wrapped model for one time step.

        Args:
            place: the place of the model's record.
            node: the node of the wrapper's call.
            step: the axes of one time step.

        Raises:
            NoRule: the shape of the output is not known.
        """
        inner = self.trace.inner[place, node]
        self.tensors[inner.step] = step
        walk(inner.calls, self)
        output = self.tensors.get(inner.output)
        if output is None:
            raise NoRule("wraps a model whose output has an unknown shape")
        return output

    def axes(self, leaf: Any) -> Any:
        """The axes of a tensor or array among the arguments of a call; any other argument unchanged.

        Raises:
            NoRule: the shape of the tensor is not known.
        """
        if isinstance(leaf, Ref):
            return self.known(leaf)
        if isinstance(leaf, Constant):
            return given(self.findings, leaf.where, leaf.array)
        return leaf

    def known(self, ref: Ref) -> Tensor:
        """The axes of a tensor.

        Raises:
            NoRule: its shape is not known.
        """
        if (axes := self.tensors.get(ref)) is None:
            raise NoRule(self.unknown(ref))
        return axes

    def as_recorded(self, call: Call, ref: Ref, axes: Any) -> Tensor:
        """The axes that a rule returns for a tensor, with unknown sizes taken from the record.

        Raises:
            NoRule: the result of the rule is not a tuple of axes, or the record states another shape.
        """
        recorded = self.trace.recorded.get(ref)
        if recorded is not None and (complete := completed(axes, recorded)) is not None:
            return complete
        if fault := tensor_fault(axes):
            raise self.defect(call, fault)
        if recorded is None:
            return axes
        if fault := shape_fault(axes, recorded):
            if self.may_differ(ref, axes, recorded):
                return axes
            raise self.defect(call, fault)
        return axes

    def may_differ(self, ref: Ref, axes: Tensor, recorded: Shape) -> bool:
        """Whether a tensor can have another shape than the record states at its reader. A nested model can be called on
        other sizes than at its first call, and a layer of a Sequential model can be built on another rank."""
        if len(axes) == len(recorded):
            return len(ref.node) > 1
        return ref not in self.stated

    @cached_property
    def stated(self) -> frozenset[Ref]:
        """The tensors whose shape the record states."""
        return frozenset(self.trace.shapes.values())

    def defect(self, call: Call, fault: str) -> NoRule:
        return NoRule(f"{fault}; {source(call.record)}")

    def unknown(self, ref: Ref) -> str:
        """Why a call that reads a tensor of unknown shape cannot be followed: the layer that computes the tensor, and
        the reason of that layer."""
        why = self.findings.opaque.get(ref.path, "")
        if why.startswith(UNKNOWN):
            return why
        return f"{UNKNOWN}, the output of {ref.path!r}" + f", which {why}" * bool(why)

    # --- the whole model

    def finish(self, weights: Weights) -> None:
        """Adds the constraints that are known only after all calls have been visited.

        Args:
            weights: the arrays of the snapshot.
        """
        for first, later in self.trace.twins:
            self.tie_twins(first, later)
        self.tie_rows(sorted(key for key, axis in self.findings.opened.items() if not axis))
        for path, arrays in weights.items():
            self.check_weights(path, arrays)
        for call, _ in self.visited.values():
            if call.path in self.findings.opaque:
                self.hold(call)
        for ref in self.trace.outputs:
            reason = Reason(f"it is an output of the model, computed by {ref.path!r}")
            for axis in self.tensors.get(ref) or ():
                self.findings.constraints.pin(axis, reason, output=True)

    def tie_twins(self, first: Ref, later: Ref) -> None:
        """Ties a tensor of a nested model in two calls of the model, and the other outputs of its layer, because the
        record has only one shape for both calls."""
        reason = Reason("is called several times, on different channels", later.path)
        for index in range(64 if first.path == later.path else 1):
            a, b = (self.tensors.get(ref._replace(output=ref.output + index)) for ref in (first, later))
            if a is None or b is None:
                break
            for x, y in zip(a, b, strict=False):
                if size(x) == size(y):
                    self.findings.constraints.tie(x, y, reason)

    def tie_rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """Ties the rows of layers that read the same values, and pins the rows that layers need for other reasons."""
        known = [self.findings.numbered[key] for key in rows if key in self.findings.numbered]
        axes = sorted(known, key=lambda axis: size(axis) or 0, reverse=True)
        for axis in axes[1:]:
            same = select(axes[0], slice(size(axis)))  # the longest axis has all values of the other axes
            self.findings.constraints.tie(same, axis, Reason("reads the same values", rows[0][0]))
        for first, reason in self.needed_values(rows) if axes else ():
            self.findings.constraints.pin(select(axes[0], slice(first)), reason)

    def needed_values(self, rows: Sequence[tuple[str, str]]) -> Iterator[tuple[int | None, Reason]]:
        """The number of first values that must stay (None: all values), each with the reason."""
        vocabulary, numbered = vocabulary_of(self.trace, rows), self.findings.numbered
        opaque = [path for path, kind in rows if (path, kind) not in numbered]
        for path in (*vocabulary.readers, *opaque):
            yield None, Reason("creates the values or computes with them", path)
        for path, first in vocabulary.first.items():
            yield first, Reason("compares the first values with a number", path)
        for key in filter(numbered.__contains__, rows):
            special = (size(numbered[key]) or 0) - (size(self.findings.producers[key].axis) or 0)
            if special:
                yield special, Reason("uses the first values for words that it does not know", key[0])

    def check_weights(self, path: str, arrays: Sequence[np.ndarray]) -> None:
        """Lists a layer as opaque if its arrays differ from the weights of its rule. Weights that are drawn at rebuild
        cannot differ."""
        weights = self.findings.weights.get(path, [])
        if path not in self.findings.opaque and arrays and (fault := weights_fault(weights, arrays)):
            where = source(self.trace.graph.records[path])
            self.findings.opaque[path] = f"cannot be followed: {fault}; {where}"

    def hold(self, call: Call) -> None:
        """Pins all channels of an opaque layer at a call: the channels of its inputs, the channels that it creates, the
        channels of its weights, and those of a model that it wraps."""
        layer, reason = Layer(self.findings, call.path, call.where, call.record), self.findings.opaque[call.path]
        layer.pin([self.tensors.get(ref) or () for ref in refs([call.args, call.kwargs])], reason)
        paths = {*self.findings.weights, *(path for path, _ in self.findings.producers)}
        inside = {path for path in paths if path == call.path or path.startswith(f"{call.path}/")}
        layer.pin([producer.axis for producer in self.findings.producers.values() if producer.path in inside], reason)
        layer.pin([weight.axes for path in inside for weight in self.findings.weights.pop(path, [])], reason)


def recorded_outputs(trace: Trace) -> dict[tuple[str, tuple[int, ...]], int]:
    """Path and node of each call with recorded outputs -> the smallest number of outputs that the record implies."""
    numbers: dict[tuple[str, tuple[int, ...]], int] = {}
    for path, node, output in trace.recorded:
        if output >= numbers.get((path, node), 0):
            numbers[path, node] = output + 1
    return numbers


def completed(axes: Any, recorded: Shape) -> Tensor | None:
    """The axes of a tensor with unknown sizes taken from its recorded shape; None if the two do not agree.

    >>> completed((None, 4), (8, 4)), completed((None, 4), (8, 5)), completed(4, (8, 4))
    ((8, 4), None, None)
    """
    if not isinstance(axes, tuple) or len(axes) != len(recorded):
        return None
    is_complete = True
    for axis, stated in zip(axes, recorded, strict=True):
        if axis is None:
            is_complete = is_complete and stated is None
        elif isinstance(axis, np.ndarray):
            if axis.ndim != 2 or (axis.shape[1] != stated and stated is not None):
                return None
        elif not isinstance(axis, (int, np.integer)) or (axis != stated and stated is not None):
            return None
    if is_complete:
        return axes
    return tuple(stated if axis is None else axis for axis, stated in zip(axes, recorded, strict=True))


def source(record: Record) -> str:
    """The function, module and line of the rule for a class, as text for messages."""
    return source_of(rule_for(record).channels)
