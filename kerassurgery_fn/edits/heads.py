"""Other classes for the last layer of a model."""

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
from kerassurgery_fn.edits.steps.channel_deletion import Allowed, refuse_pinned
from kerassurgery_fn.edits.steps.channel_sources import grower
from kerassurgery_fn.edits.steps.cutting import Sources, recounted
from kerassurgery_fn.edits.steps.head_channels import Head, found_head
from kerassurgery_fn.edits.steps.indices import as_seed, is_index
from kerassurgery_fn.edits.steps.initial_weights import drawn
from kerassurgery_fn.errors import BadValue, ChannelOutOfRange, NoHead
from kerassurgery_fn.graph import Selector, as_selector
from kerassurgery_fn.rules.constrained import close, projected, undone
from kerassurgery_fn.rules.layer import Weight
from kerassurgery_fn.values.frozen import FrozenDict, freeze, get_in, set_all
from kerassurgery_fn.values.snapshot import Snapshot, Training, Weights

COUNTS = ("num_classes", "num_labels")  # what metrics count
JUDGES = ("loss", "metrics", "weighted_metrics")


@edit
@dataclass(frozen=True)
class ReplaceHead(Edit):
    """Other classes for the layer that makes a model's output, a Dense or Conv layer mostly. Old classes keep their
    weights where they are named, those of new ones are drawn.

    Whatever stands after that layer stays and counts the classes anew: an activation, a softmax, a reshape, pooling.
    The layer keeps its name, its activation and the rest of its config; `SetConfig` gives it another activation, and
    `SetTrainable` freezes what is below. Its optimizer state goes, that of all others stays. What the model was
    compiled with stays, too; metrics of a model with one output that count its classes count them anew.

    Args:
        units: how many classes there will be.
        keep: number of a new class -> that of the old class whose weights it gets; or the old classes that the first
            of the new ones are. None by default.
        layer: the layer, or one after it, if the model has several outputs; see `graph.selectors`.
        seed: of the weights of new classes, which are drawn as the layer's initializers say.

    Raises (when called on a snapshot):
        UnknownLayer: no layer of that name.
        AmbiguousLayer: several layers make outputs, and none is named; or several are of that name.
        ChannelOutOfRange: there are no such classes.
        NoHead: what the layer makes is read by other layers, or is no output.
        PinnedChannels: the number of classes cannot change, and why.
        BadValue: the layer draws its weights in a way that is not known here, or a constraint would change the weights
            of old classes at the next training step.

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
            raise BadValue(f"a head has a number of classes, not {self.units!r}")
        object.__setattr__(self, "units", int(self.units))
        object.__setattr__(self, "keep", as_kept(self.keep, self.units))
        object.__setattr__(self, "seed", as_seed(self.seed))
        if self.layer is not None:
            object.__setattr__(self, "layer", as_selector(self.layer))

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        flow = analyse(snapshot)
        head = found_head(flow, self.layer)
        kept = {new: checked(old, head) for new, old in self.keep.items()}
        refuse_readers(flow, head)
        wider = grower(flow, head.copies(flow, self.units))
        refuse_misplaced(flow, wider, "replaced")
        record = set_all(snapshot.record, recounted(snapshot, flow, wider))
        refuse_confused(flow, Snapshot(record, {}), head)
        weights = self.weights(snapshot, flow, lambda axis: head.sources(flow, axis, self.units, kept))
        changed = {path for path in weights if weights[path] is not snapshot.weights[path]}
        if len(set(flow.trace.outputs)) == 1:
            record = recompiled(record, len(head.ids), self.units)
        return Snapshot(record, weights, without(snapshot.training, changed))

    def weights(self, snapshot: Snapshot, flow: Flow, sources: Sources) -> Weights:
        """The weights with those of old classes in new places, and with new ones."""
        rng, made = np.random.default_rng(self.seed), dict(snapshot.weights)
        for path in (path for path in flow.weights if made.get(path)):
            record = get_in(snapshot.record, flow.graph.places[path])
            made[path] = renewed(path, record, made[path], flow.weights[path], sources, rng)
            for old, new, weight in zip(snapshot.weights[path], made[path], flow.weights[path], strict=True):
                refuse_undone(path, weight, old, new, sources)
        return made


def as_kept(keep: Any, units: int) -> FrozenDict:
    """New class -> old class.

    Raises:
        ChannelOutOfRange: a new class is none, or they are no numbers.

    >>> as_kept([3, -1], 2), as_kept(None, 2)
    ({0: 3, 1: -1}, {})
    """
    listed = [] if keep is None else items_of(keep)
    pairs = keep if isinstance(keep, Mapping) else dict(enumerate([None] if listed is None else listed))
    if not all(map(is_index, [*pairs, *pairs.values()])):
        raise ChannelOutOfRange(f"keep= takes numbers of new classes and of old ones, {{0: 3}} or [3], not {keep!r}")
    if odd := [new for new in pairs if not 0 <= new < units]:
        raise ChannelOutOfRange(f"there will be {units} classes (0 to {units - 1}), so none has the number {odd[0]}")
    made: dict[Any, int] = {int(new): int(pairs[new]) for new in sorted(pairs)}
    return FrozenDict(made)


def checked(old: int, head: Head) -> int:
    """The number of an old class, from 0.

    Raises:
        ChannelOutOfRange: there is no such class.
    """
    n = len(head.ids)
    if not -n <= old < n:
        raise ChannelOutOfRange(f"{head.title} makes {n} classes (0 to {n - 1}), so none with the number {old} to keep")
    return old % n


# --- whether they can be replaced


def refuse_readers(flow: Flow, head: Head) -> None:
    """Raises PinnedChannels where classes are held by more than an output, and NoHead where layers read them."""
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
                f"layer {path!r} reads what {head.title} makes, which is no head then; name the last layer before the "
                "output, or insert a new one there"
            )
    for path, axis in flow.narrow:
        if touched([axis]):
            raise NoHead(
                f"layer {path!r} broadcasts the only class that {head.title} makes, which it could not do with another "
                "number of classes; take that layer out first"
            )
    for place, axes in flow.constants.items():
        if touched(axes):
            raise NoHead(
                f"the config has an array with a number for each class that {head.title} makes, at "
                f"{'.'.join(map(str, place))}; take the layer or operation that it belongs to out first"
            )


def reads(weight: Weight, touched: list[int], own: bool) -> bool:
    """Whether a weight is multiplied with classes, or may be.

    Args:
        weight: the weight.
        touched: the numbers of its axes along which there are classes.
        own: whether it is one of the layer that makes the classes.
    """
    if weight.summed is None:
        return bool(touched) and len(weight.axes) > 1 and not (own and len(touched) == 1)
    return bool({*touched} & {*weight.summed})


def refuse_confused(flow: Flow, after: Snapshot, head: Head) -> None:
    """Raises NoHead where a layer cannot go on with another number of classes."""
    odd = {path: why for path, why in analyse(after).opaque.items() if path not in flow.opaque}
    for path, why in odd.items():
        raise NoHead(f"layer {path!r} could not go on with other classes from {head.title}: it {why}")


# --- what becomes of weights and of what a model was compiled with


def renewed(
    path: str,
    record: Any,
    arrays: tuple[np.ndarray, ...],
    weights: list[Weight],
    sources: Sources,
    rng: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """The weights of a layer with those of classes that are kept in their new places and others drawn; the very tuple
    if it has no classes."""
    made = []
    for array, weight in zip(arrays, weights, strict=True):
        for number, axis in enumerate(weight.axes):
            if (found := sources(axis)) is not None:
                array = _renewed(path, record, array, weight.name, number, found, rng)
        made.append(array)
    return arrays if all(new is old for new, old in zip(made, arrays, strict=True)) else tuple(made)


def _renewed(
    path: str, record: Any, array: np.ndarray, name: str, axis: int, found: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    kept = np.take(array, np.maximum(found, 0), axis=axis)
    if (found >= 0).all():
        return kept
    new = (found < 0).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    return np.where(new, drawn(path, record, name, kept.shape, rng), kept).astype(array.dtype)


def refuse_undone(path: str, weight: Weight, old: np.ndarray, new: np.ndarray, sources: Sources) -> None:
    """Raises BadValue where a constraint would change the weights of classes that are kept at the next training step:
    one of norms along the classes.

    Args:
        path: that of the layer.
        weight: the weight, of which `old` is the array before and `new` the one after.
        sources: where the positions of axes come from, -1 for those of new classes.
    """
    found = [sources(axis) for axis in weight.axes]
    if weight.constraint is None or new is old or all(one is None or (one < 0).all() for one in found):
        return
    every = [np.arange(n) for n in new.shape]
    taken = np.ix_(*(all_ if one is None else np.flatnonzero(one >= 0) for all_, one in zip(every, found, strict=True)))
    origin = np.ix_(*(all_ if one is None else one[one >= 0] for all_, one in zip(every, found, strict=True)))
    before, after = projected(weight.constraint, old), projected(weight.constraint, new)
    if before is None or after is None or not (close(after[taken], new[taken]) or close(after[taken], before[origin])):
        raise BadValue("classes cannot be kept: " + undone(path, weight.name, weight.constraint))


def without(training: Training | None, paths: set[str]) -> Training | None:
    """The state of the optimizer less that of some layers."""
    if training is None:
        return None
    kept = [
        (owner, value)
        for owner, value in zip(training.slots, training.values, strict=True)
        if owner is None or owner[0] not in paths
    ]
    return Training(tuple(owner for owner, _ in kept), tuple(value for _, value in kept))


def recompiled(record: Any, old: int, new: int) -> Any:
    """The record of a compiled model in which what counts so many classes counts others."""
    compiled = record.get("compile_config") or {}
    made = {**compiled, **{field: _recounted(compiled[field], old, new) for field in JUDGES if field in compiled}}
    return record if made == compiled else freeze({**record, "compile_config": made})


def _recounted(tree: Any, old: int, new: int) -> Any:
    if isinstance(tree, list):
        return [_recounted(item, old, new) for item in tree]
    if isinstance(tree, dict):
        return {key: new if key in COUNTS and item == old else _recounted(item, old, new) for key, item in tree.items()}
    return tree
