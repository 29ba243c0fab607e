"""Coupled groups: the channels of a model that can only be deleted together, as data for users and for planning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from toolz import unique, valmap

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.id_labels import ids_by_label, keys_by_label, labels_of, pairs_of, positions_by_label
from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.channels import Axis, has_ids, size
from kerassurgery_fn.errors import ChannelOutOfRange, NoChannels
from kerassurgery_fn.values.kept_results import computed_once, protect
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table


class Carrier(NamedTuple):
    """An axis of a weight that carries channels of a group.

    - `path`: the layer;
    - `slot`, `name`: the weight: its number in `get_weights()` and its name;
    - `axis`: the number of the axis;
    - `positions`: the positions of each channel on the axis, as in `Group`.
    """

    path: str
    slot: int
    name: str
    axis: int
    positions: np.ndarray

    def __repr__(self) -> str:
        n, each = self.positions.shape
        return f"<{self.path} {self.name}, axis {self.axis}: {n} channels{f' of {each} positions' if each > 1 else ''}>"


@dataclass(frozen=True, eq=False, repr=False)
class Group:
    """Channels with the same members: the same layers create them, the same axes of weights carry them, and the same
    reasons pin them.

    Each channel can be deleted alone. It is then deleted in all members: row c of every array of positions belongs to
    channel c. Most channels have one position in a member. A channel has several if it is a head with all its places,
    or after a Flatten:

        Conv2D a (filters 3) + Conv2D b (filters 3) -> Add -> Flatten of 2 x 2 pixels -> Dense

        channel   in a   in b   in the kernel of Dense
           0       0      0      0 3 6 9
           1       1      1      1 4 7 10
           2       2      2      2 5 8 11

    - `ids`: the final ids of the channels in the flow, sorted;
    - `made`: address of each layer that creates them -> their positions in that layer, shape (channels, n);
    - `widths`: the same addresses -> the number of channels of that layer;
    - `carried`: the axes of weights that carry them;
    - `reasons`: why they cannot be deleted, in words; empty if they can;
    - `output_only`: whether they are pinned only because they are an output of the model;
    - `inexact`: why a cut would not be exact; empty if it is exact.
    """

    ids: np.ndarray
    made: Mapping[str, np.ndarray]
    widths: Mapping[str, int]
    carried: tuple[Carrier, ...]
    reasons: tuple[str, ...]
    output_only: bool
    inexact: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pinned(self) -> bool:
        """Whether the channels cannot be deleted."""
        return bool(self.reasons)

    def channels(self, wanted: Iterable[int]) -> dict[str, tuple[int, ...]]:
        """Channels of the group, in the form of the argument of `DeleteChannels`: address -> positions in that layer.

        Args:
            wanted: indices into the group, or a boolean mask. Negative indices count from the end.

        Raises:
            ChannelOutOfRange: the group has fewer channels.
            NoChannels: no layer creates the channels, so no edit can name them.
        """
        index = np.asarray(wanted if isinstance(wanted, np.ndarray) else list(wanted))
        if not self.made:
            raise NoChannels(f"no layer creates the {len(self)} channels of this group: they come from a constant")
        try:
            chosen = np.arange(len(self))[index] if index.size else []
        except IndexError as error:
            raise ChannelOutOfRange(
                f"the group has {len(self)} channels, 0 to {len(self) - 1}, so it has no {index.tolist()}"
            ) from error
        return {address: tuple(np.unique(positions[chosen]).tolist()) for address, positions in self.made.items()}

    def __repr__(self) -> str:
        lines = any(positions.shape[1] > 1 for positions in self.made.values())
        noun = ("line" if lines else "channel") + "s" * (len(self) != 1)
        producers = [self._share(address) for address in self.made] or ["constants"]
        more = [f"{len(producers) - 3} more"] * (len(producers) > 4)
        named = " + ".join([*producers[: 3 if more else 4], *more])
        inexact = f", inexact: {self.inexact[0]}" if self.inexact else ""
        return f"{len(self)} {noun}: {named}, {len(self.carried)} weight axes, {self._pinned_by()}{inexact}"

    def _share(self, address: str) -> str:
        """The address of a layer, and the share of its channels that are in the group, unless all are."""
        n, each = self.made[address].shape
        if each > 1:
            return f"{address} ({each} each)"
        return address if n == self.widths[address] else f"{address} ({n} of {self.widths[address]})"

    def _pinned_by(self) -> str:
        if not self.reasons:
            return "free"
        more = f" and {len(self.reasons) - 1} more" if len(self.reasons) > 1 else ""
        return f"pinned{' by an output' * self.output_only}: {self.reasons[0]}{more}"


class Groups(tuple[Group, ...]):
    """Groups in the order of the model. Each group prints as one line."""

    __slots__ = ()

    def __repr__(self) -> str:
        free = [group for group in self if not group.pinned]
        channels = sum(map(len, free))
        return "\n".join([f"{len(self)} groups, {len(free)} of them free with {channels:,} channels", *map(repr, self)])

    def table(self) -> Table:
        """A row for each group: the number of its channels, the layers that create them, and why they are pinned."""
        rows = tuple((len(group), _named(group.made), len(group.carried), _held(group)) for group in self)
        return Table(
            "coupled groups", ("channels", "created by", "weight axes", "pinned by"), rows,
            (repr(self).partition("\n")[0],),
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _named(addresses: Iterable[str], most: int = 3) -> str:
    """The first addresses, and the number of the others.

    >>> _named(["a", "b", "c", "d", "e"]), _named([])
    ('a, b, c and 2 more', 'constants or unknown layers')
    """
    names = [*addresses]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "constants or unknown layers") + more


def _held(group: Group) -> str:
    """Why a group cannot be cut, or why a cut is not exact; empty if it can be cut exactly."""
    reasons = [*group.reasons, *(f"not exact: {words}" for words in group.inexact if not group.reasons)]
    return reasons[0] + f" and {len(reasons) - 1} more" * (len(reasons) > 1) if reasons else ""


@takes(snapshot=as_snapshot)
def groups(snapshot: Snapshot) -> Groups:
    """The coupled groups of a model: which channels can only be deleted together, in which layers and weights.

    Every channel that a layer creates or a weight carries is in exactly one group. In a grid (heads, groups of a
    convolution), each line of the grid is a channel of a group.
    """
    return groups_of(analyse(snapshot))


@computed_once()
def groups_of(flow: Flow) -> Groups:
    """The coupled groups of a model, by its flow.

    Two ids are in one group if they occur equally often in every axis and have the same reasons. So the ids start with
    one label, and each axis and each reason splits the labels further: the final labels are the groups.
    """
    maps = _maps(flow)
    reasons, inexact = _reasons(flow), _inexact(flow)
    distinct = {id(pairs): pairs for pairs in maps.values()}
    labels = labels_of(flow.solution.ids, distinct.values(), [*reasons.values(), *inexact.values()])
    parts_of = {key: positions_by_label(ids, positions, labels) for key, (ids, positions) in distinct.items()}
    parts = {key: parts_of[id(pairs)] for key, pairs in maps.items()}
    drafts = _drafts(flow, parts)
    classes = ids_by_label(labels)
    protect(*classes.values())
    pins, inexact_reasons = keys_by_label(reasons, labels), keys_by_label(inexact, labels)
    coupled = [
        Group(
            ids, drafts[label].made, drafts[label].widths, tuple(drafts[label].carried),
            tuple(unique(reason for reason, _ in pins.get(label, ()))),
            label in pins and all(output for _, output in pins[label]), tuple(inexact_reasons.get(label, ())),
        )
        for label, ids in classes.items()
    ]  # fmt: skip
    return Groups(sorted(coupled, key=lambda group: group.ids[0]))


@dataclass
class _Draft:
    made: dict[str, np.ndarray] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    carried: list[Carrier] = field(default_factory=list)


def _axes(flow: Flow) -> Iterator[Axis]:
    """Every axis of channels that a layer creates, and every axis of a weight."""
    yield from (producer.axis for producer in flow.producers.values())
    yield from (axis for weights in flow.weights.values() for weight in weights for axis in weight.axes)


def _maps(flow: Flow) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The (final id, position) pairs of each distinct axis, by its identity: two arrays, sorted by ids. Axes with equal
    final ids share one pair of arrays."""
    distinct = {id(axis): axis for axis in _axes(flow) if has_ids(axis)}
    known: dict[tuple[int, bytes], tuple[np.ndarray, np.ndarray]] = {}
    maps: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for key, axis in distinct.items():
        resolved = flow.solution.resolve(axis)  # type: ignore[arg-type]
        content = len(resolved), resolved.tobytes()
        maps[key] = known[content] if content in known else known.setdefault(content, pairs_of(resolved))
    return maps


def _drafts(flow: Flow, parts: Mapping[int, Mapping[int, np.ndarray]]) -> dict[int, _Draft]:
    """Label -> the members of its group, in the order of the model."""
    drafts: dict[int, _Draft] = defaultdict(_Draft)
    first: dict[str, str] = {}
    for (path, kind), producer in flow.producers.items():
        address = path if first.setdefault(path, kind) == kind else f"{path}:{kind}"
        for label, positions in parts.get(id(producer.axis), {}).items():
            draft = drafts[label]
            draft.made[address] = positions
            draft.widths[address] = size(producer.axis) or 0
    for path, weights in flow.weights.items():
        for slot, weight in enumerate(weights):
            for number, axis in enumerate(weight.axes):
                if not has_ids(axis):
                    continue
                for label, positions in parts.get(id(axis), {}).items():
                    drafts[label].carried.append(Carrier(path, slot, weight.name, number, positions))
    return drafts


def _reasons(flow: Flow) -> dict[Any, np.ndarray]:
    """(reason, whether it is an output of the model) -> the final ids that are pinned for this reason, sorted."""
    pinned: dict[tuple[str, bool], list[np.ndarray]] = defaultdict(list)
    for pin in flow.solution.pins:
        pinned[str(pin.reason), pin.output].append(flow.solution.final_ids(pin.ids))
    return valmap(_union, pinned)


def _inexact(flow: Flow) -> dict[Any, np.ndarray]:
    """Reason -> the final ids whose deletion is not exact for this reason, sorted."""
    touched: dict[str, list[np.ndarray]] = defaultdict(list)
    for note in flow.inexact:
        if isinstance(note.axis, np.ndarray):
            touched[f"{note.path!r} {note.reason}"].append(flow.solution.final_ids(note.axis))
    return valmap(_union, touched)


def _union(sets: Sequence[np.ndarray]) -> np.ndarray:
    """The union of sorted arrays of ids, sorted."""
    return sets[0] if len(sets) == 1 else np.unique(np.concatenate(sets))
