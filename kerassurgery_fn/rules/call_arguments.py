"""The arguments of a call as a rule takes them."""

from __future__ import annotations

from functools import cache
from inspect import Parameter, signature
from typing import Any

from kerassurgery_fn.rules.rule_fields import Channels

signature_of = cache(signature)


@cache
def parameters_of(rule: Channels) -> tuple[list[str], bool]:
    """The names of a rule's parameters after the layer, and whether it takes any other argument by its name alone.

    >>> parameters_of(lambda layer, x, key=None, **_: x)
    (['x', 'key'], True)
    """
    parameters = signature_of(rule).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[1:], Parameter.VAR_KEYWORD in kinds and Parameter.VAR_POSITIONAL not in kinds


def placed(
    rule: Channels, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], list[Any]]:
    """The arguments of a call as a rule takes them, the first one by position, and those that it has no parameter for.

    If the rule has another name for the first argument than the call, it gets the first tensor whose name it does not
    know. A rule that takes any named argument need not name all positional ones.

    >>> placed(lambda layer, x, **_: x, (), {"inputs": (None, 8), "training": True})
    (((None, 8),), {'training': True}, [])
    >>> placed(lambda layer, query, **_: query, (), {"mask": (None,), "query": (None, 8)})
    (((None, 8),), {'mask': (None,)}, [])
    >>> placed(lambda layer, x, **_: x, ((None, 8), (None,)), {})
    (((None, 8),), {}, [(None,)])
    """
    names, open_ended = parameters_of(rule)
    if args:
        end = len(names) if open_ended else len(args)
        return args[:end], kwargs, list(args[end:])
    unknown = (name for name, given in kwargs.items() if name not in names and isinstance(given, (tuple, list, dict)))
    first = names[0] if names and names[0] in kwargs else next(unknown, None)
    if first is None or not names:
        return args, kwargs, []
    return (kwargs[first],), {name: given for name, given in kwargs.items() if name != first}, []
