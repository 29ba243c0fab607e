"""JSON of a file that nobody vouches for."""

from __future__ import annotations

import json
from typing import Any

from kerassurgery_fn.errors import BadFile

MAX_DEPTH = 200


def parse_json(text: bytes, source: str) -> Any:
    """The value of a JSON text. NaN and infinity are allowed: Keras writes them.

    Raises:
        BadFile: the text is not JSON, or nested too deeply.

    >>> parse_json(b'{"a": [1]}', "config.json")
    {'a': [1]}
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise BadFile(f"{source} is nested more deeply than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise BadFile(f"{source} is not valid JSON: {error}") from None
    _check_depth(value, source)
    return value


def _check_depth(value: Any, source: str) -> None:
    """Raises BadFile if a value is nested too deeply for recursive functions."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for inner in _items(item)]
        if not level:
            return
    raise BadFile(f"{source} is nested more deeply than {MAX_DEPTH} levels")


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
