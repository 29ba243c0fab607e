"""The config of a model read as the graph of its calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerassurgery_fn.errors import BrokenSnapshot, SurgeryError
from kerassurgery_fn.graph.calls import Call, Constant, Graph, Inner, ModelCall, Ref, refs
from kerassurgery_fn.graph.records import (
    Record,
    is_functional,
    is_input,
    is_model,
    join_path,
    leaves,
    map_leaves,
    name_of,
    triples,
    wrapped_model,
)
from kerassurgery_fn.values.frozen import Location
from kerassurgery_fn.values.snapshot import Snapshot


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
            given = args[0] if args else kwargs.get("inputs", next(iter(kwargs.values())))
            outputs = self.model(layer, place, path, node, given)
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
                    self.recorded.setdefault(ref, _sizes(arg["config"]["shape"]))
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


def _sizes(shape: Any) -> list[int | None]:
    """A recorded shape itself.

    Raises:
        BrokenSnapshot: it is none.
    """
    if isinstance(shape, list) and all(size is None or type(size) is int for size in shape):
        return shape
    raise BrokenSnapshot(f"the record states the shape {shape!r} of a tensor, which is no list of sizes")


class _NotYet(Exception):
    """A tensor that a later round will make."""


def _lookup(tensors: dict[tuple[str, int, int], Ref], name: str, node: int, index: int) -> Ref:
    if (name, node, index) in tensors:
        return tensors[name, node, index]
    if (name, node, -1) in tensors:
        return tensors[name, node, -1]._replace(output=index)
    raise _NotYet


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
