"""What a difference is made of: frozen dataclasses that a document can hold."""

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

NEW = -1  # a position that comes from nowhere
Sheet = Annotated[Mapping[str, Any], "sheet"]  # of this form, see graph/forms.py


@dataclass(frozen=True)
class Picks:
    """Positions of an axis: how many it has, and which of them in which order.

    `kept` is a bit for each position (base64) where they are in order and none is there twice, else the positions
    one by one. -1 is a position that comes from nowhere.

    >>> Picks.of_positions(8, [1, 2, 7])
    Picks(of=8, kept='YQ==')
    >>> Picks(8, "YQ==").positions, Picks(3, (2, 2)).positions
    (array([1, 2, 7]), array([2, 2]))
    """

    of: int
    kept: str | tuple[int, ...]

    def __post_init__(self) -> None:
        if self.of < 0 or not ((self.positions >= NEW) & (self.positions < self.of)).all():
            raise BadDocument(f"{self!r} picks other positions than 0 to {self.of - 1}, or {NEW} for a new one")

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
            raise BadDocument(f"{self!r} is no list of positions: {error}") from None
        if len(packed) != -(-self.of // 8):
            raise BadDocument(f"{self!r} has bits for {8 * len(packed)} positions, not for {self.of}")
        return np.flatnonzero(np.unpackbits(packed, count=self.of))

    @property
    def lost(self) -> np.ndarray:
        """The positions that are not picked."""
        return np.setdiff1d(np.arange(self.of), self.positions)


@dataclass(frozen=True, eq=False)
class Stored:
    """An array of which at least some elements are new.

    `values` is the whole array. Or, where `picks` says which slices of the old array it is made of, those elements
    that are others than there, and `mask` has a bit for each element of the array: whether it is one of them.
    `moved` is by how much the elements changed: the norm of the change over that of the old ones; None if no old
    element stands in their place.
    """

    values: np.ndarray = field(repr=False)
    moved: float | None = None
    picks: tuple[int | None, ...] | None = None
    mask: np.ndarray | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stored):
            return NotImplemented
        mine, theirs = ([one for one in (each.values, each.mask) if one is not None] for each in (self, other))
        return same_arrays(mine, theirs) and (self.moved, self.picks) == (other.moved, other.picks)

    __hash__ = None  # type: ignore[assignment]


# What becomes of one array: None if it is as it was, or the slices of each axis (an index into the table of picks,
# None for a whole axis), or new values.
Piece = tuple[int | None, ...] | Stored | None
Pieces = tuple[Piece, ...]


@dataclass(frozen=True)
class Trained:
    """The state of the optimizer: the weight of each slot as in `Training`, and what becomes of each array.

    Arrays come from the old state's slots for the same weight, in order.
    """

    slots: tuple[tuple[str, int] | None, ...]
    values: Pieces


@dataclass(frozen=True)
class Changes:
    """What makes one model of another, as data.

    - `base`: digests of the first model's record and of its arrays;
    - `removed`: layers of the first model of which nothing is left;
    - `sources`: layers of the second model that have another path in the first -> that path;
    - `added`: layers that come from nowhere -> their record;
    - `order`: models whose layers are not those of before in that order -> names, and runs (from, to) of layers of
      the first model's;
    - `changed`: layer -> JSON pointer into its record -> what stood there and what stands there now;
    - `appeared`, `dropped`: the same for what was not there before, and is there no more;
    - `picks`: the table of positions that the weights refer to;
    - `weights`: layers with other weights -> what becomes of each array; None if the layer has none any more;
    - `channels`: address of a layer's channels -> which of them are left, as an index into the table of picks;
    - `training`: the optimizer's state: "same", "none", or what becomes of it;
    - `result`: digests of the second model's record and arrays, which `patch` must come to; None if it is not known.
    """

    base: tuple[str, str] = field(repr=False)
    removed: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, Sheet] = field(default_factory=dict, repr=False)
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
        facts = (self.removed, self.sources, self.added, self.order, self.changed, self.appeared, self.dropped)
        return any(facts) or bool(self.weights) or self.training != "same"

    def pick(self, index: int) -> Picks:
        if not 0 <= index < len(self.picks):
            raise OtherModel(f"the difference refers to positions {index}, but has only {len(self.picks)} of them")
        return self.picks[index]


def as_diff(value: Any, name: str = "difference") -> Changes:
    """A difference itself.

    Raises:
        BadValue: it is none.
    """
    if isinstance(value, Changes):
        return value
    raise BadValue(f"{name} is a difference of two models, as diff(a, b) gives it, not {shortened(value)}")
