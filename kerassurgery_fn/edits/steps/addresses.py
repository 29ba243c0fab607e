"""The forms in which edits of channels are given: something for each address of a layer's channels."""

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
    given: Any,
    kinds: Mapping[str, Any],
    read: Callable[[Any], Any],
    what: str = "channels",
    arguments: Iterable[str] = (),
) -> FrozenDict:
    """Address -> what is given for it.

    Args:
        edit: the name of the edit, for errors.
        layer: a selector, or a mapping of selectors to what is given.
        given: what is given for the layer's first kind of channels; None if `layer` is a mapping or `kinds` say it.
        kinds: kind of channels -> what is given for it.
        read: brings what is given into its form.
        what: what is given, for errors.
        arguments: the other arguments of the edit, which a misspelt one is not to be taken for a kind.

    Raises:
        BadValue: a kind of channels is spelt nearly like an argument.
        SurgeryError: something is said twice, or nothing is; two entries for one address contradict each other.

    >>> addressed("Keep", "a", 3, {}, int), addressed("Keep", ["a", "b"], None, {"units": 2}, int)
    ({'a': 3}, {'a:units': 2, 'b:units': 2})
    """
    for kind in kinds:
        refuse_nearly(edit, kind, ["layer", what, *arguments])
    if isinstance(layer, Mapping) == (given is not None or bool(kinds)):
        raise SurgeryError(
            f"{edit} takes a layer and its {what}, or a mapping of layers to {what} and nothing else; not {layer!r} "
            f"and {given if given is not None else dict(kinds)}"
        )
    pairs = [*layer.items()] if isinstance(layer, Mapping) else [(layer, given)] if given is not None else []
    named = [(one, read(wanted)) for address, wanted in pairs for one in selectors(address)]
    named += [(f"{one}:{kind}", read(wanted)) for kind, wanted in kinds.items() for one in selectors(layer)]
    refuse_contradiction(edit, named, what)
    return FrozenDict(dict(named))


def refuse_contradiction(edit: str, named: Sequence[tuple[str, Any]], what: str) -> None:
    """Raises SurgeryError where one address has two different values, of which a mapping would keep the last only."""
    first: dict[str, Any] = {}
    for address, wanted in named:
        if first.setdefault(address, wanted) != wanted:
            raise SurgeryError(
                f"{edit} has two entries for {address!r}, with the {what} {first[address]} and {wanted}; give them in "
                "one entry"
            )


def refuse_nearly(edit: str, kind: str, arguments: Iterable[str]) -> None:
    """Raises BadValue for a kind of channels that is spelt nearly like an argument of an edit."""
    if meant := nearest(kind, arguments, cutoff=0.8):
        raise BadValue(
            f"{edit} has no argument {kind!r}; did you mean {meant}=? Channels of a kind of that name are addressed as "
            f"{{'layer:{kind}': ...}}"
        )
