"""The masks that a layer creates, passes on or drops, as `compute_mask` of its class in Keras does.

A function here is the field `masks` of a record: it takes a call and returns the masks of its outputs.

A mask belongs to a tensor. Keras passes it to the layers that read the tensor, and writes it into the calls of layers
that take a mask. Here a mask is a tensor of the model, or the operations that compute it:

    Embedding(mask_zero=True) on x      not_equal(x, 0)
    Masking(2.0) on x                   any(not_equal(x, 2.0), axis=-1)
    Add on a and b with masks m and n   logical_or(m, n); none if one of the two has no mask
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerassurgery_fn.graph import Port, Record, Shape, Spec, Use, leaves
from kerassurgery_fn.rules.dtypes import compute_dtype, is_float
from kerassurgery_fn.rules.registry import rule_for


@dataclass(frozen=True, eq=False)
class Computed:
    """A mask, or a part of one, that an operation computes.

    - `operation`: the class of the operation;
    - `args`: its arguments: ports, other computed tensors, lists of these, or numbers;
    - `spec`: the shape and dtype of its output;
    - `config`: the config of the operation, without its name.
    """

    operation: str
    args: tuple[Any, ...]
    spec: Spec
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module of the operation in Keras."""
        return f"keras.src.ops.{'core' if self.operation in ('Cast', 'ConvertToTensor') else 'numpy'}"


Mask = Port | Computed | None


@dataclass(frozen=True)
class Masked:
    """A call of a layer for a function that returns its masks.

    - `record`: the record of the layer;
    - `first`: the first argument of the call;
    - `previous`: the mask that is passed to the call, or the masks of the first argument;
    - `spec`: tensor -> its shape and dtype.
    """

    record: Record
    first: Any
    previous: Any
    spec: Callable[[Port], Spec]

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.record["config"]
        return config

    @property
    def tensors(self) -> list[tuple[Port | Computed, Spec]]:
        """The tensors in the first argument; floats are cast to the compute dtype of the layer."""
        return [self.cast(use.port) for use in leaves(self.first) if isinstance(use, Use)]

    def cast(self, port: Port) -> tuple[Port | Computed, Spec]:
        spec, policy = self.spec(port), self.config.get("dtype")
        dtype = compute_dtype(policy) if policy else spec.dtype
        if not spec.dtype or not dtype or spec.dtype == dtype or not (is_float(spec.dtype) and is_float(dtype)):
            return port, spec
        spec = Spec(spec.shape, dtype)
        return Computed("Cast", (port,), spec, {"dtype": dtype}), spec


def output_masks(call: Masked) -> list[Mask]:
    """The masks of the outputs of a call, in order. There can be more outputs than masks."""
    masks = rule_for(call.record).masks
    return masks(call) if masks else []


def passed(call: Masked) -> list[Mask]:
    """The mask of the first tensor, which is passed on."""
    return [only(call.previous)]


def only(masks: Any) -> Mask:
    """The first of several masks."""
    mask: Mask = next(iter(leaves(masks)), None)
    return mask


def mask_of_zeros(call: Masked) -> list[Mask]:
    if not call.config.get("mask_zero"):
        return []
    port = leaves(call.first)[0].port
    return [different(port, call.spec(port).shape, 0)]


def mask_of_steps(call: Masked) -> list[Mask]:
    tensor, spec = call.tensors[0]
    return [any_last(different(tensor, spec.shape, call.config["mask_value"]))]


def different(tensor: Any, shape: Shape, value: Any) -> Computed:
    return Computed("NotEqual", (tensor, value), Spec(shape, "bool"))


def any_last(mask: Computed) -> Computed:
    return Computed("Any", (mask,), Spec(mask.spec.shape[:-1], "bool"), {"axis": -1, "keepdims": False})


def merged_masks(call: Masked) -> list[Mask]:
    """The masks of all merged tensors combined by `or`; none if one of the tensors has no mask."""
    masks = leaves(call.previous)
    if not masks or None in masks:
        return []
    merged = masks[0]
    for mask in masks[1:]:
        spec = Spec(broadcast(shape_of(merged, call), shape_of(mask, call)), "bool")
        merged = Computed("LogicalOr", (merged, mask), spec)
    return [merged]


def shape_of(mask: Any, call: Masked) -> Shape:
    return mask.spec.shape if isinstance(mask, Computed) else call.spec(mask).shape


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of the result if two tensors are combined element by element.

    >>> broadcast((None, 1, 3), (None, 5, 1)), broadcast((4,), (None, 4))
    ((None, 5, 3), (None, 4))
    """
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    return tuple(n if m == 1 else m if n == 1 or n is None else n for m, n in zip(a, b, strict=True))


def joined_masks(call: Masked) -> list[Mask]:
    """The mask of concatenated tensors: each mask is broadcast to its tensor, and the results are concatenated and
    reduced along the last axis. None if no tensor has a mask."""
    masks, axis = leaves(call.previous), call.config["axis"]
    if all(mask is None for mask in masks):
        return []
    parts = [spread(call, *pair) for pair in zip(masks, call.tensors, strict=True)]
    shapes = [shape_of(part, call) for part in parts]
    sizes = [shape[axis] for shape in shapes]
    shape = list(shapes[0])
    shape[axis] = None if None in sizes else sum(n for n in sizes if n is not None)
    return [any_last(Computed("Concatenate", (parts,), Spec(tuple(shape), "bool"), {"axis": axis}))]


def spread(call: Masked, mask: Mask, read: tuple[Port | Computed, Spec]) -> Port | Computed:
    """A mask broadcast to the shape of its tensor; True everywhere if there is no mask."""
    tensor, spec = read
    whole = Spec(spec.shape, "bool")
    if mask is None:
        return Computed("OnesLike", (tensor,), whole, {"dtype": "bool"})
    shape = shape_of(mask, call)
    if len(shape) >= len(spec.shape):
        return mask
    wide = Computed("ExpandDims", (mask,), Spec((*shape, 1), "bool"), {"axis": -1})
    zeros = Computed("ZerosLike", (tensor,), whole, {"dtype": "bool"})
    return Computed("LogicalOr", (wide, zeros), Spec(broadcast(wide.spec.shape, spec.shape), "bool"))


def attention_masks(call: Masked) -> list[Mask]:
    mask = only(call.previous)
    config = {"dtype": None, "sparse": None, "ragged": None}
    return [mask and Computed("ConvertToTensor", (mask,), Spec(shape_of(mask, call), "bool"), config)]


def masks_of_sequences(call: Masked) -> list[Mask]:
    return [only(call.previous)] if call.config.get("return_sequences") else []


def masks_both_ways(call: Masked) -> list[Mask]:
    if not call.config["layer"]["config"].get("return_sequences"):
        return []
    return [only(call.previous)] * (1 if call.config.get("merge_mode") else 2)


def is_source(record: Record) -> bool:
    """Whether a layer creates a mask."""
    makes_mask = rule_for(record).makes_mask
    return makes_mask is not None and makes_mask(record["config"])
