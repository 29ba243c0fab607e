"""The tensors of one model, and the arguments of its calls."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

from kerassurgery_fn.graph.records import leaves, leaves_of

Node = tuple[str, int]  # a call: the key of the layer, and the number of the call
Shape = tuple[int | None, ...]
Value = TypeVar("Value")


class Port(NamedTuple):
    """A tensor of one model: the layer that computes it, the number of the call, and the number of the output."""

    layer: str
    call: int = 0
    output: int = 0

    @property
    def node(self) -> Node:
        return self.layer, self.call


class Spec(NamedTuple):
    """The shape and dtype of a tensor. The dtype is None if it is unknown."""

    shape: Shape
    dtype: str | None = None

    def fits(self, other: Spec | None) -> bool:
        """Whether the shapes are equal, and the dtypes, too, if both are known.

        >>> Spec((None, 8), "float32").fits(Spec((None, 8))), Spec((None, 8)).fits(Spec((None, 7)))
        (True, False)
        """
        return other is not None and self.shape == other.shape and (None in (self.dtype, other.dtype) or self == other)


class Unfound(Enum):
    """A placeholder for an argument of a call that is determined later."""

    MASK = "mask"


AUTOMATIC: Final = Unfound.MASK  # the mask that Keras passes automatically


class Use(NamedTuple):
    """A tensor among the arguments of a call, and its spec in the record of the call, if there is one."""

    port: Port
    spec: Spec | None = None


class _Kept(Generic[Value]):
    """A property that is computed once. Before Python 3.12, `functools.cached_property` takes a lock, which takes
    longer than the properties of a call."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self.function, self.name = function, function.__name__

    def __get__(self, owner: Any, _: object = None) -> Value:
        value = owner.__dict__[self.name] = self.function(owner)  # from now on, Python finds it without this method
        return value


class _Arguments(NamedTuple):
    args: list[Any]
    kwargs: dict[str, Any]


class Arguments(_Arguments):
    """The arguments of a call, with a `Use` for every tensor. They are never changed in place, so the tensors that they
    read are collected once, and shared by all graphs with this call."""

    @_Kept
    def uses(self) -> tuple[Use, ...]:
        positional = leaves_of(Use, self.args)
        return tuple(positional + leaves_of(Use, self.kwargs) if self.kwargs else positional)

    @_Kept
    def ports(self) -> tuple[Port, ...]:
        """The tensors that the call reads, in the order of its arguments."""
        return tuple([use.port for use in self.uses])


def given_to_model(args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The argument of a model's call that contains its inputs: the first argument, by position or by name."""
    return args[0] if args else kwargs.get("inputs", next(iter(kwargs.values())))


def bound(inputs: Any, given: Any) -> dict[str, Any]:
    """The key of each input of a model -> the tensor on which the model is called.

    Args:
        inputs: the inputs of the model, as ports in nested dicts and lists.
        given: the argument of the call. Each tensor in it is a named tuple.

    Raises:
        ValueError, KeyError: the tensors do not match the inputs.

    >>> bound([Port("a"), Port("b")], {"b": Use(Port("x")), "a": Use(Port("y"))})["a"].port.layer
    'y'
    """
    keys = [port.layer for port in leaves(inputs)]
    if isinstance(given, dict) and not isinstance(inputs, dict):
        return {key: given[key] for key in keys}
    return dict(zip(keys, [leaf for leaf in leaves(given) if isinstance(leaf, tuple)], strict=True))
