"""A trained model as a value: its serialised record and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from toolz import valmap

from kerassurgery_fn.errors import BrokenSnapshot
from kerassurgery_fn.values.frozen import FrozenDict, freeze
from kerassurgery_fn.values.kept_results import results_of_record
from kerassurgery_fn.values.tables import Table

Record = Annotated[Mapping[str, Any], "record"]  # the form in documents, see graph/record_schema.py
Weights = Mapping[str, tuple[np.ndarray, ...]]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A Keras model as an immutable value.

    - `record`: the result of `keras.saving.serialize_keras_object(model)` after a round trip through JSON. Its keys are
      `module`, `class_name`, `config`, `registered_name`, `build_config` and, for a compiled model, `compile_config`.
      The record of a layer also has `trainable_weights`, the indices of its trainable weights, if only some are
      trainable and the config does not say which. The record of a custom layer has `state_weights`, the indices of the
      weights that training never changes, if their names do not say it. That of a custom layer that consists of layers
      has `weight_groups`: the name in a weight file of each group of weights -> their indices; `weights_by_name` says
      that a file was read that does not have the order of `layer.get_weights()`. `measured` is the result of running
      the code of a layer for which the library has no rule;
    - `weights`: layer path (`backbone/conv_1` inside a nested model) -> read-only arrays, in the order of
      `layer.get_weights()`. Layers without weights have no entry;
    - `training`: the optimizer's state, see `Training`, or None.

    Two snapshots are equal if their records and all their arrays are equal.

    Raises:
        BrokenSnapshot: the record is not a mapping, the weights are not arrays by path, or the training is not a
            `Training`.

    >>> Snapshot({"class_name": "Sequential", "config": {"name": "m", "layers": []}}, {}).name
    'm'
    """

    record: Record
    weights: Weights
    training: Training | None = None

    def __post_init__(self) -> None:
        _check_types(self.record, self.weights, self.training)
        object.__setattr__(self, "record", freeze(self.record))
        object.__setattr__(self, "weights", FrozenDict(valmap(read_only, self.weights)))
        object.__setattr__(self, "_results", {})  # see kept_results
        object.__setattr__(self, "_results_of_record", results_of_record(self.record))

    def with_arrays(self, record: Record, arrays: Weights, training: Training | None) -> Snapshot:
        """The snapshot with another record, other arrays for some layers, and another state of the optimizer. Unlike
        the constructor, it only looks at the new arrays.

        Args:
            record: a record that is immutable already.
            arrays: layer path -> all arrays of the layer.
            training: the state of the optimizer.
        """
        changed = object.__new__(Snapshot)
        weights = FrozenDict({**self.weights, **valmap(read_only, arrays)})
        values = {"record": record, "weights": weights, "training": training, "_results": {}}
        vars(changed).update(values, _results_of_record=results_of_record(record))
        return changed

    @property
    def name(self) -> str:
        """The name of the model."""
        name = self._name()
        if name is None:
            raise BrokenSnapshot("the record has no name, neither as a key of its own nor in its config")
        return name

    def _name(self) -> str | None:
        config = self.record.get("config")
        name = self.record.get("name") or (config.get("name") if isinstance(config, Mapping) else None)
        return name if isinstance(name, str) else None

    @property
    def config(self) -> Mapping[str, Any]:
        """The config of the model."""
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

    def __reduce__(self) -> tuple[Any, ...]:  # the constructor makes the arrays read-only again
        return Snapshot, (self.record, self.weights, self.training)

    def __repr__(self) -> str:
        count = sum(array.size for arrays in self.weights.values() for array in arrays)
        layers = len(self.weights)
        return f"<Snapshot of {self._name()!r}: {layers} layer{'s' * (layers != 1)} with weights, {count:,} parameters>"

    def _repr_html_(self) -> str:
        shapes = {path: ", ".join("x".join(map(str, a.shape)) for a in arrays) for path, arrays in self.weights.items()}
        rows = tuple((path, shapes[path], sum(a.size for a in arrays)) for path, arrays in self.weights.items())
        return Table(self.name, ("layer", "weights", "parameters"), rows, (repr(self)[1:-1],))._repr_html_()


@dataclass(frozen=True, eq=False)
class Training:
    """The state of an optimizer, to continue training where it stopped.

    - `slots`: the weight of each optimizer variable, as (layer path, index in `layer.get_weights()`); None for a
      variable that belongs to no weight (iterations, learning rate);
    - `values`: the arrays of the variables.

    Two states are equal if the variables of each weight are equal in order. The order of the weights does not matter:
    it depends on the order in which the layers are listed.
    """

    slots: tuple[tuple[str, int] | None, ...]
    values: tuple[np.ndarray, ...] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", read_only(self.values))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Training):
            return NotImplemented
        a, b = self.by_owner(), other.by_owner()
        return a.keys() == b.keys() and all(same_arrays(a[owner], b[owner]) for owner in a)

    def by_owner(self) -> dict[tuple[str, int] | None, list[np.ndarray]]:
        """Weight -> its variables, in the order of the optimizer."""
        variables: dict[tuple[str, int] | None, list[np.ndarray]] = {}
        for owner, value in zip(self.slots, self.values, strict=True):
            variables.setdefault(owner, []).append(value)
        return variables

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Training, (self.slots, self.values)


def _check_types(record: Any, weights: Any, training: Any) -> None:
    """Raises BrokenSnapshot if a field of a snapshot has the wrong type."""
    if not isinstance(record, Mapping):
        raise BrokenSnapshot(f"a snapshot's record must be a mapping, not {type(record).__name__}; use capture(model)")
    if not isinstance(weights, Mapping):
        raise BrokenSnapshot(f"a snapshot's weights must be a mapping of paths to arrays, not {type(weights).__name__}")
    for path, arrays in weights.items():
        if not isinstance(path, str) or not isinstance(arrays, (list, tuple)) or not all(map(_is_array, arrays)):
            raise BrokenSnapshot(
                f"a snapshot's weights must be a mapping of paths to tuples of numpy arrays; the entry {path!r} is not"
            )
    if training is not None and not isinstance(training, Training):
        raise BrokenSnapshot(f"a snapshot's training must be a Training or None, not {type(training).__name__}")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def read_only(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Read-only views of the arrays. Arrays that are read-only already are not copied.

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
    """Whether arrays are equal one by one: dtype, shape and every element. NaN equals NaN.

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
