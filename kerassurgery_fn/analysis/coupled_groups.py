"""What goes together: the coupled groups of a model's channels as data, for people and for planning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.channels import FIXED, Axis, has_ids, size
from kerassurgery_fn.errors import ChannelOutOfRange, NoChannels
from kerassurgery_fn.values.kept_results import computed_once, protect
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table


class Carrier(NamedTuple):
    """An axis of a weight that carries channels of a group: the layer, which of its weights in the order of
    `get_weights()`, that weight's name, the number of the axis, and where on it each channel is, as in `Group`."""

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
    """Channels with the same members: the same layers make them, the same axes of weights carry them, the same
    reasons hold them.

    Each channel is one fate: its positions in all members live or die together, whatever becomes of the group's other
    channels. Row c of every array of positions belongs to channel c. It has one position nearly always, and several
    where a channel is a line of a grid, as a head is of all its places, or stands in several places of an axis, as
    after a Flatten.

    - `ids`: the channels' final ids in the flow;
    - `made`: address of each layer that makes them -> positions among that layer's channels, shape (channels, n);
    - `widths`: the same addresses -> how many channels that layer makes in all;
    - `carried`: the axes of weights that carry them;
    - `reasons`: why they cannot be cut, in words; empty if they can;
    - `output_only`: whether nothing but the model's output holds them;
    - `inexact`: why the rest of the model would compute something else after a cut; empty if it would not.
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
        """Whether the channels cannot be cut."""
        return bool(self.reasons)

    def channels(self, wanted: Iterable[int]) -> dict[str, tuple[int, ...]]:
        """Channels of the group as `DeleteChannels` takes them: address -> positions in that layer.

        Args:
            wanted: indices into the group, negative ones from the end as in numpy, or a boolean mask.

        Raises:
            ChannelOutOfRange: the group has fewer.
            NoChannels: no layer makes the channels, so that no edit can name them.
        """
        index = np.asarray(wanted if isinstance(wanted, np.ndarray) else list(wanted))
        if not self.made:
            raise NoChannels(f"no layer makes the {len(self)} channels of this group: they come from a constant")
        try:
            chosen = np.arange(len(self))[index] if index.size else []
        except IndexError as error:
            raise ChannelOutOfRange(
                f"the group has {len(self)} channels, 0 to {len(self) - 1}, so that {index.tolist()} is none of them"
            ) from error
        return {address: tuple(np.unique(positions[chosen]).tolist()) for address, positions in self.made.items()}

    def __repr__(self) -> str:
        lines = any(positions.shape[1] > 1 for positions in self.made.values())
        noun = ("line" if lines else "channel") + "s" * (len(self) != 1)
        producers = [self._share(address) for address in self.made] or ["constants"]
        more = [f"{len(producers) - 3} more"] * (len(producers) > 4)
        named = " + ".join([*producers[: 3 if more else 4], *more])
        inexact = f", inexact: {self.inexact[0]}" if self.inexact else ""
        return f"{len(self)} {noun}: {named}, {len(self.carried)} weight axes, {self._held()}{inexact}"

    def _share(self, address: str) -> str:
        """A layer's address, and how much of it the group is if that is not all of it, channel by channel."""
        n, each = self.made[address].shape
        if each > 1:
            return f"{address} ({each} each)"
        return address if n == self.widths[address] else f"{address} ({n} of {self.widths[address]})"

    def _held(self) -> str:
        if not self.reasons:
            return "free"
        more = f" and {len(self.reasons) - 1} more" if len(self.reasons) > 1 else ""
        return f"pinned{' by an output' * self.output_only}: {self.reasons[0]}{more}"


class Groups(tuple[Group, ...]):
    """Groups in the order of the model. They print one to a line."""

    __slots__ = ()

    def __repr__(self) -> str:
        free = [group for group in self if not group.pinned]
        channels = sum(map(len, free))
        return "\n".join([f"{len(self)} groups, {len(free)} of them free with {channels:,} channels", *map(repr, self)])

    def table(self) -> Table:
        """A row for each group: how many channels, which layers make them, what holds them."""
        rows = tuple((len(group), _named(group.made), len(group.carried), _held(group)) for group in self)
        return Table(
            "channels that go together", ("channels", "made by", "weight axes", "held by"), rows,
            (repr(self).partition("\n")[0],),
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _named(made: Iterable[str], most: int = 3) -> str:
    """Addresses in few words.

    >>> _named(["a", "b", "c", "d", "e"]), _named([])
    ('a, b, c and 2 more', 'constants or unknown layers')
    """
    names = [*made]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "constants or unknown layers") + more


def _held(group: Group) -> str:
    """Why a group cannot be cut, or not exactly."""
    reasons = [*group.reasons, *(f"not exact: {words}" for words in group.inexact if not group.reasons)]
    return reasons[0] + f" and {len(reasons) - 1} more" * (len(reasons) > 1) if reasons else ""


@takes(snapshot=as_snapshot)
def groups(snapshot: Snapshot) -> Groups:
    """The coupled groups of a model: which of its channels go together, in which layers and weights.

    Every channel that a layer makes or a weight carries is in just one group; where positions belong to a grid
    (heads, groups of a convolution) its lines are.
    """
    return groups_of(analyse(snapshot))


@computed_once()
def groups_of(flow: Flow) -> Groups:
    """The coupled groups of a model whose flow is known."""
    maps = _maps(flow)
    reasons, inexact = _reasons(flow), _inexact(flow)
    labels = _labels(flow, maps.values(), [*reasons.values(), *inexact.values()])
    parts = {key: _split(ids, positions, labels) for key, (ids, positions) in maps.items()}
    drafts = _drafts(flow, parts)
    classes = _members(labels)
    protect(*classes.values())
    held = {label: _those(reasons, ids[0]) for label, ids in classes.items()}
    blurred = {label: _those(inexact, ids[0]) for label, ids in classes.items()}
    made = [
        Group(
            ids, drafts[label].made, drafts[label].widths, tuple(drafts[label].carried),
            tuple(dict.fromkeys(reason for reason, _ in held[label])),
            bool(held[label]) and all(output for _, output in held[label]), tuple(blurred[label]),
        )
        for label, ids in classes.items()
    ]  # fmt: skip
    return Groups(sorted(made, key=lambda group: group.ids[0]))


@dataclass
class _Draft:
    made: dict[str, np.ndarray] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    carried: list[Carrier] = field(default_factory=list)


def _axes(flow: Flow) -> Iterator[Axis]:
    """Every axis that a layer makes or a weight has."""
    yield from (producer.axis for producer in flow.producers.values())
    yield from (axis for weights in flow.weights.values() for weight in weights for axis in weight.axes)


def _maps(flow: Flow) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Each different map, by identity, as pairs of final id and position: two arrays, sorted by ids."""
    distinct = {id(axis): axis for axis in _axes(flow) if has_ids(axis)}
    return {key: _pairs(flow.solution.resolve(axis)) for key, axis in distinct.items()}  # type: ignore[arg-type]


def _pairs(resolved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a map and their positions, an id once a position.

    >>> _pairs(np.array([[7, 5, 7], [7, 8, FIXED]]))
    (array([5, 7, 7, 8]), array([1, 0, 2, 1]))
    """
    rows, n = resolved.shape
    if rows == 1:
        order = np.argsort(resolved[0], kind="stable")
        ids, positions = resolved[0][order], order
    else:
        ids, positions = np.divmod(np.unique(resolved * n + np.arange(n)), n)
    live = np.searchsorted(ids, FIXED, side="right")
    return ids[live:], positions[live:]


def _labels(flow: Flow, maps: Iterable[tuple[np.ndarray, np.ndarray]], sets: Iterable[np.ndarray]) -> np.ndarray:
    """A number for each id that is the same for ids that stand equally often in every map and in the same sets; 0 for
    ids that stand in no map."""
    labels = np.zeros(flow.solution.ids, int)
    top = 0
    for ids, _ in maps:
        found, counts = np.unique(ids, return_counts=True)
        top = _refine(labels, found, counts, top)
    for ids in sets:
        seen = ids[labels[ids] > 0]
        top = _refine(labels, seen, np.ones(len(seen), int), top)
    return labels


def _refine(labels: np.ndarray, ids: np.ndarray, counts: np.ndarray, top: int) -> int:
    """New labels, above `top`, for ids by their old labels and counts; the new top."""
    if not len(ids):
        return top
    _, inverse = np.unique(labels[ids] * (counts.max() + 1) + counts, return_inverse=True)
    labels[ids] = top + 1 + inverse
    return int(labels[ids].max())


def _members(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Label -> its ids in order."""
    order = np.argsort(labels, kind="stable")
    order = order[np.searchsorted(labels[order], 0, side="right") :]
    values, starts = np.unique(labels[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True)) if len(values) else {}


def _split(ids: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> dict[int, np.ndarray]:
    """The positions of a map by the labels of their ids: label -> a row for each id, shape (ids, n)."""
    if not len(ids):
        return {}
    order = np.argsort(labels[ids], kind="stable")
    values, starts = np.unique(labels[ids][order], return_index=True)
    chunks = zip(np.split(ids[order], starts[1:]), np.split(positions[order], starts[1:]), strict=True)
    rows = [place.reshape(1 + np.count_nonzero(np.diff(own)), -1) for own, place in chunks]
    for row in rows:
        row.flags.writeable = False
    return dict(zip(values.tolist(), rows, strict=True))


def _drafts(flow: Flow, parts: Mapping[int, Mapping[int, np.ndarray]]) -> dict[int, _Draft]:
    """Label -> the members that carry its ids, in the order of the model."""
    drafts: dict[int, _Draft] = defaultdict(_Draft)
    first: dict[str, str] = {}
    for (path, kind), producer in flow.producers.items():
        address = path if first.setdefault(path, kind) == kind else f"{path}:{kind}"
        for label, positions in parts.get(id(producer.axis), {}).items():
            drafts[label].made[address] = positions
            drafts[label].widths[address] = size(producer.axis) or 0
    for path, weights in flow.weights.items():
        for slot, weight in enumerate(weights):
            for number, axis in enumerate(weight.axes):
                for label, positions in parts.get(id(axis), {}).items():
                    drafts[label].carried.append(Carrier(path, slot, weight.name, number, positions))
    return drafts


def _reasons(flow: Flow) -> dict[Any, np.ndarray]:
    """(reason, whether it is the model's output) -> the final ids that are pinned for it, sorted."""
    found: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for one, pins in flow.solution.reasons.items():
        for key in {(str(pin.reason), pin.output) for pin in pins}:
            found[key].append(one)
    return {key: np.unique(ids) for key, ids in found.items()}


def _inexact(flow: Flow) -> dict[Any, np.ndarray]:
    """Reason -> the final ids whose deletion is not exact for it, sorted."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for note in flow.inexact:
        if isinstance(note.axis, np.ndarray):
            found[f"{note.path!r} {note.reason}"].append(flow.solution.resolve(note.axis).ravel())
    return {reason: (ids := np.unique(np.concatenate(maps)))[ids != FIXED] for reason, maps in found.items()}


def _those(sets: Mapping[Any, np.ndarray], one: int) -> list[Any]:
    """The keys of the sorted sets that an id is in."""
    return [key for key, ids in sets.items() if (at := np.searchsorted(ids, one)) < len(ids) and ids[at] == one]
