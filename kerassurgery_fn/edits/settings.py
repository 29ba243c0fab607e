"""Edits of names, configs and trainability of layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from toolz import compose, dissoc, valmap

from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.changed_records import with_records
from kerassurgery_fn.edits.steps.config_fields import configured
from kerassurgery_fn.edits.steps.draft import Draft, parted
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit, scopes_above
from kerassurgery_fn.edits.steps.switched_weights import is_switch, with_switched_weights
from kerassurgery_fn.errors import BadValue, NameTaken
from kerassurgery_fn.graph import TRAINED, Record, Selector, as_selector, model_in, renamed, with_name
from kerassurgery_fn.keras_io.layer_conversion import as_value
from kerassurgery_fn.values.frozen import FrozenDict, freeze, set_in


@edit
@dataclass(frozen=True)
class RenameLayer(GraphEdit):
    """Renames a layer: in the config, in the paths of weights, in the optimizer's state, and in losses and metrics of
    an output with that name.

    Args:
        layer: the name or path of the layer.
        name: the new name. No other layer of the same model can have it.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        NameTaken: another layer has the new name.

    >>> RenameLayer("conv2d_17", "stem")
    RenameLayer(layer='conv2d_17', name='stem')
    """

    layer: Selector
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        check_name(self.name)

    def redraw(self, draft: Draft) -> Draft:
        scope, key = parted(draft.find_one(self.layer))
        return draft.with_graph(scope, renamed(draft.graph(scope), key, self.name))


def check_name(name: Any) -> None:
    """Raises NameTaken if a value cannot be the name of a layer."""
    if not isinstance(name, str) or not name or "/" in name:
        raise NameTaken(f"{name!r} cannot be a layer's name: give a string that is not empty and has no slash")


@edit
@dataclass(frozen=True)
class RenameModel(GraphEdit):
    """Renames the model. To rename a nested model, use `RenameLayer`.

    Args:
        name: the new name.

    >>> RenameModel("detector")
    RenameModel(name='detector')
    """

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)

    def redraw(self, draft: Draft) -> Draft:
        graph = draft.graph("")
        return draft.with_graph("", replace(graph, record=freeze(with_name(graph.record, self.name))))


@edit
@dataclass(frozen=True, init=False)
class SetConfig(GraphEdit):
    """Sets fields of the configs of layers: an activation, a dropout rate, a regularizer.

    A change that needs weights of other shapes raises an error. A field that switches weights on or off (`use_bias`,
    the `scale` and `center` of a normalisation) keeps the function: new weights start as zeros (a scale as ones), and
    only such weights can be removed. Masks follow: with `mask_zero=False`, the calls behind an Embedding have no mask.

    Args:
        layer: the layers, see `graph.selectors`.
        allow_function_change: whether weights can be removed that change the function of the layer.
        **fields: the new value of each field, as in the config, or a Keras object such as a regularizer.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        UnknownField: the config has no such field, or another edit changes it.
        BadValue: the field cannot have this value, or a weight that is not zero (a scale: not one) would be removed.
        MisfitTensor: the layer, or a layer that reads it, would need other weights.

    >>> SetConfig("*@Dropout", rate=0.3)
    SetConfig(layer='*@Dropout', fields={'rate': 0.3}, allow_function_change=False)
    """

    layer: Selector
    fields: Mapping[str, Any]
    allow_function_change: bool = False

    def __init__(self, layer: Any, *, allow_function_change: bool = False, **fields: Any) -> None:
        object.__setattr__(self, "layer", as_selector(layer))
        object.__setattr__(self, "allow_function_change", allow_function_change)
        object.__setattr__(self, "fields", FrozenDict(valmap(compose(freeze, as_value), fields)))
        self.__post_init__()

    def __post_init__(self) -> None:
        if not self.fields:
            raise BadValue(f"SetConfig({self.layer!r}) sets no field; give one, as in SetConfig('dropout', rate=0.3)")

    def redraw(self, draft: Draft) -> Draft:
        paths = draft.find(self.layer)
        draft = reduce(Draft.exposed, paths, draft)
        records: dict[str, Record] = {}
        for path in paths:
            scope, key = parted(path)
            records[path] = configured(path, draft.graph(scope).layers[key], self.fields)
            if is_switch(self.fields):
                before, draft = draft, with_records(draft, {path: records[path]})
                draft = with_switched_weights(before, draft, path, self.allow_function_change)
        return draft if is_switch(self.fields) else with_records(draft, records)


@edit
@dataclass(frozen=True)
class SetTrainable(GraphEdit):
    """Freezes layers, or makes them trainable. Layers inside a selected wrapper or nested model are included.

    The optimizer's state of frozen layers is dropped. Layers that become trainable start without one, and the models
    around them become trainable, too.

    Args:
        layer: the layers, see `graph.selectors`; all by default.
        trainable: whether training changes their weights.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.

    >>> SetTrainable("backbone/*", False)
    SetTrainable(layer='backbone/*', trainable=False)
    """

    layer: Selector = "*"
    trainable: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", as_selector(self.layer))
        if not isinstance(self.trainable, (bool, np.bool_)):
            raise BadValue(f"trainable is True or False, not {self.trainable!r}")
        object.__setattr__(self, "trainable", bool(self.trainable))

    def redraw(self, draft: Draft) -> Draft:
        paths, weighted = draft.within(self.layer), draft.weights.keys()
        layers: dict[str, dict[str, Record]] = defaultdict(dict)  # of each model
        for path in paths:
            inner = model_in(draft.record(path))
            if inner:
                draft = with_flag(draft, path, self.trainable)
            if not inner or inner[1]:
                scope, key = parted(path)
                record = with_trainable(draft.graph(scope).layers[key], self.trainable)
                if not self.trainable and path in weighted and "trainable" not in record["config"]:
                    record = {**record, TRAINED: []}  # its class writes no flag
                layers[scope][key] = freeze(record)
        for scope, records in layers.items():
            graph = draft.graph(scope)
            draft = draft.with_graph(scope, replace(graph, layers={**graph.layers, **records}))
        if not self.trainable:
            return replace(draft, restarted=draft.restarted | set(paths))
        for scope in {above for path in paths for above in scopes_above(parted(path)[0])}:
            draft = with_flag(draft, scope, True)
        return draft


def with_flag(draft: Draft, scope: str, trainable: bool) -> Draft:
    """The draft in which the flag `trainable` of a model itself is set. The flags of its layers stay."""
    graph = draft.graph(scope)
    return draft.with_graph(scope, replace(graph, record=set_in(graph.record, ("config", "trainable"), trainable)))


def with_trainable(record: Any, trainable: bool) -> Any:
    """The record of a layer with the flag `trainable` set, also in the layers in its config, for all of their weights.

    >>> with_trainable({"config": {"trainable": True, "layer": {"config": {"trainable": True}}}}, False)
    {'config': {'trainable': False, 'layer': {'config': {'trainable': False}}}}
    """
    if isinstance(record, list):
        return [with_trainable(item, trainable) for item in record]
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        return record
    config = {key: with_trainable(value, trainable) for key, value in record["config"].items()}
    return {**dissoc(record, TRAINED), "config": config | ({"trainable": trainable} if "trainable" in config else {})}
