"""The weights of coupled groups for criteria: for each channel, all values that are deleted with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.coupled_groups import Carrier, Group
from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.rules.layer import STATE, Producer
from kerassurgery_fn.values.mapped_arrays import BLOCK as BYTES
from kerassurgery_fn.values.mapped_arrays import blocks, is_read_lazily, release
from kerassurgery_fn.values.snapshot import Snapshot

Lines = tuple[np.ndarray | None, np.ndarray]  # see `line_sums`
BLOCK = 1 << 16  # elements that are transformed at once: they fit in the cache, so that each weight is read once


@dataclass(frozen=True, eq=False, repr=False)
class Member:
    """An axis of a weight that carries the channels of a group.

    - `path`, `class_name`: the layer; `name`: its weight; `slot`: which one in `layer.get_weights()`;
    - `axis`: the number of the axis;
    - `array`: the whole weight;
    - `positions`: where on the axis each channel is, shape (channels, n);
    - `role`: "output" if the axis has the output channels of the weight, "input" if the weight sums over it;
    - `produces`: whether the layer creates channels of the group.
    """

    path: str
    class_name: str
    name: str
    slot: int
    axis: int
    array: np.ndarray
    positions: np.ndarray
    role: str
    produces: bool
    _sums: AxisSums

    @property
    def is_kernel(self) -> bool:
        """Whether it is a kernel that creates the channels: each channel is a filter of it."""
        return self.produces and self.role == "output" and self.array.ndim > 1

    def rows(self) -> np.ndarray:
        """The values of each channel, floats of shape (channels, values)."""
        moved = np.moveaxis(self.array, self.axis, 0)[self.positions]
        return as_floats(moved.reshape(len(self.positions), -1))

    def power_sums(self, p: float) -> np.ndarray:
        """The sum of |value| ** p over the values of each channel, float64, shape (channels,)."""
        return self._of_channels(self._sums.of(self.array, self.axis, p))

    def sums_of(self, values: np.ndarray) -> np.ndarray:
        """The sums of an array of the weight's shape over the values of each channel, shape (channels,)."""
        return self._of_channels(values.sum(axis=tuple(axis for axis in range(values.ndim) if axis != self.axis)))

    def _of_channels(self, sums: np.ndarray) -> np.ndarray:
        """The sum for each channel, from those for each position on the axis."""
        if self.positions.shape[1] == 1:  # nearly always
            return sums[self.positions[:, 0]]
        return sums[self.positions].sum(axis=1)

    def dot_products(self) -> np.ndarray:
        """The dot products of the values of all channels with each other, float64, shape (channels, channels)."""
        n = self.array.shape[self.axis]
        columns = np.moveaxis(self.array, self.axis, -1).reshape(-1, n)
        products = np.zeros((n, n))
        height = max(1, 16 * BLOCK // n)
        for start in range(0, len(columns), height):
            block = columns[start : start + height].astype(np.float64)
            products += block.T @ block
        return np.sum([products[np.ix_(at, at)] for at in self.positions.T], axis=0)

    def __repr__(self) -> str:
        return f"<{self.role} axis {self.axis} of {self.path} {self.name}: {len(self.positions)} channels>"


@dataclass(frozen=True, eq=False)
class GroupWeights:
    """A coupled group with its weights: the argument of a criterion.

    - `name`: the address of the first layer that creates the channels, `conv_1`, and `conv_1#2` for a second group
      of that address;
    - `members`: the axes of weights that carry the channels, statistics of normalisations left out.
    """

    name: str
    group: Group
    members: tuple[Member, ...]

    def __len__(self) -> int:
        return len(self.group)

    @property
    def kernels(self) -> tuple[Member, ...]:
        """The kernels that create the channels."""
        return tuple(member for member in self.members if member.is_kernel)


@dataclass
class AxisSums:
    """The sums of powers of arrays along their axes. Each array is read once for a power."""

    lines: dict[tuple[int, float], Lines] = field(default_factory=dict)
    known: dict[tuple[int, float, int], np.ndarray] = field(default_factory=dict)

    def of(self, array: np.ndarray, axis: int, p: float) -> np.ndarray:
        """The sums of |value| ** p over all axes but one."""
        sums = self.known.get((id(array), p, axis))
        if sums is None:
            sums = self.known[id(array), p, axis] = along(axis, *self._lines_of(array, p))
        return sums

    def _lines_of(self, array: np.ndarray, p: float) -> Lines:
        lines = self.lines.get((id(array), p))
        if lines is None:
            lines = self.lines[id(array), p] = line_sums(array, _power(p))
            release(array)
        return lines


def axis_sums(array: np.ndarray, function: Callable[..., np.ndarray]) -> list[np.ndarray]:
    """For each axis of an array, the sums of a function of its elements over all other axes, float64.

    Args:
        array, function: see `line_sums`.

    >>> axis_sums(np.array([[1, -2, 3], [-4, 5, 6]]), np.abs)
    [array([ 6., 15.]), array([5., 7., 9.])]
    """
    lines = line_sums(array, function)
    return [along(axis, *lines) for axis in range(array.ndim)]


def line_sums(array: np.ndarray, function: Callable[..., np.ndarray]) -> Lines:
    """The sums of a function of the elements of an array over its last axis, and over all axes but the last, float64.

    The array is read once, block by block; rows are all axes but the last laid flat. An array of one axis is one row,
    whose sum is not needed, so that it is None.

    Args:
        array: an array of one axis or more.
        function: `function(block, out)` writes its value for each element of a block into `out`.

    Returns:
        Shapes (all axes but the last) and (last axis,).

    >>> line_sums(np.array([[1, -2, 3], [-4, 5, 6]]), np.abs)
    (array([ 6., 15.]), array([5., 7., 9.]))
    """
    is_lazy = is_read_lazily(array)
    if array.ndim == 1 and not is_lazy:
        values = np.empty_like(floats := as_floats(array))
        function(floats, values)
        return None, values.astype(np.float64)
    n = array.shape[-1]
    if 0 < array.size <= BLOCK and not is_lazy:
        table = as_floats(array).reshape(-1, n)
        of_rows, of_columns = _sums_of_block(table, np.empty_like(table), function)
        return of_rows.astype(np.float64).reshape(array.shape[:-1]), of_columns.astype(np.float64)
    rows, columns = np.empty(array.size // max(1, n)), np.zeros(n)
    height, first = max(1, BLOCK // max(1, n)), 0
    for table in map(as_floats, _tables(array)):
        height = min(height, len(table))
        buffer = np.empty((height, n), table.dtype)
        for start in range(0, len(table), height):
            block = table[start : start + height]
            of_rows, of_columns = _sums_of_block(block, buffer[: len(block)], function)
            rows[first + start : first + start + len(block)] = of_rows
            columns += of_columns
        first += len(table)
    return rows.reshape(array.shape[:-1]), columns


def _sums_of_block(
    block: np.ndarray, values: np.ndarray, function: Callable[..., np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The sums of each row and of each column of a function of a block, whose values are written into an array."""
    function(block, values)
    height, n = block.shape
    ones = _ones(max(BLOCK, n), block.dtype.char)
    return values @ ones[:n] if n > 1 else values[:, 0], ones[:height] @ values


def along(axis: int, rows: np.ndarray | None, columns: np.ndarray) -> np.ndarray:
    """The sums over all axes but one, from those over the last axis and those over all axes but the last.

    >>> along(0, np.array([[6, 15], [1, 1]]), np.array([5, 7, 9]))
    array([21,  2])
    """
    if rows is None or axis == rows.ndim:
        return columns
    n = rows.shape[axis]
    if rows.size == n:
        return rows.reshape(n)
    return rows.reshape(prod(rows.shape[:axis]), n, prod(rows.shape[axis + 1 :])).sum(axis=(0, 2))


@lru_cache(maxsize=8)
def _ones(count: int, dtype: str) -> np.ndarray:
    return np.ones(count, dtype)


def _tables(array: np.ndarray) -> Iterable[np.ndarray]:
    """An array as a table of rows, all axes but the last laid flat; a mapped one as tables of about a megabyte."""
    n = array.shape[-1]
    parts = blocks(array) if is_read_lazily(array) and n * array.itemsize <= BYTES else [((), array)]
    return (part.reshape(-1, n) for _, part in parts)


def _power(p: float) -> Callable[..., np.ndarray]:
    """|x| ** p as a function of a block and its output; without a call of `pow` where that is slow and not needed."""
    if p == 2:
        return lambda block, out: np.multiply(block, block, out=out)
    if p == 1:
        return lambda block, out: np.abs(block, out=out)
    return lambda block, out: np.power(np.abs(block, out=out), p, out=out)


def as_floats(array: np.ndarray) -> np.ndarray:
    """The array itself if it has floats of 32 or 64 bits, else a copy that has."""
    if array.dtype.char in "fd":
        return array
    return array.astype(np.float64 if array.dtype.kind in "iub" else np.float32)


def named_groups(groups: Iterable[Group]) -> dict[str, Group]:
    """The groups whose channels layers create, by name: the address of the first of these layers.

    A second group of an address has the name `address#2`.
    """
    seen: Counter[str] = Counter()
    named: dict[str, Group] = {}
    for group in groups:
        if address := next(iter(group.made), None):
            seen[address] += 1
            named[address if seen[address] == 1 else f"{address}#{seen[address]}"] = group
    return named


def group_weights(snapshot: Snapshot, flow: Flow, groups: Mapping[str, Group]) -> list[GroupWeights]:
    """The groups with their weights.

    Raises:
        BrokenSnapshot: the snapshot has no arrays for a layer.
    """
    sums = AxisSums()
    classes = class_names(flow)
    return [
        GroupWeights(name, group, tuple(_members(snapshot, flow, group, classes, sums)))
        for name, group in groups.items()
    ]


def producers_by_address(flow: Flow) -> dict[str, Producer]:
    """Address -> the channels there: a layer's path means its first kind, `path:kind` any kind."""
    producers: dict[str, Producer] = {}
    for (path, kind), producer in flow.producers.items():
        producers[f"{path}:{kind}"] = producer
        producers.setdefault(path, producer)
    return producers


def class_names(flow: Flow) -> dict[str, str]:
    """Path of each layer -> the name of its class."""
    return {call.path: call.record["class_name"] for call in flow.trace.all_calls}


def _members(
    snapshot: Snapshot, flow: Flow, group: Group, classes: Mapping[str, str], sums: AxisSums
) -> Iterable[Member]:
    producers = {address.rpartition(":")[0] or address for address in group.made} | set(group.made)
    for carrier in group.carried:
        if carrier.name in STATE:
            continue
        if not (arrays := snapshot.weights.get(carrier.path)):
            raise BrokenSnapshot(
                f"the snapshot has no weights for the layer {carrier.path!r}: criteria read the weights of a model; "
                "take the snapshot of a built model by capture(model)"
            )
        yield Member(
            carrier.path, classes.get(carrier.path, ""), carrier.name, carrier.slot, carrier.axis, arrays[carrier.slot],
            carrier.positions, _role(flow, carrier), carrier.path in producers, sums,
        )  # fmt: skip


def _role(flow: Flow, carrier: Carrier) -> str:
    """Whether a weight sums over the axis. Where the rule does not say, the axis counts as an output."""
    summed = flow.weights[carrier.path][carrier.slot].summed or ()
    return "input" if carrier.axis in summed else "output"
