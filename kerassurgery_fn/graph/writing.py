"""Writes the record of a graph, exactly as Keras writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.records import Record, is_functional, map_leaves, name_of
from kerassurgery_fn.graph.tensors import Node, Port, Spec, Use
from kerassurgery_fn.values.frozen import freeze, set_in
from kerassurgery_fn.values.warning_origin import warn

FUNCTIONAL = {
    "module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional",
    "build_config": {"input_shape": None},
}  # fmt: skip


def record_of(graph: Graph, spec: Callable[[Port], Spec]) -> Record:
    """The record of a model as Keras writes it. Layers on which no output depends are left out, except the inputs.

    A Sequential model stays Sequential if it is still a chain of single calls from one input to one output. The
    unchanged parts of the record are shared.

    Args:
        graph: the graph of the model.
        spec: tensor -> its shape and dtype.
    """
    keys, order = graph.listed, graph.live
    if not is_functional(graph.record) and is_chain(graph, order):
        return set_in(graph.record, ("config", "layers"), [graph.layers[key] for key, _ in order if key])
    record = _Writer(graph, keys, order, spec).model()
    return graph.record if record == graph.record else freeze(record)


def is_chain(graph: Graph, order: list[Node]) -> bool:
    """Whether the calls are a chain from the input to the output: each call only reads the output of the call
    before."""
    port = graph.inputs
    for node in order:
        if node in graph.calls:
            call = graph.calls[node]
            if call.kwargs or [getattr(arg, "port", None) for arg in call.args] != [port]:
                return False
            port = Port(*node)
    return port == graph.outputs and len({key for key, _ in order}) == len(order)


class _Writer:
    """Writes a Functional model."""

    def __init__(self, graph: Graph, keys: list[str], order: list[Node], spec: Callable[[Port], Spec]) -> None:
        self.graph, self.keys, self.spec = graph, keys, spec
        live = set(order)
        self.live = {key: [node for node in graph.nodes(key) if node in live] for key in keys}
        self.numbers = {node: n for nodes in self.live.values() for n, node in enumerate(nodes)}
        self.old = {name_of(layer): layer for layer in graph.record["config"]["layers"]}

    def model(self) -> Record:
        record, functional = self.graph.record, is_functional(self.graph.record)
        config = record["config"] if functional else {key: record["config"][key] for key in ("name", "trainable")}
        written = {
            **config,
            "layers": [self.layer(key) for key in self.keys],
            "input_layers": map_leaves(self.history, self.graph.inputs),
            "output_layers": map_leaves(self.output, self.graph.outputs),
        }
        if not functional and record["class_name"] != "Sequential":
            warn(
                f"model {record['config']['name']!r} is no longer a chain of layers: it becomes a plain Functional "
                f"model without the methods of its class {record['class_name']}"
            )
        return {**record, **({} if functional else FUNCTIONAL), "config": written}

    def layer(self, key: str) -> Record:
        calls = [self.graph.calls[node] for node in self.live[key] if node in self.graph.calls]
        nodes = [{"args": self.tensors(call.args), "kwargs": self.tensors(call.kwargs)} for call in calls]
        record = {**self.graph.layers[key], "name": self.graph.name(key), "inbound_nodes": nodes}
        return self.old[key] if self.old.get(key) == record else freeze(record)

    def tensors(self, tree: Any) -> Any:
        return map_leaves(lambda leaf: self.tensor(leaf.port) if isinstance(leaf, Use) else leaf, tree)

    def tensor(self, port: Port) -> Record:
        shape, dtype = self.spec(port)
        config = {"shape": list(shape), "dtype": dtype, "keras_history": self.history(port)}
        return {"class_name": "__keras_tensor__", "config": config}

    def history(self, port: Port) -> list[Any]:
        return [self.graph.name(port.layer), self.numbers.get(port.node, 0), port.output]

    def output(self, port: Port) -> list[Any]:
        name, call, output = self.history(port)
        # In `output_layers`, Keras counts the calls of a nested Functional model from one.
        return [name, call + is_functional(self.graph.layers[port.layer]), output]
