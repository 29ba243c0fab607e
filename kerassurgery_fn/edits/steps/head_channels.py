"""The channels of a model that are the classes of an output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from toolz import concat
from toolz import unique as distinct

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, Axis, has_ids, size
from kerassurgery_fn.edits.steps.channel_sources import unique
from kerassurgery_fn.errors import AmbiguousLayer, NoHead, UnknownLayer
from kerassurgery_fn.graph import Selector, find_layers
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
        blocks = self.blocks(flow, axis) if isinstance(axis, np.ndarray) else np.empty((0, 1, 1), int)
        if not len(blocks):
            return None
        by_start, inside = {int(block[0, 0]): block for block in blocks}, set(blocks.ravel().tolist())
        positions: list[int] = []
        for position in range(size(axis) or 0):
            if position in by_start:
                block = by_start[position]
                places = [block[kept[new]] if new in kept else [-1] * block.shape[1] for new in range(units)]
                positions += [int(place) for place in concat(places)]
            elif position not in inside:
                positions.append(position)
        return np.array(positions)

    def blocks(self, flow: Flow, axis: np.ndarray) -> np.ndarray:
        """The positions of all classes on an axis, for each time that they occur, shape (times, classes, inner).

        Two classes and three anchors give 3 blocks of (2, 1) if the anchors come first, and a block of (2, 3) if the
        classes come first:

            anchor    0  0  1  1  2  2        0  1  2  0  1  2
            class     0  1  0  1  0  1        0  0  0  1  1  1

        Raises:
            NoHead: the positions are not in the order of the classes.
        """
        resolved, n = flow.solution.resolve(axis), len(self.ids)
        hits = self.mask(flow)[resolved]
        places = np.flatnonzero(hits.any(axis=0))
        if not places.size:
            return np.empty((0, n, 1), int)
        inner = repeats(np.where(hits, resolved, FIXED)[:, places]) if n > 1 else 1
        if len(places) % (n * inner) == 0:
            blocks = places.reshape(-1, n, inner)
            class_ids = np.where(hits, resolved, FIXED)[:, blocks]  # (ids of a position, times, classes, inner)
            rest = np.where(hits, FIXED, resolved)[:, blocks]
            ordered = ((class_ids == self.ids[:, None]) | (class_ids == FIXED)).all()
            in_a_row = (np.diff(blocks.reshape(len(blocks), -1), axis=1) == 1).all()
            if ordered and in_a_row and (rest == rest[:, :, :1]).all():
                return blocks
        raise NoHead(f"the classes of {self.title} are not in a row in its weights")


def repeats(ids: np.ndarray) -> int:
    """The number of equal columns at the start of an array.

    >>> repeats(np.array([[4, 4, 5, 5]])), repeats(np.array([[4, 5, 4, 5]]))
    (2, 1)
    """
    changes = np.flatnonzero((ids != ids[:, :1]).any(axis=0))
    return int(changes[0]) if changes.size else ids.shape[1]


def found_heads(flow: Flow, layer: Selector | None) -> list[Head]:
    """The head of a model, or the heads to which some layers belong. Several layers can belong to one head.

    Raises:
        UnknownLayer: no layer has this name, or none is selected.
        AmbiguousLayer: several layers create different channels of an output.
        NoHead: a layer's output is not an output of the model.
    """
    if layer is None:
        return [head_of(flow, *of_the_output(flow))]
    paths = find_layers(flow.graph, layer, flow.trace.records)
    if not paths:
        raise UnknownLayer("layer= selects no layer, but a head needs one; give the layer of an output")
    heads = [head_of(flow, *of_layer(flow, path)) for path in paths]
    return list(distinct(heads, key=lambda head: frozenset(head.ids.tolist())))


def head_of(flow: Flow, name: str, meant: set[int]) -> Head:
    """The head whose classes have some final ids.

    Args:
        name: the path of the layer that names the head.
        meant: the final ids of the classes.

    Raises:
        AmbiguousLayer: several layers create different channels among them.
        NoHead: there are no such channels.
    """
    producers = [producer for producer in flow.producers.values() if ids_on(flow, producer.axis) & meant]
    if not producers:
        why = f": {name!r} {flow.opaque[name]}" if name in flow.opaque else ""
        raise NoHead(
            f"the output of {name!r} is not an output of the model with channels of a layer, so it has no classes "
            f"that can be replaced{why}; {_way_out(flow)}"
        )
    if len({frozenset(ids_on(flow, producer.axis) & meant) for producer in producers}) > 1:
        raise AmbiguousLayer(
            f"{', '.join(repr(producer.path) for producer in producers)} create channels of one output; "
            "give one of them as layer="
        )
    refuse_single_class(flow, name, meant)
    return Head(in_order(flow, producers[0], meant), tuple(dict.fromkeys(producer.path for producer in producers)))


def refuse_single_class(flow: Flow, name: str, meant: set[int]) -> None:
    """Raises NoHead if the last axis of an output is the only class, and another axis mixes positions and channels.

    An example is `Reshape((-1, 1))` in a detector with one class: there the channels are the anchors, not the classes.
    """
    for ref in flow.trace.outputs:
        *axes, last = flow.tensors.get(ref) or (None,)
        mixed = [axis for axis in axes if (ids := ids_on(flow, axis)) & meant and size(axis) != len(ids)]
        if size(last) == 1 and mixed:
            raise NoHead(
                f"the output of {ref.path!r} has the shape {tuple(map(size, [*axes, last]))} with one class, and the "
                f"channels of {name!r} are not classes; replace the layers that compute this output with ReplaceLayer"
            )


def _way_out(flow: Flow) -> str:
    """The layers that can be given as layer=, in words."""
    ends = set(concat(ids_on(flow, axis) for ref in flow.trace.outputs for axis in flow.tensors.get(ref) or ()))
    paths = list(dict.fromkeys(p.path for p in flow.producers.values() if ids_on(flow, p.axis) & ends))
    return f"give {' or '.join(map(repr, paths))} as layer=" if paths else "no layer creates channels of an output"


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
    channels, those of its output count.

    If the channels are on several axes, as anchors and classes are, the last axis counts.
    """
    created = [producer.axis for producer in flow.producers.values() if producer.path == path]
    tensors = {ref for ref in flow.tensors if ref.path == path}
    tensors |= {ref for call in flow.trace.models if call.path == path for ref in call.outputs}
    passed = [axis for ref in tensors for axis in flow.tensors.get(ref) or ()]
    ids = set(concat(ids_on(flow, axis) for axis in created or passed))
    ends = [ids_on(flow, axis) & ids for ref in flow.trace.outputs for axis in reversed(flow.tensors.get(ref) or ())]
    return path, next(filter(None, ends), set())


def ids_on(flow: Flow, axis: Axis) -> set[int]:
    """The final ids on an axis."""
    return {*flow.solution.resolve(axis).ravel().tolist()} - {FIXED} if has_ids(axis) else set()  # type: ignore[arg-type]


def in_order(flow: Flow, producer: Producer, ids: set[int]) -> np.ndarray:
    """Some final ids in the order of the channels of a layer."""
    by_channel = concat(unique(row).tolist() for row in flow.solution.resolve(producer.axis))  # type: ignore[arg-type]
    return np.array([final_id for final_id in dict.fromkeys(by_channel) if final_id in ids])
