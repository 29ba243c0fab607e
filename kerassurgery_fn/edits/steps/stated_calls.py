"""Adds to Sequential models what only Functional models state: the arguments of calls, and dtypes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kerassurgery_fn.analysis.call_keywords import added_kwargs
from kerassurgery_fn.analysis.masks import automatic_kwargs
from kerassurgery_fn.graph import Arguments, Graph, Use, is_chain, is_functional, map_leaves


def as_functional(graph: Graph) -> Graph:
    """A Sequential model that is no longer a chain, with the call arguments and dtypes that Functional models state."""
    if is_functional(graph.record) or is_chain(graph, graph.live):
        return graph
    return with_stated_calls(graph)


def with_stated_calls(graph: Graph) -> Graph:
    """A Sequential model with the call arguments and dtypes that Functional models state."""
    calls = {
        node: Arguments(call.args, automatic_kwargs(added_kwargs(graph.layers[node[0]])))
        for node, call in graph.calls.items()
    }
    return without_partial_specs(replace(graph, calls=calls))


def without_partial_specs(graph: Graph) -> Graph:
    """The model without the specs that have no dtype, as in Sequential models, so that shape and dtype are computed."""

    def whole(leaf: Any) -> Any:
        return Use(leaf.port) if isinstance(leaf, Use) and leaf.spec and not leaf.spec.dtype else leaf

    calls = {node: Arguments(map_leaves(whole, call.args), call.kwargs) for node, call in graph.calls.items()}
    return replace(graph, calls=calls, stated={port: spec for port, spec in graph.stated.items() if spec.dtype})
