"""A trained model as a value: its serialised record and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.values.frozen import FrozenDict, freeze
from kerassurgery_fn.values.tables import Table

Record = Annotated[Mapping[str, Any], "record"]  # of this form, see graph/forms.py
Weights = Mapping[str, tuple[np.ndarray, ...]]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A Keras model as an immutable value.

    `record` is what `keras.saving.serialize_keras_object(model)` gives, as JSON would give it back: the keys
    `module`, `class_name`, `config`, `registered_name`, `build_config` and, for a compiled model, `compile_config`. The
    record of a layer has one more key, `trainable_weights`, if only some of its weights are trained and its config does
    not tell which: their indices.
    `weights` has the arrays of every layer that has any, by the layer's path (`backbone/conv_1` inside a nested
    model), in the order of `layer.get_weights()`; they are read-only. `training` is the optimizer's state, see
    `Training`, or None.

    Two snapshots are equal when their records and all their arrays are equal.

    Raises:
        BrokenSnapshot: the record is no mapping, the weights are no arrays by path, or the training no `Training`.

    >>> Snapshot({"class_name": "Sequential", "config": {"name": "m", "layers": []}}, {}).name
    'm'
    """

    record: Record
    weights: Weights
    training: Training | None = None

    def __post_init__(self) -> None:
        refuse_parts(self.record, self.weights, self.training)
        object.__setattr__(self, "record", freeze(self.record))
        object.__setattr__(
            self, "weights", FrozenDict({path: read_only(arrays) for path, arrays in self.weights.items()})
        )

    @property
    def name(self) -> str:
        name = self._name()
        if name is None:
            raise BrokenSnapshot("the record has no name, neither beside its config nor in it")
        return name

    def _name(self) -> str | None:
        config = self.record.get("config")
        name = self.record.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
        return name if isinstance(name, str) else None

    @property
    def config(self) -> Mapping[str, Any]:
        return self.record["config"]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return (
            self.record == other.record
            and same_weights(self.weights, other.weights)
            and self.training == other.training
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:  # pickle forgets that arrays are read-only
        return Snapshot, (self.record, self.weights, self.training)

    def __repr__(self) -> str:
        count = sum(array.size for arrays in self.weights.values() for array in arrays)
        return f"<Snapshot of {self._name()!r}: {len(self.weights)} layers with weights, {count:,} parameters>"

    def _repr_html_(self) -> str:
        shapes = {path: ", ".join("x".join(map(str, a.shape)) for a in arrays) for path, arrays in self.weights.items()}
        rows = tuple((path, shapes[path], sum(a.size for a in arrays)) for path, arrays in self.weights.items())
        return Table(self.name, ("layer", "weights", "parameters"), rows, (repr(self)[1:-1],))._repr_html_()


@dataclass(frozen=True, eq=False)
class Training:
    """The state of an optimizer, so that training goes on where it stopped.

    `slots` has, for each variable of the optimizer in its own order, the weight that it belongs to, as
    (layer path, index in `layer.get_weights()`), or None for the optimizer's own (iterations, learning rate).

    Two are equal when each weight's variables, and the optimizer's own, are equal one after the other: optimizers of
    models whose layers stand in another order have their variables in another order.
    """

    slots: tuple[tuple[str, int] | None, ...]
    values: tuple[np.ndarray, ...] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", read_only(self.values))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Training):
            return NotImplemented
        mine, theirs = self.by_owner(), other.by_owner()
        return mine.keys() == theirs.keys() and all(same_arrays(mine[owner], theirs[owner]) for owner in mine)

    def by_owner(self) -> dict[tuple[str, int] | None, list[np.ndarray]]:
        """The weight -> its variables, in the optimizer's order."""
        found: dict[tuple[str, int] | None, list[np.ndarray]] = {}
        for owner, value in zip(self.slots, self.values, strict=True):
            found.setdefault(owner, []).append(value)
        return found

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Training, (self.slots, self.values)


def refuse_parts(record: Any, weights: Any, training: Any) -> None:
    """Raises BrokenSnapshot where the parts of a snapshot are not of their types."""
    if not isinstance(record, Mapping):
        raise BrokenSnapshot(f"a snapshot's record is a mapping, not {type(record).__name__}; capture(model) makes one")
    if not isinstance(weights, Mapping):
        raise BrokenSnapshot(f"a snapshot's weights are a mapping of paths to arrays, not {type(weights).__name__}")
    for path, arrays in weights.items():
        if not isinstance(path, str) or not isinstance(arrays, (list, tuple)) or not all(map(_is_array, arrays)):
            raise BrokenSnapshot(f"a snapshot's weights are tuples of numpy arrays by path; look at {path!r}")
    if training is not None and not isinstance(training, Training):
        raise BrokenSnapshot(f"a snapshot's training is a Training or None, not {type(training).__name__}")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def read_only(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The arrays with writing switched off: those that are writeable as views, the rest themselves.

    >>> read_only([np.zeros(2)])[0].flags.writeable
    False
    """
    if isinstance(arrays, tuple) and not any(array.flags.writeable for array in arrays):
        return arrays
    views = [array.view() if array.flags.writeable else array for array in arrays]
    for view in views:
        view.flags.writeable = False
    return tuple(views)


def same_weights(a: Weights, b: Weights) -> bool:
    """Whether two sets of weights have the same paths and equal arrays."""
    return a.keys() == b.keys() and all(same_arrays(arrays, b[path]) for path, arrays in a.items())


def same_arrays(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    """Whether the arrays are equal one by one: dtype, shape and every element, NaN like NaN.

    >>> same_arrays([np.array([1.0, np.nan])], [np.array([1.0, np.nan])]), same_arrays([np.zeros(2)], [np.zeros(3)])
    (True, False)
    """
    return len(a) == len(b) and all(map(_same, a, b))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a is b:
        return True
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool(np.array_equal(a, b)) or bool(((a == b) | ((a != a) & (b != b))).all())
