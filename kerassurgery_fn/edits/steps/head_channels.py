"""The channels of a model that are the classes of an output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, Axis, has_ids, size
from kerassurgery_fn.edits.steps.channel_sources import unique
from kerassurgery_fn.errors import AmbiguousLayer, NoHead
from kerassurgery_fn.graph import Selector, find_one
from kerassurgery_fn.rules.layer import Producer


@dataclass(frozen=True)
class Head:
    """The classes of a head: their final ids in order, and the paths of the layers that create them."""

    ids: np.ndarray
    paths: tuple[str, ...]

    @property
    def title(self) -> str:
        return ", ".join(map(repr, self.paths))

    def mask(self, flow: Flow) -> np.ndarray:
        """Which final ids are classes, shaped as by `flow.solution.none_dead()`."""
        mask = flow.solution.none_dead()
        mask[self.ids] = True
        return mask

    def copies(self, flow: Flow, units: int) -> np.ndarray:
        """How often each final id will stand so that there are so many classes, a last one for `FIXED`."""
        copies = np.where(self.mask(flow), 0, 1)
        copies[self.ids[0]] = units
        return copies

    def sources(self, flow: Flow, axis: Axis, units: int, kept: Mapping[int, int]) -> np.ndarray | None:
        """The old position of each new one along an axis, -1 for those of new classes; None if it has no classes.

        Raises:
            NoHead: the classes do not stand there one after the other.
        """
        rows = self.rows(flow, axis) if isinstance(axis, np.ndarray) else []
        if not len(rows):
            return None
        starts, inside = {row[0] for row in rows}, {position for row in rows for position in row}
        new = [kept.get(one) for one in range(units)]
        found: list[int] = []
        for position in range(size(axis) or 0):
            if position in starts:
                found += [-1 if old is None else position + old for old in new]
            elif position not in inside:
                found.append(position)
        return np.array(found)

    def rows(self, flow: Flow, axis: np.ndarray) -> list[list[int]]:
        """The positions of all classes in order, as often as they stand along an axis."""
        resolved, n = flow.solution.resolve(axis), len(self.ids)
        hits = self.mask(flow)[resolved]
        places = np.flatnonzero(hits.any(axis=0))
        if len(places) % n == 0:
            rows = places.reshape(-1, n)
            own = np.where(hits, resolved, FIXED)[:, rows]  # by line of the map, row and class
            rest = np.where(hits, FIXED, resolved)[:, rows]
            ordered = ((own == self.ids) | (own == FIXED)).all()
            if ordered and (np.diff(rows, axis=1) == 1).all() and (rest == rest[:, :, :1]).all():
                return rows.tolist()
        raise NoHead(f"the classes that {self.title} makes do not stand one after the other in its weights")


def found_head(flow: Flow, layer: Selector | None) -> Head:
    """The head of a model, or the one that a layer names.

    Raises:
        UnknownLayer: the name is of no layer.
        AmbiguousLayer: several layers make what is meant.
        NoHead: what the layer makes is no output.
    """
    name, meant = (
        of_the_output(flow) if layer is None else of_layer(flow, find_one(flow.graph, layer, flow.trace.records))
    )
    producers = [producer for producer in flow.producers.values() if ids_on(flow, producer.axis) & meant]
    if not producers:
        why = f": {name!r} {flow.opaque[name]}" if name in flow.opaque else ""
        raise NoHead(
            f"what {name!r} makes is no output whose channels a layer makes, so it has no classes that could be "
            f"replaced{why}; name the last Dense or Conv layer as layer="
        )
    if len({frozenset(ids_on(flow, producer.axis) & meant) for producer in producers}) > 1:
        raise AmbiguousLayer(
            f"{', '.join(repr(producer.path) for producer in producers)} make channels of one output; "
            "name one as layer="
        )
    return Head(in_order(flow, producers[0], meant), tuple(dict.fromkeys(producer.path for producer in producers)))


def of_the_output(flow: Flow) -> tuple[str, set[int]]:
    """The layer that makes the one output of a model, and the final ids along the last axis of it that has any.

    Raises:
        AmbiguousLayer: the model has several outputs.
    """
    outputs = list(dict.fromkeys(flow.trace.outputs))
    if len(outputs) > 1:
        producers = ", ".join(dict.fromkeys(repr(ref.path) for ref in outputs))
        raise AmbiguousLayer(
            f"the model has {len(outputs)} outputs, made by {producers}; name the layer of one as layer="
        )
    found = [ids for axis in flow.tensors.get(outputs[0]) or () if (ids := ids_on(flow, axis))]
    return outputs[0].path, found[-1] if found else set()


def of_layer(flow: Flow, path: str) -> tuple[str, set[int]]:
    """A layer, and the final ids of those of its channels that lie along an axis of an output; those that it hands on
    if it makes none itself."""
    own = [producer.axis for producer in flow.producers.values() if producer.path == path]
    tensors = {ref for ref in flow.tensors if ref.path == path}
    tensors |= {ref for call in flow.trace.models if call.path == path for ref in call.outputs}
    passed = [axis for ref in tensors for axis in flow.tensors.get(ref) or ()]
    made = {one for axis in own or passed for one in ids_on(flow, axis)}
    ends = [ids_on(flow, axis) & made for ref in flow.trace.outputs for axis in flow.tensors.get(ref) or ()]
    return path, next(filter(None, ends), set())


def ids_on(flow: Flow, axis: Axis) -> set[int]:
    """The final ids along an axis."""
    return {*flow.solution.resolve(axis).ravel().tolist()} - {FIXED} if has_ids(axis) else set()  # type: ignore[arg-type]


def in_order(flow: Flow, producer: Producer, ids: set[int]) -> np.ndarray:
    """Some final ids in the order in which they come among the channels of a layer."""
    found = [one for row in flow.solution.resolve(producer.axis) for one in unique(row).tolist()]  # type: ignore[arg-type]
    return np.array([one for one in dict.fromkeys(found) if one in ids])
