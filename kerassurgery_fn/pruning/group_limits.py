"""How narrow each group may become: what is left alone, ratios, minima and multiples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.arguments import counted, items_of, shortened
from kerassurgery_fn.errors import BadValue
from kerassurgery_fn.graph import selectors
from kerassurgery_fn.pruning.group_weights import producers_by_address

# The fields of configs that count heads. Kernels have an axis for them, but hardware sees the size of each head.
HEADS = {"num_heads", "num_query_heads", "num_key_value_heads"}


@dataclass(frozen=True, eq=False)
class Limits:
    """The widths that a group may have.

    - `widths`: from the present width down, int, shape (n,);
    - `mandatory`: how many of them after the first must be taken, because the caller gives a ratio for the group;
    - `reason`: why there are no more of them, in words.
    """

    widths: np.ndarray
    reason: str
    mandatory: int = 0

    @property
    def full(self) -> int:
        """The present width."""
        return int(self.widths[0])


@dataclass(frozen=True)
class Wishes:
    """What the caller says of groups, by name of the group."""

    ignored: Mapping[str, str]
    ratios: Mapping[str, float]
    max_ratios: Mapping[str, float]
    min_channels: Mapping[str, int]
    round_to: int
    inexact: bool


def group_limits(name: str, group: Group, wishes: Wishes, parts: Mapping[str, int]) -> Limits:
    """The widths that a group may have.

    Args:
        name: the name of the group.
        group: the group, which can be cut.
        wishes: what the caller says.
        parts: address -> how many positions all groups together have there, see `positions_by_address`.

    Raises:
        BadValue: the minimum, the ratio and the maximum ratio for the group contradict each other.
    """
    n = len(group)
    lowest = max(wishes.min_channels.get(name, 1), n - floor(n * wishes.max_ratios.get(name, 1.0) + 1e-9), 1)
    if lowest > n:
        raise BadValue(f"min_channels: the group {name!r} has {counted(n, 'channel')}, fewer than {lowest}")
    widths = np.arange(n, lowest - 1, -1)
    widths = widths[fits_multiples(group, widths, wishes.round_to, parts)]
    reason = f"at its minimum of {widths[-1]}" + f" in multiples of {wishes.round_to}" * (wishes.round_to > 1)
    if name not in wishes.ratios:
        return Limits(widths, reason)
    target = n - floor(n * wishes.ratios[name] + 1e-9)
    if target < lowest:
        raise BadValue(
            f"ratios: {wishes.ratios[name]} leaves {counted(target, 'channel')} of {n} of the group {name!r}, and "
            f"min_channels or max_ratio keep {lowest}: change one of them"
        )
    widths = widths[widths >= target]
    return Limits(widths, f"cut by its own ratio of {wishes.ratios[name]}", len(widths) - 1)


def fits_multiples(group: Group, widths: np.ndarray, multiple: int, parts: Mapping[str, int]) -> np.ndarray:
    """Which widths of a group give multiples in all layers that create its channels; the present width always does.

    How the width of a layer follows from that of a group:

        the group is the layer              channels                       n * 1
        each channel stands m times         a line of a grid as a whole    n * m
        the group is a place in each line   the width of a line            n
        the group is a part of the layer    n and the other parts          what goes must be a multiple
        the group is heads of attention     not rounded: the size of a head is

    Args:
        widths: int, shape (n,).
        parts: see `group_limits`.
    """
    fits = np.ones(len(widths), bool)
    for address, positions in group.made.items():
        layer, each = group.widths[address], positions.shape[1]
        if multiple == 1 or address.rpartition(":")[2] in HEADS:
            continue
        if parts[address] > layer:  # a grid: the positions belong to several groups
            fits &= (widths * each if _are_runs(positions) else widths) % multiple == 0
        elif len(positions) * each == layer:
            fits &= widths * each % multiple == 0
        else:
            fits &= ((len(group) - widths) * each % multiple == 0) & (layer % multiple == 0)
    return fits | (widths == len(group))


def _are_runs(positions: np.ndarray) -> bool:
    """Whether the positions of each channel follow each other, as those of a head do."""
    return bool((np.diff(positions, axis=1) == 1).all()) and positions.shape[1] > 1


def positions_by_address(groups: Iterable[Group]) -> dict[str, int]:
    """Address -> how many positions all groups together have there: more than the layer's channels behind a grid."""
    totals: dict[str, int] = defaultdict(int)
    for group in groups:
        for address, positions in group.made.items():
            totals[address] += positions.size
    return totals


def refuse_narrow(free: Mapping[str, Group], parts: Mapping[str, int], multiple: int) -> None:
    """Raises BadValue if the multiple is larger than a layer."""
    narrow = [
        f"{address!r} ({width})"
        for group in free.values()
        for address, width in group.widths.items()
        if width < multiple and parts[address] == width and address.rpartition(":")[2] not in HEADS
    ]
    if narrow and multiple > 1:
        more = f" and {len(narrow) - 5} more" * (len(narrow) > 5)
        raise BadValue(
            f"round_to: no width of {', '.join(narrow[:5])}{more} is a multiple of {multiple}, because the layers have "
            "fewer channels: give a smaller number, or leave the layers alone by ignore=[...]"
        )


# --- patterns


def by_pattern(
    flow: Flow, named: Mapping[str, Group], value: Any, check: Callable[[Any, str], Any], argument: str
) -> dict[str, Any]:
    """What the caller says of each group: one value for all of them, or a mapping from patterns to values.

    Raises:
        UnknownLayer, NoChannels: a pattern fits nothing.
        BadValue: a value is not valid, or two patterns say different things of a group.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(named, check(value, argument))
    found: dict[str, Any] = {}
    for pattern, item in value.items():
        checked = check(item, f"{argument}[{pattern!r}]")
        for name in fitting(flow, named, pattern):
            if found.setdefault(name, checked) != checked:
                raise BadValue(
                    f"{argument}: two patterns contradict each other for the group {name!r}: {found[name]} and "
                    f"{checked}"
                )
    return found


def fitting(flow: Flow, named: Mapping[str, Group], selector: Any) -> dict[str, str]:
    """The groups that have channels of the layers that a selector names: name -> the pattern that fits.

    A selector with a kind, `attention:num_heads`, means the channels of that kind; without one, all channels of the
    layer. The name of a second group of an address, `conv#2`, means that group alone.

    Raises:
        UnknownLayer, NoChannels: a pattern fits nothing.
    """
    found: dict[str, str] = {}
    addresses = producers_by_address(flow)
    for pattern in selectors(selector):
        if pattern in named and pattern not in addresses:
            found.setdefault(pattern, pattern)
            continue
        producers = flow.producers_at(pattern)
        if ":" in pattern and pattern not in flow.graph.places:
            chosen = {id(producer) for producer in producers}
        else:
            paths = {producer.path for producer in producers}
            chosen = {id(producer) for producer in flow.producers.values() if producer.path in paths}
        for name, group in named.items():
            if any(id(addresses[address]) in chosen for address in group.made):
                found.setdefault(name, pattern)
    return found


def as_ratio(value: Any, name: str, most: float = 1.0) -> float:
    """A ratio of channels to remove, from 0 and below 1.

    Raises:
        BadValue: the value is not such a number.
    """
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 <= value < most:
        return float(value)
    raise BadValue(
        f"{name}: a ratio is the fraction of channels to remove, at least 0 and below 1, not {shortened(value)}"
    )


def as_patterns(value: Any) -> Sequence[Any]:
    """Selectors as a list: one of them, or several."""
    listed = [value] if isinstance(value, str) else items_of(value)
    return [value] if listed is None else listed
