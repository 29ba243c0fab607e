"""The graph of one model: its layers, and their calls on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from toolz import groupby

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.graph.ordering import by_dependency, by_distance, from_outputs
from kerassurgery_fn.graph.records import Placed, Record, is_input, layers_in, leaves, name_of, reading_config
from kerassurgery_fn.graph.tensors import Arguments, Node, Port, Spec
from kerassurgery_fn.values.frozen import Location


@dataclass(frozen=True)
class Graph:
    """The graph of one model. Layers are identified by keys: their names when the config was read, which stay when a
    layer gets another name. The graph of a nested model is `nested(graph, key)`.

    - `record`: the record of the model as it was read;
    - `layers`: key -> the layer's own record; an InputLayer is one of them;
    - `calls`: calls by the layer's key and a number; the numbers need not be without gaps;
    - `inputs`, `outputs`: the model's own, ports in whatever structure;
    - `stated`: the spec of each tensor of which the config states one;
    - `changed`: keys of layers that do not make what is stated any more, or whose record does not say what they read;
    - `passing`: keys of layers that hand masks on, though their class is none of Keras.
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
        """The name of a layer now."""
        return name_of(self.layers[key])

    def nodes(self, key: str) -> list[Node]:
        """The calls of a layer in order; an InputLayer has one, without arguments."""
        return [(key, 0)] if is_input(self.layers[key]) else sorted(self._nodes.get(key, ()))

    @cached_property
    def _nodes(self) -> dict[str, list[Node]]:
        return groupby(0, self.calls)

    def first(self, key: str) -> Port:
        """What the first call of a layer makes."""
        return Port(*self.nodes(key)[0])

    def reads(self, node: Node) -> list[Port]:
        """The tensors that a call reads, in the order of its arguments."""
        return self._reads.get(node, [])

    @cached_property
    def _reads(self) -> dict[Node, list[Port]]:
        return {node: [use.port for use in call.uses] for node, call in self.calls.items()}

    @cached_property
    def order(self) -> list[Node]:
        """The calls, each after those whose outputs it reads, otherwise as the config lists them.

        Raises:
            BrokenSnapshot: some calls wait for tensors that nothing makes.
        """
        return by_dependency(self.sources, self._reads)

    @property
    def live(self) -> list[Node]:
        """The calls that the outputs depend on, each after those that it reads, and the InputLayers among them."""
        return self._from_outputs[1]

    @cached_property
    def listed(self) -> list[str]:
        """The layers that the outputs depend on, and all inputs, in the order in which Keras lists them."""
        return by_distance(*self._from_outputs, leaves(self.inputs), self._reads)

    @cached_property
    def _from_outputs(self) -> tuple[list[str], list[Node]]:
        return from_outputs(leaves(self.outputs), self._reads)

    @property
    def sources(self) -> list[Node]:
        """The nodes that no call makes: InputLayers, or the only input of a Sequential model that has no InputLayer."""
        inputs = [(key, 0) for key, layer in self.layers.items() if is_input(layer)]
        return [node for node in inputs if node not in self.calls] or [port.node for port in leaves(self.inputs)]

    @cached_property
    def placed(self) -> dict[str, Placed]:
        """Path -> record and place of every layer, those of nested models included.

        Raises:
            BrokenSnapshot: two layers have one path.
        """
        with reading_config():
            layers = list(layers_in(self.record))
        placed = {layer.path: layer for layer in layers}
        if len(placed) < len(layers):
            twice = next(layer.path for layer in layers if placed[layer.path] is not layer)
            raise BrokenSnapshot(f"two layers have the path {twice!r}; give the layers of a model different names")
        return placed

    @cached_property
    def places(self) -> dict[str, Location]:
        """Path -> place of the record of every layer, those of nested models included."""
        return {path: layer.place for path, layer in self.placed.items()}

    @cached_property
    def records(self) -> dict[str, Record]:
        """Path -> record of every layer, those of nested models included."""
        return {path: layer.record for path, layer in self.placed.items()}
