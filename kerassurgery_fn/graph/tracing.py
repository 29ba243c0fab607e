"""Traces a graph: each call of a nested model is replaced by the calls inside the model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.graph.calls import Call, Constant, Inner, ModelCall, Ref, Trace, refs
from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.reading import nested
from kerassurgery_fn.graph.records import (
    Placed,
    Record,
    is_functional,
    is_model,
    leaves,
    map_leaves,
    reading_config,
    wrapped_model,
)
from kerassurgery_fn.graph.tensors import Node, Port, Use, bound, given_to_model
from kerassurgery_fn.values.frozen import Location
from kerassurgery_fn.values.named_tuples import new


def trace(graph: Graph) -> Trace:
    """The trace of a model.

    Raises:
        BrokenSnapshot: the config of a nested model is broken.
    """
    tracer = _Tracer()
    with reading_config():
        outputs = tracer.model(_Frame.of(graph, (), "", ()), None)
    return Trace(
        graph, tracer.calls, tracer.inputs, outputs, tracer.shapes, tracer.structures, tracer.recorded, tracer.twins,
        tracer.models, tracer.inner,
    )  # fmt: skip


class _Frame(NamedTuple):
    """One call of a model.

    - `graph`, `where`, `path`: the graph of the model, the place of its record, and its path;
    - `node`: the numbers of the calls of the models around it, and of its own call;
    - `lists_calls`: whether the record of the model lists the calls of its layers;
    - `computed`: the tensors that are known so far: the first output of each call of a layer, and all outputs of each
      call of a model.
    """

    graph: Graph
    where: Location
    path: str
    node: tuple[int, ...]
    lists_calls: bool
    computed: dict[tuple[str, int, int], Ref]

    @classmethod
    def of(cls, graph: Graph, where: Location, path: str, node: tuple[int, ...]) -> _Frame:
        return cls(graph, where, path, node, is_functional(graph.record), {})

    def tensor(self, port: Port) -> Ref:
        known = self.computed.get(port)
        if known is not None:
            return known
        first = self.computed[port.layer, port.call, 0]
        return Ref(first.path, first.node, port.output)

    def path_of(self, key: str) -> str:
        return f"{self.path}/{key}" if self.path else key

    def placed(self, key: str) -> Placed:
        """The path and the record of a layer, and the place of the record in that of the whole model."""
        layer = self.graph.placed[key]
        if not self.where:  # the whole model
            return layer
        return Placed(self.path_of(key), layer.record, (*self.where, *layer.place))


class _Tracer:
    """Collects the fields of a `Trace` on a walk through a model and the models nested in it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.inputs: list[Ref] = []
        self.shapes: dict[Location, Ref] = {}
        self.structures: dict[Location, Any] = {}
        self.recorded: dict[Ref, Any] = {}
        self.twins: list[tuple[Ref, Ref]] = []
        self.models: list[ModelCall] = []
        self.inner: dict[tuple[Location, tuple[int, ...]], Inner] = {}

    def model(self, frame: _Frame, given: Any) -> list[Ref]:
        """Adds the calls of a model that is called on some tensors, and returns its outputs.

        Args:
            frame: the call of the model.
            given: the argument of the call; None if the model has its own inputs.
        """
        graph, tensors = frame.graph, {} if given is None else bound(frame.graph.inputs, given)
        for key, number in graph.sources:
            frame.computed[key, number, 0] = self.input(frame, key, tensors.get(key))
        self.note_structures(graph.record, frame.where, map_leaves(frame.tensor, graph.inputs))
        for node in graph.order:
            self.call(frame, node)
        return [frame.tensor(port) for port in leaves(graph.outputs)]

    def input(self, frame: _Frame, key: str, given: Ref | None) -> Ref:
        """The tensor of an InputLayer: a tensor of its own, or the tensor on which a nested model is called."""
        if key not in frame.graph.layers:  # a Sequential model without an InputLayer
            return given or Ref(frame.path_of(key), (*frame.node, 0), 0)
        path, record, place = frame.placed(key)
        own = Ref(path, (*frame.node, 0), 0)
        if given is None:
            self.calls.append(Call(path, own.node, record, place, [], {}))
            self.inputs.append(own)
        tensor = given or own
        first = self.shapes.setdefault((*place, "config", "batch_shape"), tensor)
        if first != tensor:
            self.twins.append((first, tensor))
        return tensor

    def call(self, frame: _Frame, node: Node) -> None:
        """Adds a call of a layer, or the calls inside the layer if it is a model, and the output tensors."""
        key, number = node
        path, record, place = frame.placed(key)
        output = new(Ref, (path, (*frame.node, number), 0))
        args, kwargs = self.arguments(frame, node, place)
        inner = nested(frame.graph, key)
        if inner and is_model(record):
            outputs = self.model(_Frame.of(inner, place, output.path, output.node), given_to_model(args, kwargs))
            self.models.append(ModelCall(output.path, output.node, refs([args, kwargs]), outputs))
            frame.computed.update({(key, number, i): ref for i, ref in enumerate(outputs)})
            return
        if inner:
            self.inside(inner, record, place, output)
        self.calls.append(new(Call, (path, output.node, record, place, args, kwargs)))
        if any(frame.node):
            self.twins.append((Ref(path, (*(0 for _ in frame.node), number), 0), output))
        frame.computed[key, number, 0] = output

    def inside(self, inner: Graph, record: Record, place: Location, output: Ref) -> None:
        """Adds the calls inside a wrapped model. They are kept apart from the calls of the trace."""
        _, where = wrapped_model(record, place) or (record, place)
        calls, models = self.calls, self.models
        self.calls, self.models = [], []
        step = Ref(f"{output.path}/(step)", output.node, 0)
        outputs = self.model(_Frame.of(inner, where, output.path, output.node), step)
        self.inner[where, output.node] = Inner(self.calls, step, outputs[0])
        self.calls, self.models = calls, models

    # --- arguments

    def arguments(self, frame: _Frame, node: Node, place: Location) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call, with a `Ref` for every tensor. The record of a Sequential model lists no calls."""
        args, kwargs = frame.graph.calls[node]
        if not frame.lists_calls:
            return [self.read(frame, use) for use in args], {}
        at = (*place, "inbound_nodes", node[1])
        return (
            [self.argument(frame, arg, (*at, "args", i)) for i, arg in enumerate(args)],
            {name: self.argument(frame, arg, (*at, "kwargs", name)) for name, arg in kwargs.items()} if kwargs else {},
        )

    def argument(self, frame: _Frame, tree: Any, place: Location) -> Any:
        """An argument of a call with a `Ref` for every tensor and a `Constant` for every array.

        Args:
            tree: the argument in the graph.
            place: its place in the record.
        """
        if isinstance(tree, Use):
            self.shapes[(*place, "config", "shape")] = ref = self.read(frame, tree)
            return ref
        if isinstance(tree, list):
            return [self.argument(frame, item, (*place, i)) for i, item in enumerate(tree)]
        match tree:
            case {"class_name": "__numpy__" | "__tensor__", "config": {"value": value}}:
                array = np.asarray(value)
                return Constant((*place, "config", "value"), array) if array.ndim else array.item()
            case {"class_name": str()}:
                return tree
            case dict():
                return {key: self.argument(frame, item, (*place, key)) for key, item in tree.items()}
        return tree

    def read(self, frame: _Frame, use: Use) -> Ref:
        """The tensor that a call reads. Its recorded shape is the shape at its first reader."""
        ref = frame.tensor(use.port)
        if use.spec is not None:
            self.recorded.setdefault(ref, use.spec.shape)
        return ref

    def note_structures(self, record: Record, where: Location, tensors: Any) -> None:
        """Notes the places where a model's record repeats the shapes of its inputs."""
        if isinstance(record["config"].get("build_input_shape"), list):
            self.structures[(*where, "config", "build_input_shape")] = tensors
        if (record.get("build_config") or {}).get("input_shape") is not None:
            self.structures[(*where, "build_config", "input_shape")] = tensors
