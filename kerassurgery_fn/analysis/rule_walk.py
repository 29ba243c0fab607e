"""The walk that runs the rules: call by call, with what is known of each tensor in its place.

What a walk is for is up to its collector. It says which rule a call has and what stands for the tensors among the
call's arguments, and it keeps what the rule returns. There are three: of the channels of a whole model
(`channel_collector`), of the shapes and dtypes of a model that is being edited (`shape_collector`), and of
multiply-accumulates (`mac_collector`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from kerassurgery_fn.graph import Call, leaves
from kerassurgery_fn.rules.strictness import is_strict

Rule = TypeVar("Rule", bound=Callable[..., Any])


class Collector(Protocol[Rule]):
    """What a walk collects. `expected` are the exceptions by which a rule says that it does not know or that a call is
    wrong; others are defects of the rule."""

    expected: tuple[type[Exception], ...]

    def rule(self, call: Call) -> Rule:
        """The rule of the class of the layer, bound to the call."""
        ...

    def arguments(self, call: Call, rule: Rule) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the call as the rule takes them."""
        ...

    def collect(self, call: Call, rule: Rule, outputs: list[Any]) -> None:
        """Keeps what the rule returns for the outputs of the call, and what it has found out on the way."""
        ...

    def refuse(self, call: Call, rule: Rule, error: Exception) -> None:
        """Notes that the rule, or one of the methods above, has raised an exception. It may raise another one."""
        ...


def walk(calls: Iterable[Call], collector: Collector[Any]) -> None:
    """Runs the rules of calls that are in order: each reads what those before it have made."""
    for call in calls:
        visit(call, collector)


def visit(call: Call, collector: Collector[Any]) -> None:
    """Runs the rule of one call.

    A rule that fails on a config that nobody thought of must not be trusted, nor stop the walk: the collector is told.
    In strict mode it is a defect, and raised.
    """
    rule = collector.rule(call)
    try:
        args, kwargs = collector.arguments(call, rule)
        collector.collect(call, rule, leaves(rule(*args, **kwargs)))
    except Exception as error:
        if is_strict() and not isinstance(error, collector.expected):
            raise
        collector.refuse(call, rule, error)
