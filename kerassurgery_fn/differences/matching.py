"""Matches the layers of two models: finds the layer of the old model from which each layer of the new model comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from toolz import dissoc, groupby, valmap

from kerassurgery_fn.differences.layer_records import LayerRecords, layers_of, parent
from kerassurgery_fn.documents.preconditions import digest_of_arrays
from kerassurgery_fn.graph import Record, join_path
from kerassurgery_fn.values.frozen import freeze
from kerassurgery_fn.values.snapshot import Training, Weights


def match_layers(old: LayerRecords, new: LayerRecords, old_weights: Weights, new_weights: Weights) -> dict[str, str]:
    """Path of a layer of the new model -> path of the old layer that it comes from. Added layers have no entry.

    There are four passes, from certain to likely. Each pass only matches layers that are not matched yet, by

    1. the same name in the same model;
    2. the same weights, even if another layer has the same source (a copied layer);
    3. the same config, apart from the name;
    4. the same class, directly after a matched layer (a layer that was renamed and pruned):

            old   a -> conv_1 (8 units) -> c
            new   a -> stem   (5 units) -> c        stem comes from conv_1
    """
    matching = _Matching(old, new, old_weights, new_weights)
    matching.by_name()
    matching.by_weights()
    matching.by_config()
    matching.by_predecessor()
    return matching.sources


class _Matching:
    """The passes of `match_layers`. A layer with a source keeps it. `free` has the old layers that are not a source."""

    def __init__(self, old: LayerRecords, new: LayerRecords, old_weights: Weights, new_weights: Weights) -> None:
        self.old, self.new = old, new
        self.old_weights, self.new_weights = old_weights, new_weights
        self.sources: dict[str, str] = {}
        self.free = dict.fromkeys(old)

    def match(self, path: str, source: str) -> None:
        self.sources[path] = source
        self.free.pop(source, None)

    @property
    def unmatched(self) -> list[str]:
        return [path for path in self.new if path not in self.sources]

    def by_name(self) -> None:
        """Matches layers of the same name in matched models. Models come before their layers, so one pass is enough."""
        for path in self.new:
            model = parent(path)
            source = path if model is None else join_path(self.sources.get(model, model), path.rpartition("/")[2])
            if source in self.free and self.both_models_or_both_layers(path, source):
                self.match(path, source)

    def both_models_or_both_layers(self, path: str, source: str) -> bool:
        """Whether both records are models, or both are layers. A model never comes from a layer that is not a model."""
        return (layers_of(self.new[path]) is None) == (layers_of(self.old[source]) is None)

    def by_weights(self) -> None:
        unmatched = [path for path in self.unmatched if self.new_weights.get(path)]
        if not unmatched:
            return
        # Digests read all bytes of the arrays, so they are only computed for arrays with matching shapes.
        shapes = {_shapes(self.new_weights[path]) for path in unmatched}
        by_digest: dict[tuple[str, str], str] = {}
        for source, arrays in self.old_weights.items():
            if source in self.old and _shapes(arrays) in shapes:
                key = self.old[source]["class_name"], digest_of_arrays(arrays)
                # If several layers have these weights, a layer that is not a source yet is preferred.
                if key not in by_digest or (source in self.free and by_digest[key] not in self.free):
                    by_digest[key] = source
        for path in unmatched:
            key = self.new[path]["class_name"], digest_of_arrays(self.new_weights[path])
            if key in by_digest:
                self.match(path, by_digest[key])

    def by_config(self) -> None:
        # Equal layers, such as three ReLUs, are matched in the order in which they are listed.
        by_config = groupby(lambda source: without_name(self.old[source]), self.free)
        for path in self.unmatched:
            if sources := by_config.get(without_name(self.new[path])):
                self.match(path, sources.pop(0))
        self.by_name()  # the layers of models that this pass has matched

    def by_predecessor(self) -> None:
        """Matches a layer with the free layer after the source of its predecessor, if both have the same class."""
        old_successors = {name: after for record in self.old.values() for name, after in _neighbours(record)}
        new_predecessors = {after: name for record in self.new.values() for name, after in _neighbours(record)}
        for path in self.unmatched:
            model, _, name = path.rpartition("/")
            predecessor = new_predecessors.get(name)
            predecessor_source = None if predecessor is None else self.sources.get(join_path(model, predecessor))
            if predecessor_source is None:
                continue
            old_model, _, old_name = predecessor_source.rpartition("/")
            source = join_path(old_model, old_successors.get(old_name, ""))
            if source in self.free and self.old[source]["class_name"] == self.new[path]["class_name"]:
                self.match(path, source)
        self.by_name()  # the layers of models that this pass has matched


def without_name(record: Record) -> Any:
    """The class and config of a layer without its name and its sublayers; hashable, to look up equal layers."""
    config = dissoc(record["config"], "name", "layers")
    return freeze({"class_name": record["class_name"], "module": record.get("module"), "config": config})


def _neighbours(record: Record) -> list[tuple[str, str]]:
    """Each layer of a model and the layer after it, by name; empty for a layer that is not a model."""
    names = layers_of(record) or []
    return list(pairwise(names))


def _shapes(arrays: Sequence[np.ndarray]) -> tuple[tuple[int, ...], ...]:
    return tuple(array.shape for array in arrays)


def default_source(path: str, sources: Mapping[str, str]) -> str:
    """The path of a layer in the old model if only the names of the models around it have changed.

    >>> default_source("body/conv", {"body": "backbone"}), default_source("conv", {})
    ('backbone/conv', 'conv')
    """
    model = parent(path)
    if model is None:
        return ""
    old_model = sources[model] if model in sources else default_source(model, sources)
    return join_path(old_model, path.rpartition("/")[2])


def old_values(
    training: Training | None, slots: Sequence[tuple[str, int] | None], sources: Mapping[str, str]
) -> Iterator[np.ndarray | None]:
    """For each optimizer variable of the new model, the old array that it comes from; None if there is none.

    Args:
        training: the optimizer's state in the old model.
        slots: the weight of each variable in the new model, as in `Training`.
        sources: see `match_layers`.
    """
    remaining = valmap(list, training.by_owner()) if training else {}
    for slot in slots:
        owner = None if slot is None else (sources.get(slot[0], slot[0]), slot[1])
        yield remaining[owner].pop(0) if remaining.get(owner) else None
