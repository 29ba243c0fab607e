"""The inputs of a nested model, and what a call gives for each of them."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import Spec, Use, leaves


def refuse_unbound(path: str, inputs: Any, given: Any) -> None:
    """Raises MisfitTensor where a model would be called on other tensors than it has inputs: more, fewer, or such of
    other names."""
    keys = [port.layer for port in leaves(inputs)]
    uses = [leaf for leaf in leaves(given) if isinstance(leaf, Use)]
    names = [*inputs] if isinstance(inputs, dict) else keys
    if isinstance(given, dict) and (odd := [name for name in names if name not in given]):
        raise MisfitTensor(
            f"model {path!r} has an input {odd[0]!r}, but would be called on tensors named "
            f"{', '.join(map(repr, given))}; give its inputs these names with RenameLayer, or use another model"
        )
    if len(keys) != len(uses):
        raise MisfitTensor(
            f"model {path!r} has {len(keys)} {'input' if len(keys) == 1 else 'inputs'} ({', '.join(map(repr, keys))}), "
            f"but would be called on {len(uses)} {'tensor' if len(uses) == 1 else 'tensors'}; put it where a layer "
            "reads as many tensors as the model has inputs, or use another model"
        )


def admits(own: Spec, spec: Spec) -> bool:
    """Whether a model with an input of one shape can be called on a tensor of another."""
    return len(own.shape) == len(spec.shape) and all(
        a == b or None in (a, b) for a, b in zip(own.shape, spec.shape, strict=True)
    )
