"""The arguments of a call, in the form in which a rule takes them."""

from __future__ import annotations

from functools import cache
from inspect import Parameter, signature
from typing import Any, NamedTuple

from toolz import dissoc

from kerassurgery_fn.rules.rule_fields import Channels

IGNORED = ("_", "__")  # the names of parameters for all arguments that a rule does not use


class Parameters(NamedTuple):
    """The parameters of a rule after the layer.

    - `names`: those that can be passed by position or by name;
    - `open_ended`: whether it takes any other keyword argument, and no other positional argument;
    - `ignores_args`, `ignores_kwargs`: whether it does not use other positional arguments, or other keyword arguments.
    """

    names: tuple[str, ...]
    open_ended: bool
    ignores_args: bool
    ignores_kwargs: bool


@cache
def parameters_of(rule: Channels) -> Parameters:
    """The parameters of a rule.

    >>> parameters_of(lambda layer, x, key=None, **_: x)
    Parameters(names=('x', 'key'), open_ended=True, ignores_args=False, ignores_kwargs=True)
    """
    parameters = signature(rule).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = {parameter.kind: parameter.name for parameter in parameters}
    open_ended = Parameter.VAR_KEYWORD in others and Parameter.VAR_POSITIONAL not in others
    ignores = (others.get(kind) in IGNORED for kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD))
    return Parameters(tuple(names[1:]), open_ended, *ignores)


def named(rule: Channels, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names in the rule.

    >>> named(lambda layer, x, *_, **__: x, ("x", "y"), {"mask": "m"})
    {'x': 'x', 'mask': 'm'}
    """
    return {**dict(zip(parameters_of(rule).names, args, strict=False)), **kwargs}


def ignored(rule: Channels, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments of a call that the rule ignores.

    >>> ignored(lambda layer, x, *_, **__: x, ("x", "y"), {"mask": "m"})
    ['y', 'm']
    """
    names, _, ignores_args, ignores_kwargs = parameters_of(rule)
    if not kwargs and len(args) <= len(names):  # nearly always
        return []
    others = args[len(names) :] if ignores_args else ()
    named_others = [value for name, value in kwargs.items() if name not in names] if ignores_kwargs else ()
    return [*others, *named_others]


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
    names, open_ended, _, _ = parameters_of(rule)
    if args:
        end = len(names) if open_ended else len(args)
        return (args, kwargs, []) if end >= len(args) else (args[:end], kwargs, [*args[end:]])
    unknown = (name for name, value in kwargs.items() if name not in names and isinstance(value, (tuple, list, dict)))
    first = names[0] if names and names[0] in kwargs else next(unknown, None)
    if first is None or not names:
        return args, kwargs, []
    return (kwargs[first],), dissoc(kwargs, first), []
