"""The arguments of a call, in the form in which a rule takes them."""

from __future__ import annotations

from functools import cache
from inspect import Parameter, signature
from typing import Any

from toolz import dissoc

from kerassurgery_fn.rules.rule_fields import Channels

signature_of = cache(signature)


@cache
def parameters_of(rule: Channels) -> tuple[list[str], bool]:
    """The names of a rule's parameters after the layer, and whether it takes any other keyword argument.

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
    """The arguments of a call for a rule, the first one by position, and the arguments without a parameter in the rule.

    The rule can have another name for the first argument than the call. Then the first tensor with an unknown name is
    the first argument. A rule with `**_` need not name all positional arguments.

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
    return (kwargs[first],), dissoc(kwargs, first), []
