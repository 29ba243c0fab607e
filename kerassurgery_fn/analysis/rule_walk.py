"""The walk that runs the rules of a model, call by call.

A collector determines the purpose of a walk. It gives the rule of a call, replaces the tensors among the arguments by
what is known about them, and keeps the result of the rule. There are three collectors: for the channels of a model
(`channel_collector`), for the shapes and dtypes of a model that is being edited (`shape_collector`), and for
multiply-accumulates (`mac_collector`).

The step of each walk at a Dense layer with 2 units, which reads the tensor x with 3 channels:

    collector            argument in place of x          result of the rule
    ChannelCollector     axes (None, ids 0 1 2)          axes (None, ids 3 4): the layer creates 2 channels
    ShapeCollector       sizes (None, 3)                 sizes (None, 2)
    MacCollector         sizes (1, 3)                    6 multiply-accumulates

The calls are in topological order, so the collector knows every tensor before a rule reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from kerassurgery_fn.graph import Call, leaves
from kerassurgery_fn.rules.strictness import is_strict

Rule = TypeVar("Rule", bound=Callable[..., Any])


class Collector(Protocol[Rule]):
    """The part of a walk that differs from purpose to purpose. A rule raises one of the `expected` exceptions if it
    cannot follow a call or the call is invalid; any other exception is a defect of the rule."""

    expected: tuple[type[Exception], ...]

    def rule(self, call: Call) -> Rule:
        """The rule of the class of the layer, bound to the call."""
        ...

    def arguments(self, call: Call, rule: Rule) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the call as the rule takes them."""
        ...

    def collect(self, call: Call, rule: Rule, outputs: list[Any]) -> None:
        """Keeps the result of the rule for each output of the call, and the other results of the rule."""
        ...

    def refuse(self, call: Call, rule: Rule, error: Exception) -> None:
        """Handles an exception of the rule or of one of the methods above. It can raise another exception."""
        ...


def walk(calls: Iterable[Call], collector: Collector[Any]) -> None:
    """Runs the rules of calls in topological order."""
    for call in calls:
        visit(call, collector)


def visit(call: Call, collector: Collector[Any]) -> None:
    """Runs the rule of one call.

    If the rule raises an unexpected exception, the collector handles it, so that the walk goes on. In strict mode the
    exception is raised.
    """
    rule = collector.rule(call)
    try:
        args, kwargs = collector.arguments(call, rule)
        collector.collect(call, rule, leaves(rule(*args, **kwargs)))
    except Exception as error:
        if is_strict() and not isinstance(error, collector.expected):
            raise
        collector.refuse(call, rule, error)
