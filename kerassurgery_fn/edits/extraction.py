"""Extraction of the part of a model between some tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from toolz import concat, dissoc, unique, valmap

from kerassurgery_fn.analysis.masks import with_masks
from kerassurgery_fn.arguments import counted
from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.dissolving import dissolved
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.draft_writing import finish
from kerassurgery_fn.edits.steps.stated_calls import as_functional, without_partial_specs
from kerassurgery_fn.errors import BadValue, MisfitTensor, UnknownCall
from kerassurgery_fn.graph import (
    Graph,
    Port,
    Spec,
    find_layer,
    is_functional,
    is_input,
    is_pattern,
    join_path,
    leaves,
    map_leaves,
    model_in,
    redirected,
    unused,
)
from kerassurgery_fn.values.frozen import FrozenDict, freeze, set_in
from kerassurgery_fn.values.snapshot import Snapshot

Tensors = str | tuple[Any, ...] | Mapping[str, Any]


@edit
@dataclass(frozen=True)
class ExtractModel(Edit):
    """Extracts the part of a model that computes some tensors from others: a feature extractor, a model without its
    last layers, a backbone without its head.

    A tensor has the name of the layer that computes it: `"conv_5"`. `"tower:1"` is the output of the second call of a
    layer, and `"lstm:0:2"` the third output of its first call. A pattern (`"block*_out"`, see `graph.selectors`) is a
    list of tensors. Tensors of one nested model (`"backbone/conv_5"`) give a part of that model; tensors of a nested
    model and of the model around it give a part in which the nested model is dissolved, see `FlattenModel`. A
    Sequential model stays Sequential if the part has one output. The part is not compiled.

    Args:
        outputs: the outputs of the part: a tensor, or several in a list or dict, as in `keras.Model`.
        inputs: the inputs of the part, in the same form; by default the inputs on which the outputs depend. The name of
            a new input is its key in a dict, or a name such as `block_1_input`.
        name: the name of the part; by default that of the model.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        UnknownCall: the layer has no such call, or the call has no such output.
        BadValue: the tensors belong to different models, and the nested one has several calls or cannot be dissolved;
            or the outputs depend on other inputs, too.
        MisfitTensor: the shape of an input is not known.
        NothingLeft: a Sequential model would be left without layers.

    >>> ExtractModel("avg_pool")
    ExtractModel(outputs='avg_pool', inputs=None, name=None)
    >>> ExtractModel(["block_3", "block_6"], inputs="block_1")
    ExtractModel(outputs=('block_3', 'block_6'), inputs='block_1', name=None)
    """

    outputs: Tensors
    inputs: Tensors | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", as_tensors(self.outputs))
        if self.inputs is not None:
            object.__setattr__(self, "inputs", as_tensors(self.inputs))
        if self.name is not None:
            check_name(self.name)

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        draft = Draft(snapshot)
        outputs, inputs = expanded(draft, self.outputs), expanded(draft, self.inputs)
        wanted = {name: located(draft, name) for name in leaves([outputs, inputs]) if name is not None}
        draft, scope, ports = in_one_model(draft, wanted)
        draft = Draft(alone(draft, scope))
        graph = replace(draft.graph(""), outputs=map_leaves(ports.__getitem__, outputs))
        if self.name:
            graph = replace(graph, record=set_in(graph.record, ("config", "name"), self.name))
        if inputs is None:
            graph = with_needed_inputs(graph)
        else:
            ends = map_leaves(ports.__getitem__, inputs)
            wider = replace(without_partial_specs(graph), outputs=leaves([graph.outputs, ends]))
            specs = draft.with_graph("", wider).facts("").specs
            graph = begun_with_masks(graph, ends, specs)
        draft = draft.with_graph("", as_functional(graph))
        refuse_beyond(graph, draft.facts("").specs)
        return finish(draft)


def as_tensors(value: Any) -> Tensors:
    """Names of tensors in tuples and dicts, with the name of a Keras layer in place of the layer.

    >>> as_tensors(["a", {"b": "c"}])
    ('a', {'b': 'c'})
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and value:
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise BadValue(f"the keys of inputs and outputs are strings, not {wrong[0]!r}")
        return FrozenDict(valmap(as_tensors, value))
    if isinstance(value, (list, tuple)) and value:
        return tuple(map(as_tensors, value))
    if isinstance(name := getattr(value, "name", None), str):
        return name
    raise BadValue(f"{value!r} is not a tensor: give the name of a layer, or several in a list or dict")


def expanded(draft: Draft, tensors: Tensors | None) -> Any:
    """Names of tensors in lists and dicts, with the names of all matching layers in place of a pattern."""
    match tensors:
        case str():
            return draft.find(tensors) if is_pattern(tensors, draft.before) else tensors
        case Mapping():
            return {key: expanded(draft, item) for key, item in tensors.items()}
        case tuple():
            patterns = [isinstance(item, str) and is_pattern(item, draft.before) for item in tensors]
            names = [expanded(draft, item) for item in tensors]
            return list(concat(item if many else [item] for item, many in zip(names, patterns, strict=True)))
    return None


def located(draft: Draft, name: str) -> tuple[str, Port]:
    """The path of the model that contains a tensor, and the port of the tensor in that model.

    Raises:
        UnknownLayer, AmbiguousLayer: there is no such layer, or another edit has replaced it; or several have the name.
        UnknownCall: the layer has no such call.
    """
    layer, *numbers = name.split(":") if name not in draft.before.places else [name]
    path = find_layer(draft.before, layer)
    scope, key = parted(path)
    if key not in draft.graph(scope).layers:
        draft.present([path])
    nodes = draft.graph(scope).nodes(key)
    call, output = [*numbers, "0", "0"][:2]
    if len(numbers) > 2 or not (call.removeprefix("-").isdigit() and output.isdigit()):
        raise UnknownCall(
            f"{name!r} is not a tensor: a call and an output have their numbers after the name of the layer, as in "
            f"'{layer}:0:1'"
        )
    if not -len(nodes) <= int(call) < len(nodes):
        raise UnknownCall(
            f"layer {path!r} is called {len(nodes)} times (0 to {len(nodes) - 1}), so it has no call {call}"
        )
    if is_input(draft.graph(scope).layers[key]) and int(output):
        raise UnknownCall(f"input {path!r} is one tensor, so it has no output {output}; use {layer!r}")
    return scope, Port(*nodes[int(call)], int(output))


def in_one_model(draft: Draft, tensors: Mapping[str, tuple[str, Port]]) -> tuple[Draft, str, dict[str, Port]]:
    """A draft in which some tensors belong to one model, the path of this model, and the port of each tensor.

    If the tensors belong to different models, the inner models are dissolved into the one around all of them.

    Args:
        draft: a draft without changes.
        tensors: name -> path of a model and port of a tensor in that model.

    Raises:
        BadValue: an inner model is called several times, or cannot be dissolved.
    """
    scopes = {scope for scope, _ in tensors.values()}
    if len(scopes) < 2:
        return draft, scopes.pop(), {name: port for name, (_, port) in tensors.items()}
    inner = max(sorted(scopes), key=lambda scope: scope.count("/") + bool(scope))
    outer, key = parted(inner)
    nodes = draft.graph(outer).nodes(key)
    if len(nodes) > 1:
        raise BadValue(
            f"the tensors belong to different models, and nested model {inner!r} is called {len(nodes)} times; split "
            f"it first with UnshareLayer({inner!r})"
        )
    result = dissolved(draft, inner)
    snapshot = finish(result.draft)
    moved = {(inner, port): new for port, new in result.tensors[nodes[0][1]].items()}
    ends = enumerate(leaves(draft.graph(inner).outputs))
    moved |= {(outer, Port(key, nodes[0][1], i)): moved[inner, port] for i, port in ends}

    def place(scope: str, port: Port) -> tuple[str, Port]:
        first = port._replace(output=0)
        new = moved.get((scope, port)) or moved.get((scope, first), first)._replace(output=port.output)
        return outer if scope == inner else scope, new

    return in_one_model(Draft(snapshot), {name: place(*tensor) for name, tensor in tensors.items()})


def refuse_beyond(graph: Graph, specs: Mapping[Port, Spec]) -> None:
    """Raises UnknownCall if a call does not have one of the outputs of the model."""
    for port in leaves(graph.outputs):
        numbers = [known.output for known in specs if known.node == port.node]
        if numbers and port not in specs:
            raise UnknownCall(
                f"a call of layer {port.layer!r} has {counted(max(numbers) + 1, 'output')}, so it has no output "
                f"{port.output}"
            )


def alone(draft: Draft, scope: str) -> Snapshot:
    """A nested model as a snapshot of its own, which is not compiled."""
    record, _ = (model_in(draft.record(scope)) if scope else None) or (draft.snapshot.record, ())
    prefix = join_path(scope, "x")[:-1]
    weights = {p.removeprefix(prefix): a for p, a in draft.snapshot.weights.items() if p.startswith(prefix)}
    return Snapshot({**dissoc(record, "name", "inbound_nodes"), "compile_config": {}}, weights)


# --- inputs


def with_needed_inputs(graph: Graph) -> Graph:
    """The model with the inputs on which its outputs depend."""
    used = {key for key, _ in graph.live}
    needed = [port for port in leaves(graph.inputs) if port.layer in used]
    if not needed:
        raise BadValue(f"the outputs depend on no input of {graph.record['config']['name']!r}")
    if len(needed) == len(leaves(graph.inputs)):
        return graph
    if isinstance(graph.inputs, dict):
        return replace(graph, inputs={key: port for key, port in graph.inputs.items() if port in needed})
    return replace(graph, inputs=needed[0] if len(needed) == 1 else needed)


def begun_with_masks(graph: Graph, inputs: Any, specs: Mapping[Port, Spec]) -> Graph:
    """The model with some of its tensors as inputs. It keeps its masks if they are computed from these inputs;
    otherwise it has the masks that Keras passes automatically from there on."""
    masked, of_masks = with_masks(graph, specs)
    try:
        return begun(masked, inputs, {**specs, **of_masks})
    except BadValue:
        return begun(graph, inputs, specs)


def begun(graph: Graph, inputs: Any, specs: Mapping[Port, Spec]) -> Graph:
    """The model with some of its tensors as inputs.

    Raises:
        MisfitTensor: the shape of a tensor is not known.
        BadValue: the outputs depend on other inputs, too.
    """
    entries: dict[Port, Port] = {}
    names = {port: name for name, port in inputs.items() if isinstance(port, Port)} if isinstance(inputs, dict) else {}
    for port in unique(leaves(inputs)):
        if not is_input(graph.layers[port.layer]):
            name = names.get(port) or f"{graph.name(port.layer)}_input"
            graph, entries[port] = with_entry(graph, port, specs.get(port), name)
    given = map_leaves(lambda port: entries.get(port, port), inputs)
    graph = replace(redirected(graph, entries), inputs=given)
    keys = {port.layer for port in leaves(given)}
    if left := [key for key, _ in graph.live if is_input(graph.layers[key]) and key not in keys]:
        raise BadValue(
            f"the outputs depend on {', '.join(map(repr, left))}, too: add that to the inputs, or a layer after it"
        )
    return graph if is_functional(graph.record) or not isinstance(given, Port) else built_for(graph, given)


def with_entry(graph: Graph, port: Port, spec: Spec | None, name: str) -> tuple[Graph, Port]:
    """The model with a new input in place of a tensor, and this input.

    Raises:
        MisfitTensor: the shape of the tensor is not known.
    """
    if spec is None or spec.dtype is None:
        raise MisfitTensor(f"the shape of the output of {port.layer!r} is not known; add a rule for its class")
    check_name(name)
    key = unused(name, [*graph.layers, *map(graph.name, graph.layers)])
    config = {"batch_shape": list(spec.shape), "dtype": spec.dtype, "sparse": False, "ragged": False, "name": key}
    record = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None}
    layers = {**graph.layers, key: freeze({**record, "config": {**config, "optional": False}})}
    return replace(graph, layers=layers, stated={**graph.stated, Port(key): spec}), Port(key)


def built_for(graph: Graph, given: Port) -> Graph:
    """A Sequential model with the shape for which it is built."""
    shape = list(graph.layers[given.layer]["config"]["batch_shape"])
    record = set_in(graph.record, ("config", "build_input_shape"), shape)
    return replace(graph, record=set_in(record, ("build_config",), {"input_shape": shape}))
