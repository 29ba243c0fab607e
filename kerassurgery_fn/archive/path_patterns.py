"""Regular expressions in the config of an optimizer, which select weights by their paths.

A file is not trusted, and some expressions take years to match. Those that may are not used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

MAX_PATTERNS = 1000
MAX_LENGTH = 200  # characters of a pattern
MAX_PATH = 1000  # characters of a path
MAX_REPEATS = 3  # a path of n characters is matched in the time of n ** (repeats + 1) steps


class NotKnown(Exception):
    """The variables of an optimizer do not follow from its config. For example, it has a pattern that is not used: it
    is no regular expression, or it could take too long to match."""


def is_any_found(patterns: Sequence[Any], path: str) -> bool:
    """Whether one of several patterns matches a part of a path.

    Raises:
        NotKnown: a pattern is not used, or there are too many.

    >>> is_any_found(["lstm", "den.e"], "dense/kernel"), is_any_found(["lstm"], "dense/kernel")
    (True, False)
    """
    _check_number(patterns)
    return any(_compiled(pattern, path).search(path) for pattern in patterns)


def optimizer_of(path: str, patterns: Sequence[str]) -> int:
    """The index of the pattern that a path is equal to, or that matches all of it; the number of patterns if none does.

    Raises:
        NotKnown: a pattern is not used, there are too many, or several match.

    >>> optimizer_of("a/kernel", ["b/.*", "a/.*"]), optimizer_of("c/kernel", ["b/.*", "a/.*"])
    (1, 2)
    """
    _check_number(patterns)
    if path in patterns:
        return list(patterns).index(path)
    matching = [index for index, pattern in enumerate(patterns) if _compiled(pattern, path).fullmatch(path)]
    if len(matching) > 1:
        raise NotKnown
    return matching[0] if matching else len(patterns)


def _check_number(patterns: Sequence[Any]) -> None:
    if len(patterns) > MAX_PATTERNS:
        raise NotKnown


def _compiled(pattern: Any, path: str) -> re.Pattern[str]:
    """A pattern without groups and with few repeats, so that it is matched in a short time."""
    is_short = isinstance(pattern, str) and len(pattern) <= MAX_LENGTH and len(path) <= MAX_PATH
    if not is_short or "(" in pattern or sum(map(pattern.count, "*+?{")) > MAX_REPEATS:
        raise NotKnown
    try:
        return re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise NotKnown from error
