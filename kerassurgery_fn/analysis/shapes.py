"""The shapes and dtypes of a model that is being edited, and the `build_config` of its layers.

The recorded shapes of a call are used as long as its inputs are the recorded ones. If its inputs have changed, the rule
of its layer gives the new shapes, or says that the layer cannot be called on these inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kerassurgery_fn.analysis.input_checks import check_arguments, misfit, shown
from kerassurgery_fn.analysis.nested_inputs import admits, refuse_unbound
from kerassurgery_fn.analysis.requirements import describe
from kerassurgery_fn.analysis.rule_walk import visit
from kerassurgery_fn.analysis.shape_collector import Facts, ShapeCollector
from kerassurgery_fn.channels import size
from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import (
    Arguments,
    Graph,
    Node,
    Port,
    Spec,
    Unfound,
    Use,
    bound,
    given_to_model,
    is_functional,
    is_model,
    join_path,
    leaves,
    map_leaves,
    model_in,
    nested,
)
from kerassurgery_fn.keras_io.layer_conversion import infer_call
from kerassurgery_fn.rules import NoRule
from kerassurgery_fn.rules.findings import Tensor, Weight
from kerassurgery_fn.rules.size_checks import Misfit
from kerassurgery_fn.values.snapshot import Weights


def settled(graph: Graph, weights: Weights, scope: str = "", given: Mapping[str, Spec] | None = None) -> Facts:
    """The shapes, dtypes, builds and weights of a model.

    Args:
        graph: the model.
        weights: path -> weights, for the whole snapshot. The weights of a layer that is missing are not checked.
        scope: the path of the model.
        given: input layer -> the tensor on which a nested model is called; by default the model's own inputs.

    Raises:
        MisfitTensor: a layer would be called on a tensor that it cannot take, or whose shape is not known.
    """
    return _Shapes(graph, weights, scope, given or {}).facts


class _Shapes:
    """The shapes of a model, call by call. They are recorded, or come from the rule of a layer, from the calls in a
    nested model, or from Keras."""

    def __init__(self, graph: Graph, weights: Weights, scope: str, given: Mapping[str, Spec]) -> None:
        self.graph, self.weights, self.scope, self.given = graph, weights, scope, given
        self.collector = ShapeCollector(graph, weights, scope, bool(given), self.enter)
        self.facts, self.needed, self.stated = self.collector.facts, self.collector.needed, self.collector.stated
        for node in graph.live:
            self.facts.specs |= self.visited(node) if node in graph.calls else self.input(node)

    def input(self, node: Node) -> dict[Port, Spec]:
        return {Port(*node): self.given[node[0]]} if node[0] in self.given else self.stated.get(node, {})

    def visited(self, node: Node) -> dict[Port, Spec]:
        """The specs of the outputs of a call: the recorded specs if its inputs are as recorded, otherwise new specs."""
        call, stated = self.graph.calls[node], self.stated.get(node, {})
        as_recorded = node[0] not in self.graph.changed and all(
            use.spec is not None and use.spec.fits(self.facts.specs.get(use.port)) for use in call.uses
        )
        if as_recorded and self.needed[node] <= stated.keys():
            return stated if is_functional(self.graph.record) else self.unstated(node) or stated
        try:
            outputs = self.outputs(node, call)
        except MisfitTensor:
            if not as_recorded:
                raise
            return stated
        if as_recorded:
            return outputs | stated
        self.refuse_lost(node, outputs)
        return outputs

    def ruled(self, node: Node) -> dict[Port, Spec]:
        """The specs of the outputs of a call by its rule, which also gives the `build_config` and weights of the layer.

        Raises:
            NoRule, MisfitTensor: there is no rule, or the layer cannot be called on these tensors.
        """
        visit(self.collector.call(node), self.collector)
        return self.collector.outputs[node]

    def unstated(self, node: Node) -> dict[Port, Spec]:
        """The specs of the outputs of a layer in a Sequential model by its rule; empty if the rule cannot follow.

        A Sequential model states the shapes for which its layers are built. They can differ from the shapes that the
        layers read.
        """
        try:
            return self.ruled(node)
        except (NoRule, MisfitTensor):
            return {}

    def outputs(self, node: Node, call: Arguments) -> dict[Port, Spec]:
        """The specs of the outputs of a call: by its rule, by its inner calls if it is a model, or inferred by
        Keras."""
        for use in call.uses:
            if use.port not in self.facts.specs:
                raise MisfitTensor(
                    f"layer {self.collector.named(node)!r} would read the output of {use.port.layer!r}, whose shape is "
                    "not known; add a rule for the class of that layer"
                )
        inner = nested(self.graph, node[0]) if is_model(self.graph.layers[node[0]]) else None
        try:
            return self.ruled(node) if inner is None else self.nested(node, inner, call)
        except NoRule as reason:
            return self.inferred(node, call, str(reason))

    def inferred(self, node: Node, call: Arguments, reason: str) -> dict[Port, Spec]:
        """The specs of the outputs of a call as Keras infers them. Keras builds the layer to do so."""
        record, path = self.graph.layers[node[0]], join_path(self.scope, node[0])
        specs, built, shapes = infer_call(path, record, *(map_leaves(self.spec, part) for part in call), reason=reason)
        inner = model_in(record)  # the weights of a model belong to its layers
        weights = [] if inner else [Weight(name, shape, True) for name, shape in shapes]
        try:
            self.collector.check_weights(node, path, weights)
        except Misfit as error:
            raise misfit(self.collector.named(node), record, call, self.collector.reads(call), error) from error
        if self.collector.is_first(node):
            self.facts.layers[node[0]] = built
        self.facts.weights[node[0]] = None if inner else weights
        return numbered(node, specs)

    def spec(self, leaf: Any) -> Any:
        if isinstance(leaf, Use):
            return self.facts.specs[leaf.port]
        return None if isinstance(leaf, Unfound) else leaf

    # --- models in layers

    def nested(self, node: Node, inner: Graph, call: Arguments) -> dict[Port, Spec]:
        """The specs of the outputs of a nested model for the tensors on which it is called."""
        named = self.collector.named(node)
        try:
            check_arguments(inner.record, call)
        except Misfit as error:
            raise misfit(named, inner.record, call, self.collector.reads(call), error) from error
        first = given_to_model(*call)
        refuse_unbound(named, inner.inputs, first)
        given = {key: self.admitted(named, inner, key, use) for key, use in bound(inner.inputs, first).items()}
        specs = settled(inner, self.weights, join_path(self.scope, node[0]), given).specs
        return numbered(node, [specs[port] for port in leaves(inner.outputs) if port in specs])

    def admitted(self, named: str, inner: Graph, key: str, use: Use) -> Spec:
        """The spec of the tensor on which a nested model is called at one input, in the dtype of the input.

        Raises:
            MisfitTensor: the input has another shape.
        """
        spec, expected = self.facts.specs[use.port], inner.stated.get(Port(key))
        if expected and not admits(expected, spec):
            was = f" in place of {shown(use.spec)}" if use.spec and use.spec.shape != spec.shape else ""
            raise MisfitTensor(
                f"model {named!r} would be called on a tensor of shape {shown(spec)}{was}, "
                f"but its input {key!r} has the shape {shown(expected)}"
            )
        return Spec(spec.shape, expected.dtype if expected else spec.dtype)

    def enter(self, key: str, step: Tensor) -> Tensor:
        """The sizes of the output of a wrapped model for one time step.

        Raises:
            Misfit: the input of the model has another shape.
        """
        inner = nested(self.graph, key)
        assert inner is not None  # a rule enters only a layer that wraps a model
        expected = inner.stated[inner.inputs]
        spec = Spec(tuple(map(size, step)), expected.dtype)
        if not admits(expected, spec):
            raise Misfit(
                f"the model in it has an input of shape {shown(expected)}, but a step has the shape {shown(spec)}"
            )
        given = {inner.inputs.layer: spec}
        return settled(inner, self.weights, join_path(self.scope, key), given).specs[inner.outputs].shape

    # --- outputs

    def refuse_lost(self, node: Node, outputs: Mapping[Port, Spec]) -> None:
        """Raises MisfitTensor if a call does not have an output that is read."""
        lost = self.needed[node] - outputs.keys()
        if not lost:
            return
        kind = self.graph.layers[node[0]]["class_name"]
        noun = "tensor" if len(outputs) == 1 else "tensors"
        raise MisfitTensor(
            f"layer {self.collector.named(node)!r} ({kind}) would have {len(outputs)} output {noun} (numbered from 0), "
            f"but {describe(self.readers(lost))}; use a layer with as many outputs, delete the readers of that tensor "
            "first, or extract the model without it"
        )

    def readers(self, ports: Collection[Port]) -> dict[int, list[str]]:
        """Number of an output -> the names of the layers that read it."""
        reads = [(port, self.graph.name(key)) for key, n in self.graph.calls for port in self.graph.reads((key, n))]
        reads += [(port, "an output of the model") for port in leaves(self.graph.outputs)]
        return {port.output: [name for read, name in reads if read == port] for port in sorted(ports)}


def numbered(node: Node, specs: Sequence[Spec]) -> dict[Port, Spec]:
    """The outputs of a call with their specs."""
    return {Port(*node, i): spec for i, spec in enumerate(specs)}
