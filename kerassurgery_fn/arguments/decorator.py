"""The decorator that checks the arguments of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import cache, wraps
from typing import Any, TypeVar

from kerassurgery_fn.arguments.suggestions import nearest

Check = Callable[[Any, str], Any]
F = TypeVar("F", bound=Callable[..., Any])


def takes(**checks: Check) -> Callable[[F], F]:
    """Decorates a function so that each argument passes through the check of its parameter. Defaults are not checked.

    An unknown keyword raises Python's TypeError, with the nearest parameter.

    >>> from kerassurgery_fn.arguments.converters import as_flag
    >>> @takes(flag=as_flag)
    ... def function(number, flag=False):
    ...     return number, flag
    >>> function(3, flag=True)
    (3, True)
    >>> function(3, flga=True)
    Traceback (most recent call last):
    TypeError: function() has no argument 'flga'; did you mean 'flag'?
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            refuse_misspelt(function, kwargs)
            try:
                bound = _signature(function).bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # raises the TypeError with the usual message of Python
            for name, check in checks.items():
                if name in bound.arguments:
                    bound.arguments[name] = _checked(function, name, check, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return checked  # type: ignore[return-value]

    return decorate


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _checked(function: Callable[..., Any], name: str, check: Check, value: Any) -> Any:
    """The checked value of a parameter; for a `*parameter`, each value is checked."""
    if _signature(function).parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
        return tuple(check(item, name) for item in value)
    return check(value, name)


def refuse_misspelt(function: Callable[..., Any], keywords: Collection[str]) -> None:
    """Raises TypeError for an unknown keyword that is similar to a parameter."""
    if not keywords:
        return
    parameters = _signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for keyword in keywords:
        if keyword not in parameters and (meant := nearest(keyword, parameters)):
            name = function.__qualname__.removesuffix(".__init__")
            raise TypeError(f"{name}() has no argument {keyword!r}; did you mean {meant!r}?")
