"""The edit that replaces the classes of an output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import items_of
from kerassurgery_fn.channels import Axis
from kerassurgery_fn.edits.base import Edit, edit
from kerassurgery_fn.edits.steps.additions import refuse_misplaced
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.edits.steps.channel_deletion import Allowed, refuse_pinned
from kerassurgery_fn.edits.steps.channel_sources import grower
from kerassurgery_fn.edits.steps.cutting import recounted
from kerassurgery_fn.edits.steps.head_channels import Head, found_heads
from kerassurgery_fn.edits.steps.indices import as_seed, is_index
from kerassurgery_fn.edits.steps.initial_weights import drawn
from kerassurgery_fn.errors import BadValue, ChannelOutOfRange, NoHead
from kerassurgery_fn.graph import Selector, as_selector
from kerassurgery_fn.rules.constrained import close, projected, undone
from kerassurgery_fn.rules.layer import Weight
from kerassurgery_fn.values.frozen import FrozenDict, freeze, get_in, set_all
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights

COUNTS = ("num_classes", "num_labels")  # fields of metrics that count classes
JUDGES = ("loss", "metrics", "weighted_metrics")


@edit
@dataclass(frozen=True)
class ReplaceHead(Edit):
    """Replaces the classes of an output of a model. Classes that are kept have their old weights, and the weights of
    new classes are drawn.

    In a detector, convolutions compute a number for each anchor and class (SSD: `Reshape((-1, classes))`, YOLO:
    `Reshape((h, w, anchors, 5 + classes))`). Then the classes are the last axis of the output. Boxes and objectness on
    that axis count as classes and can be kept.

    The classes are the units or filters of the last layer with weights, mostly a Dense or Conv layer. Layers after it
    (an activation, a softmax, a reshape, pooling) stay and get the new number of classes. The layer keeps its name, its
    activation and the rest of its config. Its optimizer state is dropped. The model stays compiled; metrics that count
    the classes of a model with one output get the new number.

    Args:
        units: the new number of classes.
        keep: new class -> the old class whose weights it gets; or a list of old classes, for the first new classes. By
            default no class is kept.
        layer: the layer, or a layer after it, if the model has several outputs; see `graph.selectors`. The classes of a
            detector can be the filters of several convolutions: give any of them, several, or the layer of the output.
            If the layers belong to several heads, each head gets this number of classes.
        seed: the seed for the weights of new classes, which are drawn by the layer's initializers.

    Raises (when called on a snapshot):
        UnknownLayer: no layer has this name.
        AmbiguousLayer: the model has several outputs, and `layer` is None; or several layers that are not tied create
            the classes.
        ChannelOutOfRange: a class does not exist.
        NoHead: other layers read the channels of the layer, or the channels are not an output.
        PinnedChannels: the number of classes cannot change; the message says why.
        BadValue: the initializer of the layer is unknown, or a constraint would change the weights of old classes at
            the next training step.

    >>> ReplaceHead(7, keep={0: 3, 1: 5})
    ReplaceHead(units=7, keep={0: 3, 1: 5}, layer=None, seed=0)
    >>> ReplaceHead(7, keep=[3, 5]) == ReplaceHead(7, keep={0: 3, 1: 5})
    True
    """

    units: int
    keep: Mapping[Any, int] = FrozenDict()
    layer: Selector | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not is_index(self.units) or self.units < 1:
            raise BadValue(f"units= is the number of classes, an integer from 1 on, not {self.units!r}")
        object.__setattr__(self, "units", int(self.units))
        object.__setattr__(self, "keep", as_kept(self.keep, self.units))
        object.__setattr__(self, "seed", as_seed(self.seed))
        if self.layer is not None:
            object.__setattr__(self, "layer", as_selector(self.layer))

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        rng = np.random.default_rng(self.seed)
        for number in range(len(found_heads(analyse(snapshot), self.layer))):
            snapshot = self.replaced(snapshot, number, rng)
        return snapshot

    def replaced(self, snapshot: Snapshot, number: int, rng: np.random.Generator) -> Snapshot:
        """The snapshot with new classes in one of the selected heads."""
        flow = analyse(snapshot)
        head = found_heads(flow, self.layer)[number]
        kept = {new: checked(old, head) for new, old in self.keep.items()}
        refuse_readers(flow, head)
        wider = grower(flow, head.copies(flow, self.units))
        refuse_misplaced(flow, wider, "replaced")
        record = set_all(snapshot.record, recounted(snapshot, flow, wider))
        refuse_confused(flow, Snapshot(record, {}), head)
        weights = self.weights(snapshot, flow, lambda axis: head.sources(flow, axis, self.units, kept), rng)
        changed = {path for path in weights if weights[path] is not snapshot.weights[path]}
        if len(set(flow.trace.outputs)) == 1:
            record = recompiled(record, len(head.ids), self.units)
        return Snapshot(record, weights, without(snapshot.training, changed))

    def weights(self, snapshot: Snapshot, flow: Flow, sources: Sources, rng: np.random.Generator) -> Weights:
        """The weights with kept classes in their new places, and with drawn values for new classes."""
        weights = dict(snapshot.weights)
        for path in (path for path in flow.weights if weights.get(path)):
            record = get_in(snapshot.record, flow.graph.places[path])
            weights[path] = renewed(path, record, weights[path], flow.weights[path], sources, rng)
            for old, new, weight in zip(snapshot.weights[path], weights[path], flow.weights[path], strict=True):
                refuse_undone(path, weight, old, new, sources)
        return weights


def as_kept(keep: Any, units: int) -> FrozenDict:
    """New class -> old class.

    Raises:
        ChannelOutOfRange: a new class does not exist, or a class is not a number.

    >>> as_kept([3, -1], 2), as_kept(None, 2)
    ({0: 3, 1: -1}, {})
    """
    listed = [] if keep is None else items_of(keep)
    pairs = keep if isinstance(keep, Mapping) else dict(enumerate([None] if listed is None else listed))
    if not all(map(is_index, [*pairs, *pairs.values()])):
        raise ChannelOutOfRange(f"keep= takes numbers of new and of old classes, as {{0: 3}} or [3], not {keep!r}")
    if missing := [new for new in pairs if not 0 <= new < units]:
        raise ChannelOutOfRange(f"there will be {units} classes (0 to {units - 1}), so there is no class {missing[0]}")
    old_classes: dict[Any, int] = {int(new): int(pairs[new]) for new in sorted(pairs)}
    return FrozenDict(old_classes)


def checked(old: int, head: Head) -> int:
    """The number of an old class, from 0.

    Raises:
        ChannelOutOfRange: the class does not exist.
    """
    n = len(head.ids)
    if not -n <= old < n:
        raise ChannelOutOfRange(f"{head.title} has {n} classes (0 to {n - 1}), so there is no class {old} to keep")
    return old % n


# --- whether classes can be replaced


def refuse_readers(flow: Flow, head: Head) -> None:
    """Raises PinnedChannels if classes are pinned by more than an output, and NoHead if layers read them."""
    mask = head.mask(flow)
    refuse_pinned(flow, mask, Allowed(output=True), "replaced")

    def touched(axes: Iterable[Axis]) -> list[int]:
        return [
            number
            for number, axis in enumerate(axes)
            if isinstance(axis, np.ndarray) and mask[flow.solution.resolve(axis)].any()
        ]

    for path, weights in flow.weights.items():
        if any(reads(weight, touched(weight.axes), path in head.paths) for weight in weights):
            raise NoHead(
                f"layer {path!r} reads the output of {head.title}, so {head.title} is not a head; give the last layer "
                "before the output as layer=, or insert a new layer there"
            )
    for path, axis in flow.narrow:
        if touched([axis]):
            raise NoHead(
                f"layer {path!r} broadcasts the only class of {head.title}, which is not possible with another number "
                "of classes; delete that layer first"
            )
    for place, axes in flow.constants.items():
        if touched(axes):
            raise NoHead(
                f"the config has an array with a number for each class of {head.title}, at "
                f"{'.'.join(map(str, place))}; delete the layer or operation of this array first"
            )


def reads(weight: Weight, touched: list[int], is_producer: bool) -> bool:
    """Whether a layer sums over classes with a weight, or might do so.

    Args:
        weight: the weight.
        touched: the numbers of its axes along which there are classes.
        is_producer: whether it is a weight of a layer that creates the classes.
    """
    if weight.summed is None:
        return bool(touched) and len(weight.axes) > 1 and not (is_producer and len(touched) == 1)
    return bool({*touched} & {*weight.summed})


def refuse_confused(flow: Flow, after: Snapshot, head: Head) -> None:
    """Raises NoHead if a layer cannot read another number of classes."""
    for path, why in analyse(after).opaque.items():
        if path not in flow.opaque:
            raise NoHead(f"layer {path!r} cannot read another number of classes of {head.title}: it {why}")


# --- the weights and the compile config


def renewed(
    path: str,
    record: Any,
    arrays: tuple[np.ndarray, ...],
    weights: list[Weight],
    sources: Sources,
    rng: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """The weights of a layer with kept classes in their new places and drawn values for new classes; the same tuple if
    the layer has no classes."""
    new_arrays = []
    for array, weight in zip(arrays, weights, strict=True):
        for number, axis in enumerate(weight.axes):
            if (positions := sources(axis)) is not None:
                array = _renewed(path, record, array, weight.name, number, positions, rng)
        new_arrays.append(array)
    return arrays if all(new is old for new, old in zip(new_arrays, arrays, strict=True)) else tuple(new_arrays)


def _renewed(
    path: str, record: Any, array: np.ndarray, name: str, axis: int, positions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A weight along one axis of classes: `positions` has the old position of each new one, -1 for a new class."""
    kept = np.take(array, np.maximum(positions, 0), axis=axis)
    if (positions >= 0).all():
        return kept
    new = (positions < 0).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    return np.where(new, drawn(path, record, name, kept.shape, rng), kept).astype(array.dtype)


def refuse_undone(path: str, weight: Weight, old: np.ndarray, new: np.ndarray, sources: Sources) -> None:
    """Raises BadValue if a constraint would change the weights of kept classes at the next training step, as a
    constraint of norms along the classes does.

    Args:
        path: the path of the layer.
        weight: the weight; `old` and `new` are its arrays before and after the edit.
        sources: axis -> the old position of each new position, -1 for a new class.
    """
    by_axis = [sources(axis) for axis in weight.axes]
    if weight.constraint is None or new is old or all(axis is None or (axis < 0).all() for axis in by_axis):
        return
    pairs = [*zip(map(np.arange, new.shape), by_axis, strict=True)]
    kept = np.ix_(*(every if axis is None else np.flatnonzero(axis >= 0) for every, axis in pairs))
    origin = np.ix_(*(every if axis is None else axis[axis >= 0] for every, axis in pairs))
    before, after = projected(weight.constraint, old), projected(weight.constraint, new)
    if before is None or after is None or not (close(after[kept], new[kept]) or close(after[kept], before[origin])):
        raise BadValue("classes cannot be kept: " + undone(path, weight.name, weight.constraint))


def without(training: Training | None, paths: set[str]) -> Training | None:
    """The state of the optimizer without that of some layers."""
    if training is None:
        return None
    kept = [
        (owner, value)
        for owner, value in zip(training.slots, training.values, strict=True)
        if owner is None or owner[0] not in paths
    ]
    return Training(tuple(owner for owner, _ in kept), tuple(value for _, value in kept))


def recompiled(record: Any, old: int, new: int) -> Any:
    """The record of a compiled model in which losses and metrics count another number of classes."""
    compiled = record.get("compile_config") or {}
    changed = {**compiled, **{field: _recounted(compiled[field], old, new) for field in JUDGES if field in compiled}}
    return record if changed == compiled else freeze({**record, "compile_config": changed})


def _recounted(tree: Any, old: int, new: int) -> Any:
    if isinstance(tree, list):
        return [_recounted(item, old, new) for item in tree]
    if isinstance(tree, dict):
        return {key: new if key in COUNTS and item == old else _recounted(item, old, new) for key, item in tree.items()}
    return tree
