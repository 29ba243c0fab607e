"""Edits that delete channels, and their base class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from toolz import merge_with

from kerassurgery_fn.analysis.channel_flow import Flow, analyse_for, opened_by
from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.edits.steps.addresses import addressed
from kerassurgery_fn.edits.steps.channel_deletion import (
    Allowed,
    Selection,
    delete,
    deleted_again,
    ids_of_selections,
    selections,
)
from kerassurgery_fn.edits.steps.indices import Masked, indices
from kerassurgery_fn.edits.steps.remainders import Remainder, remainder_of
from kerassurgery_fn.errors import BadValue, SurgeryError
from kerassurgery_fn.values.snapshot import Snapshot

Channels = Mapping[str, tuple[int, ...] | Masked]


class ChannelEdit(Edit):
    """The base class of edits that delete channels.

    A derived class defines `channels_to_delete`. Everything that depends on these channels is deleted with them, as in
    `DeleteChannels`. In `Plan.at_once`, several of these edits are one analysis and one cut. If the class has a field
    `allow_output_change: bool = False`, its instances can delete channels of the model's outputs, and with a field
    `allow_input_change` those of its inputs.

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
        smaller = self._after_deletions(snapshot)
        if smaller is not None:
            return smaller
        flow = flow_for(snapshot, [self])
        return delete(snapshot, flow, self.ids_to_delete(snapshot, flow), Allowed.by([self]))

    def _after_deletions(self, snapshot: Snapshot) -> Snapshot | None:
        """The result for a snapshot to which deletions have led, without a new analysis; None if an analysis is needed.

        A refused deletion is analysed, because the message has numbers of the model as it is now.
        """
        left = remainder_of(snapshot)
        if left is None or opened_by(left.flow.graph, self.addresses(snapshot), self.allow_input_change):
            return None
        try:
            dead = self.ids_to_delete(snapshot, left)
            return deleted_again(snapshot, left, dead, Allowed.by([self])) if dead.any() else snapshot
        except SurgeryError:
            return None

    def addresses(self, snapshot: Snapshot) -> Iterable[str]:
        """The addresses of the channels to delete."""
        return self._channels(snapshot)

    def selections(self, snapshot: Snapshot, flow: Flow | Remainder) -> list[Selection]:
        """The channels to delete, with the masks over all channels of their layers.

        Args:
            snapshot: the model.
            flow: its channels, as `flow_for` gives them for this edit and perhaps for others, or what deletions have
                left of them.

        Raises:
            BadValue: the result of `channels_to_delete` is not a mapping.
        """
        return selections(flow, self._channels(snapshot))

    def _channels(self, snapshot: Snapshot) -> Mapping[str, tuple[int, ...] | Masked]:
        """The channels to delete in the form of the field `channels`.

        Raises:
            BadValue: the result of `channels_to_delete` is not a mapping.
        """
        channels, name = self.channels_to_delete(snapshot), type(self).__name__
        if not isinstance(channels, Mapping):
            raise BadValue(
                f"{name}.channels_to_delete must return a mapping of layers to channels, as {{'conv_1': [0, 4]}}, not "
                f"{shortened(channels)}"
            )
        return addressed(name, channels, None, {}, indices)

    def ids_to_delete(self, snapshot: Snapshot, flow: Flow | Remainder) -> np.ndarray:
        """The final ids to delete: a boolean mask, as `flow.solution.none_dead()`."""
        return ids_of_selections(flow, self.selections(snapshot, flow))

    def readdressed(self, snapshot: Snapshot, paths: Mapping[str, str]) -> Sequence[ChannelEdit]:
        """The same edit for a model in which layers have other paths.

        It is returned as edits of one layer each, because two addresses of the edit can select the same layer.

        Args:
            snapshot: the model to which the addresses refer.
            paths: path of a layer in that model -> its path in the other model.
        """
        return [
            DeleteChannels(
                channels, allow_output_change=self.allow_output_change, allow_input_change=self.allow_input_change
            )
            for channels in _moved(self.selections(snapshot, flow_for(snapshot, [self])), paths)
        ]


class _AddressedChannels(ChannelEdit):
    """The arguments that DeleteChannels and KeepChannels have in common."""

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
    """The channels of a snapshot, including the channels of inputs that some edits name or are allowed to change."""
    edits = list(edits)
    addresses = [address for edit in edits for address in edit.addresses(snapshot)]
    return analyse_for(snapshot, addresses, any(edit.allow_input_change for edit in edits))


def _moved(chosen: Iterable[Selection], paths: Mapping[str, str]) -> list[dict[str, np.ndarray]]:
    """Selected channels by the addresses of their layers in another model, one mapping for each layer."""
    return [
        {f"{paths.get(producer.path, producer.path)}:{producer.kind}": np.flatnonzero(mask)}
        for producer, mask in chosen
    ]


@edit
@dataclass(frozen=True, init=False)
class DeleteChannels(_AddressedChannels):
    """Deletes channels of some layers, and everything that depends on these channels.

    The axes of weights that read or carry a deleted channel lose its positions. Channels that are tied to it (in the
    other branch of an Add, in the gate of a Multiply) are deleted, too. A branch that loses all its channels is removed
    up to the next Concatenate or Add, together with the constant that its biases would still add to a sum.

    Args:
        layer: the name or path of a layer, or a mapping from layers to channels. `attention:num_heads` is the address
            of one kind of channels; `DeleteChannels("attention", num_heads=[0])`, or in short `heads=[0]`, is the same.
            A pattern (`block*_conv`, `*@Conv2D`, see `graph.selectors`) selects all matching layers with channels.
        channels: indices, or a boolean mask. Negative indices count from the end; duplicates count once.
        allow_output_change: whether outputs of the model can lose channels.
        allow_input_change: whether inputs of the model can lose channels: colours, bands, features. An input is
            selected like a layer. Its channels are along its last axis, or along the axis after the batch if its reader
            is `channels_first`. The smaller model computes what the model computes where the weights that read these
            channels are zero. Without a normalisation or an offset before these weights, it also computes what the
            model computes where the channels are zero.
            Rows for values of an integer input are channels, too: `DeleteChannels("words", input_dim=[7], ...)` deletes
            a word, and the values after it are numbered anew. All layers that read the input lose the row.

    Raises (when called on a snapshot):
        UnknownLayer, AmbiguousLayer: no layer, or several layers, have this name.
        NoChannels: the layer creates no channels.
        ChannelOutOfRange: the layer has fewer channels.
        PinnedChannels: the channels cannot be deleted; the message says why.
        PartialGroup: the channels are a part of a head or group.
        NothingLeft: an output of the model would be left without channels.

    Warns:
        InexactCut: the cut crosses a softmax or a normalisation over channels.

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

    def _channels(self, snapshot: Snapshot) -> Channels:
        return self.channels


@edit
@dataclass(frozen=True, init=False)
class KeepChannels(_AddressedChannels):
    """Keeps channels of some layers, and deletes all other channels of these layers.

    The arguments and errors are those of `DeleteChannels`. The order of the indices does not matter.

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
