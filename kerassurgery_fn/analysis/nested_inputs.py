"""Checks that the tensors on which a nested model is called match its inputs."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.errors import MisfitTensor
from kerassurgery_fn.graph import Spec, Use, leaves


def refuse_unbound(path: str, inputs: Any, tensors: Any) -> None:
    """Raises MisfitTensor if the tensors of a call do not match the inputs of a model, by their number or names."""
    keys = [port.layer for port in leaves(inputs)]
    uses = [leaf for leaf in leaves(tensors) if isinstance(leaf, Use)]
    names = [*inputs] if isinstance(inputs, dict) else keys
    if isinstance(tensors, dict) and (missing := [name for name in names if name not in tensors]):
        raise MisfitTensor(
            f"model {path!r} has an input {missing[0]!r}, but would be called on tensors with the names "
            f"{', '.join(map(repr, tensors))}; rename its inputs with RenameLayer, or use another model"
        )
    if len(keys) != len(uses):
        raise MisfitTensor(
            f"model {path!r} has {len(keys)} {'input' if len(keys) == 1 else 'inputs'} ({', '.join(map(repr, keys))}), "
            f"but would be called on {len(uses)} {'tensor' if len(uses) == 1 else 'tensors'}; choose a place where a "
            "layer reads as many tensors as the model has inputs, or use another model"
        )


def admits(expected: Spec, spec: Spec) -> bool:
    """Whether a model can be called on a tensor, by the spec of its input and the spec of the tensor."""
    return len(expected.shape) == len(spec.shape) and all(
        a == b or None in (a, b) for a, b in zip(expected.shape, spec.shape, strict=True)
    )
