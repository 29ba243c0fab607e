"""What a graph is made of: calls of layers on tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.arguments import meant
from kerassurgery_fn.errors import AmbiguousLayer, UnknownLayer
from kerassurgery_fn.graph.records import Record, leaves, wrapped_model
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
    stands for one step of what the layer is called on, and what the model makes of it."""

    calls: list[Call]
    step: Ref
    made: Ref


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
    """One call of a nested model: the tensors that it is given, and those that it makes."""

    path: str
    node: tuple[int, ...]
    given: list[Ref]
    made: list[Ref]


@dataclass(frozen=True)
class Graph:
    """The calls of a model in topological order, its inputs and outputs, and where its facts stand in the record.

    - `places`: path of every layer, nested models included -> place of its record;
    - `shapes`: place of every shape that the record states of a tensor -> that tensor;
    - `structures`: place of every `build_config` or `build_input_shape` of a model -> the tensors it is called on;
    - `recorded`: tensor -> the shape that the record states where the tensor is first used;
    - `twins`: pairs of tensors that are one tensor of a nested model, in its first call and in a later one;
    - `models`: every call of a nested model;
    - `inner`: place of a model that a layer wraps, and node of the layer's call -> what happens inside it.
    """

    calls: list[Call]
    inputs: list[Ref]
    outputs: list[Ref]
    places: dict[str, Location]
    shapes: dict[Location, Ref] = field(repr=False)
    structures: dict[Location, Any] = field(repr=False)
    recorded: dict[Ref, list[int | None]] = field(repr=False)
    twins: list[tuple[Ref, Ref]] = field(repr=False)
    models: list[ModelCall] = field(repr=False)
    inner: dict[tuple[Location, tuple[int, ...]], Inner] = field(repr=False)

    @property
    def all_calls(self) -> list[Call]:
        """The calls, and those inside models that layers wrap after them."""
        return [*self.calls, *(call for inner in self.inner.values() for call in inner.calls)]

    def within(self, call: Call) -> Inner | None:
        """What happens inside a layer in a call of it, if it wraps a model."""
        wrapped = wrapped_model(call.record, call.where)
        return self.inner[wrapped[1], call.node] if wrapped else None


def refs(tree: Any) -> list[Ref]:
    """The tensors among the leaves of a call's arguments."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Ref)]


def find_layer(graph: Graph, name: Any) -> str:
    """The path of a layer, given its path, its name where that is unambiguous, or a Keras layer.

    Raises:
        UnknownLayer: no layer has that name.
        AmbiguousLayer: layers of several nested models have it.
    """
    name = name if isinstance(name, str) else getattr(name, "name", name)
    if isinstance(name, str) and name in graph.places:
        return name
    matches = [path for path in graph.places if path.endswith(f"/{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise AmbiguousLayer(f"{len(matches)} layers are named {name!r}: {', '.join(matches)}; give one of these paths")
    raise UnknownLayer(f"no layer named {name!r} among {len(graph.places)} layers; {meant(name, graph.places)}")
