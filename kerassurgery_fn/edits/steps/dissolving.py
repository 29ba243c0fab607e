"""Dissolves a nested model: its layers become layers of the model around it.

x -> bb -> top                        x -> conv -> norm -> top
     bb: input -> conv -> norm
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from toolz import keyfilter, merge

from kerassurgery_fn.edits.steps.draft import Draft, parted, within
from kerassurgery_fn.edits.steps.stated_calls import with_stated_calls
from kerassurgery_fn.errors import BadValue, MisfitTensor
from kerassurgery_fn.graph import (
    AUTOMATIC,
    Arguments,
    Graph,
    Node,
    Port,
    Use,
    bound,
    given_to_model,
    is_functional,
    is_input,
    is_model,
    join_path,
    leaves,
    map_leaves,
    redirected,
    renamed,
    unused,
)


@dataclass(frozen=True)
class Dissolved:
    """A draft without a nested model.

    - `draft`: the draft;
    - `keys`: key of each layer in the nested model -> its key in the model around it;
    - `tensors`: for each call of the nested model, tensor inside it -> the tensor that takes its place.
    """

    draft: Draft
    keys: Mapping[str, str]
    tensors: Mapping[int, Mapping[Port, Port]] = field(repr=False)


def dissolved(draft: Draft, path: str) -> Dissolved:
    """The draft in which the layers of a nested model are layers of the model around it.

    A layer keeps its name; if the model around has another layer of that name, the name of the nested model comes
    before it (`bb_conv`). A nested model that is called several times gives layers that are called several times.

    Raises:
        BadValue: the layer is not a nested model, or a call passes it more than its inputs.
    """
    scope, key = parted(path)
    refuse_others(draft, path)
    outer, inner = draft.graph(scope), draft.graph(path)
    if is_functional(outer.record) or is_functional(inner.record):
        outer, inner = (graph if is_functional(graph.record) else with_stated_calls(graph) for graph in (outer, inner))
    nodes = [node for node in outer.nodes(key) if node in outer.alive]
    names = new_names(outer, inner, key)
    tensors = {node[1]: places_of(inner, outer.calls[node], names, i) for i, node in enumerate(nodes)}
    calls = merge(*(calls_of(inner, tensors[node[1]]) for node in nodes))
    ends = {
        Port(*node, number): tensors[node[1]].get(port, port)
        for node in nodes
        for number, port in enumerate(leaves(inner.outputs))
    }
    layers = {names[old]: inner.layers[old] for old in names}
    kept = keyfilter(lambda other: other != key, outer.layers)
    graph = replace(
        outer,
        layers={**kept, **layers},
        calls={**keyfilter(lambda node: node[0] != key, outer.calls), **calls},
        changed=outer.changed | layers.keys(),
        passing=outer.passing | {names[old] for old in inner.passing if old in names},
    )
    for new in layers:
        graph = renamed(graph, new, new)
    moved = with_moved(draft, path, {join_path(path, old): join_path(scope, new) for old, new in names.items()})
    return Dissolved(moved.with_graph(scope, redirected(graph, ends)), names, tensors)


def refuse_others(draft: Draft, path: str) -> None:
    """Raises BadValue if a layer is not a nested model, or if a call passes it more than its inputs."""
    scope, key = parted(path)
    graph = draft.graph(scope)
    record = graph.layers[key]
    if not is_model(record):
        raise BadValue(f"layer {path!r} ({record['class_name']}) is not a nested model, so it cannot be dissolved")
    for node in graph.nodes(key):
        args, kwargs = graph.calls[node]
        if extra := [name for name, value in kwargs.items() if args and value is not None and value is not AUTOMATIC]:
            raise BadValue(
                f"call {node[1]} of nested model {path!r} passes {extra[0]}=, which the layers in it would lose; call "
                "the model without it"
            )


def new_names(outer: Graph, inner: Graph, key: str) -> dict[str, str]:
    """Key of each layer of a nested model, without inputs -> its new key, which is its new name, too."""
    taken = {name for other in outer.layers if other != key for name in (other, outer.name(other))}
    names: dict[str, str] = {}
    for old in inner.layers:
        if not is_input(inner.layers[old]):
            name = inner.name(old)
            names[old] = unused(name if name not in taken else f"{outer.name(key)}_{name}", taken)
            taken.add(names[old])
    return names


def places_of(inner: Graph, call: Arguments, names: Mapping[str, str], index: int) -> dict[Port, Port]:
    """Tensor inside a nested model -> the tensor that takes its place, for the call of the model with an index."""
    arguments = bound(inner.inputs, given_to_model(*call))
    if wrong := [key for key, use in arguments.items() if not isinstance(use, Use)]:
        raise MisfitTensor(f"the input {wrong[0]!r} of the nested model is not a tensor of the model around it")
    calls = 1 + max((number for _, number in inner.calls), default=0)
    read = {*leaves(inner.outputs), *(port for node in inner.calls for port in inner.reads(node))}
    read |= {Port(*node) for node in inner.calls}
    computed = {
        port: Port(names[port.layer], index * calls + port.call, port.output) for port in read if port.layer in names
    }
    return {**computed, **{Port(key): use.port for key, use in arguments.items()}}


def calls_of(inner: Graph, tensors: Mapping[Port, Port]) -> dict[Node, Arguments]:
    """The calls in a nested model as calls in the model around it."""

    def moved(leaf: Any) -> Any:
        return Use(tensors[leaf.port]) if isinstance(leaf, Use) else leaf

    return {
        tensors[Port(*node)].node: Arguments(map_leaves(moved, call.args), map_leaves(moved, call.kwargs))
        for node, call in inner.calls.items()
        if node in inner.alive
    }


def with_moved(draft: Draft, model: str, paths: Mapping[str, str]) -> Draft:
    """The draft in which layers of a nested model, and all layers in them, have other paths.

    Args:
        draft: the draft.
        model: the path of the nested model.
        paths: path of a layer of the nested model -> its new path.
    """

    def new(path: str) -> str:
        outer = next(outer for outer in paths if within(path, outer))
        return paths[outer] + path.removeprefix(outer)

    def is_moved(path: str) -> bool:
        return any(within(path, outer) for outer in paths)

    weights = {path: arrays for path, arrays in draft.weights.items() if is_moved(path)}
    continued = [path for path in weights if path in draft.copies or not draft.is_restarted(path)]
    models = [path for path in {*draft.before.places, *draft.graphs} if is_moved(path)]
    left = draft.without(model)
    return replace(
        left,
        arrays={**left.arrays, **{new(path): arrays for path, arrays in weights.items() if path not in draft.fresh}},
        fresh=left.fresh | {new(path) for path in draft.fresh if is_moved(path)},
        copies={
            **keyfilter(lambda path: not within(path, model), draft.copies),
            **{new(path): draft.copies.get(path, path) for path in [*models, *continued]},
        },
        graphs={
            **keyfilter(lambda scope: not within(scope, model), draft.graphs),
            **{new(scope): draft.graphs[scope] for scope in draft.graphs if is_moved(scope)},
        },
        restarted=draft.restarted | {model},
        replaced=draft.replaced | {model},
    )
