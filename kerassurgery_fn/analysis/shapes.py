"""The shapes and dtypes of a model that is being edited, and for what its layers are built.

What is recorded of a call is taken as it is as long as the call reads what it was recorded to read. Where it reads
something else, the rules say what it makes of that, and whether it can be called on it at all.
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
    """The facts of a model.

    Args:
        graph: the model.
        weights: the weights of the whole snapshot by key; those of a layer that has none there may be of any shape.
        scope: the path of the model.
        given: input layer -> what the model is called on, for a nested model; its own inputs by default.

    Raises:
        MisfitTensor: a layer would be called on a tensor that it cannot take, or of which nothing is known.
    """
    return _Shapes(graph, weights, scope, given or {}).facts


class _Shapes:
    """The shapes of a model, call by call: as recorded, by the rule of a layer, by the calls in a nested model, or else
    by what Keras says."""

    def __init__(self, graph: Graph, weights: Weights, scope: str, given: Mapping[str, Spec]) -> None:
        self.graph, self.weights, self.scope, self.given = graph, weights, scope, given
        self.collector = ShapeCollector(graph, weights, scope, bool(given), self.enter)
        self.facts, self.needed, self.stated = self.collector.facts, self.collector.needed, self.collector.stated
        for node in graph.live:
            self.facts.specs |= self.visited(node) if node in graph.calls else self.input(node)

    def input(self, node: Node) -> dict[Port, Spec]:
        return {Port(*node): self.given[node[0]]} if node[0] in self.given else self.stated.get(node, {})

    def visited(self, node: Node) -> dict[Port, Spec]:
        """The specs of what a call makes: as recorded if it reads what it was recorded to read, else worked out."""
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
        """What a call makes by its layer's rule, which also says for what the layer is built and with which weights.

        Raises:
            NoRule, MisfitTensor: there is no rule, or the layer cannot be called so.
        """
        visit(self.collector.call(node), self.collector)
        return self.collector.outputs[node]

    def unstated(self, node: Node) -> dict[Port, Spec]:
        """What a layer of a Sequential model makes, by its rule, if that can follow.

        Such a model states only what its layers are built for, and some are built for other axes than they read.
        """
        try:
            return self.ruled(node)
        except (NoRule, MisfitTensor):
            return {}

    def outputs(self, node: Node, call: Arguments) -> dict[Port, Spec]:
        """What a call makes, by its layer's rule, by the calls in it if it is a model, else by what Keras says."""
        for use in call.uses:
            if use.port not in self.facts.specs:
                raise MisfitTensor(
                    f"layer {self.collector.named(node)!r} would read a tensor of {use.port.layer!r} whose shape is "
                    "not known; teach the library what that layer makes by a rule for its class"
                )
        inner = nested(self.graph, node[0]) if is_model(self.graph.layers[node[0]]) else None
        try:
            return self.ruled(node) if inner is None else self.nested(node, inner, call)
        except NoRule as reason:
            return self.asked(node, call, str(reason))

    def asked(self, node: Node, call: Arguments, reason: str) -> dict[Port, Spec]:
        """What a call makes as Keras says, which builds the layer for it."""
        record, path = self.graph.layers[node[0]], join_path(self.scope, node[0])
        specs, built, shapes = infer_call(path, record, *(map_leaves(self.spec, part) for part in call), reason=reason)
        inner = model_in(record)  # whose layers have the weights
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
        """What a nested model makes of what it is called on."""
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
        """What a nested model is called on at one of its inputs.

        Raises:
            MisfitTensor: the input is of another shape.
        """
        spec, own = self.facts.specs[use.port], inner.stated.get(Port(key))
        if own and not admits(own, spec):
            was = f" in place of {shown(use.spec)}" if use.spec and use.spec.shape != spec.shape else ""
            raise MisfitTensor(
                f"model {named!r} would be called on a tensor of shape {shown(spec)}{was}, "
                f"but its input {key!r} is of shape {shown(own)}"
            )
        return Spec(spec.shape, own.dtype if own else spec.dtype)

    def enter(self, key: str, step: Tensor) -> Tensor:
        """What the model that a layer wraps makes of one step.

        Raises:
            Misfit: the input of the model is of another shape.
        """
        inner = nested(self.graph, key)
        assert inner is not None  # a rule enters only a layer that wraps a model
        own = inner.stated[inner.inputs]
        spec = Spec(tuple(map(size, step)), own.dtype)
        if not admits(own, spec):
            raise Misfit(f"the model in it has an input of shape {shown(own)}, and a step is of shape {shown(spec)}")
        given = {inner.inputs.layer: spec}
        return settled(inner, self.weights, join_path(self.scope, key), given).specs[inner.outputs].shape

    # --- outputs

    def refuse_lost(self, node: Node, outputs: Mapping[Port, Spec]) -> None:
        """Raises MisfitTensor where a call does not make a tensor that is read."""
        lost = self.needed[node] - outputs.keys()
        if not lost:
            return
        kind = self.graph.layers[node[0]]["class_name"]
        noun = "tensor" if len(outputs) == 1 else "tensors"
        raise MisfitTensor(
            f"layer {self.collector.named(node)!r} ({kind}) would make {len(outputs)} {noun} (numbered from 0), but "
            f"{describe(self.readers(lost))}; keep a layer that makes as many, or first delete what reads that tensor, "
            "or extract the model without it"
        )

    def readers(self, ports: Collection[Port]) -> dict[int, list[str]]:
        """Number of an output -> the names of the layers that read it."""
        reads = [(port, self.graph.name(key)) for key, n in self.graph.calls for port in self.graph.reads((key, n))]
        reads += [(port, "an output of the model") for port in leaves(self.graph.outputs)]
        return {port.output: [name for read, name in reads if read == port] for port in sorted(ports)}


def numbered(node: Node, specs: Sequence[Spec]) -> dict[Port, Spec]:
    """The outputs of a call."""
    return {Port(*node, i): spec for i, spec in enumerate(specs)}
