"""Reads the config of a model as a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeGuard

from kerassurgery_fn.errors import BrokenSnapshot, UnknownLayer
from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.records import (
    Record,
    is_functional,
    is_input,
    is_model,
    leaves,
    name_of,
    reading_config,
    triples,
)
from kerassurgery_fn.graph.tensors import Arguments, Node, Port, Shape, Spec, Use, bound, given_to_model
from kerassurgery_fn.values.kept_results import computed_once, with_record
from kerassurgery_fn.values.named_tuples import new
from kerassurgery_fn.values.snapshot import Snapshot

SIZES = frozenset([int, type(None)])  # the types of the sizes in a shape; None is a variable size


@computed_once(with_record)
def read_graph(snapshot: Snapshot) -> Graph:
    """The graph of a snapshot. It is read once for all snapshots with the same record.

    Raises:
        BrokenSnapshot: the config is not one of a Sequential or Functional model, the model has no input, or its calls
            have no topological order.
    """
    graph = graph_of(snapshot.record)
    if not graph.layers.keys() & {port.layer for port in leaves(graph.inputs)}:
        raise BrokenSnapshot(f"model {name_of(graph.record)!r} has no input: build it before it is captured")
    return graph


def nested(graph: Graph, key: str) -> Graph | None:
    """The graph of a nested model, or of the model that a layer wraps; None for any other layer. It is read once.

    Raises:
        BrokenSnapshot: see `read_graph`.
    """
    inner = graph.models.get(key)
    if inner is None:
        return None
    known = graph.read_models.get(key)
    if known is None or known.record is not inner[0]:
        graph.read_models[key] = known = graph_of(inner[0])
    return known  # not the entry of the dict, which another graph that shares the dict can have replaced


def graph_at(graph: Graph, path: str) -> Graph:
    """The graph of a nested model, by its path or that of the layer that wraps it. An empty path is the graph.

    Raises:
        UnknownLayer: no nested or wrapped model has this path.
    """
    for key in path.split("/") if path else ():
        inner = nested(graph, key) if key in graph.layers else None
        if inner is None:
            raise UnknownLayer(f"{path!r} is not the path of a nested model or of a layer that wraps a model")
        graph = inner
    return graph


def graph_of(record: Record) -> Graph:
    """The graph of the model with a record.

    Raises:
        BrokenSnapshot: see `read_graph`.
    """
    with reading_config():
        check_layers(record)
        graph = read_functional(record) if is_functional(record) else read_sequential(record)
        check_outputs(graph)
        check_models(graph)
    return graph


# --- the two kinds of models


def read_functional(record: Record) -> Graph:
    config = record["config"]
    records = {name_of(layer): layer for layer in config["layers"]}
    layers = {key: own_record(layer) for key, layer in records.items()}
    calls = {
        (key, number): new(Arguments, (with_uses(data["args"]), with_uses(data["kwargs"]) if data["kwargs"] else {}))
        for key, layer in records.items()
        for number, data in enumerate(layer["inbound_nodes"])
    }
    stated = {use.port: use.spec for call in calls.values() for use in call.uses if use.spec}
    stated |= {Port(key): own_spec(layer) for key, layer in layers.items() if is_input(layer)}
    read = {name for name, *_ in triples(config["output_layers"])}
    offsets = {key: int(is_functional(records[key])) for key in read & records.keys()}
    inputs, outputs = ports_in(config["input_layers"], {}), ports_in(config["output_layers"], offsets)
    return Graph(record, layers, calls, inputs, outputs, stated)


def read_sequential(record: Record) -> Graph:
    layers = {name_of(layer): layer for layer in record["config"]["layers"]}
    first = next((key for key, layer in layers.items() if is_input(layer)), "")
    port = Port(first)
    calls: dict[Node, Arguments] = {}
    stated = {port: own_spec(layers[first])} if first else {}
    for key, layer in layers.items():
        if key == first:
            continue
        if is_shape(shape := (layer.get("build_config") or {}).get("input_shape")):
            stated.setdefault(port, Spec(tuple(shape)))
        calls[key, 0] = Arguments([Use(port, stated.get(port))], {})
        port = Port(key)
    return Graph(record, layers, calls, Port(first), port, stated)


def own_record(record: Record) -> Record:
    """A layer's record without the keys that a Functional model adds: the calls, and the name if the config has it.

    >>> own_record({"class_name": "ReLU", "config": {"name": "r"}, "name": "r", "inbound_nodes": []})
    {'class_name': 'ReLU', 'config': {'name': 'r'}}
    """
    own = dict(record)
    own.pop("inbound_nodes", None)
    if "name" in record["config"]:
        own.pop("name", None)
    return own


# --- tensors


def is_shape(value: Any) -> TypeGuard[list[int | None]]:
    """Whether a value is the shape of a tensor. A layer of several tensors states a list of shapes.

    >>> is_shape([None, 8]), is_shape([[None, 8], [None, 4]]), is_shape(None)
    (True, False, False)
    """
    return isinstance(value, list) and all(size is None or type(size) is int for size in value)


def own_spec(layer: Record) -> Spec:
    """The shape and dtype of an InputLayer.

    >>> own_spec({"config": {"batch_shape": [None, 8], "dtype": "int32"}})
    Spec(shape=(None, 8), dtype='int32')
    """
    return Spec(as_shape(layer["config"]["batch_shape"]), layer["config"]["dtype"])


def with_uses(tree: Any) -> Any:
    """The arguments of a call with a `Use` in place of every tensor; other serialised objects are unchanged."""
    if isinstance(tree, dict):
        class_name = tree.get("class_name")
        if class_name == "__keras_tensor__":
            config = tree["config"]
            spec = new(Spec, (as_shape(config["shape"]), config["dtype"]))
            return new(Use, (Port(*config["keras_history"]), spec))
        return tree if class_name is not None else {key: with_uses(item) for key, item in tree.items()}
    return [with_uses(item) for item in tree] if isinstance(tree, list) else tree


def as_shape(sizes: Any) -> Shape:
    """A shape from a record.

    Raises:
        BrokenSnapshot: the value is not a list of sizes.
    """
    if isinstance(sizes, list) and SIZES.issuperset(map(type, sizes)):
        return tuple(sizes)
    raise BrokenSnapshot(f"the record states the shape {sizes!r} for a tensor; a shape is a list of integers and None")


def ports_in(tree: Any, offsets: Mapping[str, int]) -> Any:
    """`input_layers` or `output_layers` of a config with a port for each tensor.

    Args:
        tree: nested dicts and lists of [layer, call, output].
        offsets: the number of the first call of each layer, if it is not 0. In `output_layers`, Keras counts the calls
            of a nested Functional model from one.
    """
    match tree:
        case [str(name), int(call), int(output)]:
            return Port(name, call - offsets.get(name, 0), output)
        case dict():
            return {key: ports_in(item, offsets) for key, item in tree.items()}
    return [ports_in(item, offsets) for item in tree]


# --- checks


def check_layers(record: Record) -> None:
    """Raises BrokenSnapshot if a record is not the record of a model, or if two layers have the same name."""
    if not is_model(record):
        name = record.get("name") or (record.get("config") or {}).get("name", "")
        raise BrokenSnapshot(
            f"the config of {record.get('class_name')} {name} lists no layers, so it is not a Sequential or "
            "Functional model; take snapshots with capture()"
        )
    for layer in record["config"]["layers"]:
        if not isinstance(layer["config"], dict):
            raise BrokenSnapshot(f"the config of layer {name_of(layer)!r} is {layer['config']!r}, not a mapping")
    names = Counter(map(name_of, record["config"]["layers"]))
    if repeated := [name for name, times in names.items() if times > 1]:
        raise BrokenSnapshot(
            f"two layers of model {name_of(record)!r} have the name {repeated[0]!r}; give the layers of a model "
            "different names"
        )


def check_outputs(graph: Graph) -> None:
    """Raises BrokenSnapshot if a call or an output reads a tensor that no call computes."""
    computed = {*graph.sources, *graph.order}
    if any(port.node not in computed for port in leaves(graph.outputs)):
        outputs = graph.record["config"]["output_layers"]
        raise BrokenSnapshot(f"no layer computes some of the outputs of {name_of(graph.record)!r}, which are {outputs}")


def check_models(graph: Graph) -> None:
    """Raises BrokenSnapshot if the call of a nested model does not match its inputs, or if an output is read that the
    nested model does not have. The graphs of the nested models are not read for this check."""
    models = {key: record["config"] for key, (record, where) in graph.models.items() if not where}
    if not models:
        return
    for (key, _), call in graph.calls.items():
        if key in models and not is_bound(models[key], call):
            raise BrokenSnapshot(
                f"a call of nested model {key!r} has {len(call.uses)} tensors, which do not match the inputs of the "
                "model; check its inbound_nodes"
            )
    read = [*(port for node in graph.calls for port in graph.reads(node)), *leaves(graph.outputs)]
    for port in read:
        if port.layer in models and not 0 <= port.output < len(leaves(ends_of(models[port.layer], "output_layers"))):
            raise BrokenSnapshot(f"output {port.output} of nested model {port.layer!r} is read, but it does not exist")


def is_bound(config: Mapping[str, Any], call: Arguments) -> bool:
    """Whether a call of a model has one tensor for each input of the model."""
    try:
        bound(ends_of(config, "input_layers"), given_to_model(*call))
    except (KeyError, StopIteration, ValueError):
        return False
    return True


def ends_of(config: Mapping[str, Any], field: str) -> Any:
    """The inputs or outputs of a model, as ports in nested dicts and lists. A Sequential model has one input and one
    output."""
    return ports_in(config[field], {}) if field in config else [Port("")]
