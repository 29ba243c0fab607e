"""Deleting and keeping channels, and the base class of all edits that delete channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from toolz import merge_with

from kerassurgery_fn.analysis.channel_flow import Flow, analyse_for
from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.edits.steps.addresses import addressed
from kerassurgery_fn.edits.steps.channel_deletion import Allowed, Selection, delete, ids_of_selections, selections
from kerassurgery_fn.edits.steps.indices import Masked, indices
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.values.snapshot import Snapshot

Channels = Mapping[str, tuple[int, ...] | Masked]


class ChannelEdit(Edit):
    """The base class of edits that delete channels: they say which, and the rest is common to all.

    A class that is derived from it defines `channels_to_delete`. Everything that depends on these channels is deleted
    with them, as `DeleteChannels` does it. In `Plan.at_once` several of these edits are one analysis and one cut. If
    the class has a field `allow_output_change: bool = False`, its instances may delete channels of the model's outputs;
    so it is with `allow_input_change` and the model's inputs.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class DeleteFirst(ChannelEdit):
    ...     layer: str
    ...     def channels_to_delete(self, snapshot):
    ...         return {self.layer: [0]}
    """

    allow_output_change: bool = False
    allow_input_change: bool = False

    @abstractmethod
    def channels_to_delete(self, snapshot: Snapshot) -> Mapping[Any, Any]:
        """The channels to delete from each layer: address (`conv_1`, `block*_conv`, `attention:num_heads`) -> indices,
        or a boolean mask, shape (channels,)."""

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        flow = flow_for(snapshot, [self])
        return delete(snapshot, flow, self.ids_to_delete(snapshot, flow), Allowed.by([self]))

    def addresses(self, snapshot: Snapshot) -> Iterable[str]:
        """The addresses of the channels to delete."""
        return self._channels(snapshot)

    def selections(self, snapshot: Snapshot, flow: Flow) -> list[Selection]:
        """The channels to delete, with the masks over all channels of their layers.

        Args:
            snapshot: the model.
            flow: its channels, as `flow_for` gives them for this edit and perhaps for others.

        Raises:
            BadValue: `channels_to_delete` returned no mapping.
        """
        return selections(flow, self._channels(snapshot))

    def _channels(self, snapshot: Snapshot) -> Mapping[str, tuple[int, ...] | Masked]:
        """The channels to delete in the form in which edits have them.

        Raises:
            BadValue: `channels_to_delete` returned no mapping.
        """
        channels, name = self.channels_to_delete(snapshot), type(self).__name__
        if not isinstance(channels, Mapping):
            raise BadValue(
                f"{name}.channels_to_delete must return a mapping of layers to channels, as {{'conv_1': [0, 4]}}, not "
                f"{shortened(channels)}"
            )
        return addressed(name, channels, None, {}, indices)

    def ids_to_delete(self, snapshot: Snapshot, flow: Flow) -> np.ndarray:
        """The final ids to delete: a boolean mask, shaped as by `flow.solution.none_dead()`."""
        return ids_of_selections(flow, self.selections(snapshot, flow))

    def readdressed(self, snapshot: Snapshot, paths: Mapping[str, str]) -> Sequence[ChannelEdit]:
        """The same edit for a model in which layers have other paths, as edits of one layer each: two addresses may
        mean the same layer, and then the channels of both count.

        Args:
            snapshot: the model that the edit is meant for.
            paths: path of a layer in that model -> its path in the other model.
        """
        return [
            DeleteChannels(
                channels, allow_output_change=self.allow_output_change, allow_input_change=self.allow_input_change
            )
            for channels in _moved(self.selections(snapshot, flow_for(snapshot, [self])), paths)
        ]


class _AddressedChannels(ChannelEdit):
    """What deleting and keeping have in common: the form in which channels are given."""

    channels: Channels
    allow_output_change: bool
    allow_input_change: bool

    def __init__(
        self,
        layer: Any,
        channels: Iterable[int] | int | None = None,
        *,
        allow_output_change: bool = False,
        allow_input_change: bool = False,
        **kinds: Iterable[int] | int,
    ) -> None:
        arguments = ["allow_output_change", "allow_input_change"]
        named = addressed(type(self).__name__, layer, channels, kinds, indices, arguments=arguments)
        object.__setattr__(self, "channels", named)
        object.__setattr__(self, "allow_output_change", allow_output_change)
        object.__setattr__(self, "allow_input_change", allow_input_change)

    def readdressed(self, snapshot: Snapshot, paths: Mapping[str, str]) -> Sequence[Self]:
        return [
            type(self)(
                channels, allow_output_change=self.allow_output_change, allow_input_change=self.allow_input_change
            )
            for channels in _moved(selections(flow_for(snapshot, [self]), self.channels), paths)
        ]

    def addresses(self, snapshot: Snapshot) -> Iterable[str]:
        return self.channels


def flow_for(snapshot: Snapshot, edits: Iterable[ChannelEdit]) -> Flow:
    """The channels of a snapshot, those of inputs among them that some edits name or may change."""
    edits = list(edits)
    addresses = [address for edit in edits for address in edit.addresses(snapshot)]
    return analyse_for(snapshot, addresses, any(edit.allow_input_change for edit in edits))


def _moved(chosen: Iterable[Selection], paths: Mapping[str, str]) -> list[dict[str, np.ndarray]]:
    """Chosen channels by the addresses that their layers have in another model, one layer each."""
    return [
        {f"{paths.get(producer.path, producer.path)}:{producer.kind}": np.flatnonzero(mask)}
        for producer, mask in chosen
    ]


@edit
@dataclass(frozen=True, init=False)
class DeleteChannels(_AddressedChannels):
    """Channels of some layers deleted, with all that lives and dies with them.

    Every axis of every weight that reads or carries a deleted channel loses its position; layers that are tied to it
    (the other branch of an Add, the gate of a Multiply) lose theirs. A branch that loses all its channels goes, up to
    the first Concatenate or Add; the constant that it would still have added to a sum, its biases, goes with it.

    Args:
        layer: a layer's name or path, or a mapping of these to channels. `attention:num_heads` addresses one kind of
            a layer's channels; so does `DeleteChannels("attention", num_heads=[0])`, or `heads=[0]` for short. A
            pattern (`block*_conv`, `*@Conv2D`, see `graph.selectors`) stands for all layers that fit and make
            channels.
        channels: indices, negative ones from the end as in numpy; duplicates count once. A boolean mask will do.
        allow_output_change: whether outputs of the model may lose channels.
        allow_input_change: whether inputs of the model may lose channels: colours, bands, features. An input is then
            named as a layer is, and its channels are those along its last axis, or its first one after the batch if
            what reads it is `channels_first`. The smaller model computes what the model computes with zeros in place
            of what reads these channels.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several, of that name.
        NoChannels: the layer makes no channels.
        ChannelOutOfRange: it has fewer.
        PinnedChannels: they cannot be cut; the message says why.
        PartialGroup: the channels cut through a head or a group.
        NothingLeft: nothing of the model would be left.

    Warns:
        InexactCut: the cut goes across a softmax or a normalisation over channels.

    >>> DeleteChannels("conv_1", [0, 4, -1])
    DeleteChannels(channels={'conv_1': (0, 4, -1)}, allow_output_change=False, allow_input_change=False)
    >>> DeleteChannels("attention", num_heads=[0]) == DeleteChannels({"attention:num_heads": [0]})
    True
    """

    channels: Channels
    allow_output_change: bool = False
    allow_input_change: bool = False

    __init__ = _AddressedChannels.__init__

    def channels_to_delete(self, snapshot: Snapshot) -> Channels:
        return self.channels


@edit
@dataclass(frozen=True, init=False)
class KeepChannels(_AddressedChannels):
    """Channels of some layers kept and all others of these layers deleted, as `DeleteChannels` does.

    Takes and raises what `DeleteChannels` does. The channels keep their order, whatever the order of the indices.

    >>> KeepChannels({"conv_1": [1, 2]})
    KeepChannels(channels={'conv_1': (1, 2)}, allow_output_change=False, allow_input_change=False)
    """

    channels: Channels
    allow_output_change: bool = False
    allow_input_change: bool = False

    __init__ = _AddressedChannels.__init__

    def channels_to_delete(self, snapshot: Snapshot) -> Mapping[str, np.ndarray]:
        chosen = selections(flow_for(snapshot, [self]), self.channels)
        deleted = ({f"{producer.path}:{producer.kind}": ~kept} for producer, kept in chosen)
        return merge_with(np.logical_or.reduce, *deleted)
