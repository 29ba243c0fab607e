"""Which tensors of a model are measured for the channels of its layers."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.errors import NoChannels
from kerassurgery_fn.graph import Ref, selectors
from kerassurgery_fn.pruning.activation_views import View, address, views
from kerassurgery_fn.pruning.group_weights import producers_by_address

ViewsByLayer = dict[str, list[list[View]]]  # address of a layer's channels -> for each call, where they are seen


def all_views(flow: Flow) -> ViewsByLayer:
    """Where the channels of every layer are seen, call by call; layers without such a tensor are left out."""
    return _seen(flow, flow.producers.values())


def views_of_free_channels(flow: Flow) -> ViewsByLayer:
    """Where the channels are seen of every layer that has channels which can be cut."""
    producers = producers_by_address(flow)
    free = dict.fromkeys(name for group in groups_of(flow) if not group.pinned for name in group.made)
    return _seen(flow, [producers[name] for name in free])


def views_of(flow: Flow, layers: Any) -> ViewsByLayer:
    """Where the channels of selected layers are seen, call by call.

    Raises:
        UnknownLayer, AmbiguousLayer: `layers` has an unknown or ambiguous name.
        NoChannels: a selected layer has no output with its channels.
    """
    selected = [producer for selector in selectors(layers) for producer in flow.producers_at(selector)]
    views_by_layer = {address(flow, producer): views(flow, producer) for producer in selected}
    for name, calls in views_by_layer.items():
        if not calls:
            raise NoChannels(
                f"no output of the layer has the channels {name!r} (they are on no tensor), so their activations "
                "cannot be measured; select the layers before it, or leave it out of `layers`"
            )
    return views_by_layer


def channel_axes(views_by_layer: ViewsByLayer) -> list[tuple[Ref, int]]:
    """The tensors and axes on which the channels are seen, each once."""
    return sorted({(view.tensor, view.axis) for calls in views_by_layer.values() for call in calls for view in call})


def views_without_overlap(flow: Flow, views_by_layer: ViewsByLayer) -> dict[str, list[View]]:
    """The views of all calls of each layer, of which none is behind another, so that gradients may be added.

    Where the linear values of a call are read, its own output is a view, and every path goes through it.
    """
    paths = {name: flow.producer(name).path for name in views_by_layer}
    return {
        name: [view for call in calls for view in _first(paths[name], call)] for name, calls in views_by_layer.items()
    }


def _first(path: str, call: list[View]) -> list[View]:
    at_output = [view for view in call if view.tensor.path == path]
    return at_output or call


def _seen(flow: Flow, producers: Any) -> ViewsByLayer:
    seen = {address(flow, producer): views(flow, producer) for producer in producers}
    return {name: calls for name, calls in seen.items() if calls}
