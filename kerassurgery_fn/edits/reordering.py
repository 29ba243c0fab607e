"""The edit that changes the order of channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse_for
from kerassurgery_fn.channels import FIXED, size
from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.edits.steps.additions import refuse_misplaced
from kerassurgery_fn.edits.steps.addresses import addressed
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.edits.steps.channel_deletion import Allowed, refuse_pinned
from kerassurgery_fn.edits.steps.channel_sources import NotTogether, reorderer
from kerassurgery_fn.edits.steps.cutting import copied_arrays, copied_constants
from kerassurgery_fn.edits.steps.indices import as_indices
from kerassurgery_fn.errors import ChannelOutOfRange, PartialGroup
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.frozen import set_all
from kerassurgery_fn.values.snapshot import Snapshot

Orders = Mapping[str, tuple[int, ...]]


@edit
@dataclass(frozen=True, init=False)
class ReorderChannels(Edit):
    """Changes the order of channels of some layers, and of all weights that carry or read them. The function of the
    model stays the same.

    Args:
        layer: a layer, or a mapping from layers to orders, as in `DeleteChannels`.
        order: the old index of each new channel, every index once. Negative indices count from the end.
        allow_output_change: whether the order of the model's outputs can change.
        allow_input_change: whether the order of the model's inputs can change, see `DeleteChannels`: `[2, 1, 0]` for
            images in BGR instead of RGB.
        **kinds: orders of other kinds of channels, as in `ReorderChannels("attention", num_heads=[1, 0])`.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        NoChannels: the layer creates no channels.
        ChannelOutOfRange: the order does not list all channels once.
        PinnedChannels: some channels cannot be moved; the message says why.
        PartialGroup: the order exchanges channels of which a tensor has only one, or parts of heads or groups.

    >>> ReorderChannels("conv_1", [2, 0, 1])
    ReorderChannels(orders={'conv_1': (2, 0, 1)}, allow_output_change=False, allow_input_change=False)
    """

    orders: Orders
    allow_output_change: bool = False
    allow_input_change: bool = False

    def __init__(
        self,
        layer: Any,
        order: Iterable[int] | None = None,
        *,
        allow_output_change: bool = False,
        allow_input_change: bool = False,
        **kinds: Any,
    ) -> None:
        arguments = ["allow_output_change", "allow_input_change"]
        named = addressed(type(self).__name__, layer, order, kinds, as_order, "order", arguments)
        object.__setattr__(self, "orders", named)
        object.__setattr__(self, "allow_output_change", allow_output_change)
        object.__setattr__(self, "allow_input_change", allow_input_change)

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        flow = analyse_for(snapshot, self.orders, self.allow_input_change)
        origins = origins_of(flow, self.orders)
        moved = origins != np.append(np.arange(flow.solution.ids), FIXED)
        refuse_pinned(flow, moved, Allowed.by([self]), "moved")
        sources = reorderer(flow, origins)
        refuse_apart(flow, sources)
        refuse_misplaced(flow, sources, "moved")
        record = set_all(snapshot.record, copied_constants(snapshot, flow, sources))
        return snapshot.with_arrays(record, *copied_arrays(snapshot, flow, sources))


def as_order(value: Any) -> tuple[int, ...]:
    """An order as a tuple of ints.

    Raises:
        ChannelOutOfRange: the argument is not an order.

    >>> as_order(np.array([1, 0]))
    (1, 0)
    """
    order = as_indices(value)
    if order is None:
        raise ChannelOutOfRange(f"an order is the old index of each new channel, as [2, 0, 1], not {value!r}")
    return order


def origins_of(flow: Flow, orders: Orders) -> np.ndarray:
    """Final id -> the id that takes its place, shape (ids + 1,); the last one is for `FIXED`.

    Raises:
        ChannelOutOfRange: an order does not list all channels once.
        PartialGroup: two orders give one id different places.
    """
    origins = np.append(np.arange(flow.solution.ids), FIXED)
    chosen: dict[int, int] = {}
    for address, order in orders.items():
        for producer in flow.producers_at(address):
            resolved = flow.solution.resolve(producer.axis)  # type: ignore[arg-type]
            wanted = resolved[:, checked(producer, order)]
            for old, new in zip(resolved.ravel().tolist(), wanted.ravel().tolist(), strict=True):
                if chosen.setdefault(old, new) != new:
                    raise PartialGroup(
                        f"the channels of {producer.path!r} are lines of a grid (heads, groups), or tied to channels "
                        "with another order: give an order of whole lines, and the same order for tied layers"
                    )
    for old, new in chosen.items():
        origins[old] = new
    if len(np.unique(origins)) < len(origins):
        raise PartialGroup("the orders move channels that are tied to channels of other layers; give both one order")
    return origins


def checked(producer: Producer, order: tuple[int, ...]) -> list[int]:
    """An order with indices from 0.

    Raises:
        ChannelOutOfRange: the order does not list all channels once.
    """
    n = size(producer.axis) or 0
    positive = [index % n if -n <= index < n else index for index in order]
    if sorted(positive) != list(range(n)):
        raise ChannelOutOfRange(
            f"an order of the {n} channels of layer {producer.path!r} lists each of 0 to {n - 1} once, not "
            f"{list(order)}"
        )
    return positive


def refuse_apart(flow: Flow, sources: Sources) -> None:
    """Raises PartialGroup if a tensor or weight has only one of two channels that change places."""
    tensors = [(ref.path, axes) for ref, axes in flow.tensors.items()]
    weights = [(path, weight.axes) for path, layer_weights in flow.weights.items() for weight in layer_weights]
    for path, axes in [*tensors, *weights]:
        try:
            for axis in axes or ():
                sources(axis)
        except NotTogether:
            raise PartialGroup(
                f"the order exchanges channels of which {path!r} has only one; give an order that does not move "
                "channels from one part of a split or concatenation to another"
            ) from None
