"""Which layer of one model is which layer of another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kerassurgery_fn.differences.layer_records import Sheets, layers_of, parent
from kerassurgery_fn.documents.preconditions import digest_of_arrays
from kerassurgery_fn.graph import Record, join_path
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.snapshot import Training, Weights


def sources_of(old: Sheets, new: Sheets, old_weights: Weights, new_weights: Weights) -> dict[str, str]:
    """For each sheet of the new model the old one that it comes from; those that come from nowhere are left out.

    In turn: the one of the same name in the same model; one with the same weights, even if another layer has come
    from it already; one with the same config but for the name; one of the same class behind the same layer.
    """
    matching = _Matching(old, new, old_weights, new_weights)
    matching.by_name()
    matching.by_weights()
    matching.by_config()
    matching.by_place()
    return matching.sources


class _Matching:
    def __init__(self, old: Sheets, new: Sheets, old_weights: Weights, new_weights: Weights) -> None:
        self.old, self.new = old, new
        self.old_weights, self.new_weights = old_weights, new_weights
        self.sources: dict[str, str] = {}
        self.free = dict.fromkeys(old)

    def accept(self, path: str, source: str) -> None:
        self.sources[path] = source
        self.free.pop(source, None)

    @property
    def waiting(self) -> list[str]:
        return [path for path in self.new if path not in self.sources]

    def by_name(self) -> None:
        """The same name in the model that the layer's own model comes from."""
        for path in self.new:
            home = parent(path)
            source = path if home is None else join_path(self.sources.get(home, home), path.rpartition("/")[2])
            if source in self.free and self.alike(path, source):
                self.accept(path, source)

    def alike(self, path: str, source: str) -> bool:
        """Whether both are models or both are none: the record of one cannot be that of the other."""
        return (layers_of(self.new[path]) is None) == (layers_of(self.old[source]) is None)

    def by_weights(self) -> None:
        waiting = [path for path in self.waiting if self.new_weights.get(path)]
        if not waiting:
            return
        shapes = {_shapes(self.new_weights[path]) for path in waiting}
        known: dict[Any, str] = {}
        for source, arrays in self.old_weights.items():
            if source in self.old and _shapes(arrays) in shapes:
                key = (self.old[source]["class_name"], digest_of_arrays(arrays))
                if key not in known or (source in self.free and known[key] not in self.free):
                    known[key] = source
        for path in waiting:
            key = (self.new[path]["class_name"], digest_of_arrays(self.new_weights[path]))
            if key in known:
                self.accept(path, known[key])

    def by_config(self) -> None:
        known = defaultdict(list)
        for source in self.free:
            known[nameless(self.old[source])].append(source)
        for path in self.waiting:
            if candidates := known[nameless(self.new[path])]:
                self.accept(path, candidates.pop(0))
        self.by_name()

    def by_place(self) -> None:
        """The first free layer behind the one that the layer before comes from, if it is of the same class."""
        behind = {source: after for one in self.old.values() for source, after in _pairs(layers_of(one))}
        before = {after: path for one in self.new.values() for path, after in _pairs(layers_of(one))}
        for path in self.waiting:
            home, _, name = path.rpartition("/")
            previous = self.sources.get(join_path(home, before.get(name, "")))
            if previous is None or before.get(name) is None:
                continue
            there, _, last = previous.rpartition("/")
            source = join_path(there, behind.get(last, ""))
            if source in self.free and self.old[source]["class_name"] == self.new[path]["class_name"]:
                self.accept(path, source)
        self.by_name()


def nameless(record: Record) -> Any:
    """What a layer is but for its name and the layers that it is called on, to be compared and looked up."""
    config = {key: item for key, item in record["config"].items() if key not in ("name", "layers")}
    return freeze({"class_name": record["class_name"], "module": record.get("module"), "config": config})


def _pairs(names: list[str] | None) -> list[tuple[str, str]]:
    return list(zip(names or (), (names or ())[1:], strict=False))


def _shapes(arrays: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(array.shape for array in arrays)


def default_source(path: str, sources: Mapping[str, str]) -> str:
    """The path that a layer has in the old model if only the names of models around it have changed.

    >>> default_source("body/conv", {"body": "backbone"}), default_source("conv", {})
    ('backbone/conv', 'conv')
    """
    home = parent(path)
    if home is None:
        return ""
    above = sources[home] if home in sources else default_source(home, sources)
    return join_path(above, path.rpartition("/")[2])


def paired(
    training: Training | None, slots: Sequence[tuple[str, int] | None], sources: Mapping[str, str]
) -> Iterator[np.ndarray | None]:
    """For each slot of a new state the old array that it comes from: the next of those for the same weight."""
    left = {owner: list(values) for owner, values in training.by_owner().items()} if training else {}
    for slot in slots:
        owner = None if slot is None else (sources.get(slot[0], slot[0]), slot[1])
        yield left[owner].pop(0) if left.get(owner) else None
