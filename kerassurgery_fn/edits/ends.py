"""Edits that add inputs to a model and change its outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kerassurgery_fn.arguments import one_of
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.extraction import Tensors, as_tensors, expanded, refuse_beyond, with_entry
from kerassurgery_fn.edits.inputs import DTYPES, as_sizes
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.edits.steps.input_specs import begun_with
from kerassurgery_fn.edits.steps.operands import operands_at
from kerassurgery_fn.edits.steps.stated_calls import as_functional
from kerassurgery_fn.errors import NameTaken
from kerassurgery_fn.graph import Port, Spec, leaves, map_leaves


@edit
@dataclass(frozen=True)
class AddInput(GraphEdit):
    """Adds an input to the model. No layer reads the new input yet:
    `InsertLayer(Concatenate(), before="conv", also=["depth"])` inserts a layer that does.

    The new input comes last in the list of inputs, so a model with one input is then called on a list of two tensors.
    If the inputs are a dict, the key of the new input is its name. A Sequential model becomes Functional.

    Args:
        name: the name of the input.
        shape: the shape of one sample, with None for a variable size.
        dtype: the dtype of the input.

    Raises (when called on a snapshot):
        NameTaken: the model has a layer with this name.

    >>> AddInput("depth", (48, 64, 1))
    AddInput(name='depth', shape=(48, 64, 1), dtype='float32')
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_name(self.name)
        object.__setattr__(self, "shape", as_sizes(self.shape, "shape"))
        dtype = getattr(self.dtype, "name", getattr(self.dtype, "__name__", self.dtype))
        object.__setattr__(self, "dtype", one_of(DTYPES)(dtype, "dtype"))

    def redraw(self, draft: Draft) -> Draft:
        graph = draft.graph("")
        if self.name in [*graph.layers, *map(graph.name, graph.layers)]:
            raise NameTaken(f"the model already has a layer named {self.name!r}; give the input another name")
        spec = Spec((None, *self.shape), self.dtype)
        graph, port = with_entry(graph, Port(self.name), spec, self.name)
        graph = as_functional(replace(graph, inputs=with_leaf(graph.inputs, self.name, port)))
        return draft.with_graph("", begun_with(graph, {self.name: spec}))


def with_leaf(ends: Any, name: str, port: Port) -> Any:
    """The inputs of a model with a new one: under its name in a dict, at the end of a list."""
    if isinstance(ends, dict):
        return {**ends, name: port}
    return [*(ends if isinstance(ends, list) else [ends]), port]


@edit
@dataclass(frozen=True)
class SetOutputs(GraphEdit):
    """Sets the outputs of the model. Layers on which no output depends any more are removed; the inputs stay.

    Outputs that stay keep their losses, loss weights and metrics; new outputs have none. If no old output stays, the
    model is no longer compiled. To also remove the inputs that are no longer needed, use `ExtractModel`.

    Args:
        outputs: the new outputs, as in `ExtractModel`: the name of a tensor (`"conv_5"`, `"tower:1"`, `"lstm:0:2"`), a
            pattern, or several in a list or dict.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        UnknownCall: the layer has no such call, or the call has no such output.
        BadValue: a tensor belongs to a nested model.

    >>> SetOutputs(["predictions", "features"])
    SetOutputs(outputs=('predictions', 'features'))
    """

    outputs: Tensors

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", as_tensors(self.outputs))

    def redraw(self, draft: Draft) -> Draft:
        names = expanded(draft, self.outputs)
        graph, old = draft.graph(""), leaves(draft.graph("").outputs)
        ports = dict(zip(leaves(names), operands_at(draft, "", leaves(names)), strict=True))
        graph = as_functional(replace(graph, outputs=map_leaves(ports.__getitem__, names)))
        draft = draft.with_graph("", graph).with_output_origins(
            [old.index(port) if port in old else None for port in leaves(graph.outputs)]
        )
        refuse_beyond(graph, draft.facts("").specs)
        return draft
