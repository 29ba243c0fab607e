"""A config with some of its calls taken out and the tensors around them joined again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from kerassurgery_fn.frozen import freeze
from kerassurgery_fn.graph import Record, is_functional, is_model, join_path, name_of, triples

Node = tuple[str, int]
Port = tuple[str, int, int]


@dataclass(frozen=True)
class Rewiring:
    """What changes in the calls of a model.

    A call is named by its layer's path and its number among the layer's calls, one of its outputs by these and the
    output's index.

    - `dropped`: calls that go;
    - `shortened`: calls whose first argument, a list, loses some of its items;
    - `replaced`: outputs that are no more -> the output, in the same model, that takes their place.
    """

    dropped: Set[Node] = frozenset()
    shortened: Mapping[Node, Set[int]] = field(default_factory=dict)
    replaced: Mapping[Port, Port] = field(default_factory=dict)


def rewire(record: Record, changes: Rewiring, scope: str = "") -> Record:
    """The record of a model after a rewiring: layers without calls go, calls are counted anew.

    Parts of it that do not change are shared.
    """
    if not (changes.dropped or changes.shortened or changes.replaced):
        return record
    config, layers = record["config"], record["config"]["layers"]
    model = _Model(changes, scope, {name_of(one) for one in layers if is_functional(one)})
    kept = [
        rewire(one, changes, model.path(name_of(one))) if is_model(one) else one for one in layers if model.lives(one)
    ]
    if not is_functional(record):
        return _unless_same(record, {**record, "config": {**config, "layers": kept}})
    made = {
        **config,
        "layers": [model.layer(one) for one in kept],
        "output_layers": model.outputs(config["output_layers"]),
    }
    return _unless_same(record, {**record, "config": {**made, "layers": in_order(made)}})


def _unless_same(old: Record, new: Record) -> Record:
    """The new record, frozen; the very old one if nothing in it has changed."""
    return old if new == old else freeze(new)


@dataclass(frozen=True)
class _Model:
    """One Functional model of a rewiring; `functionals` are the names of its layers that are Functional models."""

    changes: Rewiring
    scope: str
    functionals: Set[str]

    def path(self, name: str) -> str:
        return join_path(self.scope, name)

    def lives(self, layer: Record) -> bool:
        """Whether a call of the layer is left; in a Sequential model each is called once, an input layer never."""
        path, nodes = self.path(name_of(layer)), layer.get("inbound_nodes", [None])
        return not nodes or any((path, n) not in self.changes.dropped for n in range(len(nodes)))

    def layer(self, layer: Record) -> Record:
        path = self.path(name_of(layer))
        nodes = [
            self.call((path, n), node)
            for n, node in enumerate(layer["inbound_nodes"])
            if (path, n) not in self.changes.dropped
        ]
        made = {**layer, "inbound_nodes": nodes}
        if (path, 0) in self.changes.shortened and (layer.get("build_config") or {}).get("input_shape"):
            shapes = self.shorten((path, 0), layer["build_config"]["input_shape"])
            made["build_config"] = {**layer["build_config"], "input_shape": shapes}
        return _unless_same(layer, made)

    def call(self, node: Node, data: Mapping[str, Any]) -> Mapping[str, Any]:
        args = data["args"]
        if node in self.changes.shortened:
            args = [self.shorten(node, args[0]), *args[1:]]
        return {**data, "args": self.tensors(args), "kwargs": self.tensors(data["kwargs"])}

    def shorten(self, node: Node, items: list[Any]) -> list[Any]:
        return [item for i, item in enumerate(items) if i not in self.changes.shortened[node]]

    def tensors(self, tree: Any) -> Any:
        """Arguments of a call with every tensor named as it is called now."""
        if isinstance(tree, dict) and tree.get("class_name") == "__keras_tensor__":
            return freeze(
                {**tree, "config": {**tree["config"], "keras_history": self.renamed(*tree["config"]["keras_history"])}}
            )
        if isinstance(tree, dict):
            return {key: self.tensors(item) for key, item in tree.items()}
        return [self.tensors(item) for item in tree] if isinstance(tree, list) else tree

    def renamed(self, name: str, node: int, index: int) -> list[Any]:
        port = (self.path(name), node, index)
        while port in self.changes.replaced:
            port = self.changes.replaced[port]
        path, node, index = port
        gone = sum((path, n) in self.changes.dropped for n in range(node))
        return [path.removeprefix(f"{self.scope}/") if self.scope else path, node - gone, index]

    def outputs(self, tree: Any) -> Any:
        """`output_layers` named as they are now; calls of Functional models are counted from one there."""
        if isinstance(tree, list) and len(tree) == 3 and isinstance(tree[0], str):
            name, node, index = self.renamed(tree[0], tree[1] - (tree[0] in self.functionals), tree[2])
            return [name, node + (name in self.functionals), index]
        if isinstance(tree, dict):
            return {key: self.outputs(item) for key, item in tree.items()}
        return [self.outputs(item) for item in tree]


def in_order(config: Mapping[str, Any]) -> list[Record]:
    """The layers of a Functional model's config in the order in which Keras writes them.

    That is by their distance from the outputs, the farthest first, and among equals as they are met on a walk from
    the outputs to the inputs.
    """
    layers = {name_of(layer): layer for layer in config["layers"]}
    met, finished = _walk(layers, config["output_layers"])
    depths: dict[Node, int] = {}
    depth_of: dict[str, int] = {}
    for node in reversed(finished):
        depth_of[node[0]] = depths[node] = max(depths.get(node, 0), depth_of.get(node[0], 0))
        for parent in _parents(layers, node):
            depths[parent] = max(depths[node] + 1, depths.get(parent, 0))
    place = {name: index for index, name in enumerate(met)}
    return sorted(layers.values(), key=lambda one: (-depth_of.get(name_of(one), 0), place.get(name_of(one), -1)))


def _walk(layers: Mapping[str, Record], outputs: Any) -> tuple[list[str], list[Node]]:
    """Layers as they are met on a depth-first walk from the outputs, and calls as the walk is done with them."""
    met: dict[str, None] = {}
    started: set[Node] = set()
    finished: list[Node] = []
    ends = [(name, node - is_functional(layers[name])) for name, node, _ in triples(outputs)]
    stack: list[tuple[Node | None, Iterator[Node]]] = [(None, iter(ends))]
    while stack:
        here, ahead = stack[-1]
        node = next((node for node in ahead if node not in started), None)
        if node is not None:
            started.add(node)
            met.setdefault(node[0])
            stack.append((node, iter(_parents(layers, node))))
        else:
            stack.pop()
            finished += [] if here is None else [here]
    return list(met), finished


def _parents(layers: Mapping[str, Record], node: Node) -> list[Node]:
    """The calls whose outputs a call reads, in the order of its arguments."""
    nodes = layers[node[0]]["inbound_nodes"]
    return list(_histories([nodes[node[1]]["args"], nodes[node[1]]["kwargs"]])) if nodes else []


def _histories(tree: Any) -> Iterator[Node]:
    if isinstance(tree, dict) and tree.get("class_name") == "__keras_tensor__":
        name, node, _ = tree["config"]["keras_history"]
        yield name, node
    elif isinstance(tree, (dict, list)):
        for item in [tree[key] for key in sorted(tree)] if isinstance(tree, dict) else tree:
            yield from _histories(item)
