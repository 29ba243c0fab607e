"""Statistics of the channels of a model's layers, measured on data: a value that can be added up and saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from toolz import merge, valmap

from kerassurgery_fn.arguments import counted, meant, shortened
from kerassurgery_fn.errors import BadValue, UnknownGroup
from kerassurgery_fn.pruning.activation_statistics import MapRanks, Moments
from kerassurgery_fn.pruning.apoz_scores import ZeroCounts
from kerassurgery_fn.pruning.gate_gradients import GateGradients
from kerassurgery_fn.values.frozen import FrozenDict

# What is measured, as criteria name it in `needs` -> the statistics of one tensor, arrays of shape (channels,).
RECORDS: dict[str, type[Any]] = {
    "zeros of activations": ZeroCounts,
    "moments of activations": Moments,
    "ranks of feature maps": MapRanks,
    "gradients of gates": GateGradients,
    "sensitivities of outputs": GateGradients,
}
Calls = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, eq=False, repr=False)
class ChannelStatistics(Mapping[str, Calls]):
    """Statistics of the channels of layers: address of the channels -> for each call of the layer, for each branch of
    the graph behind it, the statistics of its tensor.

    `a + b` is the statistics of the data of both, so that parts of data may be measured on any machine, and
    `sum([a, b, c])` of all. It is associative and does not depend on the order, to rounding. `save_statistics` writes
    them to a file.

    - `kind`: what was measured, as criteria name it in `needs`;
    - `layers`: the statistics;
    - `samples`: the number of samples that were measured.

    Raises:
        BadValue: there is no such kind, or values that are added are of different kinds or models.
    """

    kind: str
    layers: Mapping[str, Calls]
    samples: int

    def __post_init__(self) -> None:
        if self.kind not in RECORDS:
            raise BadValue(f"no statistics {shortened(self.kind)}; {meant(self.kind, RECORDS)}")
        object.__setattr__(self, "layers", FrozenDict(self.layers))

    def __getitem__(self, address: str) -> Calls:
        try:
            return self.layers[address]
        except KeyError:
            raise UnknownGroup(f"no statistics of {shortened(address)}; {meant(address, self.layers)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __radd__(self, other: Any) -> ChannelStatistics:
        return added_to_start(self, other)

    def __add__(self, other: ChannelStatistics) -> ChannelStatistics:
        refuse_other_kind(self, other)
        refuse_other_shapes(valmap(_widths, self.layers), valmap(_widths, other.layers))
        layers = {address: _added(calls, other.layers[address]) for address, calls in self.layers.items()}
        return ChannelStatistics(self.kind, layers, self.samples + other.samples)

    def pooled(self, address: str, value: Callable[[Any], np.ndarray]) -> np.ndarray:
        """A value of each channel: of all calls together, at each call in the branch where it is largest.

        Args:
            address: the address of the channels.
            value: a function from the statistics of a tensor to numbers of shape (channels,).

        Returns:
            Shape (channels,).
        """
        return value(reduce(add, (largest(branches, value) for branches in self[address])))

    def widths(self) -> dict[str, int]:
        """Address -> the number of its channels."""
        return {address: _widths(calls)[0][0] for address, calls in self.layers.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, for a file; `from_arrays` reads them."""
        return merge(
            {
                f"{address}/{call}/{branch}/{field.name}": getattr(record, field.name)
                for call, branches in enumerate(calls)
                for branch, record in enumerate(branches)
                for field in fields(record)
            }
            for address, calls in self.layers.items()
        )

    @classmethod
    def from_arrays(cls, kind: str, arrays: Mapping[str, np.ndarray], samples: int) -> ChannelStatistics:
        """The statistics from their arrays by name.

        Raises:
            KeyError, TypeError, ValueError: the names are not those that `arrays` gives.
        """
        layers: dict[str, dict[int, dict[int, dict[str, np.ndarray]]]] = {}
        for name, array in arrays.items():
            address, call, branch, field = name.rsplit("/", 3)
            layers.setdefault(address, {}).setdefault(int(call), {}).setdefault(int(branch), {})[field] = array
        record = RECORDS[kind]
        return cls(
            kind,
            {
                address: tuple(
                    tuple(record(**calls[call][branch]) for branch in sorted(calls[call])) for call in sorted(calls)
                )
                for address, calls in layers.items()
            },
            samples,
        )

    def __repr__(self) -> str:
        return f"<{self.kind} of {counted(len(self), 'layer')}, {counted(self.samples, 'sample')}>"


def taken(record: Any, channels: np.ndarray) -> Any:
    """The statistics of some channels.

    >>> taken(ZeroCounts(np.array([9, 1, 2]), np.full(3, 10)), np.array([2, 0]))
    ZeroCounts(zeros=array([2, 9]), values=array([10, 10]))
    """
    return type(record)(*(getattr(record, field.name)[channels] for field in fields(record)))


def at_starts(record: Any, starts: Sequence[int], channels: int) -> Any:
    """The statistics of some channels that occur several times on the measured axis, added up.

    Args:
        record: the statistics of the axis.
        starts: the indices of the first channel.
        channels: the number of channels.

    >>> at_starts(ZeroCounts(np.array([9, 1, 2, 3, 4]), np.full(5, 10)), [1, 3], 2)
    ZeroCounts(zeros=array([4, 6]), values=array([20, 20]))
    """
    return reduce(add, (taken(record, np.arange(start, start + channels)) for start in starts))


def largest(branches: Sequence[Any], value: Callable[[Any], np.ndarray]) -> Any:
    """For each channel, the statistics of the branch in which a value is largest; of the first, if several are.

    >>> branches = [ZeroCounts(np.array([0, 9]), np.array([10, 10])), ZeroCounts(np.array([1, 1]), np.array([2, 2]))]
    >>> largest(branches, lambda counts: -counts.apoz)
    ZeroCounts(zeros=array([0, 1]), values=array([10,  2]))
    """
    best = np.argmax([value(record) for record in branches], axis=0)
    channels = np.arange(best.size)
    stacked = {
        field.name: np.stack([getattr(record, field.name) for record in branches]) for field in fields(branches[0])
    }
    return type(branches[0])(**valmap(lambda rows: rows[best, channels], stacked))


def added_to_start(statistics: Any, start: Any) -> Any:
    """The statistics themselves, added to the 0 with which `sum` starts."""
    return statistics if isinstance(start, int) and start == 0 else NotImplemented


def refuse_other_kind(statistics: Any, other: Any) -> None:
    """Raises BadValue if statistics that are added are of different kinds, TypeError if one is no statistics at all."""
    if not hasattr(other, "kind"):
        raise TypeError(f"{statistics!r} cannot be added to {shortened(other)}")
    if statistics.kind != other.kind:
        raise BadValue(f"statistics of different kinds cannot be added: {statistics!r} and {other!r}")


def refuse_other_shapes(shapes: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Raises BadValue if statistics that are added are of different models."""
    if wrong := [name for name in {**shapes, **others} if shapes.get(name) != others.get(name)]:
        raise BadValue(
            f"statistics of different models cannot be added: {wrong[0]!r} is not the same in both"
            + f", and {len(wrong) - 1} more layers" * (len(wrong) > 1)
        )


def _widths(calls: Calls) -> list[list[int]]:
    """The number of channels in each branch of each call."""
    return [[len(getattr(record, fields(record)[0].name)) for record in branches] for branches in calls]


def _added(calls: Calls, others: Calls) -> Calls:
    return tuple(
        tuple(map(add, branches, other_branches)) for branches, other_branches in zip(calls, others, strict=True)
    )
