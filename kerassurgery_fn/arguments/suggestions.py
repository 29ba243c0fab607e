"""Words for error messages: the nearest known name, short forms of values, counts."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def nearest(name: Any, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is nearest to a name, ignoring case; None if no name is near enough.

    >>> nearest("C1", ["a", "c1"]), nearest("chanels", ["layer", "channels"]), nearest("x", ["units"])
    ('c1', 'channels', None)
    """
    folded: dict[str, str] = {}
    for known_name in known:
        folded.setdefault(known_name.casefold(), known_name)
    close = get_close_matches(str(name).casefold(), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def meant(name: Any, known: Iterable[str], most: int = 8) -> str:
    """The end of an error about an unknown name: the nearest known name, or a list of the known names.

    >>> meant("C1", ["c1"]), meant("x", ["units", "rate"]), meant("x", [])
    ("did you mean 'c1'?", 'there are units, rate', 'there are none')
    """
    names = list(known)
    if (close := nearest(name, names)) is not None:
        return f"did you mean {close!r}?"
    return f"there are {', '.join(names[:most]) or 'none'}{', ...' * (len(names) > most)}"


def is_keras(value: Any, name: str) -> bool:
    """Whether a value is an instance of a Keras class (`Model` or `Layer`) or of a class derived from it. Does not
    import Keras.

    >>> is_keras("model", "Model")
    False
    """
    return any(cls.__name__ == name and cls.__module__.startswith("keras.") for cls in type(value).__mro__)


def kind_of(value: Any) -> str:
    """The class of a value as a word; for a class, its own name."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def counted(n: int, noun: str) -> str:
    """A number and a noun that agree.

    >>> counted(1, "channel"), counted(0, "channel")
    ('1 channel', '0 channels')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def shortened(value: Any, most: int = 80) -> str:
    """The repr of a value in one line, cut off after some characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[:most]} ..."


def items_of(value: Any) -> list[Any] | None:
    """The items of a list, an array or another iterable; None for a value that is not iterable, or a string.

    >>> items_of((1, 2)), items_of(3), items_of("ab")
    ([1, 2], None, None)
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return None
    try:
        return list(value)
    except (TypeError, NotImplementedError):  # arrays without axes, and symbolic tensors
        return None
