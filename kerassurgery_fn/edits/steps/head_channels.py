"""The channels of a model that are the classes of an output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from toolz import concat

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
        """The final ids that are classes: a boolean mask, as `flow.solution.none_dead()`."""
        mask = flow.solution.none_dead()
        mask[self.ids] = True
        return mask

    def copies(self, flow: Flow, units: int) -> np.ndarray:
        """The copies of each final id for a number of classes, shape (ids + 1,); the last one is for `FIXED`."""
        copies = np.where(self.mask(flow), 0, 1)
        copies[self.ids[0]] = units
        return copies

    def sources(self, flow: Flow, axis: Axis, units: int, kept: Mapping[int, int]) -> np.ndarray | None:
        """The old position of each new position on an axis, -1 for a new class; None if the axis has no classes.

        Raises:
            NoHead: the classes are not in a row on the axis.
        """
        rows = self.rows(flow, axis) if isinstance(axis, np.ndarray) else []
        if not len(rows):
            return None
        starts, inside = {row[0] for row in rows}, {position for row in rows for position in row}
        old_classes = [kept.get(new) for new in range(units)]
        positions: list[int] = []
        for position in range(size(axis) or 0):
            if position in starts:
                positions += [-1 if old is None else position + old for old in old_classes]
            elif position not in inside:
                positions.append(position)
        return np.array(positions)

    def rows(self, flow: Flow, axis: np.ndarray) -> list[list[int]]:
        """The positions of all classes in order, for each time that they occur on an axis.

        Raises:
            NoHead: the classes are not in a row on the axis.
        """
        resolved, n = flow.solution.resolve(axis), len(self.ids)
        hits = self.mask(flow)[resolved]
        places = np.flatnonzero(hits.any(axis=0))
        if len(places) % n == 0:
            rows = places.reshape(-1, n)
            class_ids = np.where(hits, resolved, FIXED)[:, rows]  # (ids of a position, rows, classes)
            rest = np.where(hits, FIXED, resolved)[:, rows]
            ordered = ((class_ids == self.ids) | (class_ids == FIXED)).all()
            if ordered and (np.diff(rows, axis=1) == 1).all() and (rest == rest[:, :, :1]).all():
                return rows.tolist()
        raise NoHead(f"the classes of {self.title} are not in a row in its weights")


def found_head(flow: Flow, layer: Selector | None) -> Head:
    """The head of a model, or the head to which a layer belongs.

    Raises:
        UnknownLayer: no layer has this name.
        AmbiguousLayer: several layers create channels of the output.
        NoHead: the layer's output is not an output of the model.
    """
    name, meant = (
        of_the_output(flow) if layer is None else of_layer(flow, find_one(flow.graph, layer, flow.trace.records))
    )
    producers = [producer for producer in flow.producers.values() if ids_on(flow, producer.axis) & meant]
    if not producers:
        why = f": {name!r} {flow.opaque[name]}" if name in flow.opaque else ""
        raise NoHead(
            f"the output of {name!r} is not an output of the model with channels of a layer, so it has no classes "
            f"that can be replaced{why}; give the last Dense or Conv layer as layer="
        )
    if len({frozenset(ids_on(flow, producer.axis) & meant) for producer in producers}) > 1:
        raise AmbiguousLayer(
            f"{', '.join(repr(producer.path) for producer in producers)} create channels of one output; "
            "give one of them as layer="
        )
    return Head(in_order(flow, producers[0], meant), tuple(dict.fromkeys(producer.path for producer in producers)))


def of_the_output(flow: Flow) -> tuple[str, set[int]]:
    """The layer that computes the only output of a model, and the final ids on the last axis of the output with ids.

    Raises:
        AmbiguousLayer: the model has several outputs.
    """
    outputs = list(dict.fromkeys(flow.trace.outputs))
    if len(outputs) > 1:
        producers = ", ".join(dict.fromkeys(repr(ref.path) for ref in outputs))
        raise AmbiguousLayer(
            f"the model has {len(outputs)} outputs, computed by {producers}; give the layer of one as layer="
        )
    by_axis = [ids for axis in flow.tensors.get(outputs[0]) or () if (ids := ids_on(flow, axis))]
    return outputs[0].path, by_axis[-1] if by_axis else set()


def of_layer(flow: Flow, path: str) -> tuple[str, set[int]]:
    """A layer, and the final ids of its channels that are on an axis of an output of the model. If the layer creates no
    channels, those of its output count."""
    created = [producer.axis for producer in flow.producers.values() if producer.path == path]
    tensors = {ref for ref in flow.tensors if ref.path == path}
    tensors |= {ref for call in flow.trace.models if call.path == path for ref in call.outputs}
    passed = [axis for ref in tensors for axis in flow.tensors.get(ref) or ()]
    ids = set(concat(ids_on(flow, axis) for axis in created or passed))
    ends = [ids_on(flow, axis) & ids for ref in flow.trace.outputs for axis in flow.tensors.get(ref) or ()]
    return path, next(filter(None, ends), set())


def ids_on(flow: Flow, axis: Axis) -> set[int]:
    """The final ids on an axis."""
    return {*flow.solution.resolve(axis).ravel().tolist()} - {FIXED} if has_ids(axis) else set()  # type: ignore[arg-type]


def in_order(flow: Flow, producer: Producer, ids: set[int]) -> np.ndarray:
    """Some final ids in the order of the channels of a layer."""
    by_channel = concat(unique(row).tolist() for row in flow.solution.resolve(producer.axis))  # type: ignore[arg-type]
    return np.array([final_id for final_id in dict.fromkeys(by_channel) if final_id in ids])
