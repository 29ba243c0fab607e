"""Text of the command line as values of Python.

3, 0.5, true, null, "3", [0, 1], {"rate": 0.3}    JSON
0,4,7  0-7  0-3,8                                 a list of whole numbers
relu_1,dense_1                                    a list of words
gelu                                              a word
@layer.json                                       the JSON in a file; @- is the standard input
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from kerassurgery_fn.documents.plan_files import loads
from kerassurgery_fn.documents.safe_files import read_limited
from kerassurgery_fn.errors import BadFile, BadValue

NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*,?")
MAX_NUMBERS = 1 << 24
MAX_BYTES = 1 << 28


def parse(text: str) -> Any:
    """The value of a word of the command line.

    >>> parse("3"), parse("0-2,7"), parse("a,b"), parse("gelu"), parse('{"rate": 0.5}')
    (3, [0, 1, 2, 7], ['a', 'b'], 'gelu', {'rate': 0.5})

    Raises:
        BadFile, BadDocument: a file after @ cannot be read, or is not JSON.
        BadValue: a range of numbers has none, or too many.
    """
    if text.startswith("@"):
        return loads(content_of(text[1:]), text[1:])
    try:
        return json.loads(text)
    except ValueError:
        pass
    if NUMBERS.fullmatch(text):
        return list(chain.from_iterable(map(_numbers, text.rstrip(",").split(","))))
    return text.split(",") if "," in text else text


def _numbers(text: str) -> range:
    first, _, last = text.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers:
        raise BadValue(f"{text} is no range: its first number is larger than its last")
    if len(numbers) > MAX_NUMBERS:
        raise BadValue(f"{text} are {len(numbers):,} numbers, more than {MAX_NUMBERS:,}")
    return numbers


def parse_pairs(words: Iterable[str], key: Callable[[str], Any] = str) -> dict[Any, Any]:
    """The mapping of words such as `conv_1=0,4`. A word in JSON, or of a file, has a whole mapping.

    Args:
        words: words of the command line.
        key: makes a key of the text before the `=`.

    >>> parse_pairs(["conv_1=0,4", "rate=0.5", '{"a": [1]}'])
    {'conv_1': [0, 4], 'rate': 0.5, 'a': [1]}

    Raises:
        BadValue: a word has no `=`, or a name is given twice.
    """
    pairs: dict[Any, Any] = {}
    for word in words:
        for name, value in _pairs_of(word, key):
            if name in pairs:
                raise BadValue(f"{name!r} is given twice; give it once, with all of its values")
            pairs[name] = value
    return pairs


def _pairs_of(word: str, key: Callable[[str], Any]) -> Iterable[tuple[Any, Any]]:
    """The names and values of one word."""
    if word.startswith("{"):
        return loads(word.encode(), "the argument").items()
    if word.startswith("@") and isinstance(mapping := parse(word), dict):
        return mapping.items()
    if key is parse and isinstance(numbers := parse(word), list):  # the old number of each new one
        return enumerate(numbers)
    name, equals, value = word.partition("=")
    if not equals:
        raise BadValue(f"{word!r} is not of the form NAME=VALUE, for example conv_1=0,4")
    return [(key(name), parse(value))]


def content_of(path: str) -> bytes:
    """The content of a file, or of the standard input for `-`.

    Raises:
        BadFile, BadDocument: see `read_limited`; or there is no standard input.
    """
    if path != "-":
        return read_limited(path, MAX_BYTES)
    if sys.stdin is None:
        raise BadFile("the standard input is closed; give the name of a file in place of -")
    return sys.stdin.buffer.read(MAX_BYTES)


def budget_of(value: float | None) -> float | None:
    """A budget above 1 is a whole number.

    >>> budget_of(0.5), budget_of(1e6)
    (0.5, 1000000)
    """
    return int(value) if value is not None and 1 < value < math.inf else value


def depth_of(text: str) -> float | str:
    """A fraction, or the word that was given.

    >>> depth_of("0.25"), depth_of("only")
    (0.25, 'only')
    """
    try:
        return float(text)
    except ValueError:
        return text
