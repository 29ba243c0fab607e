"""Converts layers that consist of layers to nested models: `capture(model, expand=...)`.

    transformer_layer_0 (TransformerEncoder)            transformer_layer_0 (Functional)
      one layer; only its code says                ->      self_attention_layer (MultiHeadAttention)
      how it uses its weights                              feedforward_intermediate_dense (Dense), ...

The `call` of the layer is recorded, like the `call` of a subclassed model. The recorded graph replaces the layer and
has its name.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

import keras
from keras.src.backend import get_keras_mask
from toolz import concat

from kerassurgery_fn.errors import NotAGraph, UnknownLayer
from kerassurgery_fn.graph import join_path, matches
from kerassurgery_fn.keras_io.call_faults import described
from kerassurgery_fn.keras_io.call_recording import numbered_names, record_call
from kerassurgery_fn.keras_io.graph_copies import copied
from kerassurgery_fn.keras_io.layer_calls import LayerCall
from kerassurgery_fn.keras_io.measuring import equivalent_parent
from kerassurgery_fn.keras_io.sublayers import is_graph
from kerassurgery_fn.rules.registry import rule_for

Selection = bool | tuple[str, ...]  # all layers that can be expanded, or selectors


class Nested(NamedTuple):
    """A layer as a nested model.

    - `graph`: the model;
    - `used`: the indices of the inputs of the recorded call that the model takes;
    - `signature`: everything that the recording depends on, see `LayerCall.signature`;
    - `trains_alike`: whether the model and the layer also compute the same in training.
    """

    graph: keras.Model
    used: list[int]
    signature: list[Any]
    trains_alike: bool


class Expansion:
    """The expansion of the layers of one model.

    - `selection`: the layers to expand;
    - `nested`: path -> the nested models in place of a layer. A layer without weights has one for each kind of calls;
    - `failures`: path -> why a layer cannot be expanded;
    - `matched`: the selectors that match a layer;
    - `fixed_sizes`: whether the inputs of the model get other sizes, which then also apply to nested models.
    """

    def __init__(self, selection: Selection, fixed_sizes: bool = False) -> None:
        self.selection, self.fixed_sizes = selection, fixed_sizes
        self.nested: dict[str, list[Nested]] = {}
        self.failures: dict[str, NotAGraph] = {}
        self.matched: set[str] = set()
        self._models: dict[int, keras.Model] = {}
        self._wanted: dict[str, bool] = {}

    def model(self, model: keras.Model, scope: str = "", inputs: Any = None) -> keras.Model:
        """A Functional model with nested models in place of layers; the model itself if none of its layers is expanded.

        Args:
            model: a Sequential or Functional model. Its layers get more nodes.
            scope: the path of the model.
            inputs: other inputs for the model, in the structure of its inputs.
        """
        if id(model) not in self._models:
            copy = self._copied(model, scope, inputs)
            self._models[id(model)] = model if copy is None else copy
        return self._models[id(model)]

    def _copied(self, model: keras.Model, scope: str, inputs: Any) -> keras.Model | None:
        """A copy of a model with nested models in place of layers; None if nothing is replaced.

        It starts again if a second call of a layer shows that the layer cannot be expanded.
        """
        graph = model._functional if isinstance(model, keras.Sequential) else model
        calls = _Calls(self, graph, scope)
        with numbered_names(operation.name for operation in graph.operations):
            try:
                copy = copied(graph, graph._inputs_struct if inputs is None else inputs, calls)
            except _LayerStays:
                return self._copied(model, scope, inputs)
        copy._trainable = model.trainable  # the setter would set the flag of every layer, too
        return copy if calls.replaced or inputs is not None else None

    def wants(self, path: str, layer: Any) -> bool:
        """Whether a layer is selected, or is a subclassed model that Keras could not save."""
        if path not in self._wanted:
            self._wanted[path] = self._selects(path, layer)
        return self._wanted[path]

    def _selects(self, path: str, layer: Any) -> bool:
        if not isinstance(layer, keras.layers.Layer) or type(layer).__module__.startswith("keras."):
            return False
        if self.selection is True:
            return _is_unknown_composite(layer) or is_unsaved_model(layer)
        record = record_of_class(type(layer))
        fitting = {selector for selector in self.selection or () if matches(path, record, selector)}
        self.matched |= fitting
        return bool(fitting) or is_unsaved_model(layer)

    def note_failure(self, path: str, error: NotAGraph) -> None:
        """Stores why a layer cannot be expanded if the selection is True (all layers that can be expanded); otherwise
        raises the error."""
        if self.selection is not True:
            raise error
        self.failures[path] = error
        if self.nested.pop(path, None):
            raise _LayerStays

    def refuse_unmatched(self) -> None:
        """Raises UnknownLayer for selectors that match no layer that can be expanded."""
        unmatched = set(self.selection if isinstance(self.selection, tuple) else ()) - self.matched
        if unmatched:
            raise UnknownLayer(
                f"expand={sorted(unmatched)}: no matching layer has a class outside of Keras; expand= takes names, "
                "paths and patterns of your own layers that call other layers, or True for all of them"
            )

    def called(self, path: str, layer: keras.layers.Layer, args: Any, kwargs: Any) -> Any:
        """The outputs of the nested model in place of a layer, for the tensors of a call.

        Raises:
            NotAGraph: the call cannot be recorded, or differs from an earlier call of the same layer.
        """
        call = LayerCall(layer, args, kwargs)
        known = self.nested.get(path, [])
        nested = next((nested for nested in known if nested.signature == call.signature()), None)
        if nested is None and known and layer.variables:
            raise NotAGraph(f"{described(layer)} cannot be expanded: it is called several times, with other arguments")
        if nested is None:
            nested = self.recorded(path, layer, call)
            self.nested.setdefault(path, []).append(nested)
        return nested.graph(call.nested_inputs(nested.used))

    def recorded(self, path: str, layer: keras.layers.Layer, call: LayerCall) -> Nested:
        """The nested model in place of a layer. Its own layers are expanded, too, if they are selected."""
        number = len(self.nested.get(path, []))
        name = f"{layer.name}_call_{number}" if number else layer.name
        with numbered_names(sublayer.name for sublayer in layer._flatten_layers(include_self=False)):
            recording = record_call(layer, call)
        graph, used = call.nested_graph(recording.graph, name)
        _refuse_lost_masks(layer, recording.outputs, graph)
        scope = join_path(path.rpartition("/")[0], name)
        return Nested(self.model(graph, scope), used, call.signature(), recording.trains_alike)


class _LayerStays(Exception):
    """A layer that was expanded in earlier calls cannot be expanded in a later call, so it must stay a layer."""


class _Calls:
    """The calls of a copied model. Calls of expanded layers become calls of the nested models that replace them.

    `replaced`: whether any call was replaced.
    """

    def __init__(self, expansion: Expansion, graph: keras.Model, scope: str) -> None:
        self.expansion, self.scope, self.replaced = expansion, scope, False
        self.counts = Counter(id(node.operation) for node in concat(graph._nodes_by_depth.values()))

    def __call__(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        path = join_path(self.scope, operation.name)
        if is_graph(operation):
            keeps_sizes = not self.expansion.fixed_sizes or self.counts[id(operation)] > 1
            inputs = None if keeps_sizes else resized_inputs(operation, args)
            model = self.expansion.model(operation, path, inputs)
            self.replaced |= model is not operation
            return model(*args, **kwargs)
        if self.expansion.wants(path, operation) and path not in self.expansion.failures:
            try:
                outputs = self.expansion.called(path, operation, args, kwargs)
                self.replaced = True
                return outputs
            except NotAGraph as error:
                self.expansion.note_failure(path, error)
        return operation(*args, **kwargs)


def resized_inputs(model: keras.Model, args: tuple[Any, ...]) -> Any:
    """Inputs for a nested model with the sizes of the tensors on which it is called; None if it has these sizes."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    inputs_of_model, tensors = graph.inputs, keras.tree.flatten(args)
    if [tensor.shape for tensor in inputs_of_model] == [tensor.shape for tensor in tensors]:
        return None
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=old.dtype, name=old._keras_history.operation.name)
        for old, tensor in zip(inputs_of_model, tensors, strict=True)
    ]
    return keras.tree.pack_sequence_as(graph._inputs_struct, inputs)


def _refuse_lost_masks(layer: keras.layers.Layer, outputs: Any, graph: keras.Model) -> None:
    """Raises NotAGraph if only one of a layer and its recorded graph passes on a mask."""
    pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(graph.outputs), strict=True)
    if any((get_keras_mask(live) is None) != (get_keras_mask(recorded) is None) for live, recorded in pairs):
        raise NotAGraph(
            f"{described(layer)} cannot be expanded: the mask of its output differs from the mask of a graph of its "
            "layers; keep it as one layer"
        )


def record_of_class(cls: type) -> dict[str, Any]:
    """The fields of a record for the class of a layer."""
    name = keras.saving.get_registered_name(cls)
    return {"module": cls.__module__, "class_name": cls.__name__, "registered_name": name}


def _is_unknown_composite(layer: keras.layers.Layer) -> bool:
    """Whether a layer consists of layers, or of operations only, and the library has no rule for its class.

    A class that is derived from a class of Keras and computes the same has the rule of its parent.
    """
    is_composite = bool(layer._layers) or not layer.weights
    is_unknown = rule_for(record_of_class(type(layer))).channels is None
    return is_composite and is_unknown and equivalent_parent(layer) is None


def is_unsaved_model(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a subclassed model that Keras cannot save."""
    return isinstance(layer, keras.Model) and not is_graph(layer) and not _can_be_saved(layer)


def _can_be_saved(layer: keras.layers.Layer) -> bool:
    try:
        json.dumps(keras.saving.serialize_keras_object(layer))
    except Exception:  # get_config() of the user's class can raise any exception
        return False
    return True
