"""The trace of a model: the calls of its layers in topological order, with the layers of nested models among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.records import Record, leaves_of, wrapped_model
from kerassurgery_fn.graph.tensors import Shape
from kerassurgery_fn.values.frozen import Location


class Ref(NamedTuple):
    """A tensor: output number `output` of call `node` of a layer. In a nested model `node` has a number for each level:
    the number of the call of each model around the layer, then the number of the layer's own call."""

    path: str
    node: tuple[int, ...]
    output: int


class Constant(NamedTuple):
    """An array among the arguments of a call, and the place of its nested list in the record."""

    where: Location
    array: np.ndarray


class Inner(NamedTuple):
    """One call of a layer that wraps a model, such as TimeDistributed.

    - `calls`: the calls inside the model;
    - `step`: the tensor that represents one time step of the layer's input;
    - `output`: the output of the model.
    """

    calls: list[Call]
    step: Ref
    output: Ref


class Call(NamedTuple):
    """One call of a layer or operation.

    `where` is the place of the layer's record in the snapshot's record. `args` and `kwargs` are the arguments of the
    call, with a `Ref` for every tensor.
    """

    path: str
    node: tuple[int, ...]
    record: Record
    where: Location
    args: list[Any]
    kwargs: dict[str, Any]


class ModelCall(NamedTuple):
    """One call of a nested model: the tensors among its arguments, and its outputs."""

    path: str
    node: tuple[int, ...]
    inputs: list[Ref]
    outputs: list[Ref]


@dataclass(frozen=True)
class Trace:
    """The calls of a model in topological order, its inputs and outputs, and the places of shapes in the record.

    A call of a nested model is replaced by the calls of the model's layers. Here the model `m` is called on `x` and on
    `y`; its only layer is `d`, and the second number of a node is the call of `d` inside `m`:

        x -> m -> out        calls:  m/d, node (0, 0), reads x        twins:  the outputs of both calls of m/d
        y -> m -> out                m/d, node (1, 0), reads y

    - `graph`: the graph of the model;
    - `shapes`: the place of each shape of a tensor in the record -> the tensor;
    - `structures`: the place of each `build_config` or `build_input_shape` of a model -> the tensors on which the model
      is called;
    - `recorded`: tensor -> its shape in the record, at the first call that reads the tensor;
    - `twins`: pairs of tensors that are one tensor of a nested model, in its first call and in a later one;
    - `models`: the calls of nested models;
    - `inner`: the place of a wrapped model and the node of the wrapper's call -> the calls inside the model.
    """

    graph: Graph = field(repr=False)
    calls: list[Call] = field(default_factory=list)
    inputs: list[Ref] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)
    shapes: dict[Location, Ref] = field(default_factory=dict, repr=False)
    structures: dict[Location, Any] = field(default_factory=dict, repr=False)
    recorded: dict[Ref, Shape] = field(default_factory=dict, repr=False)
    twins: list[tuple[Ref, Ref]] = field(default_factory=list, repr=False)
    models: list[ModelCall] = field(default_factory=list, repr=False)
    inner: dict[tuple[Location, tuple[int, ...]], Inner] = field(default_factory=dict, repr=False)

    @property
    def all_calls(self) -> list[Call]:
        """The calls, followed by the calls inside wrapped models."""
        return [*self.calls, *(call for inner in self.inner.values() for call in inner.calls)]

    @property
    def records(self) -> dict[str, Record]:
        """Path -> record of every layer that is called. Nested models and wrapped layers are not included."""
        return {call.path: call.record for call in self.calls}

    def within(self, call: Call) -> Inner | None:
        """The calls inside the model that a layer wraps, for one call of the layer; None if it wraps no model."""
        wrapped = wrapped_model(call.record, call.where)
        return self.inner[wrapped[1], call.node] if wrapped else None


def refs(tree: Any) -> list[Ref]:
    """The tensors among the arguments of a call."""
    return leaves_of(Ref, tree)
