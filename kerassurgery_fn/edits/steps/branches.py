"""Removes the branches that have no channels left.

When all channels of a layer are deleted, the calls that only read this layer are removed, too, up to the first merge
layer, which loses an operand:

    x -> a -> b -> add -> c        all channels of `a` are deleted:        x -> c
    x ------------> add            `a` and `b` are removed, and the sum of one term, too
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from toolz import keyfilter

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, Axis, has_ids, size
from kerassurgery_fn.edits.steps.axis_places import Sources, least_left
from kerassurgery_fn.edits.steps.compile_config import following_outputs
from kerassurgery_fn.edits.steps.cutting import copied, keeper
from kerassurgery_fn.errors import NothingLeft, SurgeryError
from kerassurgery_fn.graph import (
    Arguments,
    Call,
    ModelCall,
    Ref,
    Rewiring,
    graph_at,
    is_input,
    join_path,
    read_graph,
    refs,
    rewire,
)
from kerassurgery_fn.rules.joined_masks import spares_masks
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.values.snapshot import Snapshot, Training


@dataclass
class Removal:
    """What is removed when ids are deleted.

    - `dead`: boolean mask over the final ids, shape (ids + 1,);
    - `keep`: axis -> the positions that are kept;
    - `gone`: the tensors that no longer exist;
    - `lost`: call of a merge layer that stays -> the indices of the operands that it loses.
    """

    dead: np.ndarray
    keep: Sources
    gone: set[Ref] = field(default_factory=set)
    lost: dict[tuple[str, tuple[int, ...]], set[int]] = field(default_factory=dict)


def cut_branches(snapshot: Snapshot, flow: Flow, removal: Removal) -> Snapshot:
    """The snapshot without the dead ids and without the branches that have no other channels.

    Raises:
        NothingLeft: an output of the model, or a layer that is still needed, would be left without channels.
    """
    for ref in flow.trace.outputs:
        if ref in removal.gone:
            raise NothingLeft(
                f"the output of {ref.path!r}, which is an output of the model, would be left without channels; keep at "
                "least one channel of each layer on the way to it"
            )
    rewiring = rewiring_of(flow, removal)
    smaller = copied(snapshot, flow, removal.keep)
    record = rewire(smaller.record, rewiring)
    paths = flow.graph.places.keys() if record is smaller.record else read_graph(Snapshot(record, {})).places.keys()
    refuse_hollow(flow, removal.keep, paths)
    if record is smaller.record:
        return smaller
    weights = keyfilter(paths.__contains__, smaller.weights)
    return Snapshot(following_outputs(record, snapshot.record), weights, trained(smaller.training, paths))


def removed(flow: Flow, dead: np.ndarray) -> Removal:
    """What is removed with dead ids.

    It is computed in rounds, because a concatenation that loses an operand loses all channels of this operand, and
    their ids can leave further layers without channels. Each round adds dead ids or is the last one, so the rounds end.
    """
    while True:
        removal = Removal(dead.copy(), keeper(flow, dead))
        if least_left(flow, removal.keep):
            return removal
        empty = _Emptiness(flow, removal.keep)
        for call in flow.trace.calls:
            _follow(flow, call, removal, empty)
        if (removal.dead == dead).all():
            return removal
        dead = removal.dead


def _follow(flow: Flow, call: Call, removal: Removal, empty: _Emptiness) -> None:
    """Adds a call to a removal if the call is removed or loses some of its operands.

    Raises:
        NothingLeft: the call would lose operands that it needs, as a product, a difference or attention does.
    """
    read = refs([call.args, call.kwargs])
    missing = {ref for ref in read if ref in removal.gone or empty(ref)}
    outputs = empty.outputs[call.path, call.node]
    hollow = bool(outputs) and (all(map(empty, outputs)) or empty.sums_nothing(call.path))
    if missing and len(missing) < len(set(read)) and not hollow:
        if not _spares(flow, call, missing, removal):
            lost = ", ".join(sorted({repr(ref.path) for ref in missing}))
            raise NothingLeft(
                f"{call.path!r} ({call.record['class_name']}) combines the output of {lost} with other tensors, so it "
                "needs this output; keep at least one channel of each layer on the way to it"
            )
        removal.lost[call.path, call.node] = {i for i, ref in enumerate(operands(call)) if ref in missing}
    elif missing or hollow:
        removal.gone |= set(outputs)


def _spares(flow: Flow, call: Call, missing: Set[Ref], removal: Removal) -> bool:
    """Whether a call can do without some of its operands, as a sum or a concatenation along channels can.

    A concatenation loses the channels of these operands, so their ids are added to the dead ids.
    """
    merges = rule_for(call.record).merges
    if not merges or not missing <= set(operands(call)):
        return False
    if merges == "sums":
        return _spans(flow, call, set(refs(operands(call))) - missing)
    if not spares_masks(flow.trace, call, missing):
        return False
    lost = [(flow.tensors[ref] or ())[call.record["config"]["axis"]] for ref in missing]
    if not all(map(has_ids, lost)):
        return False
    for axis in lost:
        left = flow.solution.kept(axis, removal.dead)
        removal.dead[flow.solution.resolve(axis)[:, left]] = True
    removal.dead[FIXED] = False
    return not any(len(flow.solution.kept(axis, removal.dead)) for axis in lost)


def _spans(flow: Flow, call: Call, left: Set[Ref]) -> bool:
    """Whether one of the remaining terms of a sum has the shape of the sum. If none has, the shape of the sum would
    change."""
    total, *terms = ([size(axis) for axis in flow.tensors[ref] or ()] for ref in [Ref(call.path, call.node, 0), *left])
    return total in terms


def operands(call: Call | Arguments) -> list[Any]:
    """The operands of a merge layer or operation: the items of its first argument if that is a list, or its arguments.
    The first argument can have the name `inputs`."""
    first = call.args[0] if call.args else call.kwargs.get("inputs")
    return first if isinstance(first, list) else call.args


class _Emptiness:
    """Whether some axis of a tensor has no positions left. `outputs` has the outputs of every call."""

    def __init__(self, flow: Flow, keep: Sources) -> None:
        self.tensors, self.weights, self.keep = flow.tensors, flow.weights, keep
        self.outputs: dict[tuple[str, tuple[int, ...]], list[Ref]] = defaultdict(list)
        for ref in flow.tensors:
            self.outputs[ref.path, ref.node].append(ref)

    def __call__(self, ref: Ref) -> bool:
        return any(map(self.is_empty, self.tensors.get(ref) or ()))

    def sums_nothing(self, path: str) -> bool:
        """Whether a weight of a layer sums over an axis that has no positions left: attention without heads."""
        return any(self.is_empty(weight.axes[i]) for weight in self.weights.get(path, ()) for i in weight.summed or ())

    def is_empty(self, axis: Axis) -> bool:
        kept = self.keep(axis)
        return kept is not None and not len(kept)


def rewiring_of(flow: Flow, removal: Removal) -> Rewiring:
    """The rewiring that removes calls that are gone or no longer read, and merges of a single tensor."""
    if not removal.gone and not removal.lost:
        return Rewiring()
    used = _used(flow, removal)
    _refuse_broken_models(flow, removal, used)
    dropped = {(c.path, c.node) for c in flow.trace.calls if not is_input(c.record) and (c.path, c.node) not in used}
    dropped |= {
        (m.path, m.node) for m in flow.trace.models if not any((ref.path, ref.node) in used for ref in m.outputs)
    }
    shortened, replaced = {}, {}
    for call in flow.trace.calls:
        if (call.path, call.node) in dropped or (call.path, call.node) not in removal.lost:
            continue
        lost = removal.lost[call.path, call.node]
        left = [i for i in range(len(operands(call))) if i not in lost]
        if len(left) > 1:
            shortened[call.path, call.node[-1]] = lost
        else:
            replaced[(call.path, call.node[-1], 0)] = _port(flow, call, left[0])
            dropped.add((call.path, call.node))
    return Rewiring(_in_every_call(flow, dropped), shortened, replaced)


def _used(flow: Flow, removal: Removal) -> set[tuple[str, tuple[int, ...]]]:
    """The calls on which outputs of the model still depend. A nested model that is used needs all of its inputs and
    outputs."""
    ends = {(ref.path, ref.node) for ref in flow.trace.outputs}
    while True:
        used = _above(flow, removal, ends)
        more = {
            (ref.path, ref.node)
            for model in flow.trace.models
            if _is_used(model, used)
            for ref in model.inputs + model.outputs
        }
        if more <= used:
            return used
        ends |= more


def _is_used(model: ModelCall, used: Set[tuple[str, tuple[int, ...]]]) -> bool:
    return any((ref.path, ref.node) in used for ref in model.outputs)


def _refuse_broken_models(flow: Flow, removal: Removal, used: Set[tuple[str, tuple[int, ...]]]) -> None:
    """Raises NothingLeft if a nested model that stays would lose one of its inputs or outputs."""
    for model in flow.trace.models:
        if not _is_used(model, used):
            continue
        for kind, refs_of_kind in (("input", model.inputs), ("output", model.outputs)):
            if lost := [ref.path for ref in refs_of_kind if ref in removal.gone]:
                raise NothingLeft(
                    f"the {kind} {lost[0]!r} of nested model {model.path!r} would be left without channels, and the "
                    "model is still needed; keep at least one channel of each layer on the way to it"
                )


def _above(flow: Flow, removal: Removal, ends: set[tuple[str, tuple[int, ...]]]) -> set[tuple[str, tuple[int, ...]]]:
    """The calls on which some calls depend, including these calls."""
    used = set(ends)
    for call in reversed(flow.trace.calls):
        if (call.path, call.node) in used:
            lost = removal.lost.get((call.path, call.node), set())
            kept = [arg for i, arg in enumerate(operands(call)) if i not in lost] if lost else [call.args, call.kwargs]
            used |= {(ref.path, ref.node) for ref in refs(kept)}
    return used


def _port(flow: Flow, call: Call, index: int) -> tuple[str, int, int]:
    """An operand of a merge layer: the path of the layer that computes it, the number of its call, and the output."""
    scope, _, key = call.path.rpartition("/")
    port = operands(graph_at(flow.graph, scope).calls[key, call.node[-1]])[index].port
    return (join_path(scope, port.layer), port.call, port.output)


def _in_every_call(flow: Flow, dropped: set[tuple[str, tuple[int, ...]]]) -> set[tuple[str, int]]:
    """The dropped calls with the numbers that they have in the record.

    Raises:
        SurgeryError: a layer of a nested model would be removed in one call of the model, and stay in another.
    """
    every = [(c.path, c.node) for c in flow.trace.calls] + [(m.path, m.node) for m in flow.trace.models]
    every = [(path, node) for path, node in every if not dropped & set(_around(path, node))]
    names = {(path, node[-1]) for path, node in every if (path, node) in dropped}
    for path, node in every:
        if (path, node[-1]) in names and (path, node) not in dropped:
            raise SurgeryError(
                f"{path!r} would be removed in one call of its nested model and stay in another; give each call a "
                "model of its own"
            )
    return names


def _around(path: str, node: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The calls of the nested models around a call.

    >>> _around("a/b/conv", (0, 1, 2))
    [('a/b', (0, 1)), ('a', (0,))]
    """
    return [(path.rsplit("/", up)[0], node[:-up]) for up in range(1, len(node))]


def refuse_hollow(flow: Flow, keep: Sources, paths: Set[str]) -> None:
    """Raises NothingLeft if a layer that stays would be left without channels of some kind."""
    for producer in flow.producers.values():
        kept = keep(producer.axis)
        if kept is not None and not len(kept) and producer.path in paths and size(producer.axis):
            raise NothingLeft(
                f"layer {producer.path!r} would be left without its {size(producer.axis)} channels ({producer.kind}), "
                "and the layer is still needed; keep at least one channel"
            )


def trained(training: Training | None, paths: Set[str]) -> Training | None:
    """The optimizer's state without the slots of removed layers."""
    if training is None:
        return None
    left = [i for i, owner in enumerate(training.slots) if owner is None or owner[0] in paths]
    return Training(tuple(training.slots[i] for i in left), tuple(training.values[i] for i in left))
