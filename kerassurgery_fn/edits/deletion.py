"""Deleting and keeping channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import counted, items_of, shortened
from kerassurgery_fn.channels import FIXED, Solution, size
from kerassurgery_fn.edits.base import edit
from kerassurgery_fn.edits.steps.additions import refuse_misplaced
from kerassurgery_fn.edits.steps.addresses import addressed
from kerassurgery_fn.edits.steps.branches import cut_branches, removed
from kerassurgery_fn.edits.steps.cutting import keeper
from kerassurgery_fn.edits.steps.indices import is_index
from kerassurgery_fn.edits.steps.inexact_cuts import warn_inexact
from kerassurgery_fn.errors import ChannelOutOfRange, PartialGroup, PinnedChannels
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.snapshot import Snapshot


class Masked(tuple[int, ...]):
    """The indices at which a boolean mask is true. They know how long the mask was, and so does a document."""

    of: int

    @classmethod
    def by(cls, mask: np.ndarray) -> Masked:
        return cls.at(np.flatnonzero(mask).tolist(), mask.size)

    @classmethod
    def at(cls, positions: Iterable[int], of: int) -> Masked:
        """The mask of a length that is true at some positions.

        >>> Masked.at([0, 2], 3), Masked.at([0, 2], 3).of
        ((0, 2), 3)
        """
        masked = cls(positions)
        masked.of = of
        return masked

    def __reduce__(self) -> tuple[Any, ...]:
        return Masked.at, (tuple(self), self.of)


Channels = Mapping[str, tuple[int, ...] | Masked]


class _ChannelEdit:
    """What deleting and keeping have in common: the form in which channels are given, and the cut."""

    channels: Channels
    allow_output_change: bool

    def __init__(
        self,
        layer: Any,
        channels: Iterable[int] | int | None = None,
        *,
        allow_output_change: bool = False,
        **kinds: Iterable[int] | int,
    ) -> None:
        named = addressed(type(self).__name__, layer, channels, kinds, indices, arguments=["allow_output_change"])
        object.__setattr__(self, "channels", named)
        object.__setattr__(self, "allow_output_change", allow_output_change)

    def dying(self, flow: Flow) -> np.ndarray:
        """Which final ids die, shaped as by `flow.solution.none_dead()`."""
        raise NotImplementedError

    def readdressed(self, flow: Flow, paths: Mapping[str, str]) -> list[Self]:
        """The same edit for a model in which layers have other paths, as one edit for each address of each layer: two
        addresses may mean the same layer, and then the channels of both count.

        Args:
            flow: the channels of the model that the edit is meant for.
            paths: path of a layer in that model -> its path in the other model.
        """
        return [
            type(self)(
                {f"{paths.get(producer.path, producer.path)}:{producer.kind}": np.flatnonzero(selected)},
                allow_output_change=self.allow_output_change,
            )
            for producer, selected in _chosen(flow, self.channels)
        ]

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        flow = analyse(snapshot)
        return delete(snapshot, flow, self.dying(flow), allow_output_change=self.allow_output_change)


@edit
@dataclass(frozen=True, init=False)
class DeleteChannels(_ChannelEdit):
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
    DeleteChannels(channels={'conv_1': (0, 4, -1)}, allow_output_change=False)
    >>> DeleteChannels("attention", num_heads=[0]) == DeleteChannels({"attention:num_heads": [0]})
    True
    """

    channels: Channels
    allow_output_change: bool = False

    __init__ = _ChannelEdit.__init__

    def dying(self, flow: Flow) -> np.ndarray:
        return _dying(flow, _chosen(flow, self.channels))


@edit
@dataclass(frozen=True, init=False)
class KeepChannels(_ChannelEdit):
    """Channels of some layers kept and all others of these layers deleted, as `DeleteChannels` does.

    Takes and raises what `DeleteChannels` does. The channels keep their order, whatever the order of the indices.

    >>> KeepChannels({"conv_1": [1, 2]})
    KeepChannels(channels={'conv_1': (1, 2)}, allow_output_change=False)
    """

    channels: Channels
    allow_output_change: bool = False

    __init__ = _ChannelEdit.__init__

    def dying(self, flow: Flow) -> np.ndarray:
        return _dying(flow, [(producer, ~chosen) for producer, chosen in _chosen(flow, self.channels)])


def delete(snapshot: Snapshot, flow: Flow, dead: np.ndarray, *, allow_output_change: bool = False) -> Snapshot:
    """The snapshot without the channels of dead final ids and without the branches of which nothing is left.

    Raises:
        PinnedChannels: some of the ids cannot be cut, or Keras would then compute something else.
        NothingLeft: an output of the model would be left without a tensor to read.
    """
    if not dead.any():
        return snapshot
    refuse_pinned(flow, dead, allow_output_change)
    removal = removed(flow, dead)
    refuse_pinned(flow, removal.dead, allow_output_change)
    refuse_misplaced(flow, keeper(flow, removal.dead))
    smaller = cut_branches(snapshot, flow, removal)
    warn_inexact(flow, removal.dead)
    return smaller


def refuse_pinned(flow: Flow, dead: np.ndarray, allow_output_change: bool, verb: str = "deleted") -> None:
    """Raises PinnedChannels where an id that is pinned would die, or be moved or copied, naming the layers and every
    reason."""
    held = np.flatnonzero(dead & flow.solution.pinned(output=not allow_output_change))
    if not held.size:
        return
    pins = [pin for one in held.tolist() for pin in flow.solution.reasons[one]]
    reasons = list(dict.fromkeys(pin.reason for pin in pins if not (pin.output and allow_output_change)))
    reasons.sort(key=lambda reason: flow.opaque.get(reason.layer) != reason.words)  # what can be taught comes first
    producers = located(flow, held)
    hint = (
        " Pass allow_output_change=True if the model's output is to change."
        if all(pin.output for pin in pins) and verb != "copied"
        else " Leave these channels alone, or take the layer that holds them out of the model first."
    )
    raise PinnedChannels(
        f"{counted(len(held), 'channel')} of {', '.join(map(repr, producers)) or 'the model'} cannot be {verb}: "
        f"{'; '.join(map(str, reasons[:4]))}.{hint}"
    )


def located(flow: Flow, ids: np.ndarray) -> list[str]:
    """The addresses of the channels among which final ids are: a layer's path for its first kind."""
    first = {producer.path: producer.kind for producer in reversed([*flow.producers.values()])}
    return [
        producer.path if producer.kind == first[producer.path] else f"{producer.path}:{producer.kind}"
        for producer in flow.producers.values()
        if np.isin(flow.solution.resolve(producer.axis), ids).any()  # type: ignore[arg-type]
    ]


def indices(channels: Any) -> tuple[int, ...]:
    """Channel indices as a tuple of ints; a boolean mask becomes the indices at which it is true.

    >>> indices([3, -1]), indices([True, False, True])
    ((3, -1), (0, 2))
    """
    if isinstance(channels, Masked):
        return channels
    listed = channels if isinstance(channels, np.ndarray) or is_index(channels) else items_of(channels)
    try:
        array = np.atleast_1d(np.asarray(listed))
    except (ValueError, TypeError) as error:
        raise ChannelOutOfRange(f"channels are indices or a boolean mask, not {shortened(channels)}") from error
    if array.dtype == bool:
        return Masked.by(array)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ChannelOutOfRange(f"channels are indices or a boolean mask, not {array.dtype}: {shortened(channels)}")
    return tuple(array.ravel().tolist())


def _chosen(flow: Flow, channels: Channels) -> list[tuple[Producer, np.ndarray]]:
    """For each address the channels it names, as (producer, bool for each position)."""
    found = []
    for address, wanted in channels.items():
        for producer in flow.producers_at(address):
            n = size(producer.axis) or 0
            if isinstance(wanted, Masked) and wanted.of != n:
                raise ChannelOutOfRange(
                    f"layer {producer.path!r} has {counted(n, 'channel')}, and the mask is for {wanted.of}: "
                    f"pass a mask of length {n}"
                )
            if outside := [c for c in wanted if not -n <= c < n]:
                raise ChannelOutOfRange(
                    f"layer {producer.path!r} has {counted(n, 'channel')} (0 to {n - 1}, or {-n} to -1), "
                    f"so there is no {outside[0]}"
                )
            mask = np.zeros(n, bool)
            mask[list(wanted)] = True
            found.append((producer, mask))
    return found


def _dying(flow: Flow, chosen: Iterable[tuple[Producer, np.ndarray]]) -> np.ndarray:
    dead = flow.solution.none_dead()
    for producer, mask in chosen:
        dead[ids_to_delete(flow.solution, producer, mask)] = True
    return dead


def ids_to_delete(solution: Solution, producer: Producer, selected: np.ndarray) -> np.ndarray:
    """The final ids whose deletion removes exactly the selected channels of a layer.

    A channel usually has one id. Behind a grid it has one id for each grid axis (its head, its place within the head)
    and is deleted when any of them is deleted:

        channel   0  1  2  3        selecting 0 and 1: delete head 0
        head      0  0  1  1        selecting 0 and 2: delete place 0
        place     0  1  0  1        selecting 0 alone: impossible, head 0 and place 0 have other channels

    Args:
        selected: boolean mask over the layer's channels, shape (channels,).

    Returns:
        Final ids, shape (n,); ids that are not pinned where they suffice.

    Raises:
        PartialGroup: the selection cuts through a head or a group.
    """
    ids = solution.resolve(producer.axis)  # type: ignore[arg-type]  # (ids of a channel, channels)
    needed_elsewhere = ids[:, ~selected]
    candidates = np.setdiff1d(ids[:, selected], np.append(needed_elsewhere, FIXED))
    for choice in (candidates[~solution.pinned()[candidates]], candidates):
        if np.isin(ids[:, selected], choice).any(axis=0).all():
            return choice
    partial = np.flatnonzero(selected & ~np.isin(ids, candidates).any(axis=0))
    groups = {tuple(np.flatnonzero((ids == final).any(axis=0)).tolist()) for final in np.unique(ids[:, partial])}
    shown = sorted(groups, key=lambda group: (len(group), group))[:4]
    raise PartialGroup(
        f"channels {partial.tolist()} of {producer.path!r} are part of heads or groups that can only be deleted as a "
        f"whole: delete all channels of a group, such as {'; '.join(str(list(group)) for group in shown)}"
    )
