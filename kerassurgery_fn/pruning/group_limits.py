"""The smallest width of each group: by ignored groups, ratios, minima and multiples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import Group
from kerassurgery_fn.arguments import counted, items_of, meant, shortened
from kerassurgery_fn.errors import BadValue, UnknownGroup
from kerassurgery_fn.graph import selectors
from kerassurgery_fn.pruning.group_weights import producers_by_address
from kerassurgery_fn.values.frozen import FrozenDict

# The fields of configs that count heads. Kernels have an axis for them, but hardware sees the size of each head.
HEADS = {"num_heads", "num_query_heads", "num_key_value_heads"}


@dataclass(frozen=True, eq=False)
class Limits:
    """The widths that a group can have.

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

    @property
    def by_ratio(self) -> int:
        """The width after the mandatory steps."""
        return int(self.widths[self.mandatory])


@dataclass(frozen=True)
class GroupOptions:
    """The options of the caller for groups, by the name of the group."""

    ignored: Mapping[str, str]
    ratios: Mapping[str, float]
    max_ratios: Mapping[str, float]
    min_channels: Mapping[str, int]
    round_to: int
    inexact: bool


@dataclass(frozen=True)
class Layout:
    """The groups of each layer that creates channels.

    - `positions`: address of a layer's channels -> how many positions all groups together have there: more than the
      layer has channels behind a grid, where each position belongs to several groups;
    - `heads`: the addresses at which heads are counted.
    """

    positions: Mapping[str, int]
    heads: Collection[str]


def layout_of(flow: Flow, groups: Iterable[Group]) -> Layout:
    """The layout of some groups, see `Layout`."""
    totals: dict[str, int] = defaultdict(int)
    for group in groups:
        for address, positions in group.made.items():
            totals[address] += positions.size
    kinds = {address: producer.kind.rpartition(".")[2] for address, producer in producers_by_address(flow).items()}
    return Layout(totals, {address for address, kind in kinds.items() if kind in HEADS})


def group_limits(name: str, group: Group, options: GroupOptions, layout: Layout) -> Limits:
    """The widths that a group can have.

    Args:
        name: the name of the group.
        group: the group, which can be cut.
        options: the options of the caller.
        layout: how all groups lie on the layers.

    Raises:
        BadValue: the ratio and the maximum ratio for the group contradict each other.
    """
    n, most = len(group), options.max_ratios.get(name, 1.0)
    lowest = min(n, max(options.min_channels.get(name, 1), left_by(most, n), 1))
    widths = np.arange(n, lowest - 1, -1)
    widths = widths[fits_multiples(group, widths, options.round_to, layout)]
    if name not in options.ratios:
        multiples = f" in multiples of {options.round_to}" * (options.round_to > 1)
        return Limits(widths, f"at its minimum of {widths[-1]}{multiples}")
    ratio = options.ratios[name]
    if ratio > most:
        raise BadValue(
            f"ratios: {ratio} for the group {name!r} is more than its max_ratio of {most}; change one of them"
        )
    widths = widths[widths >= left_by(ratio, n)]
    if len(widths) == 1:
        multiples = f", and no width is a multiple of {options.round_to}" * (options.round_to > 1)
        return Limits(widths, f"its ratio of {ratio} is less than one of its {counted(n, 'channel')}{multiples}")
    return Limits(widths, f"cut by its own ratio of {ratio}", len(widths) - 1)


def left_by(ratio: float, channels: int) -> int:
    """The number of channels that are left after a ratio of them is removed, rounded up.

    >>> left_by(0.3, 10), left_by(0.25, 10)
    (7, 8)
    """
    return channels - floor(channels * ratio + 1e-9)  # 10 * 0.3 may be a little less than 3


def fits_multiples(group: Group, widths: np.ndarray, multiple: int, layout: Layout) -> np.ndarray:
    """Which widths of a group give multiples in all layers that create its channels; the present width always does.

    The number that must be a multiple, for a group of n channels:

        the group is the layer                                n
        its channels are places in each line of a grid        n, the width of a line
        its channels are lines of a grid, m channels each     n * m, as the layer of a convolution with fewer groups
        the group is a part of the layer                      the deleted channels, if the layer is a multiple
        its channels are heads of attention                   none: the size of heads is rounded, not their number

    Args:
        group: the group.
        widths: int, shape (n,).
        multiple: the number of which widths must be multiples.
        layout: the layout of all groups.
    """
    fits = np.ones(len(widths), bool)
    for address, positions in group.made.items() if multiple > 1 else ():
        layer, each = group.widths[address], positions.shape[1]
        if address in layout.heads:
            continue
        if layout.positions[address] > layer:
            fits &= (widths * each if _are_runs(positions) else widths) % multiple == 0
        elif positions.size == layer:
            fits &= widths * each % multiple == 0
        else:
            fits &= ((len(group) - widths) * each % multiple == 0) & (layer % multiple == 0)
    return fits | (widths == len(group))


def _are_runs(positions: np.ndarray) -> bool:
    """Whether the positions of each channel follow each other, as those of a line do."""
    return bool((np.diff(positions, axis=1) == 1).all()) and positions.shape[1] > 1


def refuse_narrow(free: Mapping[str, Group], multiple: int, layout: Layout) -> None:
    """Raises BadValue if a layer whose channels can be cut has fewer of them than the multiple."""
    narrow = {
        address: width
        for group in free.values()
        for address, width in group.widths.items()
        if width < multiple and layout.positions[address] == width and address not in layout.heads
    }
    if narrow:
        shown = [f"{address!r} ({width})" for address, width in [*narrow.items()][:5]]
        more = f" and {len(narrow) - 5} more" * (len(narrow) > 5)
        raise BadValue(
            f"round_to: no width of {', '.join(shown)}{more} is a multiple of {multiple}, because the layers have "
            f"fewer channels: give a smaller number, or leave the layers alone by ignore={shortened([*narrow], 200)}"
        )


# --- patterns


class ByGroup(FrozenDict):
    """Values by the exact name of a group, as in `Scores`. The keys of other mappings are patterns of layers.

    >>> ByGroup({"conv_1": 0.5, "conv_1#2": 0.25})["conv_1"]
    0.5
    """

    __slots__ = ()


def by_pattern(
    flow: Flow, named: Mapping[str, Group], value: Any, check: Callable[[Any, str], Any], argument: str
) -> dict[str, Any]:
    """The option of the caller for each group, from one value for all, a mapping of patterns to values, or `ByGroup`.

    Raises:
        UnknownLayer, NoChannels: a pattern matches nothing.
        UnknownGroup: there is no group of a name.
        BadValue: a value is not valid, or two patterns say different things of a group.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(named, check(value, argument))
    if isinstance(value, ByGroup):
        if unknown := [name for name in value if name not in named]:
            raise UnknownGroup(f"{argument}: no group {unknown[0]!r}; {meant(unknown[0], named)}")
        return {name: check(item, f"{argument}[{name!r}]") for name, item in value.items()}
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
        UnknownLayer, NoChannels: a pattern matches nothing.
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
