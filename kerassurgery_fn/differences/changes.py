"""The parts of a difference: frozen dataclasses that can be written to a document."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.errors import BadDocument, BadValue, OtherModel
from kerassurgery_fn.values.snapshot import same_arrays

NEW = -1  # a position that the old axis does not have
LayerRecord = Annotated[Mapping[str, Any], "layer_record"]  # the form in documents, see graph/record_schema.py


@dataclass(frozen=True)
class Picks:
    """Positions of an axis: its size, and the positions that are picked, in order.

    `kept` has one bit for each position (base64) if the picked positions are in ascending order and all differ.
    Otherwise it lists the positions; -1 is a new position, which the old axis does not have.

    >>> Picks.of_positions(8, [1, 2, 7])
    Picks(of=8, kept='YQ==')
    >>> Picks(8, "YQ==").positions, Picks(3, (2, 2)).positions
    (array([1, 2, 7]), array([2, 2]))
    """

    of: int
    kept: str | tuple[int, ...]

    def __post_init__(self) -> None:
        if self.of < 0 or not ((self.positions >= NEW) & (self.positions < self.of)).all():
            raise BadDocument(f"{self!r}: positions must be from 0 to {self.of - 1}, or {NEW} for a new position")

    @classmethod
    def of_positions(cls, of: int, positions: Any) -> Picks:
        array = np.asarray(positions, np.int64)
        if not (np.diff(array) > 0).all() or (array < 0).any():
            return cls(of, tuple(array.tolist()))
        mask = np.zeros(of, bool)
        mask[array] = True
        return cls(of, base64.b64encode(np.packbits(mask).tobytes()).decode("ascii"))

    @property
    def positions(self) -> np.ndarray:
        if not isinstance(self.kept, str):
            return np.array(self.kept, np.int64)
        try:
            packed = np.frombuffer(base64.b64decode(self.kept, validate=True), np.uint8)
        except (binascii.Error, ValueError) as error:
            raise BadDocument(f"{self!r} is not a list of positions: {error}") from None
        if len(packed) != -(-self.of // 8):
            raise BadDocument(f"{self!r} has bits for {8 * len(packed)} positions instead of {self.of}")
        return np.flatnonzero(np.unpackbits(packed, count=self.of))

    @property
    def lost(self) -> np.ndarray:
        """The positions that are not picked."""
        return np.setdiff1d(np.arange(self.of), self.positions)


@dataclass(frozen=True, eq=False)
class Stored:
    """An array with new elements.

    Without `picks` and `mask`, `values` is the whole array. With them, the array consists of the slices `picks` of the
    old array, except for the elements where `mask` (one bit for each element) is true; these are in `values`.

    `moved` is the norm of the change divided by the norm of the old elements. It is None if there are no old elements
    to compare with.
    """

    values: np.ndarray = field(repr=False)
    moved: float | None = None
    picks: tuple[int | None, ...] | None = None
    mask: np.ndarray | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stored):
            return NotImplemented
        return same_arrays(self._arrays, other._arrays) and (self.moved, self.picks) == (other.moved, other.picks)

    @property
    def _arrays(self) -> list[np.ndarray]:
        return [self.values] if self.mask is None else [self.values, self.mask]

    __hash__ = None  # type: ignore[assignment]


# The change of an array: None if it is unchanged; or for each axis an index into the table of picks (None for a whole
# axis); or new values.
Piece = tuple[int | None, ...] | Stored | None
Pieces = tuple[Piece, ...]


@dataclass(frozen=True)
class Trained:
    """The change of the optimizer's state: the weight of each slot as in `Training`, and the change of each array.

    The k-th array of a weight comes from the k-th array of the same weight in the old state.
    """

    slots: tuple[tuple[str, int] | None, ...]
    values: Pieces


@dataclass(frozen=True)
class Changes:
    """The changes from an old model to a new model, as data. Layers are keys by their path.

    - `base`: digests of the old record and of the old arrays;
    - `removed`: layers of the old model that the new model does not have;
    - `sources`: layers of the new model that have another path in the old model -> that path;
    - `added`: layers that only the new model has -> their record;
    - `order`: models with other layers or another order of layers -> names of new layers, and runs (from, to) of old
      layers;
    - `changed`: layer -> JSON pointer into its record -> the old value and the new value;
    - `appeared`, `dropped`: layer -> JSON pointer -> a value that only the new record has, or only the old one;
    - `picks`: the table of positions that `weights` and `channels` refer to;
    - `weights`: layers with changed weights -> the change of each array; None if the layer has no weights any more;
    - `channels`: address of a layer's channels -> the channels that the new model still has, as an index into `picks`;
    - `training`: the change of the optimizer's state, or "same", or "none" if the new model has none;
    - `result`: digests of the new record and arrays, which `patch` checks; None if they are unknown.
    """

    base: tuple[str, str] = field(repr=False)
    removed: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, LayerRecord] = field(default_factory=dict, repr=False)
    order: Mapping[str, tuple[str | tuple[int, int], ...]] = field(default_factory=dict, repr=False)
    changed: Mapping[str, Mapping[str, tuple[Any, Any]]] = field(default_factory=dict, repr=False)
    appeared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    dropped: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    picks: tuple[Picks, ...] = field(default=(), repr=False)
    weights: Mapping[str, Pieces | None] = field(default_factory=dict, repr=False)
    channels: Mapping[str, int] = field(default_factory=dict, repr=False)
    training: Trained | Literal["same", "none"] = field(default="same", repr=False)
    result: tuple[str, str] | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        layers = (self.removed, self.sources, self.added, self.order)
        records = (self.changed, self.appeared, self.dropped)
        return any((*layers, *records, self.weights)) or self.training != "same"

    def pick(self, index: int) -> Picks:
        """The positions at an index of the table.

        Raises:
            OtherModel: the table has no such index.
        """
        if not 0 <= index < len(self.picks):
            raise OtherModel(f"the difference refers to entry {index} of its picks, but has only {len(self.picks)}")
        return self.picks[index]


def as_diff(value: Any, name: str = "difference") -> Changes:
    """The value, if it is a difference of two models.

    Raises:
        BadValue: the value is not a difference.
    """
    if isinstance(value, Changes):
        return value
    raise BadValue(f"{name} must be a difference of two models from diff(a, b), not {shortened(value)}")
