"""The graph of one model: its layers, and their calls on tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from toolz import concat, groupby

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph.ordering import by_dependency, by_distance, from_outputs
from kerassurgery_fn.graph.records import Placed, Record, is_input, layers_in, leaves, model_in, name_of, reading_config
from kerassurgery_fn.graph.tensors import Arguments, Node, Port, Spec
from kerassurgery_fn.values.frozen import Location


@dataclass(frozen=True)
class Graph:
    """The graph of one model.

    Each layer has a key: its name when the config was read. A renamed layer keeps its key. The graph of a nested model
    is `nested(graph, key)`.

    - `record`: the record of the model when it was read;
    - `layers`: key -> the record of the layer, without its calls; InputLayers are layers, too;
    - `calls`: (key of the layer, number of the call) -> the arguments of the call; the numbers may have gaps;
    - `inputs`, `outputs`: the inputs and outputs of the model, as ports in nested dicts and lists;
    - `stated`: tensor -> its shape and dtype in the config;
    - `changed`: the keys of layers whose output differs from `stated`, or whose inputs the record does not state;
    - `passing`: the keys of layers of unknown classes that pass on the mask of their input.
    """

    record: Record
    layers: Mapping[str, Record]
    calls: Mapping[Node, Arguments]
    inputs: Any
    outputs: Any
    stated: Mapping[Port, Spec] = field(repr=False)
    changed: frozenset[str] = frozenset()
    passing: frozenset[str] = frozenset()
    read_models: dict[str, Graph] = field(default_factory=dict, repr=False, compare=False)  # for `nested()` alone

    def name(self, key: str) -> str:
        """The current name of a layer."""
        return name_of(self.layers[key])

    def nodes(self, key: str) -> list[Node]:
        """The calls of a layer in order. An InputLayer has one call, without arguments."""
        return [(key, 0)] if is_input(self.layers[key]) else sorted(self._nodes.get(key, ()))

    @cached_property
    def models(self) -> dict[str, tuple[Record, Location]]:
        """The nested and wrapped models: key of the layer -> the record of the model, and its place in that of the
        layer."""
        return {key: model for key, layer in self.layers.items() if (model := model_in(layer))}

    @cached_property
    def _nodes(self) -> dict[str, list[Node]]:
        return groupby(0, self.calls)

    def first(self, key: str) -> Port:
        """The first output of the first call of a layer."""
        return Port(*self.nodes(key)[0])

    def reads(self, node: Node) -> tuple[Port, ...]:
        """The tensors that a call reads, in the order of its arguments."""
        return self.calls[node].ports if node in self.calls else ()

    @cached_property
    def _reads(self) -> dict[Node, tuple[Port, ...]]:
        return {node: call.ports for node, call in self.calls.items()}

    @cached_property
    def order(self) -> list[Node]:
        """The calls in topological order; otherwise in the order of the config.

        Raises:
            BrokenSnapshot: some calls read tensors that no call computes.
        """
        return by_dependency(self.sources, self._reads)

    @property
    def live(self) -> list[Node]:
        """The calls on which the outputs depend, InputLayers included, in topological order."""
        return self._from_outputs[1]

    @cached_property
    def alive(self) -> frozenset[Node]:
        """The calls on which the outputs depend, InputLayers included."""
        return frozenset(self.live)

    @cached_property
    def readers(self) -> Counter[Port]:
        """The number of readers of each tensor: the calls on which the outputs depend, and the outputs themselves."""
        return Counter([*concat(map(self.reads, self.live)), *leaves(self.outputs)])

    @cached_property
    def reading(self) -> dict[Node, set[Node | None]]:
        """Call -> the calls that read it and on which the outputs depend; None stands for the outputs themselves."""
        reading: dict[Node, set[Node | None]] = {port.node: {None} for port in leaves(self.outputs)}
        for node in self.live:
            for port in self.reads(node):
                reading.setdefault(port.node, set()).add(node)
        return reading

    @cached_property
    def read_further(self) -> frozenset[Node]:
        """The calls of which outputs after the first one are read."""
        return frozenset(port.node for port in self.readers if port.output)

    @cached_property
    def listed(self) -> list[str]:
        """The layers on which the outputs depend, and all inputs, in the order in which Keras lists them."""
        return by_distance(*self._from_outputs, leaves(self.inputs), self._reads)

    @cached_property
    def _from_outputs(self) -> tuple[list[str], list[Node]]:
        return from_outputs(leaves(self.outputs), self._reads)

    @cached_property
    def sources(self) -> list[Node]:
        """The nodes that read nothing: InputLayers, or the input of a Sequential model that has no InputLayer."""
        inputs = [(key, 0) for key, layer in self.layers.items() if is_input(layer)]
        return [node for node in inputs if node not in self.calls] or [port.node for port in leaves(self.inputs)]

    @cached_property
    def placed(self) -> dict[str, Placed]:
        """Path -> record and place of every layer, including the layers of nested models.

        Raises:
            BrokenSnapshot: two layers have one path.
        """
        with reading_config():
            layers = list(layers_in(self.record))
        placed = {layer.path: layer for layer in layers}
        if len(placed) < len(layers):
            path = next(layer.path for layer in layers if placed[layer.path] is not layer)
            raise BrokenSnapshot(f"two layers have the path {path!r}; give the layers of a model different names")
        return placed

    @cached_property
    def places(self) -> dict[str, Location]:
        """Path -> place of the record of every layer, including the layers of nested models."""
        return {path: layer.place for path, layer in self.placed.items()}

    @cached_property
    def records(self) -> dict[str, Record]:
        """Path -> record of every layer, including the layers of nested models."""
        return {path: layer.record for path, layer in self.placed.items()}
