"""Arrays that are summed over data, as statistics: gradients of weights, products of inputs, cosines of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np
from toolz import valmap

from kerassurgery_fn.arguments import counted, meant, shortened
from kerassurgery_fn.errors import BadValue, UnknownLayer
from kerassurgery_fn.pruning.channel_statistics import added_to_start, refuse_other_kind, refuse_other_shapes
from kerassurgery_fn.values.frozen import FrozenDict

KINDS = ("gradients of weights", "products of inputs", "cosines of blocks")


@dataclass(frozen=True, eq=False, repr=False)
class SummedArrays(Mapping[str, tuple[np.ndarray, ...]]):
    """Arrays that are sums over samples. `a + b` is the sum over the data of both.

    It is a mapping: name -> arrays.

    - gradients of weights: path of a layer -> the gradient of the loss with respect to each of its weights, in order;
    - products of inputs: `input_name(path, group)` -> the number of positions, and the sum over positions of the
      products of each two channels of a group in the input of a layer, shape (channels, channels);
    - cosines of blocks: name of a residual block -> the number of positions, and the sum over them of the cosine
      similarity of its input and its output.

    - `kind`: what was measured, as criteria name it in `needs`;
    - `layers`: the arrays;
    - `samples`: the number of samples.

    Raises:
        BadValue: there is no such kind, or values that are added are of different kinds or models.
    """

    kind: str
    layers: Mapping[str, tuple[np.ndarray, ...]]
    samples: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadValue(f"no statistics {shortened(self.kind)}; {meant(self.kind, KINDS)}")
        object.__setattr__(self, "layers", FrozenDict(self.layers))

    def __getitem__(self, path: str) -> tuple[np.ndarray, ...]:
        try:
            return self.layers[path]
        except KeyError:
            raise UnknownLayer(f"no {self.kind} of {shortened(path)}; {meant(path, self.layers)}") from None

    def __contains__(self, path: object) -> bool:
        return path in self.layers

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __radd__(self, other: Any) -> SummedArrays:
        return added_to_start(self, other)

    def __add__(self, other: SummedArrays) -> SummedArrays:
        refuse_other_kind(self, other)
        refuse_other_shapes(valmap(_shapes, self.layers), valmap(_shapes, other.layers))
        layers = {path: tuple(map(add, arrays, other.layers[path])) for path, arrays in self.layers.items()}
        return SummedArrays(self.kind, layers, self.samples + other.samples)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, for a file; `from_arrays` reads them."""
        return {f"{path}/{slot}": array for path, arrays in self.layers.items() for slot, array in enumerate(arrays)}

    @classmethod
    def from_arrays(cls, kind: str, arrays: Mapping[str, np.ndarray], samples: int) -> SummedArrays:
        """The statistics from their arrays by name.

        Raises:
            ValueError: the names are not those that `arrays` gives.
        """
        layers: dict[str, dict[int, np.ndarray]] = {}
        for name, array in arrays.items():
            path, slot = name.rsplit("/", 1)
            layers.setdefault(path, {})[int(slot)] = array
        return cls(kind, valmap(lambda by_slot: tuple(by_slot[slot] for slot in range(len(by_slot))), layers), samples)

    def __repr__(self) -> str:
        return f"<{self.kind} of {counted(len(self), 'layer')}, {counted(self.samples, 'sample')}>"


def input_name(path: str, group: str) -> str:
    """The name of the products of the channels of a group in the input of a layer."""
    return f"{path} <- {group}"


def _shapes(arrays: tuple[np.ndarray, ...]) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays]
