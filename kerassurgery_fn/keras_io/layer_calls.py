"""One call of a layer inside a Functional model, as a call that can be recorded on separate inputs."""

from __future__ import annotations

from typing import Any

import keras
from keras.src.backend import get_keras_mask, set_keras_mask

from kerassurgery_fn.keras_io.graph_copies import origins
from kerassurgery_fn.keras_io.sublayers import Functional

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class LayerCall:
    """A call of a layer with tensors of an outer graph.

    The inputs of the recorded graph are a list: the tensors of the call, each of them once, then the masks that Keras
    has attached to these tensors.

        attend(x, x, attention_mask=m)    tensors [x, m]; if x has a mask from an Embedding: [x, m, mask of x]
    """

    def __init__(self, layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.layer, self.call_arguments = layer, (args, kwargs)
        self.tensors, names = _tensors_by_name(layer, args, kwargs)
        known = {id(tensor) for tensor in self.tensors}  # a mask can be both attached to a tensor and an argument
        masks = [get_keras_mask(tensor) for tensor in self.tensors]
        self.masked = [i for i, mask in enumerate(masks) if mask is not None and id(mask) not in known]
        self.masks = [masks[i] for i in self.masked]
        taken = {sublayer.name for sublayer in layer._flatten_layers(include_self=False)}
        names = [*names, *(f"{names[i]}_mask" for i in self.masked)]
        free = [name if name not in taken else f"{name}_input" for name in names]
        self.inputs = [
            keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
            for tensor, name in zip([*self.tensors, *self.masks], free, strict=True)
        ]

    def prepared(self, values: list[Any]) -> list[Any]:
        """The values of the inputs; the values of masks are attached to the values of their tensors."""
        for index, mask in zip(self.masked, values[len(self.tensors) :], strict=False):
            set_keras_mask(values[index], mask)
        return values

    def arguments(self, values: list[Any]) -> Arguments:
        """The arguments of the call, with values in place of the tensors."""
        by_tensor = {id(tensor): value for tensor, value in zip(self.tensors, values, strict=False)}
        return keras.tree.map_structure(lambda leaf: by_tensor.get(id(leaf), leaf), self.call_arguments)

    def signature(self) -> list[Any]:
        """Everything that a recording depends on: the arguments, with the places and shapes of the tensors."""
        places = {id(tensor): ("tensor", i) for i, tensor in enumerate(self.tensors)}
        leaves = keras.tree.flatten_with_path(self.call_arguments)
        shapes = [tuple(tensor.shape) for tensor in self.tensors]
        return [*((path, places.get(id(leaf), leaf)) for path, leaf in leaves), tuple(self.masked), shapes]

    def nested_graph(self, graph: keras.Model, name: str) -> tuple[keras.Model, list[int]]:
        """The recorded graph as a nested model with a name, and the indices of the inputs that it takes.

        Masks that the graph does not use are left out, because Keras passes them on with their tensors.
        """
        needed = origins(graph.outputs)
        inputs = graph.inputs
        used = [i for i, tensor in enumerate(inputs) if i < len(self.tensors) or id(tensor) in needed]
        kept = [inputs[i] for i in used]
        nested: keras.Model = Functional(kept if len(kept) > 1 else kept[0], graph._outputs_struct, name=name)
        nested._trainable = graph.trainable  # the setter would set the flag of every layer, too
        return nested, used

    def nested_inputs(self, used: list[int]) -> Any:
        """The tensors of the outer graph that the nested model takes."""
        tensors = [[*self.tensors, *self.masks][i] for i in used]
        return tensors if len(tensors) > 1 else tensors[0]


def _tensors_by_name(layer: keras.layers.Layer, args: Any, kwargs: Any) -> tuple[list[keras.KerasTensor], list[str]]:
    """The tensors of a call, each once, and a name for each: the name of its parameter."""
    parameters = layer._call_signature.bind(*args, **kwargs).arguments
    names: dict[int, str] = {}
    tensors = {}
    for path, leaf in keras.tree.flatten_with_path(parameters):
        if isinstance(leaf, keras.KerasTensor) and id(leaf) not in names:
            names[id(leaf)] = "_".join(map(str, path))
            tensors[id(leaf)] = leaf
    return list(tensors.values()), list(names.values())
