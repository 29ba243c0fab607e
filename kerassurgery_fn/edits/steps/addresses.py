"""Reads the arguments of edits of channels: a value for each address of channels, in one of several forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kerassurgery_fn.arguments import nearest
from kerassurgery_fn.errors import BadValue, SurgeryError
from kerassurgery_fn.graph import selectors
from kerassurgery_fn.values.frozen import FrozenDict


def addressed(
    edit: str,
    layer: Any,
    value: Any,
    kinds: Mapping[str, Any],
    read: Callable[[Any], Any],
    what: str = "channels",
    arguments: Iterable[str] = (),
) -> FrozenDict:
    """Address -> its value.

    Args:
        edit: the name of the edit, for errors.
        layer: a selector, or a mapping from selectors to values.
        value: the value for the layer's first kind of channels; None if `layer` is a mapping or `kinds` has the value.
        kinds: kind of channels -> its value.
        read: value -> its final form.
        what: the name of the values, for errors.
        arguments: the other arguments of the edit, so that a misspelt argument is not read as a kind of channels.

    Raises:
        BadValue: the name of a kind is close to that of an argument.
        SurgeryError: there is no value, or more than one form is used, or an address has two different values.

    >>> addressed("Keep", "a", 3, {}, int), addressed("Keep", ["a", "b"], None, {"units": 2}, int)
    ({'a': 3}, {'a:units': 2, 'b:units': 2})
    """
    for kind in kinds:
        refuse_nearly(edit, kind, ["layer", what, *arguments])
    if isinstance(layer, Mapping) == (value is not None or bool(kinds)):
        raise SurgeryError(
            f"{edit} takes a layer and its {what}, or a mapping of layers to {what} and nothing else; not {layer!r} "
            f"and {value if value is not None else dict(kinds)}"
        )
    pairs = [*layer.items()] if isinstance(layer, Mapping) else [(layer, value)] if value is not None else []
    named = [(selector, read(item)) for address, item in pairs for selector in selectors(address)]
    named += [(f"{selector}:{kind}", read(item)) for kind, item in kinds.items() for selector in selectors(layer)]
    refuse_contradiction(edit, named, what)
    return FrozenDict(dict(named))


def refuse_contradiction(edit: str, named: Sequence[tuple[str, Any]], what: str) -> None:
    """Raises SurgeryError if one address has two different values. A mapping would only keep the last one."""
    first: dict[str, Any] = {}
    for address, value in named:
        if first.setdefault(address, value) != value:
            raise SurgeryError(
                f"{edit} has two entries for {address!r}, with the {what} {first[address]} and {value}; give them in "
                "one entry"
            )


def refuse_nearly(edit: str, kind: str, arguments: Iterable[str]) -> None:
    """Raises BadValue if the name of a kind of channels is close to that of an argument of an edit."""
    if meant := nearest(kind, arguments, cutoff=0.8):
        raise BadValue(
            f"{edit} has no argument {kind!r}; did you mean {meant}=? The address of a kind of channels with this name "
            f"is {{'layer:{kind}': ...}}"
        )
