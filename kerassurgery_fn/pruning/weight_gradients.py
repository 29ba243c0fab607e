"""Gradients of the loss with respect to weights, as statistics that can be added up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import add
from typing import ClassVar

import numpy as np
from toolz import valmap

from kerassurgery_fn.arguments import counted, meant, shortened
from kerassurgery_fn.errors import UnknownLayer
from kerassurgery_fn.pruning.channel_statistics import refuse_other_kind, refuse_other_shapes
from kerassurgery_fn.values.frozen import FrozenDict


@dataclass(frozen=True, eq=False, repr=False)
class WeightGradients(Mapping[str, tuple[np.ndarray, ...]]):
    """The gradient of the loss with respect to each weight of a model, summed over samples.

    It is a mapping: path of a layer -> arrays in the order of its weights. `a + b` is the sum over the data of both.

    - `layers`: the sums;
    - `samples`: the number of samples.
    """

    KIND: ClassVar[str] = "gradients of weights"

    layers: Mapping[str, tuple[np.ndarray, ...]]
    samples: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", FrozenDict(self.layers))

    @property
    def kind(self) -> str:
        """What was measured, as criteria name it in `needs`."""
        return self.KIND

    def __getitem__(self, path: str) -> tuple[np.ndarray, ...]:
        try:
            return self.layers[path]
        except KeyError:
            raise UnknownLayer(f"no gradients of {shortened(path)}; {meant(path, self.layers)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __add__(self, other: WeightGradients) -> WeightGradients:
        refuse_other_kind(self, other)
        refuse_other_shapes(valmap(_shapes, self.layers), valmap(_shapes, other.layers))
        layers = {path: tuple(map(add, arrays, other.layers[path])) for path, arrays in self.layers.items()}
        return WeightGradients(layers, self.samples + other.samples)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, for a file; `from_arrays` reads them."""
        return {f"{path}/{slot}": array for path, arrays in self.layers.items() for slot, array in enumerate(arrays)}

    @classmethod
    def from_arrays(cls, kind: str, arrays: Mapping[str, np.ndarray], samples: int) -> WeightGradients:
        """The statistics from their arrays by name.

        Raises:
            ValueError: the names are not those that `arrays` gives.
        """
        layers: dict[str, dict[int, np.ndarray]] = {}
        for name, array in arrays.items():
            path, slot = name.rsplit("/", 1)
            layers.setdefault(path, {})[int(slot)] = array
        return cls(valmap(lambda by_slot: tuple(by_slot[slot] for slot in range(len(by_slot))), layers), samples)

    def __repr__(self) -> str:
        return f"<{self.kind} of {counted(len(self), 'layer')}, {counted(self.samples, 'sample')}>"


def _shapes(arrays: tuple[np.ndarray, ...]) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays]
