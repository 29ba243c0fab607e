"""Chooses the channels of a layer that are copied, and how often: single channels, or whole lines of a grid.

A grouped convolution with 2 groups of 3 channels is a grid of 2 x 3. Only whole lines of it can be copied: a group (3
channels more), or a place in all groups (2 channels more).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.edits.steps.channel_deletion import Allowed, refuse_pinned
from kerassurgery_fn.edits.steps.channel_sources import unique
from kerassurgery_fn.edits.steps.equal_channels import refuse_unlike
from kerassurgery_fn.edits.steps.new_bands import Fill, checked_fill
from kerassurgery_fn.errors import BadValue, CannotWiden, PartialGroup, PinnedChannels
from kerassurgery_fn.rules.layer import Producer


def parted_widths(flow: Flow, widths: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The new numbers of channels of the model's inputs, and those of its layers; the keys are addresses of one kind of
    channels.

    Raises:
        BadValue: a layer gets two different numbers.
    """
    inputs: dict[str, int] = {}
    layers: dict[str, int] = {}
    for address, width in widths.items():
        for producer in flow.producers_at(address):
            by_address = inputs if (producer.path, producer.kind) in flow.opened else layers
            other = by_address.setdefault(f"{producer.path}:{producer.kind}", width)
            if other != width:
                raise BadValue(
                    f"layer {producer.path!r} cannot get both {other} and {width} channels; give one number for it"
                )
    return inputs, layers


def only_rows(flow: Flow, wider: np.ndarray) -> bool:
    """Whether all copied channels are rows for values of integer inputs. Only weights with a row for each value read
    such channels.

    Args:
        flow: the channels.
        wider: boolean mask over the final ids that are copied, shape (ids + 1,).
    """
    rows = [flow.producers[key].axis for key, axis in flow.opened.items() if not axis]
    ids = np.concatenate([np.unique(flow.solution.resolve(axis)) for axis in rows]) if rows else np.zeros(0, int)  # type: ignore[arg-type]
    return bool(np.isin(np.flatnonzero(wider), ids).all())


def refuse_new_words(flow: Flow, wider: np.ndarray) -> None:
    """Raises CannotWiden if a lookup layer would get new words, because the edit does not know any."""
    for path, kind in flow.opened:
        if kind == "vocabulary" and wider[flow.solution.resolve(flow.producers[path, kind].axis)].any():  # type: ignore[arg-type]
            raise CannotWiden(
                f"layer {path!r} would get new words, and the edit does not know them; replace the layer by one with a "
                "larger vocabulary, and then widen the layers that read it"
            )


def appended(flow: Flow, widths: Mapping[str, int], fill: Fill) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The copies of each final id with which inputs get new channels after their last channel.

    Args:
        flow: the channels.
        widths: address of an input -> its new number of channels.
        fill: the weights for new channels.

    Returns:
        How often each final id occurs in the wider model, shape (ids + 1,), where only the last channel of an input
        occurs more than once; and final id of the last channel of each input -> final ids of all its channels.

    Raises:
        BadValue: an input has more channels already, or is tied to an input that gets another number of channels.
        ChannelOutOfRange: `fill` names a channel that an input does not have.
        PartialGroup: the channels of an input are lines of a grid.
    """
    copies, inputs = np.ones(flow.solution.ids + 1, int), {}
    for address, width in sorted(widths.items()):
        producer = flow.producer(address)
        ids = lone_ids(flow, producer)
        refuse_fewer(producer, len(ids), width)
        checked_fill(producer, len(ids), fill)
        if copies[ids[-1]] > 1 and copies[ids[-1]] != 1 + width - len(ids):
            raise BadValue(
                f"input {producer.path!r} is tied to an input that gets another number of channels; give both the same "
                "number"
            )
        copies[ids[-1]] = 1 + width - len(ids)
        inputs[int(ids[-1])] = ids
    return copies, inputs


def refuse_fewer(producer: Producer, now: int, width: int) -> None:
    """Raises BadValue if the new number of channels of a layer is smaller than the old one."""
    if width < now:
        raise BadValue(
            f"layer {producer.path!r} has {now} channels already, more than {width}; use DeleteChannels to get fewer"
        )


def drawn_copies(flow: Flow, widths: Mapping[str, int], rng: np.random.Generator, allowed: Allowed) -> np.ndarray:
    """The copies of channels, drawn at random: how often each final id occurs in the wider model, shape (ids + 1,).

    Raises:
        BadValue: a layer has more channels already, or is tied to a layer that gets another number of channels.
        PartialGroup: the new channels do not make up whole lines of a grid.
    """
    copies = np.ones(flow.solution.ids + 1, int)
    # Sorted, because the order of a mapping is not the same after the edit is written to a document and read again.
    for address, width in sorted(widths.items()):
        for producer in flow.producers_at(address):
            lines = lines_of(flow, producer)
            refuse_fewer(producer, prod(map(len, lines)), width)
            now = prod(int(copies[line].sum()) for line in lines)
            if now > prod(map(len, lines)) and now != width:
                raise BadValue(
                    f"layer {producer.path!r} is tied to a layer that gets {now} channels, so it cannot get {width}; "
                    "give both the same number"
                )
            if now < width:
                copies = with_copied_lines(flow, producer, lines, copies, width, rng, allowed)
    return copies


def with_copied_lines(
    flow: Flow, producer: Producer, lines: Sequence[np.ndarray], copies: np.ndarray, width: int,
    rng: np.random.Generator, allowed: Allowed,
) -> np.ndarray:  # fmt: skip
    """The copies with more copies of a layer's channels, or of whole lines of its grid: of places in all groups if
    possible, otherwise of groups.

    Args:
        flow: the channels.
        producer: the channels of the layer.
        lines: the final ids along each axis of the grid.
        copies: how often each final id occurs so far, shape (ids + 1,).
        width: the new number of channels.
        rng: draws the lines to copy.
        allowed: whether the outputs and inputs of the model can change.

    Raises:
        PartialGroup: the new number of channels is not a multiple of a size of the grid.
    """
    sizes = [int(copies[line].sum()) for line in lines]
    choices = []
    for line, now in reversed([*zip(lines, sizes, strict=True)]):
        if width % (per_line := prod(sizes) // now) == 0:
            more = copies.copy()
            np.add.at(more, line[rng.integers(0, len(line), width // per_line - now)], 1)
            choices.append(more)
    if not choices:
        shape = " x ".join(map(str, sizes))
        raise PartialGroup(
            f"the channels of {producer.path!r} are a grid of {shape} (heads or groups, and places in them), so there "
            f"cannot be {width} channels; give a multiple of {' or '.join(map(str, sizes))}"
        )
    if len(choices) == 1:
        return choices[0]
    return next((more for more in choices if can_be_copied(flow, more > 1, allowed)), choices[0])


def can_be_copied(flow: Flow, wider: np.ndarray, allowed: Allowed) -> bool:
    """Whether the outputs of the model stay the same when some channels are copied."""
    try:
        refuse_pinned(flow, wider, allowed, "copied")
        refuse_unlike(flow, wider)
    except (PinnedChannels, CannotWiden):
        return False
    return True


def lone_ids(flow: Flow, producer: Producer) -> np.ndarray:
    """The final ids of a layer's channels, one for each channel, shape (channels,).

    Raises:
        PartialGroup: a channel has several ids, or several channels have the same id.
    """
    first, *more = lines_of(flow, producer)
    if more:
        raise PartialGroup(
            f"the channels of {producer.path!r} are places in a grid (heads, groups), so they cannot be copied one by "
            "one; widen other layers"
        )
    return first


def lines_of(flow: Flow, producer: Producer) -> list[np.ndarray]:
    """The final ids along each axis of the grid of a layer's channels, such as those of groups, and those of the places
    in a group. Without a grid, there is one array with an id for each channel.

    Raises:
        PartialGroup: several channels have the same ids.
    """
    resolved = flow.solution.resolve(producer.axis)  # type: ignore[arg-type]
    rows = {row.tobytes(): row for row in resolved}
    lines = [line for row in rows.values() if len(line := unique(row)) > 1 or resolved.shape[1] == 1]
    if prod(map(len, lines)) != resolved.shape[1] or len(set(map(tuple, resolved.T.tolist()))) < resolved.shape[1]:
        raise PartialGroup(
            f"the channels of {producer.path!r} are places in a grid (heads, groups), or tied to one another, so they "
            "cannot be copied one by one; widen other layers"
        )
    return lines
