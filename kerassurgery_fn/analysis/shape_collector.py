"""Collects the shapes, dtypes and weights of calls by their rules, and checks whether the layers can be called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from toolz import groupby, valmap

from kerassurgery_fn.analysis.build_config import with_builds
from kerassurgery_fn.analysis.input_checks import CheckedConstraints, check_arguments, check_axes, check_weights, misfit
from kerassurgery_fn.analysis.requirements import (
    check_aligned,
    check_calls,
    check_floats,
    check_known,
    check_made,
    check_shared,
)
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import SurgeryError
from kerassurgery_fn.graph import (
    Arguments,
    Call,
    Graph,
    Node,
    Port,
    Record,
    Shape,
    Spec,
    Unfound,
    Use,
    join_path,
    leaves,
)
from kerassurgery_fn.rules import Layer, NoRule
from kerassurgery_fn.rules.constants import given as given_array
from kerassurgery_fn.rules.dtypes import NUMBER, dtype_made
from kerassurgery_fn.rules.layer import Findings, Tensor, Weight
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.size_checks import Misfit
from kerassurgery_fn.values.frozen import Location
from kerassurgery_fn.values.snapshot import Weights

NODE = itemgetter(0, 1)  # the node of a port
Enter = Callable[[str, Tensor], Tensor]  # key of a wrapper, axes of one time step -> axes of the wrapped model's output


@dataclass
class Facts:
    """What is known about the tensors, layers and weights of a model.

    - `specs`: tensor -> its shape and dtype, if they are known;
    - `layers`: key -> the record of each layer that was analysed, with its new `build_config`;
    - `weights`: key -> the weights that such a layer must have; None if there is no rule.
    """

    specs: dict[Port, Spec] = field(default_factory=dict)
    layers: dict[str, Record] = field(default_factory=dict)
    weights: dict[str, list[Weight] | None] = field(default_factory=dict)


class ShapeCollector:
    """Collects the shapes and dtypes of one model. A call that its rule cannot follow raises an error with the reason.

    - `graph`, `scope`: the model and its path;
    - `weights`: path -> weights, for the whole snapshot. The weights of a layer that is missing are not checked;
    - `is_nested`: whether the model is called on other tensors than its own inputs;
    - `enter`: the walk through a wrapped model;
    - `facts`: what is known so far about the tensors, layers and weights;
    - `outputs`: call -> the specs of its outputs by its rule.
    """

    expected: tuple[type[Exception], ...] = (NoRule, Misfit, SurgeryError)

    def __init__(self, graph: Graph, weights: Weights, scope: str, is_nested: bool, enter: Enter) -> None:
        self.graph, self.weights, self.scope, self.is_nested, self.enter = graph, weights, scope, is_nested, enter
        self.facts = Facts()
        self.outputs: dict[Node, dict[Port, Spec]] = {}
        read = (port for node in graph.live for port in graph.reads(node))
        self.needed = valmap(set, groupby(NODE, [*leaves(graph.outputs), *read]))
        ports = groupby(NODE, graph.stated)
        self.stated = {node: {port: graph.stated[port] for port in outputs} for node, outputs in ports.items()}

    # --- one call

    def call(self, node: Node) -> Call:
        key, number = node
        return Call(join_path(self.scope, key), (number,), self.graph.layers[key], (), *self.graph.calls[node])

    def rule(self, call: Call) -> Layer:
        key, _ = node_of(call)

        def enter(place: Location, node: tuple[int, ...], step: Tensor) -> Tensor:
            return self.enter(key, step)

        return Layer(Findings(enter, CheckedConstraints()), call.path, (), call.record)

    def arguments(self, call: Call, layer: Layer) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call with a shape in place of each tensor.

        Raises:
            Misfit: no layer of this class can be called on these arguments.
        """
        given = Arguments(call.args, call.kwargs)
        check_arguments(call.record, given)
        args, kwargs = self.axes(call.args, layer.findings), self.axes(call.kwargs, layer.findings)
        check_calls([(call.record, args, kwargs)])  # also for a layer without a rule
        before, reads = [use.spec for use in given.uses], self.reads(given)
        check_aligned(call.record, [spec and spec.shape for spec in before], [spec.shape for spec in reads])
        check_floats(call.record, [spec and spec.dtype for spec in before], [spec.dtype for spec in reads])
        return args, kwargs

    def collect(self, call: Call, layer: Layer, outputs: list[Any]) -> None:
        """Keeps the specs of the outputs of a call, and the `build_config` and weights of its layer.

        Raises:
            Misfit: the layer cannot be built for this call, or has other weights.
        """
        node, weights = node_of(call), layer.findings.weights.get(call.path, [])
        check_axes([*outputs, *(weight.axes for weight in weights)])
        self.check_weights(node, call.path, weights)
        self.check_sizes(node, layer, outputs, weights)
        if self.is_first(node):
            self.facts.layers[node[0]] = with_builds(call.record, layer.findings)
        self.facts.weights[node[0]] = weights
        self.outputs[node] = self.specs(call, node, outputs)

    def refuse(self, call: Call, layer: Layer, error: Exception) -> None:
        """Raises NoRule if there is no rule, otherwise MisfitTensor."""
        if isinstance(error, (NoRule, SurgeryError)):
            raise error
        given = Arguments(call.args, call.kwargs)
        raise misfit(self.named(node_of(call)), call.record, given, self.reads(given), error) from error

    # --- parts

    def specs(self, call: Call, node: Node, outputs: Sequence[Tensor]) -> dict[Port, Spec]:
        stated, given = self.stated.get(node, {}), Arguments(call.args, call.kwargs)
        reads = [*self.reads(given), *constants([call.args, call.kwargs])]
        shapes = {Port(*node, i): as_stated(call.record, tuple(map(size, axes))) for i, axes in enumerate(outputs)}
        return {port: Spec(shape, dtype_made(call.record, reads, stated.get(port))) for port, shape in shapes.items()}

    def reads(self, call: Arguments) -> list[Spec]:
        return [self.facts.specs[use.port] for use in call.uses]

    def is_first(self, node: Node) -> bool:
        """Whether a call is the first of its layer, which builds the layer."""
        return node == self.graph.nodes(node[0])[0]

    def named(self, node: Node) -> str:
        """The path of a call's layer, with its current name."""
        return join_path(self.scope, self.graph.name(node[0]))

    def check_weights(self, node: Node, path: str, weights: list[Weight]) -> None:
        """Raises Misfit if a layer needs other weights than it has, or other weights at another call."""
        missing = None if self.weights and node[0] in self.graph.changed else ()
        check_weights(weights, self.weights.get(path, missing))
        check_shared(self.facts.weights.get(node[0]) or [], weights)

    def check_sizes(self, node: Node, layer: Layer, outputs: list[Any], weights: list[Weight]) -> None:
        """Raises Misfit if Keras could not build the layer for its inputs, or could not call it on them."""
        check_calls(layer.findings.first.values())
        check_made(layer.record, outputs)
        if self.is_first(node) and not self.is_nested:  # the layers of a nested model are built already
            check_known(weights)
        if rule_for(layer.record).takes == "either" and len(outputs) > len(self.needed[node]):
            raise Misfit(
                f"it passes on {len(outputs)} tensors one by one, but {len(self.needed[node])} would be read; use a "
                "layer that merges tensors, such as Add or Concatenate"
            )

    def axes(self, tree: Any, findings: Findings) -> Any:
        """Arguments with the sizes of each tensor, and the axes of each array, in its place."""
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


def node_of(call: Call) -> Node:
    return call.path.rpartition("/")[2], call.node[-1]


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
    """A shape as Keras writes it. Some classes write None for known sizes.

    >>> dense = {"module": "keras.layers", "class_name": "EinsumDense"}
    >>> dense["config"] = {"output_shape": [None, 8], "equation": "abc,cd->abd"}
    >>> as_stated(dense, (None, 5, 8))
    (None, None, 8)
    """
    stated_shape = rule_for(record).stated_shape
    return stated_shape(record["config"], shape) if stated_shape else shape
