"""The deletion of channels: from selected channels to ids, from ids to the smaller snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from toolz import unique

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.arguments import counted
from kerassurgery_fn.channels import FIXED, Pin, Solution, is_ascending, size
from kerassurgery_fn.edits.steps.additions import refuse_misplaced
from kerassurgery_fn.edits.steps.axis_places import least_left
from kerassurgery_fn.edits.steps.branches import cut_branches, refuse_hollow, removed
from kerassurgery_fn.edits.steps.cutting import copied, keeper
from kerassurgery_fn.edits.steps.indices import Masked
from kerassurgery_fn.edits.steps.inexact_cuts import warn_inexact
from kerassurgery_fn.edits.steps.remainders import Remainder, counts_only, hand_on
from kerassurgery_fn.errors import ChannelOutOfRange, PartialGroup, PinnedChannels
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.snapshot import Snapshot


class Allowed(NamedTuple):
    """Whether an edit may change the outputs of a model, and its inputs."""

    output: bool = False
    input: bool = False

    @classmethod
    def by(cls, edits: Sequence[Any]) -> Allowed:
        """Whether any of some edits may change outputs or inputs."""
        return cls(any(edit.allow_output_change for edit in edits), any(edit.allow_input_change for edit in edits))


class Selection(NamedTuple):
    """Selected channels of one kind of a layer: a boolean mask over all of them, shape (channels,)."""

    producer: Producer
    mask: np.ndarray


def selections(flow: Flow | Remainder, channels: Mapping[str, tuple[int, ...] | Masked]) -> list[Selection]:
    """The channels at each address: their producers, with masks over all channels of that kind.

    Raises:
        ChannelOutOfRange: the layer has fewer channels.
    """
    chosen = []
    for address, wanted in channels.items():
        for producer in flow.producers_at(address):
            n = size(producer.axis) or 0
            if isinstance(wanted, Masked) and wanted.of != n:
                raise ChannelOutOfRange(
                    f"layer {producer.path!r} has {counted(n, 'channel')}, and the mask is for {wanted.of}: "
                    f"pass a mask of length {n}"
                )
            positions = np.fromiter(wanted, int, len(wanted))
            if (outside := positions[(positions < -n) | (positions >= n)]).size:
                raise ChannelOutOfRange(
                    f"layer {producer.path!r} has {counted(n, 'channel')} (0 to {n - 1}, or {-n} to -1), "
                    f"so there is no {outside[0]}"
                )
            mask = np.zeros(n, bool)
            mask[positions] = True
            chosen.append(Selection(producer, mask))
    return chosen


def ids_of_selections(flow: Flow | Remainder, chosen: Iterable[Selection]) -> np.ndarray:
    """The final ids whose deletion removes the selected channels: a boolean mask, as `flow.solution.none_dead()`."""
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
        Final ids, sorted, shape (n,); ids that are not pinned where they suffice.

    Raises:
        PartialGroup: the selection cuts through a head or a group.
    """
    ids = solution.resolve(producer.axis)  # type: ignore[arg-type]  # (ids of a channel, channels)
    if not ids.size:
        return ids.ravel()
    if len(ids) == 1 and ids[0, 0] > FIXED and is_ascending(ids[0]):  # nearly always: each channel has an id of its own
        return ids[0, selected]
    lowest = int(ids.min())
    numbers = ids - lowest  # of a channel's ids, counted from the lowest: they are close together
    only_selected = np.zeros(int(numbers.max()) + 1, bool)
    only_selected[numbers[:, selected]] = True
    only_selected[numbers[:, ~selected]] = False
    if lowest == FIXED:
        only_selected[0] = False
    candidates = np.flatnonzero(only_selected) + lowest
    for choice in (candidates[~solution.pinned()[candidates]], candidates):
        chosen = np.zeros(len(only_selected), bool)
        chosen[choice - lowest] = True
        if chosen[numbers[:, selected]].any(axis=0).all():
            return choice
    partial = np.flatnonzero(selected & ~np.isin(ids, candidates).any(axis=0))
    groups = {tuple(np.flatnonzero((ids == final).any(axis=0)).tolist()) for final in np.unique(ids[:, partial])}
    shown = sorted(groups, key=lambda group: (len(group), group))[:4]
    raise PartialGroup(
        f"channels {partial.tolist()} of {producer.path!r} are part of heads or groups that can only be deleted as a "
        f"whole: delete all channels of a group, such as {'; '.join(str(list(group)) for group in shown)}"
    )


def delete(snapshot: Snapshot, flow: Flow, dead: np.ndarray, allowed: Allowed | None = None) -> Snapshot:
    """The snapshot without dead ids and without the branches that have no channels left.

    Raises:
        PinnedChannels: some of the ids cannot be deleted, or Keras would add tensors along a wrong axis after that.
        NothingLeft: an output of the model would be left without channels.
    """
    if not dead.any():
        return snapshot
    allowed = allowed or Allowed()
    refuse_pinned(flow, dead, allowed)
    removal = removed(flow, dead)
    refuse_pinned(flow, removal.dead, allowed)
    refuse_misplaced(flow, removal.keep)
    smaller = cut_branches(snapshot, flow, removal)
    warn_inexact(flow, removal.keep)
    if not removal.gone and not removal.lost:
        hand_on(smaller, Remainder(flow, removal.dead), least_left(flow, removal.keep))
    return smaller


def deleted_again(snapshot: Snapshot, left: Remainder, dead: np.ndarray, allowed: Allowed) -> Snapshot | None:
    """The snapshot without dead ids, by the flow of the model before earlier deletions; None if it does not say enough.

    Args:
        snapshot: the result of the earlier deletions.
        left: what they have left.
        dead: the final ids to delete now.
        allowed: whether outputs and inputs can change.

    Raises:
        PinnedChannels: some of the ids cannot be deleted, or Keras would add tensors along a wrong axis after that.
        NothingLeft: a layer would be left without channels.
    """
    refuse_pinned(left.flow, dead, allowed)
    after = Remainder(left.flow, left.dead | dead)
    keep = keeper(left.flow, after.dead, left.dead)
    least = least_left(left.flow, keep)
    if not least or not counts_only(left.flow, keep):
        return None
    refuse_misplaced(left.flow, keep, sizes=left.size)
    refuse_hollow(left.flow, keep, left.flow.graph.places.keys())
    smaller = copied(snapshot, left.flow, keep)
    warn_inexact(left.flow, keep)
    hand_on(smaller, after, least)
    return smaller


def refuse_pinned(flow: Flow, dead: np.ndarray, allowed: Allowed, verb: str = "deleted") -> None:
    """Raises PinnedChannels if an edit would delete, move or copy pinned ids. The error names layers and reasons."""
    held = np.flatnonzero(dead & flow.solution.pinned(output=not allowed.output, input=not allowed.input))
    if not held.size:
        return
    every = [pin for final_id in held.tolist() for pin in flow.solution.reasons[final_id]]
    pins = [pin for pin in every if pin.holds(output=not allowed.output, input=not allowed.input)]
    reasons = list(unique(pin.reason for pin in pins))
    # A layer without a rule comes first, because the user can add a rule.
    reasons.sort(key=lambda reason: flow.opaque.get(reason.layer) != reason.words)
    producers = located(flow, held)
    raise PinnedChannels(
        f"{counted(len(held), 'channel')} of {', '.join(map(repr, producers)) or 'the model'} cannot be {verb}: "
        f"{'; '.join(map(str, reasons[:4]))}. {_way_out(pins)}"
    )


def _way_out(pins: Sequence[Pin]) -> str:
    """The advice for pinned channels."""
    ends = [end for end in ("output", "input") if any(getattr(pin, end) for pin in pins)]
    if all(pin.output or pin.input for pin in pins):
        flags = " and ".join(f"allow_{end}_change=True" for end in ends)
        return f"Pass {flags} if the model's {' and '.join(ends)} may change."
    return "Keep these channels, or delete the layer that pins them first."


def located(flow: Flow, ids: np.ndarray) -> list[str]:
    """The addresses of the channels that contain some final ids: the layer's path if it is its first kind."""
    first = {producer.path: producer.kind for producer in reversed([*flow.producers.values()])}
    return [
        producer.path if producer.kind == first[producer.path] else f"{producer.path}:{producer.kind}"
        for producer in flow.producers.values()
        if np.isin(flow.solution.resolve(producer.axis), ids).any()  # type: ignore[arg-type]
    ]
