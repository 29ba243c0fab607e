"""Names that are probably meant by others, and how things are called in errors."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def nearest(name: Any, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is probably meant by another one, whatever their case; None if there is none near.

    >>> nearest("C1", ["a", "c1"]), nearest("chanels", ["layer", "channels"]), nearest("x", ["units"])
    ('c1', 'channels', None)
    """
    folded: dict[str, str] = {}
    for one in known:
        folded.setdefault(one.casefold(), one)
    close = get_close_matches(str(name).casefold(), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def meant(name: Any, known: Iterable[str], most: int = 8) -> str:
    """The end of an error about an unknown name: the nearest known name, or else the known names.

    >>> meant("C1", ["c1"]), meant("x", ["units", "rate"]), meant("x", [])
    ("did you mean 'c1'?", 'there are units, rate', 'there are none')
    """
    names = list(known)
    if (close := nearest(name, names)) is not None:
        return f"did you mean {close!r}?"
    return f"there are {', '.join(names[:most]) or 'none'}{', ...' * (len(names) > most)}"


def is_keras(value: Any, name: str) -> bool:
    """Whether something is an object of one of Keras' classes, `Model` or `Layer`, or of one derived from it. Keras is
    not imported.

    >>> is_keras("model", "Model")
    False
    """
    return any(cls.__name__ == name and cls.__module__.startswith("keras.") for cls in type(value).__mro__)


def kind_of(value: Any) -> str:
    """What something is, in a word: the name of its class, or of the class that it is."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def shortened(value: Any, most: int = 80) -> str:
    """How something is written, cut off where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[:most]} ..."


def items_of(value: Any) -> list[Any] | None:
    """The things in a list, an array or the like; None for what is no such thing. A string is one thing.

    >>> items_of((1, 2)), items_of(3), items_of("ab")
    ([1, 2], None, None)
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return None
    try:
        return list(value)
    except (TypeError, NotImplementedError):  # arrays without axes, and symbolic tensors
        return None
