"""Which channels of a layer are copied, and how often: single ones, or whole lines of a grid."""

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
    """The widths of inputs of the model, and those of layers, by the addresses of one kind of channels each."""
    inputs: dict[str, int] = {}
    layers: dict[str, int] = {}
    for address, width in widths.items():
        for producer in flow.producers_at(address):
            into = inputs if (producer.path, producer.kind) in flow.opened else layers
            other = into.setdefault(f"{producer.path}:{producer.kind}", width)
            if other != width:
                raise BadValue(f"layer {producer.path!r} cannot get {other} channels and {width}; give one number")
    return inputs, layers


def only_rows(flow: Flow, wider: np.ndarray) -> bool:
    """Whether all channels that stand several times are rows for values of inputs, which nothing sums over but weights
    with a row for each."""
    rows = [flow.producers[key].axis for key, axis in flow.opened.items() if not axis]
    ids = np.concatenate([np.unique(flow.solution.resolve(axis)) for axis in rows]) if rows else np.zeros(0, int)  # type: ignore[arg-type]
    return bool(np.isin(np.flatnonzero(wider), ids).all())


def refuse_new_words(flow: Flow, wider: np.ndarray) -> None:
    """Raises CannotWiden where a lookup layer would get words: the edit knows none."""
    for path, kind in flow.opened:
        if kind == "vocabulary" and wider[flow.solution.resolve(flow.producers[path, kind].axis)].any():  # type: ignore[arg-type]
            raise CannotWiden(
                f"layer {path!r} would get new words, and the edit does not know them; replace the layer by one that "
                "knows them, and then widen what reads it"
            )


def appended(flow: Flow, widths: Mapping[str, int], fill: Fill) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """How often each final id will stand so that inputs get new channels behind their last ones, and the ids of the
    channels of each input by the last of them.

    Raises:
        BadValue: an input has more channels already.
        PartialGroup: its channels are lines of a grid.
    """
    copies, inputs = np.ones(flow.solution.ids + 1, int), {}
    for address, width in sorted(widths.items()):
        producer = flow.producer(address)
        ids = lone_ids(flow, producer)
        refuse_fewer(producer, len(ids), width)
        checked_fill(producer, len(ids), fill)
        if copies[ids[-1]] > 1 and copies[ids[-1]] != 1 + width - len(ids):
            raise BadValue(
                f"input {producer.path!r} is tied to one that gets another number of channels; give the same"
            )
        copies[ids[-1]] = 1 + width - len(ids)
        inputs[int(ids[-1])] = ids
    return copies, inputs


def refuse_fewer(producer: Producer, now: int, width: int) -> None:
    """Raises BadValue where a layer has more channels than it is to get."""
    if width < now:
        raise BadValue(f"layer {producer.path!r} has {now} channels already, more than {width}; delete some")


def drawn_copies(flow: Flow, widths: Mapping[str, int], rng: np.random.Generator, allowed: Allowed) -> np.ndarray:
    """How often each final id will stand, a last one for `FIXED`.

    Raises:
        BadValue: a layer has more channels already.
        PartialGroup: its channels cannot be copied one by one, nor line by line.
    """
    copies = np.ones(flow.solution.ids + 1, int)
    for address, width in sorted(widths.items()):  # whatever the order in which they were given: a document has its own
        for producer in flow.producers_at(address):
            lines = lines_of(flow, producer)
            refuse_fewer(producer, prod(map(len, lines)), width)
            now = prod(int(copies[line].sum()) for line in lines)
            if now > prod(map(len, lines)) and now != width:
                raise BadValue(
                    f"layer {producer.path!r} is tied to one that gets {now} channels, so it cannot get {width}"
                )
            if now < width:
                copies = with_copied_lines(flow, producer, lines, copies, width, rng, allowed)
    return copies


def with_copied_lines(
    flow: Flow, producer: Producer, lines: Sequence[np.ndarray], copies: np.ndarray, width: int,
    rng: np.random.Generator, allowed: Allowed,
) -> np.ndarray:  # fmt: skip
    """The numbers of copies with more of some channels of a layer, or of whole lines of its grid: of places in all
    groups or heads if that is possible, else of groups or heads.

    Raises:
        PartialGroup: so many channels do not make up a grid.
    """
    sizes = [int(copies[line].sum()) for line in lines]
    choices = []
    for line, now in reversed([*zip(lines, sizes, strict=True)]):
        if width % (others := prod(sizes) // now) == 0:
            more = copies.copy()
            np.add.at(more, line[rng.integers(0, len(line), width // others - now)], 1)
            choices.append(more)
    if not choices:
        shape = " x ".join(map(str, sizes))
        raise PartialGroup(
            f"the channels of {producer.path!r} are a grid of {shape} (heads or groups, and places in them), of which "
            f"{width} channels are no whole lines; give a multiple of {' or '.join(map(str, sizes))}"
        )
    return next((more for more in choices if can_be_copied(flow, more > 1, allowed)), choices[0])


def can_be_copied(flow: Flow, wider: np.ndarray, allowed: Allowed) -> bool:
    """Whether the model computes what it did when some channels stand several times."""
    try:
        refuse_pinned(flow, wider, allowed, "copied")
        refuse_unlike(flow, wider)
    except (PinnedChannels, CannotWiden):
        return False
    return True


def lone_ids(flow: Flow, producer: Producer) -> np.ndarray:
    """The final ids of a layer's channels, one for each.

    Raises:
        PartialGroup: a channel has several ids, or several channels have one.
    """
    first, *more = lines_of(flow, producer)
    if more:
        raise PartialGroup(
            f"the channels of {producer.path!r} are places in a grid (heads, groups), so that they cannot be copied "
            "one by one"
        )
    return first


def lines_of(flow: Flow, producer: Producer) -> list[np.ndarray]:
    """The final ids of the lines along each axis of the grid that a layer's channels are: its groups, and the places in
    them. A single array with one id for each channel where they are no grid.

    Raises:
        PartialGroup: several channels have the same ids.
    """
    resolved = flow.solution.resolve(producer.axis)  # type: ignore[arg-type]
    rows = {row.tobytes(): row for row in resolved}
    lines = [line for row in rows.values() if len(line := unique(row)) > 1 or resolved.shape[1] == 1]
    if prod(map(len, lines)) != resolved.shape[1] or len(set(map(tuple, resolved.T.tolist()))) < resolved.shape[1]:
        raise PartialGroup(
            f"the channels of {producer.path!r} are places in a grid (heads, groups), or tied to one another, so that "
            "they cannot be copied one by one"
        )
    return lines
