"""A model's config read as a flat list of calls.

Sequential and Functional models, shared layers and operations all become the same thing: calls in an order in
which every tensor is made before it is used. A nested model leaves no trace but its layers' paths
(`backbone/conv_1`): its inputs *are* the tensors it is called on, its outputs those that its layers make.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.errors import AmbiguousLayer, BrokenSnapshot, SurgeryError, UnknownLayer
from kerassurgery_fn.frozen import Location
from kerassurgery_fn.snapshot import Snapshot

Record = Mapping[str, Any]


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


def read_graph(snapshot: Snapshot) -> Graph:
    """The graph of a snapshot.

    Raises:
        BrokenSnapshot: the config is of no Sequential or Functional model, or its calls cannot be put in order.
    """
    reader = _Reader()
    try:
        outputs = reader.model(snapshot.record, (), "", (), None)
    except SurgeryError:
        raise
    except Exception as error:  # a config may be broken in any way there is
        raise BrokenSnapshot(
            f"the config is not as Keras 3 writes it ({type(error).__name__}: {error}); take snapshots with capture()"
        ) from error
    inputs = [Ref(call.path, call.node, 0) for call in reader.calls if not call.args and is_input(call.record)]
    return Graph(
        reader.calls, inputs, outputs, reader.places, reader.shapes, reader.structures, reader.recorded, reader.twins,
        reader.models, reader.inner,
    )  # fmt: skip


def is_model(record: Record) -> bool:
    """Whether a layer's record is that of a nested model whose graph can be read.

    >>> is_model({"class_name": "Sequential", "config": {"layers": []}}), is_model({"config": {"units": 3}})
    (True, False)
    """
    config = record.get("config")
    return (
        isinstance(config, dict)
        and isinstance(config.get("layers"), list)
        and (record.get("class_name") == "Sequential" or bool({"input_layers", "build_input_shape"} & config.keys()))
    )


def wrapped_model(record: Record, where: Location = ()) -> tuple[Record, Location] | None:
    """The record of the model that a TimeDistributed layer wraps, and its place; None for any other layer.

    >>> model = {"class_name": "Sequential", "config": {"layers": []}}
    >>> wrapped_model({"class_name": "TimeDistributed", "config": {"layer": model}})
    ({'class_name': 'Sequential', 'config': {'layers': []}}, ('config', 'layer'))
    """
    if record.get("class_name") != "TimeDistributed" or not isinstance(record["config"].get("layer"), dict):
        return None
    record, where = record["config"]["layer"], (*where, "config", "layer")
    return (record, where) if is_model(record) else wrapped_model(record, where)


def model_in(record: Record) -> tuple[Record, Location] | None:
    """The record of the model that a layer is or wraps, and its place in the layer's own; None for any other layer.

    >>> model_in({"class_name": "Sequential", "config": {"layers": []}})
    ({'class_name': 'Sequential', 'config': {'layers': []}}, ())
    """
    return (record, ()) if is_model(record) else wrapped_model(record)


def is_functional(record: Record) -> bool:
    """Whether a record is that of a Functional model, whose output nodes Keras counts from one when it is nested."""
    return is_model(record) and "input_layers" in record["config"]


def is_input(record: Record) -> bool:
    return record["class_name"] == "InputLayer"


def name_of(record: Record) -> str:
    """A layer's name: beside the config in a Functional model, and where the layer's class writes none; in it
    elsewhere."""
    return record.get("name") or record["config"]["name"]


def with_name(record: Record, name: str) -> Record:
    """The record of a layer with another name: in the config where the layer's class writes one, beside it elsewhere.

    >>> with_name({"config": {"name": "a"}}, "b"), with_name({"config": {"width": 3}}, "b")
    ({'config': {'name': 'b'}}, {'config': {'width': 3}, 'name': 'b'})
    """
    if "name" in record["config"]:
        return {**record, "config": {**record["config"], "name": name}}
    return {**record, "name": name}


def join_path(*parts: str) -> str:
    """
    >>> join_path("", "conv"), join_path("backbone", "conv")
    ('conv', 'backbone/conv')
    """
    return "/".join(part for part in parts if part)


def leaves(tree: Any) -> list[Any]:
    """The leaves of nested dicts and lists, dicts in order of their keys, as Keras flattens them.

    >>> leaves({"b": 1, "a": [2, 3]})
    [2, 3, 1]
    """
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, list):
        return [leaf for item in tree for leaf in leaves(item)]
    return [tree]


def refs(tree: Any) -> list[Ref]:
    """The tensors among the leaves of a call's arguments."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, Ref)]


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Nested dicts and lists with every leaf replaced.

    >>> map_leaves(str, {"a": [1, 2]})
    {'a': ['1', '2']}
    """
    if isinstance(tree, dict):
        return {key: map_leaves(function, item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [map_leaves(function, item) for item in tree]
    return function(tree)


def find_layer(graph: Graph, name: Any) -> str:
    """The path of a layer, given its path, its name where that is unambiguous, or a Keras layer.

    Raises:
        UnknownLayer: no layer has that name.
        AmbiguousLayer: layers of several nested models have it.
    """
    name = name if isinstance(name, str) else getattr(name, "name", name)
    if name in graph.places:
        return name
    matches = [path for path in graph.places if path.endswith(f"/{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise AmbiguousLayer(f"{len(matches)} layers are named {name!r}: {', '.join(matches)}; give one of these paths")
    close = difflib.get_close_matches(str(name), graph.places, n=1)
    known = ", ".join([*graph.places][:8]) + (", ..." if len(graph.places) > 8 else "")
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are {known}"
    raise UnknownLayer(f"no layer named {name!r} among {len(graph.places)} layers{hint}")


class _Reader:
    """What is gathered on the way through the configs of a model and of the models nested in it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.places: dict[str, Location] = {}
        self.shapes: dict[Location, Ref] = {}
        self.structures: dict[Location, Any] = {}
        self.recorded: dict[Ref, list[int | None]] = {}
        self.twins: list[tuple[Ref, Ref]] = []
        self.models: list[ModelCall] = []
        self.inner: dict[tuple[Location, tuple[int, ...]], Inner] = {}

    def model(self, record: Record, where: Location, scope: str, node: tuple[int, ...], given: Any) -> list[Ref]:
        """Adds the calls of a model that is called on `given` (None: on its own inputs); its output tensors."""
        if not is_model(record):
            raise BrokenSnapshot(
                f"the config of {record.get('class_name')} {scope or ''} lists no layers: it is no Sequential or "
                "Functional model; take snapshots with capture(), which writes subclasses as the graphs they are"
            )
        read = self.functional if is_functional(record) else self.sequential
        return read(record, where, scope, node, given)

    def sequential(self, record: Record, where: Location, scope: str, node: tuple[int, ...], given: Any) -> list[Ref]:
        current: Any = leaves(given)[0] if given is not None else None
        for index, layer in enumerate(record["config"]["layers"]):
            place = (*where, "config", "layers", index)
            path = self.place(layer, place, scope)
            if is_input(layer):
                current = self.input(layer, place, path, node, current)
                self.note_structure(record, where, current)
            elif current is not None:
                if shape := (layer.get("build_config") or {}).get("input_shape"):
                    self.recorded.setdefault(current, shape)
                current = self.call(layer, place, path, (*node, 0), [current], {})[0]
        if current is None:
            raise BrokenSnapshot(f"Sequential model {name_of(record)!r} has no input: build it before it is captured")
        return [current]

    def functional(self, record: Record, where: Location, scope: str, node: tuple[int, ...], given: Any) -> list[Ref]:
        config = record["config"]
        tensors: dict[tuple[str, int, int], Ref] = {}
        bound = _bind(config["input_layers"], given)
        functionals = set()
        waiting: list[tuple[Record, Location, str, int]] = []
        for index, layer in enumerate(config["layers"]):
            place, name = (*where, "config", "layers", index), name_of(layer)
            path = self.place(layer, place, scope)
            if is_functional(layer):
                functionals.add(name)
            if is_input(layer):
                tensors[name, 0, 0] = self.input(layer, place, path, node, bound.get(name))
            waiting += [(layer, place, name, n) for n in range(len(layer["inbound_nodes"]))]
        self.note_structure(
            record, where, map_leaves(lambda key: tensors.get((key, 0, 0)), _keys(config["input_layers"]))
        )
        while waiting:
            late = []
            for layer, place, name, n in waiting:
                data = layer["inbound_nodes"][n]
                inner = (*place, "inbound_nodes", n)
                try:
                    args = [self.resolve(arg, (*inner, "args", i), tensors) for i, arg in enumerate(data["args"])]
                    kwargs = {
                        key: self.resolve(arg, (*inner, "kwargs", key), tensors) for key, arg in data["kwargs"].items()
                    }
                except _NotYet:
                    late.append((layer, place, name, n))
                    continue
                made = self.call(layer, place, join_path(scope, name), (*node, n), args, kwargs)
                tensors.update({(name, n, i): ref for i, ref in enumerate(made)})
                if not is_model(layer):
                    tensors[name, n, -1] = made[0]
            if len(late) == len(waiting):
                names = ", ".join(sorted({name for _, _, name, _ in late}))
                raise BrokenSnapshot(
                    f"the calls of {names} wait for tensors that nothing makes; check their inbound_nodes"
                )
            waiting = late
        ends = [(name, n - (name in functionals), index) for name, n, index in triples(config["output_layers"])]
        try:
            return [_lookup(tensors, *end) for end in ends]
        except _NotYet:
            raise BrokenSnapshot(
                f"nothing makes some output of {name_of(record)!r}: they are {config['output_layers']}"
            ) from None

    def place(self, layer: Record, place: Location, scope: str) -> str:
        path = join_path(scope, name_of(layer))
        if not isinstance(layer["config"], dict):
            raise BrokenSnapshot(f"layer {path!r} has no config to read, but {layer['config']!r}")
        if self.places.setdefault(path, place) != place:
            raise BrokenSnapshot(f"two layers have the path {path!r}; give the layers of a model different names")
        return path

    def input(self, layer: Record, place: Location, path: str, node: tuple[int, ...], given: Ref | None) -> Ref:
        """The tensor of an InputLayer: one of its own at the top, the one that is given inside a nested model."""
        if given is None:
            self.calls.append(Call(path, (*node, 0), layer, place, [], {}))
        own = Ref(path, (*node, 0), 0)
        tensor = given or own
        first = self.shapes.setdefault((*place, "config", "batch_shape"), tensor)
        if first != tensor:
            self.twins.append((first, tensor))
        return tensor

    def call(
        self, layer: Record, place: Location, path: str, node: tuple[int, ...], args: list[Any], kwargs: dict[str, Any]
    ) -> list[Ref]:
        """Adds a call of a layer, or the calls within it if it is a model; its output tensors."""
        if is_model(layer):
            outputs = self.model(layer, place, path, node, args[0] if args else next(iter(kwargs.values())))
            self.models.append(ModelCall(path, node, refs([args, kwargs]), outputs))
            return outputs
        if wrapped := wrapped_model(layer, place):
            self.inside(*wrapped, path, node)
        self.calls.append(Call(path, node, layer, place, args, kwargs))
        made = Ref(path, node, 0)
        if len(node) > 1 and any(node[:-1]):
            self.twins.append((Ref(path, (*(0 for _ in node[:-1]), node[-1]), 0), made))
        return [made]

    def inside(self, record: Record, place: Location, path: str, node: tuple[int, ...]) -> None:
        """Reads the model that a layer wraps, whose calls are no calls of the graph."""
        calls, models = self.calls, self.models
        self.calls, self.models = [], []
        step = Ref(f"{path}/(step)", node, 0)
        made = self.model(record, place, path, node, step)
        self.inner[place, node] = Inner(self.calls, step, made[0])
        self.calls, self.models = calls, models

    def resolve(self, arg: Any, where: Location, tensors: dict[tuple[str, int, int], Ref]) -> Any:
        """A call's argument with tensors looked up and constants read."""
        if isinstance(arg, dict):
            match arg.get("class_name"):
                case "__keras_tensor__":
                    ref = _lookup(tensors, *arg["config"]["keras_history"])
                    self.shapes[(*where, "config", "shape")] = ref
                    self.recorded.setdefault(ref, arg["config"]["shape"])
                    return ref
                case "__numpy__" | "__tensor__":
                    value = np.asarray(arg["config"]["value"])
                    return Constant((*where, "config", "value"), value) if value.ndim else value.item()
                case None:
                    return {key: self.resolve(item, (*where, key), tensors) for key, item in arg.items()}
                case _:
                    return arg
        if isinstance(arg, list):
            return [self.resolve(item, (*where, i), tensors) for i, item in enumerate(arg)]
        return arg

    def note_structure(self, record: Record, where: Location, tensors: Any) -> None:
        """Where a nested model's record repeats the shapes of its inputs."""
        if isinstance(record["config"].get("build_input_shape"), list):
            self.structures[(*where, "config", "build_input_shape")] = tensors
        if (record.get("build_config") or {}).get("input_shape") is not None:
            self.structures[(*where, "build_config", "input_shape")] = tensors


class _NotYet(Exception):
    """A tensor that a later round will make."""


def _lookup(tensors: dict[tuple[str, int, int], Ref], name: str, node: int, index: int) -> Ref:
    if (name, node, index) in tensors:
        return tensors[name, node, index]
    if (name, node, -1) in tensors:
        return tensors[name, node, -1]._replace(output=index)
    raise _NotYet


def triples(tree: Any) -> Iterator[list[Any]]:
    """The [layer, node, tensor] leaves of `input_layers` or `output_layers`."""
    if isinstance(tree, list) and len(tree) == 3 and isinstance(tree[0], str):
        yield tree
    elif isinstance(tree, dict):
        for key in sorted(tree):
            yield from triples(tree[key])
    else:
        for item in tree:
            yield from triples(item)


def _keys(tree: Any) -> Any:
    """The structure of `input_layers` with the layers' names for leaves."""
    if isinstance(tree, list) and len(tree) == 3 and isinstance(tree[0], str):
        return tree[0]
    if isinstance(tree, dict):
        return {key: _keys(item) for key, item in tree.items()}
    return [_keys(item) for item in tree]


def _bind(input_layers: Any, given: Any) -> dict[str, Ref]:
    """Name of each input layer -> the tensor that a call gives for it."""
    if given is None:
        return {}
    names = [name for name, _, _ in triples(input_layers)]
    if isinstance(given, dict) and not isinstance(input_layers, dict):
        return {name: given[name] for name in names}
    return dict(zip(names, refs(given), strict=True))
