"""Tensors of one model, and the arguments of its calls."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple

from kerassurgery_fn.graph.records import leaves, leaves_of

Node = tuple[str, int]  # a call: the key of the layer, and the number of the call
Shape = tuple[int | None, ...]


class Port(NamedTuple):
    """A tensor of one model: the layer that makes it, at which of its calls, and which of the call's outputs it is."""

    layer: str
    call: int = 0
    output: int = 0

    @property
    def node(self) -> Node:
        return self.layer, self.call


class Spec(NamedTuple):
    """A tensor's shape and dtype; the dtype is None where nothing states it."""

    shape: Shape
    dtype: str | None = None

    def fits(self, other: Spec | None) -> bool:
        """Whether two specs are the same as far as both are stated.

        >>> Spec((None, 8), "float32").fits(Spec((None, 8))), Spec((None, 8)).fits(Spec((None, 7)))
        (True, False)
        """
        return other is not None and self.shape == other.shape and (None in (self.dtype, other.dtype) or self == other)


class Unfound(Enum):
    """What stands in a call for an argument that is yet to be found."""

    MASK = "mask"


AUTOMATIC: Final = Unfound.MASK  # the mask that Keras will find


class Use(NamedTuple):
    """A tensor among a call's arguments, and the spec of what the call was recorded to read there, if it was."""

    port: Port
    spec: Spec | None = None


class Arguments(NamedTuple):
    """The arguments of a call, with a `Use` for every tensor."""

    args: list[Any]
    kwargs: dict[str, Any]

    @property
    def uses(self) -> list[Use]:
        return leaves_of(Use, [self.args, self.kwargs])


def given_to_model(args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a call of a model gives for the inputs of the model: its first argument, which may go by its name."""
    return args[0] if args else kwargs.get("inputs", next(iter(kwargs.values())))


def bound(inputs: Any, given: Any) -> dict[str, Any]:
    """The key of each input of a model -> the tensor that a call gives for it.

    Args:
        inputs: the inputs of the model, ports in whatever structure.
        given: what the model is called on; its tensors are a named tuple each.

    Raises:
        ValueError, KeyError: those are other tensors than the model has inputs.

    >>> bound([Port("a"), Port("b")], {"b": Use(Port("x")), "a": Use(Port("y"))})["a"].port.layer
    'y'
    """
    keys = [port.layer for port in leaves(inputs)]
    if isinstance(given, dict) and not isinstance(inputs, dict):
        return {key: given[key] for key in keys}
    return dict(zip(keys, [leaf for leaf in leaves(given) if isinstance(leaf, tuple)], strict=True))
