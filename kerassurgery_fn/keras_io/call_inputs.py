"""The symbolic inputs on which the call of a subclassed model is recorded.

Keras does not store the inputs of a subclassed model, only the shapes for which it was built.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any, NamedTuple

import keras
import numpy as np
from toolz import valmap

from kerassurgery_fn.arguments import counted, shortened
from kerassurgery_fn.errors import NotAGraph, WrongShape
from kerassurgery_fn.keras_io.call_faults import described
from kerassurgery_fn.keras_io.sublayers import is_graph


class CallInputs(NamedTuple):
    """The inputs of a recorded call.

    - `inputs`: the symbolic inputs, in the structure of the recorded model's inputs: the structure of the first
      argument of `call`, or a dict by the names of the arguments;
    - `by_name`: whether `inputs` is such a dict.
    """

    inputs: Any
    by_name: bool

    def arguments(self, values: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call for values in the structure of `inputs`."""
        return ((), dict(values)) if self.by_name else ((values,), {})

    def prepared(self, values: Any) -> Any:
        """The values unchanged, because the inputs of a model have no masks."""
        return values


def inputs_of(model: keras.Model, given: Any, taken: set[str]) -> CallInputs:
    """The symbolic inputs of a model.

    Args:
        model: a subclassed model.
        given: the argument `inputs` of the user, or None.
        taken: names that cannot be names of inputs.

    Raises:
        NotAGraph: the inputs of the model are not known, and the user passes none.
    """
    specs = _known_specs(model) if given is None else _specs(given)
    if is_graph(model):
        specs = _as_inputs_of(model, specs)
    by_name = isinstance(specs, dict) and not is_graph(model) and specs.keys() <= set(_parameters(model))
    names = _names(specs, by_name, next(iter(_parameters(model)), "inputs"))
    free = [name if name not in taken else f"{name}_input" for name in names]
    flat = [_input(spec, name) for spec, name in zip(keras.tree.flatten(specs), free, strict=True)]
    return CallInputs(keras.tree.pack_sequence_as(specs, flat), by_name)


def example_arrays(given: Any) -> Any:
    """The inputs from the user if all of them are arrays; otherwise None."""
    leaves = keras.tree.flatten(given)
    are_arrays = leaves and all(isinstance(leaf, np.ndarray) or keras.ops.is_tensor(leaf) for leaf in leaves)
    return given if are_arrays and not any(isinstance(leaf, keras.KerasTensor) for leaf in leaves) else None


def _known_specs(model: keras.Model) -> Any:
    """The shapes for which a model was built, as symbolic tensors with a batch axis of variable size."""
    if is_graph(model) and model.built:
        return _inputs_of_graph(model)
    shapes = dict(model._build_shapes_dict or {}) if model.built else {}
    shapes = {name: shape for name, shape in shapes.items() if shape is not None}
    if not shapes:
        raise NotAGraph(
            f"{described(model)} is subclassed, and the shapes of its inputs are unknown"
            f"{'' if model.built else ', because it is not built'}: call it once on data or model.build(shape), then "
            "capture(model), or pass the shapes: capture(model, inputs=(None, 32, 32, 3))"
        )
    if len(shapes) == 1:
        return keras.tree.map_shape_structure(_open_batch, next(iter(shapes.values())))
    return {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(_open_batch, shape)
        for name, shape in shapes.items()
    }


def _as_inputs_of(graph: keras.Model, specs: Any) -> Any:
    """Symbolic tensors with new shapes for the inputs of a graph, which keep their names and dtypes.

    Raises:
        WrongShape: the number or the keys of the shapes differ from those of the inputs.
    """
    structure = _inputs_of_graph(graph)
    old, new = keras.tree.flatten(structure), keras.tree.flatten(specs)
    has_other_keys = isinstance(structure, dict) and isinstance(specs, dict) and structure.keys() != specs.keys()
    if len(old) != len(new) or has_other_keys:
        raise WrongShape(
            f"inputs: model {graph.name!r} has {counted(len(old), 'input')} ({', '.join(map(_name_of, old))}); pass a "
            "shape for each, in the same structure"
        )
    tensors = [keras.KerasTensor(b.shape, a.dtype, name=_name_of(a)) for a, b in zip(old, new, strict=True)]
    return keras.tree.pack_sequence_as(structure, tensors)


def _inputs_of_graph(graph: keras.Model) -> Any:
    return graph._inputs_struct if hasattr(graph, "_inputs_struct") else graph.inputs[0]


def _open_batch(shape: Any) -> keras.KerasTensor:
    return keras.KerasTensor((None, *shape[1:]), keras.config.floatx())


def _specs(given: Any) -> Any:
    """The inputs from the user, with a symbolic tensor for each shape, array, InputLayer and tensor.

    Raises:
        WrongShape: a part is something else.
    """
    match given:
        case keras.KerasTensor():
            return keras.KerasTensor(given.shape, given.dtype, name=_name_of(given))
        case keras.layers.InputLayer():
            return keras.KerasTensor(given.batch_shape, given.dtype, name=given.name)
        case np.ndarray():
            return keras.KerasTensor((None, *given.shape[1:]), _dtype_of(given))
        case Mapping():
            return valmap(_specs, dict(given))
        case tuple() | list() if given and all(size is None or isinstance(size, (int, np.integer)) for size in given):
            return keras.KerasTensor(tuple(given), keras.config.floatx())
        case tuple() | list() if given:
            return type(given)(map(_specs, given))
        case object(shape=shape, dtype=dtype) if keras.ops.is_tensor(given):
            return keras.KerasTensor((None, *shape[1:]), keras.backend.standardize_dtype(dtype))
    raise WrongShape(
        f"inputs must be shapes such as (None, 32, 32, 3), keras.Input(...) or example arrays, or lists and dicts of "
        f"these in the structure of the model's inputs, not {shortened(given)}"
    )


def _name_of(tensor: keras.KerasTensor) -> str:
    """The name of the InputLayer that created a tensor, or the name of the tensor."""
    return tensor._keras_history.operation.name if hasattr(tensor, "_keras_history") else tensor.name


def _dtype_of(array: np.ndarray) -> str:
    """The dtype to which Keras converts an array: floats become the default float dtype."""
    return keras.config.floatx() if array.dtype.kind == "f" else array.dtype.name


def _parameters(model: keras.Model) -> list[str]:
    """The names of the parameters of `call` that take tensors."""
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_ONLY)
    parameters = signature(model.call).parameters.values()
    return [p.name for p in parameters if p.kind in named and p.name != "training"]


def _names(specs: Any, by_name: bool, first: str) -> list[str]:
    """A name for each input: the name from the user, the key in a dict, or the name of the argument with a number.

    Args:
        specs: the specs of the inputs, in their structure.
        by_name: whether `specs` is a dict by the names of the arguments of `call`.
        first: the name of the first parameter of `call`.
    """
    names = []
    for path, spec in keras.tree.flatten_with_path(specs):
        parts = path if by_name or (path and isinstance(path[0], str)) else (first, *path)
        names.append(spec.name if _is_named(spec) else "_".join(map(str, parts)))
    return names


def _is_named(spec: keras.KerasTensor) -> bool:
    return not spec.name.startswith("keras_tensor")


def _input(spec: keras.KerasTensor, name: str) -> Any:
    return keras.Input(batch_shape=spec.shape, dtype=spec.dtype, name=name)
