"""One model, unfolded into calls, and how its tensors are joined anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain, count
from typing import Any, Final, NamedTuple

from kerassurgery_fn.graph.records import Record, is_functional, is_input, leaves, map_leaves, name_of, with_name
from kerassurgery_fn.values.frozen import freeze

Node = tuple[str, int]


class Port(NamedTuple):
    """A tensor of one model: the layer that makes it, at which of its calls, and which of the call's outputs it is."""

    layer: str
    call: int = 0
    output: int = 0

    @property
    def node(self) -> Node:
        return self.layer, self.call


Shape = tuple[int | None, ...]


class Spec(NamedTuple):
    """A tensor's shape and dtype; the dtype is None where nothing states it."""

    shape: Shape
    dtype: str | None = None

    def fits(self, other: Spec | None) -> bool:
        """Whether two specs are the same as far as both are stated.

        >>> Spec((None, 8), "float32").fits(Spec((None, 8))), Spec((None, 8)).fits(Spec((None, 7)))
        (True, False)
        """
        return other is not None and self.shape == other.shape and (None in (self.dtype, other.dtype) or self == other)


class Unfound(Enum):
    """What stands in a call for an argument that is yet to be found."""

    MASK = "mask"


AUTOMATIC: Final = Unfound.MASK  # the mask that Keras will find


class Use(NamedTuple):
    """A tensor among a call's arguments, and the spec of what the call was recorded to read there, if it was."""

    port: Port
    spec: Spec | None = None


class Arguments(NamedTuple):
    """What a call is given, with a `Use` for every tensor."""

    args: list[Any]
    kwargs: dict[str, Any]

    @property
    def uses(self) -> list[Use]:
        return [leaf for leaf in leaves([self.args, self.kwargs]) if isinstance(leaf, Use)]


@dataclass(frozen=True)
class Net:
    """One model, unfolded. Layers go by keys, which stay when a layer gets another name.

    - `record`: the record of the model as it was;
    - `layers`: key -> the layer's own record; an InputLayer is one of them;
    - `calls`: calls by the layer's key and a number; the numbers need not be without gaps;
    - `inputs`, `outputs`: the model's own, ports in whatever structure;
    - `stated`: the spec of each tensor of which the config states one;
    - `changed`: keys of layers that do not make what is stated any more, or whose record does not say what they read;
    - `passing`: keys of layers that hand masks on, though their class is none of Keras.
    """

    record: Record
    layers: Mapping[str, Record]
    calls: Mapping[Node, Arguments]
    inputs: Any
    outputs: Any
    stated: Mapping[Port, Spec] = field(repr=False)
    changed: frozenset[str] = frozenset()
    passing: frozenset[str] = frozenset()

    def name(self, key: str) -> str:
        """The name of a layer now."""
        return name_of(self.layers[key])

    def nodes(self, key: str) -> list[Node]:
        """The calls of a layer in order; an InputLayer has one, at which it is given nothing."""
        return [(key, 0)] if is_input(self.layers[key]) else sorted(node for node in self.calls if node[0] == key)

    def first(self, key: str) -> Port:
        """What the first call of a layer makes."""
        return Port(*self.nodes(key)[0])

    def reads(self, node: Node) -> list[Port]:
        """The tensors that a call reads, in the order of its arguments."""
        return [use.port for use in self.calls[node].uses] if node in self.calls else []


def unused(name: str, taken: Iterable[str]) -> str:
    """A name that is not taken: the name itself, or the first of name_1, name_2, ...

    >>> unused("drop", ["drop", "drop_1"])
    'drop_2'
    """
    taken = set(taken)
    return next(one for one in chain([name], (f"{name}_{i}" for i in count(1))) if one not in taken)


# --- reading


def unfold(record: Record) -> Net:
    """The calls of a model, by its record."""
    return _functional(record) if is_functional(record) else _sequential(record)


def _functional(record: Record) -> Net:
    config = record["config"]
    layers = {name_of(one): own_record(one) for one in config["layers"]}
    offsets = {name_of(one): int(is_functional(one)) for one in config["layers"]}
    calls = {
        (name_of(one), n): Arguments(_uses(data["args"]), _uses(data["kwargs"]))
        for one in config["layers"]
        for n, data in enumerate(one["inbound_nodes"])
    }
    stated = {use.port: use.spec for call in calls.values() for use in call.uses if use.spec}
    stated |= {Port(key): own_spec(layer) for key, layer in layers.items() if is_input(layer)}
    return Net(
        record, layers, calls, _ports(config["input_layers"], {}), _ports(config["output_layers"], offsets), stated
    )


def _sequential(record: Record) -> Net:
    layers = {name_of(one): one for one in record["config"]["layers"]}
    first = next((key for key, layer in layers.items() if is_input(layer)), "")
    port = Port(first)
    calls: dict[Node, Arguments] = {}
    stated = {port: own_spec(layers[first])} if first else {}
    for key, layer in layers.items():
        if key == first:
            continue
        if isinstance(shape := (layer.get("build_config") or {}).get("input_shape"), list):
            stated.setdefault(port, Spec(tuple(shape)))
        calls[key, 0] = Arguments([Use(port, stated.get(port))], {})
        port = Port(key)
    return Net(record, layers, calls, Port(first), port, stated)


def own_record(record: Record) -> Record:
    """A layer's record without what a Functional model writes beside it: its calls, and its name if its config has it.

    >>> own_record({"class_name": "ReLU", "config": {"name": "r"}, "name": "r", "inbound_nodes": []})
    {'class_name': 'ReLU', 'config': {'name': 'r'}}
    """
    beside = ("name", "inbound_nodes") if "name" in record["config"] else ("inbound_nodes",)
    return {key: value for key, value in record.items() if key not in beside}


def own_spec(layer: Record) -> Spec:
    """The spec that an InputLayer states.

    >>> own_spec({"config": {"batch_shape": [None, 8], "dtype": "int32"}})
    Spec(shape=(None, 8), dtype='int32')
    """
    return Spec(tuple(layer["config"]["batch_shape"]), layer["config"]["dtype"])


def _uses(tree: Any) -> Any:
    """Arguments of a call with a `Use` in place of every tensor."""
    match tree:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": history, "shape": shape, "dtype": dtype}}:
            return Use(Port(*history), Spec(tuple(shape), dtype))
        case dict():
            return {key: _uses(item) for key, item in tree.items()}
        case list():
            return [_uses(item) for item in tree]
    return tree


def _ports(tree: Any, offsets: Mapping[str, int]) -> Any:
    """`input_layers` or `output_layers` with ports; calls of Functional models are counted from one in the latter."""
    match tree:
        case [str(name), int(call), int(output)]:
            return Port(name, call - offsets.get(name, 0), output)
        case dict():
            return {key: _ports(item, offsets) for key, item in tree.items()}
    return [_ports(item, offsets) for item in tree]


# --- joining anew


def redirected(net: Net, ports: Mapping[Port, Port], *, but: Collection[Node] = ()) -> Net:
    """The model with other tensors read in place of some, by all calls but a few and by the model's outputs.

    Replacements are followed to the last.
    """
    if not ports:
        return net

    def follow(port: Port) -> Port:
        while port in ports:
            port = ports[port]
        return port

    calls = {
        node: _with_ports(call, [follow(use.port) for use in call.uses]) if node not in but else call
        for node, call in net.calls.items()
    }
    return replace(net, calls=calls, outputs=map_leaves(follow, net.outputs))


def reread(net: Net, node: Node, ports: Mapping[int, Port]) -> Net:
    """The model with other tensors at some places among those that a call reads."""
    now = [ports.get(i, port) for i, port in enumerate(net.reads(node))]
    return replace(net, calls={**net.calls, node: _with_ports(net.calls[node], now)})


def _with_ports(call: Arguments, ports: Sequence[Port]) -> Arguments:
    """A call that reads other tensors, in the order of its arguments."""
    left = iter(ports)

    def reread(tree: Any) -> Any:
        match tree:
            case Use():
                return tree._replace(port=next(left))
            case dict():
                made = {key: reread(tree[key]) for key in sorted(tree)}
                return {key: made[key] for key in tree}
            case list():
                return [reread(item) for item in tree]
        return tree

    return Arguments(reread(call.args), reread(call.kwargs))


def shortened(net: Net, node: Node, lost: Collection[int]) -> Net:
    """The model with a call that reads fewer tensors: some of the items of its first argument, a list, go.

    That argument may go by its name, `inputs`.
    """
    args, kwargs = net.calls[node]
    left = [item for i, item in enumerate(args[0] if args else kwargs["inputs"]) if i not in lost]
    call = Arguments([left, *args[1:]], kwargs) if args else Arguments([], {**kwargs, "inputs": left})
    return replace(net, calls={**net.calls, node: call})


def with_layer(net: Net, key: str, record: Record) -> Net:
    """The model with another record for a layer, or with one more layer."""
    return replace(net, layers={**net.layers, key: record}, changed=net.changed | {key})


def with_call(net: Net, key: str, call: Arguments) -> tuple[Net, Port]:
    """The model with one more call of a layer, and the first tensor that the call makes."""
    number = 1 + max((n for name, n in net.calls if name == key), default=-1)
    return replace(net, calls={**net.calls, (key, number): call}), Port(key, number)


def renamed(net: Net, key: str, name: str) -> Net:
    """The model with another name for a layer, which is all that changes of it."""
    return replace(net, layers={**net.layers, key: freeze(with_name(net.layers[key], name))})


def moved(net: Net, node: Node, key: str) -> Net:
    """The model with a call of one layer made a call of another one, with all that reads what it makes."""
    net, new = with_call(net, key, net.calls[node])
    calls = {one: call for one, call in net.calls.items() if one != node}
    outputs = {port for one in calls for port in net.reads(one)} | set(leaves(net.outputs))
    return redirected(
        replace(net, calls=calls), {port: new._replace(output=port.output) for port in outputs if port.node == node}
    )
