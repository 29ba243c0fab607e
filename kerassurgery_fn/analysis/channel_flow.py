"""Channel flow: the axes of every tensor and weight of a model, and which of their positions go together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from toolz import first

from kerassurgery_fn.analysis.channel_collector import ChannelCollector
from kerassurgery_fn.analysis.opened_inputs import Opened, opened_inputs, opened_rows
from kerassurgery_fn.analysis.rule_walk import walk
from kerassurgery_fn.arguments import as_snapshot, nearest, takes
from kerassurgery_fn.channels import Axis, Solution
from kerassurgery_fn.errors import NoChannels
from kerassurgery_fn.graph import (
    Graph,
    Ref,
    Trace,
    find_layer,
    find_layers,
    is_pattern,
    read_graph,
    trace,
)
from kerassurgery_fn.rules.counts import Count
from kerassurgery_fn.rules.findings import Addition, Inexact, Narrow, Producer, Tensor, Weight
from kerassurgery_fn.rules.registry import state_of_rules
from kerassurgery_fn.rules.rule_checks import weights_fault
from kerassurgery_fn.values.frozen import Location
from kerassurgery_fn.values.kept_results import Results, computed_once, protect, with_record
from kerassurgery_fn.values.snapshot import Snapshot, Weights


@dataclass(frozen=True)
class Flow:
    """The channels of a model.

    - `trace`: the calls of the model;
    - `tensors`: the axes of each tensor of the trace; None for a tensor of unknown shape;
    - `weights`: the axes of each weight, by layer path, in the order of `get_weights()`;
    - `constants`: the axes of each array in a call or in the config of an operation, by its place in the record;
    - `sizes`, `builds`: the places in the record with numbers that depend on an axis, or with shapes of inputs;
    - `producers`: (layer path, kind) -> the channels that the layer creates;
    - `copies`: the axes of equal positions that layers such as RepeatVector create, by the place in the record that
      counts them;
    - `inexact`: the axes whose cut is not exact;
    - `narrow`: axes with one position that is broadcast;
    - `additions`: tensors that layers add with Keras' `ops.add`;
    - `opaque`: path of each layer that no rule can follow -> why;
    - `opened`: path of each input whose channels have ids -> their axis;
    - `solution`: which channels are deleted together, and which are pinned.
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
    opened: Opened
    solution: Solution = field(repr=False)
    _results: Results = field(default_factory=dict, init=False, repr=False, compare=False)  # see values/kept_results

    @property
    def graph(self) -> Graph:
        return self.trace.graph

    def producer(self, address: Any) -> Producer:
        """The channels at an address.

        Args:
            address: a layer (`conv_1`), or a layer and a kind (`attention:num_heads`, in short `attention:heads`).

        Raises:
            UnknownLayer, AmbiguousLayer: no layer, or several layers, have the name.
            NoChannels: the layer creates no channels, or none of this kind.
        """
        name, kind = self._parted(address)
        path = find_layer(self.graph, name)
        by_kind = self._by_kind(path)
        if not by_kind:
            reason = f" It {self.opaque[path]}." if path in self.opaque else ""
            raise NoChannels(
                f"layer {path!r} creates no channels; delete channels of the layers that it reads.{reason}"
            )
        if kind is None:
            return first(by_kind.values())
        if (spelled := self._spelled(path, kind)) not in by_kind:
            close = nearest(kind, by_kind)
            hint = f"; did you mean {close!r}?" if close else ""
            kinds = ", ".join(by_kind)
            raise NoChannels(f"layer {path!r} has channels of the kinds {kinds}, but none of {kind!r}{hint}")
        return by_kind[spelled]

    def producers_at(self, address: str) -> list[Producer]:
        """The channels at an address with a pattern (`block*_conv`, `*@Conv2D`, `*@Dense:units`). Matching layers that
        create no channels are skipped.

        Raises:
            UnknownLayer, AmbiguousLayer: no layer matches, or several layers have the name.
            NoChannels: none of them creates channels, or channels of this kind.
        """
        name, kind = self._parted(address)
        if not is_pattern(name, self.graph):
            return [self.producer(address)]
        records = {call.path: call.record for call in self.trace.all_calls}
        paths = find_layers(self.graph, name, records)
        kinds = {path: [self._spelled(path, kind)] if kind else self.kinds(path)[:1] for path in paths}
        items = self.producers.items()
        producers = [producer for (path, producer_kind), producer in items if producer_kind in kinds.get(path, ())]
        if not producers:
            raise NoChannels(f"none of the {len(kinds)} layers that match {address!r} creates such channels")
        return producers

    def _parted(self, address: Any) -> tuple[Any, str | None]:
        """The layer of an address, and the kind of channels if the address has one."""
        if isinstance(address, str) and address not in self.graph.places and ":" in address:
            name, _, kind = address.rpartition(":")
            return name, kind
        return address, None

    @cached_property
    def axes(self) -> list[np.ndarray]:
        """The different channel maps of tensors and weights."""
        tensors = [axes for axes in self.tensors.values() if axes]
        weights = [weight.axes for arrays in self.weights.values() for weight in arrays]
        maps = {id(axis): axis for axes in (*tensors, *weights) for axis in axes if isinstance(axis, np.ndarray)}
        return list(maps.values())

    @cached_property
    def _of_layers(self) -> dict[str, dict[str, Producer]]:
        """Path of each layer that creates channels -> its channels by kind."""
        of_layers: dict[str, dict[str, Producer]] = {}
        for (path, kind), producer in self.producers.items():
            of_layers.setdefault(path, {})[kind] = producer
        return of_layers

    def _by_kind(self, path: str) -> Mapping[str, Producer]:
        return self._of_layers.get(path, {})

    def kinds(self, path: str) -> list[str]:
        """The kinds of channels that a layer creates."""
        return [*self._by_kind(path)]

    def _spelled(self, path: str, kind: str) -> str:
        """A kind of channels in the spelling of the config: `heads` is short for `num_heads`."""
        kinds = self.kinds(path)
        return f"num_{kind}" if kind not in kinds and f"num_{kind}" in kinds else kind


@takes(snapshot=as_snapshot)
def analyse(snapshot: Snapshot) -> Flow:
    """The channels of every tensor and weight of a snapshot, and which of them are deleted together.

    A layer without a rule is listed as opaque, and the channels that it reads or creates are pinned. The analysis is
    computed once for a snapshot, and for all snapshots with the same record whose weights have the shapes in the rules.
    """
    return _analysed(snapshot, frozenset())


def analyse_for(snapshot: Snapshot, addresses: Iterable[str], allow_input_change: bool) -> Flow:
    """The channels of a snapshot for an edit of the channels at some addresses, including the channels of inputs that
    the edit names or allows to change, and rows for the values of inputs that it names."""
    opened = opened_by(read_graph(snapshot), addresses, allow_input_change)
    return _analysed(snapshot, frozenset(opened.items()))


def opened_by(graph: Graph, addresses: Iterable[str], allow_input_change: bool) -> Opened:
    """The channels of inputs, and the rows for values of inputs, that get ids for an edit; arguments as for
    `analyse_for`."""
    addresses = list(addresses)
    return opened_inputs(graph, addresses, allow_input_change) | opened_rows(graph, addresses)


@computed_once(state=state_of_rules)
def _analysed(snapshot: Snapshot, opened: frozenset[tuple[tuple[str, str], int]]) -> Flow:
    flow = _flow_of_record(snapshot, opened)
    for path, arrays in snapshot.weights.items():
        if arrays and path not in flow.opaque and weights_fault(flow.weights.get(path, []), arrays):
            return _collected(snapshot, snapshot.weights, opened)
    return flow


@computed_once(with_record, state_of_rules)
def _flow_of_record(snapshot: Snapshot, opened: frozenset[tuple[tuple[str, str], int]]) -> Flow:
    """The flow of a snapshot whose weights have the shapes that the rules expect."""
    return _collected(snapshot, {}, opened)


def _collected(snapshot: Snapshot, weights: Weights, opened: frozenset[tuple[tuple[str, str], int]]) -> Flow:
    """The flow by one walk through the calls. Only the shapes of the weights matter."""
    collector = ChannelCollector(trace(read_graph(snapshot)), dict(opened))
    walk(collector.trace.calls, collector)
    collector.finish(weights)
    findings = collector.findings
    flow = Flow(
        collector.trace, collector.tensors, findings.weights, findings.constants, findings.sizes, findings.builds,
        findings.producers, findings.copies, findings.inexact, findings.narrow, findings.additions, findings.opaque,
        dict(opened), findings.constraints.solve(),
    )  # fmt: skip
    protect(flow.solution.table, *flow.axes)
    return flow
