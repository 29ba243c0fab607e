"""Edits of nested models: a nested model is dissolved into the model around it."""

from __future__ import annotations

from dataclasses import dataclass

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.dissolving import dissolved
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit
from kerassurgery_fn.graph import Selector, as_selector


@edit
@dataclass(frozen=True)
class FlattenModel(GraphEdit):
    """Dissolves nested models: their layers become layers of the model around them. The outputs stay the same.

    A layer keeps its name; if the model around has another layer of that name, the name of the nested model comes
    before it (`bb_conv`). The layers of a nested model that is called several times are called several times.

    Args:
        layer: the nested models, see `graph.selectors`.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        BadValue: the layer is not a nested model, or a call passes it more than its inputs, such as `training=True`.

    >>> FlattenModel("backbone")
    FlattenModel(layer='backbone')
    """

    layer: Selector

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))

    def redraw(self, draft: Draft) -> Draft:
        for path in sorted(draft.find(self.layer), key=lambda path: path.count("/"), reverse=True):
            draft = dissolved(draft, path).draft
        return draft
