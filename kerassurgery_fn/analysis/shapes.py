"""A walk through the calls of a model, on which each finds out what it reads and says what it makes.

What is recorded of a call is taken as it is as long as the call reads what it was recorded to read. Where it reads
something else, the rules say what it makes of that, and whether it can be called on it at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.build_config import with_builds
from kerassurgery_fn.rules.dtypes import NUMBER, dtype_made
from kerassurgery_fn.analysis.input_checks import Strict, check_arguments, check_axes, check_weights, misfit, shown
from kerassurgery_fn.analysis.nested_inputs import admits, bound, refuse_unbound
from kerassurgery_fn.rules.size_checks import Misfit, check_calls, check_known, check_made, check_shared, describe
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import (
    Arguments,
    Net,
    Node,
    Port,
    Record,
    Shape,
    Spec,
    Unfound,
    Use,
    arranged,
    is_functional,
    is_model,
    join_path,
    leaves,
    map_leaves,
    model_in,
    unfold,
)
from kerassurgery_fn.keras_io.layer_conversion import infer_call
from kerassurgery_fn.rules import Layer, NoRule
from kerassurgery_fn.rules.constants import given as given_array
from kerassurgery_fn.rules.layer import Findings, Tensor, Weight, listed
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.frozen import Location, get_in
from kerassurgery_fn.values.snapshot import Weights


@dataclass
class Facts:
    """What is known of a model's tensors, layers and weights.

    - `specs`: the spec of each tensor that could be worked out;
    - `layers`: key -> the record of each layer that was looked at anew, with a `build_config` that is right;
    - `weights`: key -> the weights that such a layer must have, None where no rule says.
    """

    specs: dict[Port, Spec] = field(default_factory=dict)
    layers: dict[str, Record] = field(default_factory=dict)
    weights: dict[str, list[Weight] | None] = field(default_factory=dict)


def settled(net: Net, weights: Weights, scope: str = "", given: Mapping[str, Spec] | None = None) -> Facts:
    """The facts of a model.

    Args:
        net: the model.
        weights: the weights of the whole snapshot by key; those of a layer that has none there may be of any shape.
        scope: the path of the model.
        given: input layer -> what the model is called on, for a nested model; its own inputs by default.

    Raises:
        MisfitTensor: a layer would be called on a tensor that it cannot take, or of which nothing is known.
    """
    return _Walk(net, weights, scope, given or {}).facts


class _Walk:
    def __init__(self, net: Net, weights: Weights, scope: str, given: Mapping[str, Spec]) -> None:
        self.net, self.weights, self.scope, self.given = net, weights, scope, given
        self.facts = Facts()
        _, order = arranged(net)
        self.needed: dict[Node, set[Port]] = {}
        for port in [*leaves(net.outputs), *(port for node in order for port in net.reads(node))]:
            self.needed.setdefault(port.node, set()).add(port)
        self.stated: dict[Node, dict[Port, Spec]] = {}
        for port, spec in net.stated.items():
            self.stated.setdefault(port.node, {})[port] = spec
        for node in order:
            self.facts.specs |= self.visited(node) if node in net.calls else self.input(node)

    def input(self, node: Node) -> dict[Port, Spec]:
        return {Port(*node): self.given[node[0]]} if node[0] in self.given else self.stated.get(node, {})

    def visited(self, node: Node) -> dict[Port, Spec]:
        """The specs of what a call makes: as recorded if it reads what it was recorded to read, else worked out."""
        call, stated = self.net.calls[node], self.stated.get(node, {})
        as_recorded = node[0] not in self.net.changed and all(
            use.spec is not None and use.spec.fits(self.facts.specs.get(use.port)) for use in call.uses
        )
        if as_recorded and self.needed[node] <= stated.keys():
            return stated if is_functional(self.net.record) else self.unstated(node, call) or stated
        try:
            made = dict(enumerate(self.made(node, call)))
        except MisfitTensor:
            if not as_recorded:
                raise
            made = {}
        self.refuse_lost(node, made, as_recorded)
        return {Port(*node, i): spec for i, spec in made.items()} | (stated if as_recorded else {})

    def unstated(self, node: Node, call: Arguments) -> dict[Port, Spec]:
        """What a layer of a Sequential model makes, by its rule, if that can follow.

        Such a model states only what its layers are built for, and some are built for other axes than they read.
        """
        try:
            made = self.ruled(node, join_path(self.scope, node[0]), self.net.layers[node[0]], call)
        except (NoRule, MisfitTensor):
            return {}
        return {Port(*node, i): spec for i, spec in enumerate(made)}

    def refuse_lost(self, node: Node, made: Mapping[int, Spec], as_recorded: bool) -> None:
        """Raises MisfitTensor where a call does not make a tensor that is read."""
        lost = {port.output for port in self.needed[node]} - made.keys()
        if as_recorded or not lost:
            return
        readers: dict[int, list[str]] = {index: [] for index in lost}
        for other in self.net.calls:
            for port in self.net.reads(other):
                if port.node == node and port.output in lost:
                    readers[port.output].append(self.net.name(other[0]))
        for port in leaves(self.net.outputs):
            if port.node == node and port.output in lost:
                readers[port.output].append("an output of the model")
        kind = self.net.layers[node[0]]["class_name"]
        noun = "tensor" if len(made) == 1 else "tensors"
        raise MisfitTensor(
            f"layer {self.named(node)!r} ({kind}) would make {len(made)} {noun} (numbered from 0), but "
            f"{describe(readers)}; keep a layer that makes as many, or first delete what reads that tensor, or extract "
            "the model without it"
        )

    def made(self, node: Node, call: Arguments) -> list[Spec]:
        """What a call makes, by its layer's rule, by the calls in it if it is a model, else by what Keras says."""
        record, path = self.net.layers[node[0]], join_path(self.scope, node[0])
        for use in call.uses:
            if use.port not in self.facts.specs:
                raise MisfitTensor(
                    f"layer {self.named(node)!r} would read a tensor of {use.port.layer!r} whose shape is not known; "
                    "teach the library what that layer makes by a rule for its class"
                )
        if is_model(record):
            return self.nested(path, self.named(node), record, call)
        try:
            return self.ruled(node, path, record, call)
        except NoRule as reason:
            return self.asked(node, path, record, call, str(reason))

    def asked(self, node: Node, path: str, record: Record, call: Arguments, reason: str) -> list[Spec]:
        """What a call makes as Keras says, which builds the layer for it."""
        specs, built, shapes = infer_call(path, record, *(map_leaves(self.spec, part) for part in call), reason=reason)
        inner = model_in(record)  # whose layers have the weights
        weights = [] if inner else [Weight(name, shape, True) for name, shape in shapes]
        try:
            self.check_weights(node, path, weights)
        except Misfit as error:
            raise misfit(self.named(node), record, call, self.reads(call), error) from error
        if node == self.net.nodes(node[0])[0]:
            self.facts.layers[node[0]] = built
        self.facts.weights[node[0]] = None if inner else weights
        return specs

    def reads(self, call: Arguments) -> list[Spec]:
        return [self.facts.specs[use.port] for use in call.uses]

    def check_weights(self, node: Node, path: str, weights: list[Weight]) -> None:
        """Raises Misfit where a layer needs other weights than it has, or other weights at another of its calls."""
        missing = None if self.weights and node[0] in self.net.changed else ()
        check_weights(weights, self.weights.get(path, missing))
        check_shared(self.facts.weights.get(node[0]) or [], weights)

    def ruled(self, node: Node, path: str, record: Record, call: Arguments) -> list[Spec]:
        """What a call makes by its layer's rule, which also says for what the layer is built and with which weights."""
        layer, reads = self.layer(path, record), self.reads(call)
        try:
            check_arguments(record, call)
            args, kwargs = (self.axes(part, layer.findings) for part in call)
            check_calls([(record, args, kwargs)])  # of a layer without a rule, too
            made = leaves(layer(*args, **kwargs))
            own = layer.findings.weights.get(path, [])
            check_axes([*made, *(weight.axes for weight in own)])
            self.check_weights(node, path, own)
            self.check_sizes(node, layer, made, own)
        except NoRule:
            raise
        except Exception as error:
            raise misfit(self.named(node), record, call, reads, error) from error
        if node == self.net.nodes(node[0])[0]:
            self.facts.layers[node[0]] = with_builds(record, layer.findings)
        self.facts.weights[node[0]] = own
        stated, reads = self.stated.get(node, {}), [*reads, *constants([call.args, call.kwargs])]
        return [
            Spec(as_stated(record, tuple(map(size, axes))), dtype_made(record, reads, stated.get(Port(*node, i))))
            for i, axes in enumerate(made)
        ]

    def check_sizes(self, node: Node, layer: Layer, made: list[Any], weights: list[Weight]) -> None:
        """Raises Misfit where Keras could not build the layer for what it reads, or not call it on that."""
        check_calls(layer.findings.first.values())
        check_made(layer.record, made)
        if node == self.net.nodes(node[0])[0] and not self.given:  # the layers of a nested model are built before
            check_known(weights)
        if key_of(layer.record) == "Identity" and len(made) > len(self.needed[node]):
            raise Misfit(
                f"it hands on {len(made)} tensors one by one, of which {len(self.needed[node])} would be read; use a "
                "layer that makes one tensor of several, such as Add or Concatenate"
            )

    def layer(self, path: str, record: Record) -> Layer:
        """A call as its rule sees it. A model that the layer wraps is walked through like one that is nested."""

        def enter(place: Location, node: tuple[int, ...], step: Tensor) -> Tensor:
            inner = unfold(get_in(record, place))
            first, shape = inner.inputs.layer, tuple(map(size, step))
            given = {first: Spec(shape, inner.stated[Port(first)].dtype)}
            return settled(inner, self.weights, path, given).specs[inner.outputs].shape

        return Layer(Findings(enter, Strict()), path, (), record)

    def axes(self, tree: Any, findings: Findings) -> Any:
        """Arguments with the sizes of every tensor, and the axes of every array, in its place."""
        match tree:
            case Use(port):
                return self.facts.specs[port].shape
            case Unfound():
                return None
            case {"class_name": "__numpy__" | "__tensor__", "config": {"value": value}}:
                array = np.asarray(value)
                return given_array(findings, ("array", len(findings.constants)), array) if array.ndim else array.item()
            case {"class_name": str()}:
                return tree
            case dict():
                return {key: self.axes(item, findings) for key, item in tree.items()}
            case list():
                return [self.axes(item, findings) for item in tree]
        return tree

    def spec(self, leaf: Any) -> Any:
        if isinstance(leaf, Use):
            return self.facts.specs[leaf.port]
        return None if isinstance(leaf, Unfound) else leaf

    def named(self, node: Node) -> str:
        """The path of a call's layer by the name that it has now."""
        return join_path(self.scope, self.net.name(node[0]))

    def nested(self, path: str, named: str, record: Record, call: Arguments) -> list[Spec]:
        """What a nested model makes of what it is called on."""
        inner, given = unfold(record), {}
        try:
            check_arguments(record, call)
        except Misfit as error:
            raise misfit(named, record, call, self.reads(call), error) from error
        first = call.args[0] if call.args else call.kwargs.get("inputs", next(iter(call.kwargs.values())))
        refuse_unbound(named, inner.inputs, first)
        for key, use in bound(inner.inputs, first).items():
            spec, own = self.facts.specs[use.port], inner.stated.get(Port(key))
            if own and not admits(own, spec):
                was = f" in place of {shown(use.spec)}" if use.spec and use.spec.shape != spec.shape else ""
                raise MisfitTensor(
                    f"model {named!r} would be called on a tensor of shape {shown(spec)}{was}, "
                    f"but its input {key!r} is of shape {shown(own)}"
                )
            given[key] = Spec(spec.shape, own.dtype if own else spec.dtype)
        found = settled(inner, self.weights, path, given).specs
        return [found[port] for port in leaves(inner.outputs) if port in found]


def constants(tree: Any) -> list[Spec]:
    """The specs of the arrays and floats among the arguments of a call."""
    match tree:
        case float():
            return [Spec((), NUMBER)]
        case {"class_name": "__numpy__" | "__tensor__", "config": {"value": value, "dtype": dtype}}:
            return [Spec(np.shape(value), dtype)]
        case dict() | list():
            return [spec for item in (tree.values() if isinstance(tree, dict) else tree) for spec in constants(item)]
    return []


def as_stated(record: Record, shape: Shape) -> Shape:
    """A shape with the sizes that Keras leaves open: EinsumDense does not know those that its config does not count.

    >>> dense = {"module": "keras.layers", "class_name": "EinsumDense"}
    >>> dense["config"] = {"output_shape": [None, 8], "equation": "abc,cd->abd"}
    >>> as_stated(dense, (None, 5, 8))
    (None, None, 8)
    """
    if key_of(record) != "EinsumDense":
        return shape
    counted, equation = listed(record["config"]["output_shape"]), record["config"]["equation"]
    first = 1 if equation.partition(",")[0].endswith("...") else len(shape) - len(counted)
    open_ = {first + i for i, n in enumerate(counted) if n is None}
    return tuple(None if i in open_ else n for i, n in enumerate(shape))
