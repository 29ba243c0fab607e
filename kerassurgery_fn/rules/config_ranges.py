"""The values that config fields can have in all layers of Keras. A record can state others, see `Rule.ranges`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1.

    >>> is_share(0.5), is_share(1.5), is_share(True)
    (True, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def is_count(value: Any) -> bool:
    """Whether a value is a positive integer.

    >>> is_count(3), is_count(0), is_count(2.0)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_factor(value: Any) -> bool:
    """Whether a value is a number or None.

    >>> is_factor(None), is_factor(0.5), is_factor("1")
    (True, True, False)
    """
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


# These fields have the same meaning in every layer of Keras that has them.
RANGES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("rate", "dropout", "recurrent_dropout", "momentum"), is_share),
    **dict.fromkeys(("units", "filters", "groups", "depth_multiplier", "num_heads", "key_dim"), is_count),
    "lora_alpha": is_factor,
}
