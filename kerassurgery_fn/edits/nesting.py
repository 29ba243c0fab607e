"""Edits that dissolve a nested model into the model around it, and that put layers into a nested model."""

from __future__ import annotations

from dataclasses import dataclass

from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.edits.settings import check_name
from kerassurgery_fn.edits.steps.dissolving import dissolved
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit, finish
from kerassurgery_fn.edits.steps.enclosing import nested_layers
from kerassurgery_fn.graph import Selector, as_selector
from kerassurgery_fn.values.snapshot import Snapshot


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


@edit
@dataclass(frozen=True)
class NestLayers(Edit):
    """Puts layers into a nested model, the inverse of `FlattenModel`. The outputs stay the same.

    All calls of the layers move into the nested model. Its input is the only tensor of other layers that they read. Its
    outputs are the tensors of the layers that other layers read.

    Args:
        layers: the layers, all of one model, see `graph.selectors`.
        name: the name of the nested model.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        BadValue: the layers belong to different models, read several tensors of other layers, or one of them is an
            input; or a layer between two of them is missing.
        NameTaken: the model has another layer with this name.

    >>> NestLayers(("conv_1", "bn_1"), "stem")
    NestLayers(layers=('conv_1', 'bn_1'), name='stem')
    """

    layers: Selector
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", as_selector(self.layers))
        check_name(self.name)

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        draft = Draft(snapshot)
        paths = draft.find(self.layers)
        return finish(nested_layers(draft, paths, self.name)) if paths else snapshot
