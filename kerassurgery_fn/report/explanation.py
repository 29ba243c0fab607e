"""`explain`: returns what an edit would do to a model and why, as data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from toolz import concat, unique

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.analysis.layer_costs import Cost, cost
from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.channels import FIXED, size
from kerassurgery_fn.differences import Diff, diff
from kerassurgery_fn.documents.plan_algebra import deletions_of
from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.deletion import ChannelEdit, flow_for
from kerassurgery_fn.edits.plan import AtOnce, Plan, as_edit
from kerassurgery_fn.edits.steps.axis_places import Sources
from kerassurgery_fn.edits.steps.branches import removed
from kerassurgery_fn.edits.steps.inexact_cuts import inexact_layers, only_tried
from kerassurgery_fn.graph import MEASURED
from kerassurgery_fn.report.explanation_tables import cost_table, cut_table, difference_tables, loss_table
from kerassurgery_fn.report.reason_chains import Chains, Link, producers_of_ids
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.rules.measured import measured_words
from kerassurgery_fn.values.frozen import get_in
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table, to_text

SELECTED, BRANCH = "selected by the edit", "their whole branch is removed"

Producers = Mapping[int, tuple[str, int]]  # id -> address of the channels, index of the channel


@dataclass(frozen=True)
class Cause:
    """Channels of a layer that are deleted for the same reason.

    `chain` leads from the first of them back to a channel that the edit selects. It is empty if the edit selects the
    channels themselves, and if a whole branch is removed.
    """

    channels: tuple[int, ...]
    reason: str
    chain: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Loss:
    """The channels of one kind that a layer loses, out of `total`, and the causes."""

    path: str
    class_name: str
    kind: str
    channels: tuple[int, ...]
    total: int
    causes: tuple[Cause, ...]


@dataclass(frozen=True)
class Cut:
    """The positions that one axis of a weight loses, out of `total`, and the producers of the channels there.

    `slot` is the index of the weight in `layer.get_weights()`.
    """

    path: str
    weight: str
    slot: int
    axis: int
    positions: tuple[int, ...]
    total: int
    producers: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What an edit would do to a model.

    - `losses`, `cuts`: the channels that layers lose, and the positions that axes of weights lose;
    - `difference`: all other changes of layers and config, and new values of weights;
    - `before`, `after`: the cost of the model;
    - `warnings`: the layers after which the remaining channels are not computed as before;
    - `measured`: the layers that are cut by measurements on them, not by the rules of their classes;
    - `steps`: one explanation for each edit of a plan, each on the result of the edit before it.
    """

    edit: Edit = field(repr=False)
    losses: tuple[Loss, ...]
    cuts: tuple[Cut, ...]
    difference: Diff
    before: Cost
    after: Cost
    warnings: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    steps: tuple[Explanation, ...] = ()

    def tables(self) -> list[Table]:
        """The tables of the explanation: channels with their reasons, weights, layers, cost."""
        if self.steps:
            step_tables = [table for step in self.steps for table in step.tables()[:-1]]  # the last is its cost
            return [*step_tables, cost_table(self)]
        cuts = [table for table in (loss_table(self.losses), cut_table(self.cuts)) if table.rows]
        return [*cuts, *difference_tables(self), cost_table(self)]

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(*(part for table in self.tables() for part in (table, "")))

    def __str__(self) -> str:
        return to_text(self)

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())


@takes(edit=as_edit, snapshot=as_snapshot)
@only_tried()
def explain(edit: Edit, snapshot: Snapshot) -> Explanation:
    """What an edit would do to a snapshot, and why. The snapshot is not changed.

    Raises:
        SurgeryError: the edit itself would raise this error.
    """
    return _explained(edit, snapshot)[0]


def _explained(edit: Edit, snapshot: Snapshot) -> tuple[Explanation, Snapshot]:
    """The explanation of an edit, and its result."""
    if isinstance(edit, MadeFor):
        return _explained(edit.plan, edit.checked(snapshot))  # raises OtherModel
    if isinstance(edit, Plan):
        return _explain_plan(edit, snapshot)
    return _explain_edit(edit, snapshot)


def _explain_plan(plan: Plan, snapshot: Snapshot) -> tuple[Explanation, Snapshot]:
    """The explanation of a plan, with an explanation of each edit."""
    steps: list[Explanation] = []
    state = snapshot
    for edit in plan.edits:
        explanation, state = _explained(edit, state)
        steps.append(explanation)
    explanation = Explanation(
        plan,
        losses=tuple(loss for step in steps for loss in step.losses),
        cuts=tuple(cut for step in steps for cut in step.cuts),
        difference=diff(snapshot, state),
        before=cost(snapshot),
        after=cost(state),
        warnings=tuple(unique(concat(step.warnings for step in steps))),
        measured=tuple(unique(concat(step.measured for step in steps))),
        steps=tuple(steps),
    )
    return explanation, state


def _explain_edit(edit: Edit, snapshot: Snapshot) -> tuple[Explanation, Snapshot]:
    after = as_snapshot(edit(snapshot), f"the result of {edit!r}")
    state, deletions = _state_before_the_cut(edit, snapshot)
    flow = flow_for(state, deletions)
    selected = [deletion.ids_to_delete(state, flow) for deletion in deletions]
    removal = removed(flow, np.logical_or.reduce([flow.solution.none_dead(), *selected]))
    dead = removal.dead
    chains = Chains(flow, dead, _selected_ids(state, flow, deletions))
    # The cuts of a pure deletion show the changes of arrays, so only the records are compared, which is fast.
    only_deletes = deletions and state is snapshot
    compared = map(_without_arrays, (snapshot, after)) if only_deletes else (snapshot, after)
    explanation = Explanation(
        edit,
        losses=tuple(_losses(state, flow, dead, chains)),
        cuts=tuple(_cuts(flow, dead)),
        difference=diff(*compared),
        before=cost(snapshot),
        after=cost(after),
        warnings=tuple(_warnings(flow, removal.keep)),
        measured=tuple(_measured(flow, dead)),
    )
    return explanation, after


def _state_before_the_cut(edit: Edit, snapshot: Snapshot) -> tuple[Snapshot, list[ChannelEdit]]:
    """The snapshot after the layer edits of `Plan.at_once` and before its deletions, and the deletions."""
    return edit.before_the_cut(snapshot) if isinstance(edit, AtOnce) else (snapshot, deletions_of(edit))


def _without_arrays(snapshot: Snapshot) -> Snapshot:
    return Snapshot(snapshot.record, {})


def _selected_ids(state: Snapshot, flow: Flow, deletions: Iterable[ChannelEdit]) -> Iterator[int]:
    """The ids of the channels that deletions select."""
    for producer, mask in concat(deletion.selections(state, flow) for deletion in deletions):
        ids = producer.axis[:, mask].ravel().tolist()
        yield from (channel_id for channel_id in ids if channel_id != FIXED)


# --- channels


def _losses(snapshot: Snapshot, flow: Flow, dead: np.ndarray, chains: Chains) -> Iterator[Loss]:
    for producer in flow.producers.values():
        total = size(producer.axis) or 0
        kept = flow.solution.kept(producer.axis, dead)  # type: ignore[arg-type]
        lost = np.setdiff1d(np.arange(total), kept).tolist()
        if lost:
            record = get_in(snapshot.record, flow.graph.places[producer.path])
            causes = tuple(_causes(flow, producer, lost, chains))
            yield Loss(producer.path, record["class_name"], producer.kind, tuple(lost), total, causes)


def _causes(flow: Flow, producer: Producer, lost: list[int], chains: Chains) -> Iterator[Cause]:
    """The lost channels of a layer, grouped by the layers on their chains."""
    channels_by_reason: dict[str, list[int]] = defaultdict(list)
    first_chains: dict[str, tuple[Link, ...]] = {}
    for channel in lost:
        ids = [channel_id for channel_id in producer.axis[:, channel].tolist() if chains.reaches(channel_id)]  # type: ignore[index]
        chain = chains.chain(ids[0]) if ids else ()
        reason = reason_text(chain) if ids else BRANCH
        channels_by_reason[reason].append(channel)
        first_chains.setdefault(reason, chain)
    for reason, channels in channels_by_reason.items():
        yield Cause(tuple(channels), reason, first_chains[reason])


def reason_text(chain: tuple[Link, ...]) -> str:
    """A chain of ties as text.

    >>> reason_text((Link("Add 'sum_2'", "b", 12), Link("Add 'sum_1'", "a", 12)))
    "Add 'sum_2' ties them to b, which Add 'sum_1' ties to a"
    """
    if not chain:
        return SELECTED
    first, *others = chain
    steps = [f"{first.by} ties them to {first.address}", *(f"{link.by} ties to {link.address}" for link in others)]
    return ", which ".join(steps)


# --- weights


def _cuts(flow: Flow, dead: np.ndarray) -> Iterator[Cut]:
    producers = producers_of_ids(flow)
    final_producers = {
        final_id: producers[channel_id]
        for channel_id in producers
        for final_id in flow.solution.table[:, channel_id].tolist()
    }
    for path, slot, weight, number, axis in _weight_axes(flow):
        lost = np.setdiff1d(np.arange(axis.shape[1]), flow.solution.kept(axis, dead))
        if len(lost):
            addresses = _addresses(flow, axis[:, lost], producers, final_producers)
            yield Cut(path, weight.name, slot, number, tuple(lost.tolist()), axis.shape[1], addresses)


def _weight_axes(flow: Flow) -> Iterator[tuple[str, int, Any, int, np.ndarray]]:
    """All weight axes with channels: path, index of the weight, the weight, number of the axis, its channel map."""
    for path, weights in flow.weights.items():
        for slot, weight in enumerate(weights):
            for number, axis in enumerate(weight.axes):
                if isinstance(axis, np.ndarray):
                    yield path, slot, weight, number, axis


def _addresses(flow: Flow, ids: np.ndarray, producers: Producers, final_producers: Producers) -> tuple[str, ...]:
    """The addresses of the channels with these ids, in order of first appearance.

    Ids without a producer, such as the ids of grid axes, belong to the producer with the same final id.
    """
    addresses: dict[str, None] = {}
    for channel_id in ids[ids != FIXED].tolist():
        producer = producers.get(channel_id) or final_producers.get(int(flow.solution.table[0, channel_id]))
        addresses[producer[0] if producer else "a constant"] = None
    return tuple(addresses)


def _warnings(flow: Flow, keep: Sources) -> Iterator[str]:
    """One sentence for each layer after which the remaining channels are not computed as before."""
    for reason, paths in inexact_layers(flow, keep).items():
        yield from (f"{path!r} {reason}: the remaining channels are not computed as before" for path in paths)


def _measured(flow: Flow, dead: np.ndarray) -> Iterator[str]:
    """One sentence for each layer that is cut by measurements on it."""
    cut = {ref.path for ref, axes in flow.tensors.items() if any(_loses(flow, axis, dead) for axis in axes or ())}
    for path, record in flow.graph.records.items():
        if MEASURED in record and path in cut:
            yield f"{path!r} ({record['class_name']}) {measured_words(record[MEASURED])}"


def _loses(flow: Flow, axis: Any, dead: np.ndarray) -> bool:
    return isinstance(axis, np.ndarray) and len(flow.solution.kept(axis, dead)) < axis.shape[1]
