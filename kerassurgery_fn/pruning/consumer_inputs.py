"""Finds the inputs of the layers that sum over the channels of coupled groups, and where the channels are in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from toolz import groupby

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.edits.mixing import axes_with, positions_of, weight_by_channel
from kerassurgery_fn.graph import Call, Ref, refs
from kerassurgery_fn.pruning.group_weights import producers_by_address
from kerassurgery_fn.rules.layer import Producer


class ConsumerInput(NamedTuple):
    """The channels of a group in a tensor that a layer reads and sums over.

    - `path`: the layer; `group`: the name of the group; `address`: the layer that creates the channels;
    - `tensor`, `axis`: the tensor, and the axis of the channels;
    - `positions`: where the channels of the group are on the axis, shape (channels, n).
    """

    path: str
    group: str
    address: str
    tensor: Ref
    axis: int
    positions: np.ndarray


def consumer_inputs(flow: Flow, named: Mapping[str, Group]) -> list[ConsumerInput]:
    """The inputs of all layers that sum over the channels of some groups.

    Lines of a grid, such as heads, are left out: they are no channels of a tensor. So are layers that treat each
    channel on its own before they sum over them.
    """
    producers = producers_by_address(flow)
    calls = groupby(lambda call: call.path, flow.trace.calls)
    consumers = []
    for name, group in named.items():
        address, made = next(iter(group.made.items()))
        paths = dict.fromkeys(carrier.path for carrier in group.carried) if made.shape[1] == 1 else ()
        for path in paths:
            if _mixes(flow, producers[address], path):
                places = [place for call in calls.get(path, ()) for place in _places(flow, producers[address], call)]
                consumers += [ConsumerInput(path, name, address, ref, axis, at[made[:, 0]]) for ref, axis, at in places]
    return consumers


def _mixes(flow: Flow, producer: Producer, path: str) -> bool:
    """Whether a layer sums over its input channels directly, without a weight for each channel before the sum."""
    axes = axes_with(flow, producer, path)
    return any(axis.summed for axis in axes) and not weight_by_channel(flow, producer, path, axes)


def _places(flow: Flow, producer: Producer, call: Call) -> Iterator[tuple[Ref, int, np.ndarray]]:
    """The tensors that a call reads and that have all channels of a layer; the axis; and the positions of the
    channels."""
    for ref in dict.fromkeys(refs([call.args, call.kwargs])):
        for number, axis in enumerate(flow.tensors[ref] or ()):
            if (positions := positions_of(flow, producer, axis)) is not None:
                yield ref, number, positions
