"""Deleting channels to the last one: branches that carry nothing any more go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import FIXED, has_ids, size
from kerassurgery_fn.edits.steps.compile_config import following_outputs
from kerassurgery_fn.edits.steps.cutting import cut, keeper
from kerassurgery_fn.edits.steps.joined_masks import spares_masks
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
from kerassurgery_fn.rules.registry import key_of
from kerassurgery_fn.values.snapshot import Snapshot, Training

JOINS = {"Concatenate", "ops.Concatenate"}
SUMS = {"Add", "ops.Add"}


@dataclass
class Removal:
    """What goes when ids die: calls that make nothing any more, and the inputs that merges lose."""

    dead: np.ndarray
    gone: set[Ref] = field(default_factory=set)
    lost: dict[tuple[str, tuple[int, ...]], set[int]] = field(default_factory=dict)


def cut_branches(snapshot: Snapshot, flow: Flow, removal: Removal) -> Snapshot:
    """The snapshot without the channels of dead ids and the branches that carried nothing else.

    Raises:
        NothingLeft: an output of the model, or the inside of a layer, would be left without channels.
    """
    for ref in flow.trace.outputs:
        if ref in removal.gone:
            raise NothingLeft(
                f"nothing would be left of the output that {ref.path!r} makes: every channel on a way to it would go; "
                "keep at least one channel of each layer on that way"
            )
    rewiring = rewiring_of(flow, removal)
    smaller = cut(snapshot, flow, removal.dead)
    record = rewire(smaller.record, rewiring)
    paths = flow.graph.places.keys() if record is smaller.record else read_graph(Snapshot(record, {})).places.keys()
    refuse_hollow(flow, removal.dead, paths)
    if record is smaller.record:
        return smaller
    weights = {path: arrays for path, arrays in smaller.weights.items() if path in paths}
    return Snapshot(following_outputs(record, snapshot.record), weights, trained(smaller.training, paths))


def removed(flow: Flow, dead: np.ndarray) -> Removal:
    """What goes with dead ids, in rounds: a join that loses an input loses that input's channels."""
    while True:
        removal = Removal(dead.copy())
        empty = _Emptiness(flow, removal.dead)
        for call in flow.trace.calls:
            _follow(flow, call, removal, empty)
        if (removal.dead == dead).all():
            return removal
        dead = removal.dead


def _follow(flow: Flow, call: Call, removal: Removal, empty: _Emptiness) -> None:
    """Whether a call goes, or loses some of its inputs.

    Raises:
        NothingLeft: it would lose some and cannot do without: a product, a difference, attention.
    """
    read = refs([call.args, call.kwargs])
    missing = {ref for ref in read if ref in removal.gone or empty(ref)}
    made = empty.made[call.path, call.node]
    hollow = bool(made) and all(map(empty, made))
    if missing and len(missing) < len(set(read)) and not hollow:
        if not _spares(flow, call, missing, removal):
            lost = ", ".join(sorted({repr(ref.path) for ref in missing}))
            raise NothingLeft(
                f"{call.path!r} ({call.record['class_name']}) combines what {lost} makes with other tensors and "
                "cannot do without it; keep at least one channel of each layer on the way to it"
            )
        removal.lost[call.path, call.node] = {i for i, ref in enumerate(operands(call)) if ref in missing}
    elif missing or hollow:
        removal.gone |= set(made)


def _spares(flow: Flow, call: Call, missing: Set[Ref], removal: Removal) -> bool:
    """Whether a call goes on without some of its inputs: a sum, or a join along channels, which then lose theirs."""
    key = key_of(call.record)
    if not missing <= set(operands(call)) or key not in JOINS | SUMS:
        return False
    if key in SUMS:
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
    """Whether one of the terms that are left has the shape of the sum: none was broadcast against a lost one."""
    made, *terms = ([size(axis) for axis in flow.tensors[ref] or ()] for ref in [Ref(call.path, call.node, 0), *left])
    return made in terms


def operands(call: Call | Arguments) -> list[Any]:
    """What a merge merges: the items of its first argument, which may go by its name, or its arguments."""
    first = call.args[0] if call.args else call.kwargs.get("inputs")
    return first if isinstance(first, list) else call.args


class _Emptiness:
    """Whether some axis of a tensor has lost its last position; each map is looked at once. `made` has every call's
    outputs."""

    def __init__(self, flow: Flow, dead: np.ndarray) -> None:
        self.tensors, self.keep = flow.tensors, keeper(flow, dead.copy())
        self.made: dict[tuple[str, tuple[int, ...]], list[Ref]] = defaultdict(list)
        for ref in flow.tensors:
            self.made[ref.path, ref.node].append(ref)

    def __call__(self, ref: Ref) -> bool:
        return any((kept := self.keep(axis)) is not None and not len(kept) for axis in self.tensors.get(ref) or ())


def rewiring_of(flow: Flow, removal: Removal) -> Rewiring:
    """The rewiring that takes out what is gone, merges of a single tensor, and what nothing reads any more."""
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
    """The calls that outputs of the model still depend on. A nested model that is used needs all of its inputs and
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
    """Raises NothingLeft where a nested model that stays would lose one of its inputs or outputs."""
    for model in flow.trace.models:
        if not _is_used(model, used):
            continue
        for kind, refs_of_kind in (("input", model.inputs), ("output", model.outputs)):
            if lost := [ref.path for ref in refs_of_kind if ref in removal.gone]:
                raise NothingLeft(
                    f"nothing would be left of the {kind} of nested model {model.path!r} that {lost[0]!r} makes, and "
                    "the model is still needed; keep at least one channel of each layer on the way to it"
                )


def _above(flow: Flow, removal: Removal, ends: set[tuple[str, tuple[int, ...]]]) -> set[tuple[str, tuple[int, ...]]]:
    """The calls that some calls depend on, themselves among them."""
    used = set(ends)
    for call in reversed(flow.trace.calls):
        if (call.path, call.node) in used:
            lost = removal.lost.get((call.path, call.node), set())
            kept = [arg for i, arg in enumerate(operands(call)) if i not in lost] if lost else [call.args, call.kwargs]
            used |= {(ref.path, ref.node) for ref in refs(kept)}
    return used


def _port(flow: Flow, call: Call, index: int) -> tuple[str, int, int]:
    """An operand of a merge: the path of the layer that makes it, at which of its calls, and which of its outputs."""
    scope, _, key = call.path.rpartition("/")
    port = operands(graph_at(flow.graph, scope).calls[key, call.node[-1]])[index].port
    return (join_path(scope, port.layer), port.call, port.output)


def _in_every_call(flow: Flow, dropped: set[tuple[str, tuple[int, ...]]]) -> set[tuple[str, int]]:
    """Calls that go, as their records count them. Inside a nested model they must go in every call of it that stays."""
    every = [(c.path, c.node) for c in flow.trace.calls] + [(m.path, m.node) for m in flow.trace.models]
    every = [(path, node) for path, node in every if not dropped & set(_around(path, node))]
    names = {(path, node[-1]) for path, node in every if (path, node) in dropped}
    for path, node in every:
        if (path, node[-1]) in names and (path, node) not in dropped:
            raise SurgeryError(
                f"{path!r} would go in one call of its model and stay in another; give each call a model of its own"
            )
    return names


def _around(path: str, node: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The calls of nested models that a call is part of.

    >>> _around("a/b/conv", (0, 1, 2))
    [('a/b', (0, 1)), ('a', (0,))]
    """
    return [(path.rsplit("/", up)[0], node[:-up]) for up in range(1, len(node))]


def refuse_hollow(flow: Flow, dead: np.ndarray, paths: Set[str]) -> None:
    """Raises NothingLeft where a layer that stays would be left without any channel of some kind."""
    for producer in flow.producers.values():
        if producer.path in paths and size(producer.axis) and not len(flow.solution.kept(producer.axis, dead)):  # type: ignore[arg-type]
            raise NothingLeft(
                f"layer {producer.path!r} would be left without any of its {size(producer.axis)} channels "
                f"({producer.kind}), and it is needed; keep at least one of them"
            )


def trained(training: Training | None, paths: Set[str]) -> Training | None:
    """The optimizer's state less the slots of layers that are gone."""
    if training is None:
        return None
    left = [i for i, owner in enumerate(training.slots) if owner is None or owner[0] in paths]
    return Training(tuple(training.slots[i] for i in left), tuple(training.values[i] for i in left))
