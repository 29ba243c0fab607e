"""Strict rules: what happens when a rule raises an exception that nobody expected.

For users such a layer becomes opaque, so that one defective rule does not stop the analysis of a model. In strict mode
the exception is raised. Tests run in strict mode, because there it is a defect of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_STRICT = ContextVar("strict_rules", default=False)


def is_strict() -> bool:
    """Whether an unexpected exception in a rule is raised."""
    return _STRICT.get()


@contextmanager
def strict_rules(strict: bool = True) -> Iterator[None]:
    """A context in which unexpected exceptions in rules are raised, or are not.

    >>> with strict_rules():
    ...     is_strict()
    True
    """
    token = _STRICT.set(strict)
    try:
        yield
    finally:
        _STRICT.reset(token)
