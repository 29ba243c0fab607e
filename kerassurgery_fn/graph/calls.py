"""The trace of a model: the calls of its layers one after the other, those of nested models among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.records import Record, leaves_of, wrapped_model
from kerassurgery_fn.graph.tensors import Shape
from kerassurgery_fn.values.frozen import Location


class Ref(NamedTuple):
    """A tensor: output number `output` of call `node` of a layer. In nested models `node` has a number a level."""

    path: str
    node: tuple[int, ...]
    output: int


class Constant(NamedTuple):
    """An array that stands inside a call's arguments, and where in the record its nested list is."""

    where: Location
    array: np.ndarray


class Inner(NamedTuple):
    """What happens inside a layer that wraps a whole model, in one call of it: the calls of that model, the tensor that
    stands for one step of what the layer is called on, and the output of the model."""

    calls: list[Call]
    step: Ref
    output: Ref


class Call(NamedTuple):
    """One call of a layer or operation.

    `where` is the place of the layer's record in the snapshot's record, `args` and `kwargs` are the call's arguments
    with a `Ref` for every tensor.
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
    """The calls of a model in topological order, its inputs and outputs, and where its facts stand in the record.

    A call of a nested model is in it as the calls of the model's layers: the model's inputs *are* the tensors it is
    called on.

    - `graph`: the model;
    - `shapes`: place of every shape that the record states of a tensor -> that tensor;
    - `structures`: place of every `build_config` or `build_input_shape` of a model -> the tensors it is called on;
    - `recorded`: tensor -> the shape that the record states where the tensor is first used;
    - `twins`: pairs of tensors that are one tensor of a nested model, in its first call and in a later one;
    - `models`: every call of a nested model;
    - `inner`: place of a model that a layer wraps, and node of the layer's call -> what happens inside it.
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
        """The calls, and those inside models that layers wrap after them."""
        return [*self.calls, *(call for inner in self.inner.values() for call in inner.calls)]

    @property
    def records(self) -> dict[str, Record]:
        """Path -> record of every layer that is called, nested models and what layers wrap excepted."""
        return {call.path: call.record for call in self.calls}

    def within(self, call: Call) -> Inner | None:
        """What happens inside a layer in a call of it, if it wraps a model."""
        wrapped = wrapped_model(call.record, call.where)
        return self.inner[wrapped[1], call.node] if wrapped else None


def refs(tree: Any) -> list[Ref]:
    """The tensors among the leaves of a call's arguments."""
    return leaves_of(Ref, tree)
