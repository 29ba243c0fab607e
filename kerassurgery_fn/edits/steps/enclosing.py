"""Puts layers into a nested model; the inverse of dissolving a nested model.

x -> conv -> norm -> top            x -> bb -> top
                                         bb: bb_input -> conv -> norm
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from toolz import keyfilter, unique

from kerassurgery_fn.analysis.masks import with_masks
from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.edits.extraction import with_entry
from kerassurgery_fn.edits.steps.draft import Draft, parted, within
from kerassurgery_fn.edits.steps.draft_writing import written
from kerassurgery_fn.edits.steps.operands import depends_on, new_call
from kerassurgery_fn.edits.steps.stated_calls import with_stated_calls
from kerassurgery_fn.errors import BadValue, NameTaken
from kerassurgery_fn.graph import (
    Graph,
    Node,
    Port,
    is_functional,
    is_input,
    join_path,
    leaves,
    redirected,
    unused,
    with_call,
)
from kerassurgery_fn.graph.writing import FUNCTIONAL
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.snapshot import Snapshot, Weights


def nested_layers(draft: Draft, paths: Sequence[str], name: str) -> Draft:
    """The draft in which some layers are in a new nested model.

    Args:
        draft: a draft without changes.
        paths: the paths of the layers.
        name: the name of the nested model.

    Raises:
        BadValue, NameTaken: see `NestLayers`.
    """
    scope, keys = the_model(paths)
    graph = draft.graph(scope)
    if name in {graph.name(key) for key in graph.layers}:
        raise NameTaken(f"the model has a layer named {name!r} already; give the nested model another name")
    inside = [node for node in graph.live if node[0] in keys]
    entry = the_entry(graph, paths, inside)
    outputs = outputs_of(graph, {*inside})
    model = enclosed(draft, scope, inside, entry, outputs, name)
    left = replace(
        graph,
        layers=keyfilter(lambda key: key not in keys, graph.layers),
        calls=keyfilter(lambda node: node[0] not in keys, graph.calls),
    )
    draft, key = draft.with_graph(scope, left).added(scope, model, unused(name, graph.layers), name)
    around, port = with_call(draft.graph(scope), key, new_call(draft.graph(scope), key, [entry]))
    around = redirected(around, {output: port._replace(output=i) for i, output in enumerate(outputs)})
    copies = {join_path(scope, key, path): join_path(scope, path) for path in model.weights}
    return replace(draft.with_graph(scope, around), copies={**draft.copies, **copies})


def the_model(paths: Sequence[str]) -> tuple[str, set[str]]:
    """The path of the model that contains some layers, and the keys of the layers in it.

    Raises:
        BadValue: the layers belong to different models.
    """
    scopes = list(unique(parted(path)[0] for path in paths))
    outermost = min(scopes, key=len)
    chosen = {path for path in paths if parted(path)[0] == outermost}
    if others := [path for path in paths if not any(within(path, outer) for outer in chosen)]:
        raise BadValue(
            f"{next(iter(sorted(chosen)))!r} and {others[0]!r} belong to different models; choose layers of one model"
        )
    return outermost, {parted(path)[1] for path in chosen}


def the_entry(graph: Graph, paths: Sequence[str], inside: Sequence[Node]) -> Port:
    """The only tensor of other layers that some calls read.

    Raises:
        BadValue: one of the layers is an input, the calls read several tensors, or the tensor depends on the calls.
    """
    if inputs := [key for key, _ in inside if is_input(graph.layers[key])]:
        raise BadValue(f"{inputs[0]!r} is an input of the model, which cannot be put into a nested model")
    read = list(unique(port for node in inside for port in graph.reads(node) if port.node not in inside))
    if len(read) != 1:
        tensors = ", ".join(repr(port.layer) for port in read) or "nothing"
        raise BadValue(
            f"{len(paths)} layers ({paths[0]!r}, ...) read {tensors} of the other layers, and the nested model has one "
            "input; choose other layers, or add the layers in between"
        )
    if any(depends_on(graph, read[0].node, node) for node in inside):
        raise BadValue(f"layer {read[0].layer!r} is between the layers of the nested model; add it to these layers")
    return read[0]


def outputs_of(graph: Graph, inside: Set[Node]) -> list[Port]:
    """The tensors of some calls that other calls or the outputs of the model read."""
    read = [port for node in graph.live if node not in inside for port in graph.reads(node)]
    return list(unique(port for port in [*read, *leaves(graph.outputs)] if port.node in inside))


def enclosed(
    draft: Draft, scope: str, inside: Sequence[Node], entry: Port, outputs: Sequence[Port], name: str
) -> Snapshot:
    """A nested model of some calls, with their weights.

    Args:
        draft: the draft.
        scope: the path of the model that has the calls.
        inside: the calls.
        entry: the tensor that they read; its shape is that of the input of the nested model.
        outputs: the outputs of the nested model.
        name: its name.
    """
    spec = draft.facts(scope).specs.get(entry)
    part, port = with_entry(part_of(draft.graph(scope), inside, name), entry, spec, f"{name}_input")
    ends = outputs[0] if len(outputs) == 1 else [*outputs]
    part = redirected(replace(part, inputs=port, outputs=ends), {entry: port})
    weights = weights_of(draft, [join_path(scope, key) for key, _ in inside], scope)
    facts = settled(part, weights)
    part, of_masks = with_masks(part, facts.specs)
    facts.specs.update(of_masks)
    return Snapshot(written(part, facts, name), weights)


def part_of(graph: Graph, inside: Sequence[Node], name: str) -> Graph:
    """A Functional model of some calls, without inputs and outputs."""
    graph = graph if is_functional(graph.record) else with_stated_calls(graph)
    config = {"name": name, "trainable": True, "layers": [], "input_layers": [], "output_layers": []}
    return replace(
        graph,
        record=freeze({**FUNCTIONAL, "config": config}),
        layers=keyfilter({key for key, _ in inside}.__contains__, graph.layers),
        calls=keyfilter({*inside}.__contains__, graph.calls),
    )


def weights_of(draft: Draft, paths: Sequence[str], scope: str) -> Weights:
    """The weights of some layers of a model, by their paths in that model."""
    prefix = join_path(scope, "x")[:-1]
    return {
        path.removeprefix(prefix): arrays
        for path, arrays in draft.weights.items()
        if any(within(path, layer) for layer in paths)
    }
