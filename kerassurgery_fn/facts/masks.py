"""The masks in the calls of a model: taken out before its tensors are joined anew, and worked out again after that.

A call that takes a mask states the one that Keras found for it, often far behind the layer that made the mask. So an
edit could not take that layer away, and a new layer that makes a mask would have no effect. Therefore

- `without_masks` puts `AUTOMATIC` in place of each mask that Keras found itself; the operations that compute masks have
  no readers then. A mask that somebody gave by hand stays.
- `with_masks` puts in place of `AUTOMATIC` the mask that Keras would find now, or None. Operations that compute it are
  used again where they are there, and new where they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kerassurgery_fn.facts.calls import usual_kwargs
from kerassurgery_fn.facts.dtypes import compute_dtype, is_float
from kerassurgery_fn.facts.mask_rules import Computed, Mask, Masked, is_foreign, is_source, made_masks, only
from kerassurgery_fn.frozen import freeze
from kerassurgery_fn.given import hands_on_masks
from kerassurgery_fn.graph import Record, is_model, leaves, map_leaves, name_of
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.wiring import AUTOMATIC, Arguments, Net, Node, Port, Spec, Use, arranged, unused

MODULES = {"Cast": "keras.src.ops.core", "ConvertToTensor": "keras.src.ops.core"}  # all others are of numpy
NAMES = {
    "NotEqual": "not_equal", "Any": "any", "LogicalOr": "logical_or", "ExpandDims": "expand_dims", "Cast": "cast",
    "ZerosLike": "zeros_like", "OnesLike": "ones_like", "Concatenate": "concatenate",
    "ConvertToTensor": "convert_to_tensor",
}  # fmt: skip


def without_masks(net: Net) -> Net:
    """The model with `AUTOMATIC` in place of each mask that Keras found itself, None among them."""
    masks = _Masks(net, {use.port: use.spec for call in net.calls.values() for use in call.uses if use.spec})
    calls = dict(net.calls)
    for node in masks.found:
        calls[node] = with_mask(net.calls[node], AUTOMATIC)
    return replace(net, calls=calls, passing=frozenset(masks.passing)) if masks.found else net


def with_masks(net: Net, specs: Mapping[Port, Spec]) -> tuple[Net, dict[Port, Spec]]:
    """The model with the masks that Keras finds, and the specs of the tensors that compute them.

    Args:
        net: the model.
        specs: the spec of each of its tensors.
    """
    nodes = [node for node in arranged(net)[1] if node in net.calls]
    net = with_usual_kwargs(net, nodes, specs)
    waiting = [node for node in nodes if is_automatic(net.calls[node])]
    if not waiting:
        return net, {}
    masks = _Masks(net, specs)
    trees = {node: masks.automatic(node) for node in waiting}
    placing = _Placing(net, specs, nodes)
    placing.place([mask for tree in trees.values() for mask in leaves(tree)])
    calls = dict(placing.calls)
    for node, tree in trees.items():
        calls[node] = with_mask(calls[node], map_leaves(placing.use, tree))
    return replace(net, calls=calls, layers=placing.layers, stated={**net.stated, **placing.specs}), placing.specs


def is_automatic(call: Arguments) -> bool:
    return call.kwargs.get("mask") is AUTOMATIC


def with_mask(call: Arguments, mask: Any) -> Arguments:
    return Arguments(call.args, {**call.kwargs, "mask": mask})


def automatic_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a new call, whose mask is yet to be found if the layer takes one.

    >>> automatic_kwargs({"training": False})
    {'training': False}
    """
    return {name: AUTOMATIC if name == "mask" and value is None else value for name, value in kwargs.items()}


def with_usual_kwargs(net: Net, nodes: Iterable[Node], specs: Mapping[Port, Spec]) -> Net:
    """The model with the arguments that Keras adds to calls, a mask among them, where it added none because the layer
    cast what it read, and the layer does not cast any more."""
    before = {name_of(layer): layer for layer in net.record["config"]["layers"]}
    calls = dict(net.calls)
    for node in nodes:
        args, kwargs = net.calls[node]
        if kwargs or len(args) != 1 or not isinstance(args[0], Use) or node[0] not in before:
            continue
        now = specs.get(args[0].port)
        if casts(before[node[0]], args[0].spec) and not casts(net.layers[node[0]], now):
            calls[node] = Arguments(args, automatic_kwargs(usual_kwargs(net.layers[node[0]])))
    return replace(net, calls=calls)


def casts(record: Record, read: Spec | None) -> bool:
    """Whether a layer casts what it reads to the dtype in which it computes."""
    policy = record["config"].get("dtype")
    return bool(policy and read and read.dtype and is_float(read.dtype) and read.dtype != compute_dtype(policy))


class _Masks:
    """The masks of all tensors of a model.

    - `made`: tensor -> its mask, for tensors that have one;
    - `via`: tensor -> the layers of foreign classes that are believed to have handed its mask on;
    - `found`: calls whose mask is the one that Keras would find;
    - `passing`: layers of foreign classes that hand masks on, as the masks of calls behind them prove.
    """

    def __init__(self, net: Net, specs: Mapping[Port, Spec | None]) -> None:
        self.net, self.specs = net, specs
        self.made: dict[Port, Mask] = {}
        self.via: dict[Port, frozenset[str]] = {}
        self.found: list[Node] = []
        self.passing: set[str] = set(net.passing)
        nodes = [node for node in arranged(net)[1] if node in net.calls]
        masked = any(is_source(net.layers[key]) for key, _ in nodes) or any(map(has_mask, net.calls.values()))
        for node in nodes:
            previous = self.previous(node)
            if masked:
                self.visit(node, previous)

    def previous(self, node: Node) -> Any:
        """The mask that a call is given, or else those of its first argument."""
        automatic = self.automatic(node)
        recorded = self.net.calls[node].kwargs.get("mask")
        if "mask" not in self.net.calls[node].kwargs:
            return self.masks(first_argument(self.net.calls[node]))
        if recorded is AUTOMATIC or self.is_same(recorded, automatic):
            self.found.append(node)
            if any(leaves(automatic)):
                self.passing |= self.passed(first_argument(self.net.calls[node]))
            return automatic
        if recorded is None:
            return automatic
        return map_leaves(lambda leaf: leaf.port if isinstance(leaf, Use) else None, recorded)

    def automatic(self, node: Node) -> Any:
        """The mask that Keras finds for a call: none where tensors are given in several arguments."""
        call = self.net.calls[node]
        given = [*call.args, *(value for name, value in call.kwargs.items() if not name.endswith("mask"))]
        if sum(any(isinstance(leaf, Use) for leaf in leaves(tree)) for tree in given) != 1:
            return None
        return self.masks(first_argument(call))

    def masks(self, tree: Any) -> Any:
        return map_leaves(lambda leaf: self.made.get(leaf.port) if isinstance(leaf, Use) else None, tree)

    def passed(self, tree: Any) -> frozenset[str]:
        ports = [leaf.port for leaf in leaves(tree) if isinstance(leaf, Use)]
        return frozenset().union(*(self.via.get(port, frozenset()) for port in ports))

    def visit(self, node: Node, previous: Any) -> None:
        record, first = self.net.layers[node[0]], first_argument(self.net.calls[node])
        if is_model(record):
            return
        via = self.passed(first)
        if is_foreign(record):
            made = [only(previous)] if any(leaves(previous)) and self.believed(node[0]) else []
            via |= {node[0]}
        else:
            made = made_masks(Masked(record, first, previous, self.spec))
        for output, mask in enumerate(made):
            if mask is not None:
                self.made[Port(*node, output)], self.via[Port(*node, output)] = mask, via

    def believed(self, key: str) -> bool:
        """Whether a layer of a foreign class hands masks on: as long as nobody has asked, it is believed to."""
        return key in self.passing or self.unasked or hands_on_masks(self.net.layers[key])

    @property
    def unasked(self) -> bool:
        return not any(map(is_automatic, self.net.calls.values()))

    def spec(self, port: Port) -> Spec:
        return self.specs.get(port) or Spec(())

    def is_same(self, recorded: Any, mask: Any) -> bool:
        """Whether what a call states as its mask is a certain one."""
        if isinstance(recorded, list) or isinstance(mask, list):
            stated, masks = leaves(recorded), leaves(mask)
            if recorded is None:
                return not any(masks)
            return len(stated) == len(masks) and all(map(self.is_same, stated, masks))
        if mask is None or recorded is None:
            return mask is recorded
        port = recorded.port if isinstance(recorded, Use) else recorded
        if isinstance(mask, Computed) and isinstance(port, Port):
            return self.computes(port, mask)
        return bool(port == mask)

    def computes(self, port: Port, mask: Computed) -> bool:
        """Whether a tensor is what certain operations compute."""
        if port.node not in self.net.calls or not is_operation(self.net.layers[port.layer], mask):
            return False
        args = self.net.calls[port.node].args
        return len(args) == len(mask.args) and all(map(self.is_same_argument, args, mask.args))

    def is_same_argument(self, stated: Any, expected: Any) -> bool:
        if isinstance(expected, (Port, Computed, list)):
            return self.is_same(stated, expected)
        return bool(stated == expected)


def has_mask(call: Arguments) -> bool:
    """Whether a call states a mask that is a tensor."""
    return any(isinstance(leaf, Use) for leaf in leaves(call.kwargs.get("mask")))


def first_argument(call: Arguments) -> Any:
    """The first argument of a call, which may go by its name."""
    named = [value for name, value in call.kwargs.items() if not name.endswith("mask")]
    return next(iter([*call.args, *named]), None)


def is_operation(record: Record, mask: Computed) -> bool:
    """Whether a record is that of the operation that computes a mask."""
    config = {name: value for name, value in record["config"].items() if name in mask.config}
    return key_of(record) == f"ops.{mask.operation}" and config == mask.config


class _Placing:
    """Computed masks given places in a model: operations that are there, or new ones.

    - `placed`: each computed tensor -> the port that has it;
    - `specs`: the specs of these ports.

    An operation that computes just this is taken first, then one that computed a mask which is not needed any more, so
    that it keeps its name, and a new one where there is no such operation.
    """

    def __init__(self, net: Net, specs: Mapping[Port, Spec], live: Iterable[Node]) -> None:
        self.known, self.live = specs, set(live)
        self.layers, self.calls = dict(net.layers), dict(net.calls)
        self.placed: dict[Computed, Port] = {}
        self.specs: dict[Port, Spec] = {}

    def place(self, masks: Iterable[Mask]) -> None:
        parts = list(dict.fromkeys(part for mask in masks for part in all_parts(mask)))
        for part in parts:
            if node := self.exact(part):
                self.put(part, node)
        for part in parts:
            if part not in self.placed:
                self.put(part, self.orphaned(part) or self.added(part))

    def use(self, mask: Mask) -> Use | None:
        if mask is None:
            return None
        port = self.placed[mask] if isinstance(mask, Computed) else mask
        return Use(port, self.specs.get(port) or self.known.get(port))

    def exact(self, part: Computed) -> Node | None:
        if not all(arg in self.placed for arg in parts_of(part)):
            return None
        wanted = self.bare(part.args)
        return next((node for node in self.candidates(part) if self.bare(self.calls[node].args) == wanted), None)

    def orphaned(self, part: Computed) -> Node | None:
        return next((node for node in self.candidates(part) if node not in self.live), None)

    def candidates(self, part: Computed) -> list[Node]:
        taken = {port.node for port in self.placed.values()}
        return [node for node in self.calls if node not in taken and is_operation(self.layers[node[0]], part)]

    def bare(self, args: Any) -> list[Any]:
        """The arguments of an operation with a port for every tensor."""

        def port(leaf: Any) -> Any:
            return leaf.port if isinstance(leaf, Use) else self.placed[leaf] if isinstance(leaf, Computed) else leaf

        return [map_leaves(port, arg) for arg in args]

    def put(self, part: Computed, node: Node) -> None:
        def use(leaf: Any) -> Any:
            return self.use(leaf) if isinstance(leaf, (Port, Computed)) else leaf

        self.placed[part], self.specs[Port(*node)] = Port(*node), part.spec
        if node not in self.live:
            self.calls[node] = Arguments([map_leaves(use, arg) for arg in part.args], {})

    def added(self, part: Computed) -> Node:
        names = {*self.layers, *(layer["config"].get("name") for layer in self.layers.values())}
        name = unused(NAMES[part.operation], names)
        record = {"module": MODULES.get(part.operation, "keras.src.ops.numpy"), "class_name": part.operation}
        config = {"name": name, **part.config}
        self.layers[name] = freeze({**record, "config": config, "registered_name": part.operation})
        return name, 0


def all_parts(mask: Any) -> list[Computed]:
    """The computed tensors that make up a mask, each after those that it is computed of, the mask last."""
    if not isinstance(mask, Computed):
        return []
    return [*(part for arg in parts_of(mask) for part in all_parts(arg)), mask]


def parts_of(mask: Computed) -> list[Computed]:
    return [arg for arg in leaves(list(mask.args)) if isinstance(arg, Computed)]
