"""Operations on plans: concatenate, simplify, list the deleted channels, compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from toolz import groupby, valfilter

from kerassurgery_fn.analysis.channel_flow import Flow, analyse, analyse_for
from kerassurgery_fn.arguments import as_snapshot, optional, takes
from kerassurgery_fn.channels import size
from kerassurgery_fn.documents.plan_files import dumps, encode
from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.deletion import ChannelEdit, flow_for
from kerassurgery_fn.edits.plan import AtOnce, Plan, as_edit
from kerassurgery_fn.edits.steps.branches import removed
from kerassurgery_fn.edits.steps.channel_deletion import Allowed
from kerassurgery_fn.edits.steps.inexact_cuts import only_tried
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.snapshot import Snapshot

ProducerKey = tuple[str, str]  # (layer path, kind of channels)


@takes(plans=as_edit)
def concatenate(*plans: Edit) -> Plan:
    """One plan with the edits of several plans, in order. Nested plans are flattened.

    >>> concatenate(Plan(DeleteChannels("a", [0])), DeleteChannels("b", [0])) == Plan(
    ...     DeleteChannels("a", [0]), DeleteChannels("b", [0])
    ... )
    True
    """
    return Plan(*(edit for plan in plans for edit in steps(plan)))


def steps(plan: Edit) -> Iterator[Edit]:
    """The edits of a plan, with the edits of nested plans in their place."""
    if isinstance(plan, Plan):
        for edit in plan.edits:
            yield from steps(edit)
    else:
        yield plan


@takes(plan=as_edit, snapshot=as_snapshot)
@only_tried()
def simplify(plan: Edit, snapshot: Snapshot) -> Edit:
    """A shorter plan with the same result on a snapshot.

    First, edits and runs of edits that leave the model unchanged are removed. Then, consecutive deletions become a
    single deletion, which names each group of channels at one layer only. It is tried on the snapshot, and only used if
    the result is equal. A plan that was made for one model keeps its fingerprint.
    """
    if isinstance(plan, MadeFor):
        return MadeFor(simplify(plan.plan, plan.checked(snapshot)), plan.fingerprint, plan.measured)
    edits = list(steps(plan))
    states = [snapshot]
    for edit in edits:
        states.append(edit(states[-1]))
    needed = list(_needed(states))
    simplified: list[Edit] = []
    for run in _runs([edits[i] for i in needed], [states[i] for i in needed] + states[-1:]):
        simplified += _merged(*run)
    return Plan(*simplified)


@takes(plan=as_edit, snapshot=as_snapshot)
@only_tried()
def lost_channels(plan: Edit, snapshot: Snapshot) -> dict[str, tuple[int, ...]]:
    """The channels of each layer that a plan deletes, as indices before the plan.

    Layers that other edits insert, rename or resize are left out.
    """
    edits = list(steps(plan.plan if isinstance(plan, MadeFor) else plan))
    flow = analyse_for(snapshot, (), _allowed(edits).input)
    remaining, state = _RemainingChannels(flow), snapshot
    for edit in edits:
        state = remaining.after(edit, state)
    lost = {
        address_of(flow, producer): np.setdiff1d(np.arange(size(producer.axis) or 0), remaining.positions[key])
        for key, producer in flow.producers.items()
        if key in remaining.positions
    }
    return {address: tuple(channels.tolist()) for address, channels in lost.items() if len(channels)}


@dataclass(frozen=True)
class PlanDiff:
    """What changed between two plans.

    - `added`, `removed`: edits that only the new plan has, or only the old one;
    - `deleted`, `kept`: channels of each layer that only the new plan deletes, or only the old one, as indices before
      the plan. Empty without a snapshot.
    """

    added: tuple[Edit, ...]
    removed: tuple[Edit, ...]
    deleted: Mapping[str, tuple[int, ...]] = field(default_factory=FrozenDict)
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=FrozenDict)

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.deleted, self.kept))


@takes(old=as_edit, new=as_edit, snapshot=optional(as_snapshot))
def diff_plans(old: Edit, new: Edit, snapshot: Snapshot | None = None) -> PlanDiff:
    """Lists what changed between two plans.

    Args:
        old: the plan before.
        new: the plan after.
        snapshot: the model of both plans, to also compare the deleted channels: different edits can delete the same
            channels.

    >>> diff_plans(Plan(DeleteChannels("a", [0])), Plan(DeleteChannels("a", [0]), DeleteChannels("b", [1]))).added
    (DeleteChannels(channels={'b': (1,)}, allow_output_change=False, allow_input_change=False),)
    """
    before, after = list(steps(old)), list(steps(new))
    texts = [[dumps(encode(edit)) for edit in edits] for edits in (before, after)]
    operations = SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes()
    changes = [operation[1:] for operation in operations if operation[0] != "equal"]
    lost_before, lost_after = ({} if snapshot is None else lost_channels(plan, snapshot) for plan in (old, new))
    return PlanDiff(
        added=tuple(edit for _, _, i, j in changes for edit in after[i:j]),
        removed=tuple(edit for i, j, _, _ in changes for edit in before[i:j]),
        deleted=_without(lost_after, lost_before),
        kept=_without(lost_before, lost_after),
    )


def _without(channels: Mapping[str, tuple[int, ...]], others: Mapping[str, tuple[int, ...]]) -> FrozenDict:
    """The channels of each layer that are not among the others."""
    remaining = {path: tuple(sorted({*indices} - {*others.get(path, ())})) for path, indices in channels.items()}
    return FrozenDict(valfilter(bool, remaining))


# --- shorter plans


def _needed(states: Sequence[Snapshot]) -> Iterator[int]:
    """The indices of the edits without the runs that lead back to an equal model.

        states   s0 -a-> s1 -b-> s2 -c-> s1 -d-> s3        b and c cancel out: a and d are needed

    From each state, the walk jumps to the last equal state, so it always moves forward.
    """
    outlines = [*map(_outline, states)]
    by_outline = groupby(outlines.__getitem__, range(len(states)))
    index = 0
    while index < len(states) - 1:
        later = (i for i in reversed(by_outline[outlines[index]]) if i > index)
        last_equal = next((i for i in later if states[i] == states[index]), None)
        if last_equal is None:
            yield index
        index = index + 1 if last_equal is None else last_equal


def _outline(snapshot: Snapshot) -> Any:
    """The shapes of all weights. Equal snapshots have equal shapes, so only a few pairs must be compared in full."""
    return tuple(sorted((path, tuple(a.shape for a in arrays)) for path, arrays in snapshot.weights.items()))


def _runs(edits: Sequence[Edit], states: Sequence[Snapshot]) -> Iterator[tuple[list[Edit], Snapshot, Snapshot]]:
    """Runs of consecutive deletions, and each other edit on its own, with the model before and after."""
    start = 0
    for stop in range(1, len(edits) + 1):
        if stop == len(edits) or not (_is_deletion(edits[stop - 1]) and _is_deletion(edits[stop])):
            yield list(edits[start:stop]), states[start], states[stop]
            start = stop


def _merged(edits: list[Edit], before: Snapshot, after: Snapshot) -> list[Edit]:
    """A run of deletions as a single deletion if the result is equal; otherwise the run unchanged."""
    if not _is_deletion(edits[0]):
        return edits
    allowed = _allowed(edits)
    flow = analyse_for(before, (), allowed.input)
    remaining, state = _RemainingChannels(flow), before
    for edit in edits:
        state = remaining.after(edit, state)
    merged = DeleteChannels(
        _one_layer_per_group(flow, remaining.positions),
        allow_output_change=allowed.output,
        allow_input_change=allowed.input,
    )
    return [merged] if merged(before) == after else edits


def _one_layer_per_group(flow: Flow, remaining: Mapping[ProducerKey, np.ndarray]) -> dict[str, list[int]]:
    """The deleted channels by address. Channels that are deleted together are named at one layer only.

    Layers with one id for each channel come first, because these ids name a group exactly. The channels of grids
    (heads) then mostly follow from them.
    """
    named: set[int] = set()
    deleted: dict[str, list[int]] = {}
    for key, producer in sorted(flow.producers.items(), key=lambda item: _rows(flow, item[1])):
        ids = flow.solution.resolve(producer.axis)  # type: ignore[arg-type]
        lost = np.setdiff1d(np.arange(ids.shape[1]), remaining.get(key, ()))
        unnamed = [position for position in lost.tolist() if len(ids) > 1 or int(ids[0, position]) not in named]
        new_ids = {*ids[:, unnamed].ravel().tolist()}
        if not new_ids <= named:
            deleted[address_of(flow, producer)] = unnamed
            named |= new_ids
    return deleted


def _rows(flow: Flow, producer: Producer) -> int:
    return len(flow.solution.resolve(producer.axis))  # type: ignore[arg-type]


def address_of(flow: Flow, producer: Producer) -> str:
    """The address of the channels of a layer: its path, and the kind unless it is the first kind of the layer."""
    first = flow.kinds(producer.path)[0]
    return producer.path if producer.kind == first else f"{producer.path}:{producer.kind}"


def _allowed(edits: Sequence[Edit]) -> Allowed:
    """Whether the deletions among some edits can change the outputs and the inputs of a model."""
    return Allowed.by([deletion for edit in edits for deletion in deletions_of(edit)])


class _RemainingChannels:
    """The channels of each layer that remain after some edits, as indices into the original channels."""

    def __init__(self, flow: Flow) -> None:
        self.positions = {key: np.arange(size(producer.axis) or 0) for key, producer in flow.producers.items()}

    def after(self, edit: Edit, state: Snapshot) -> Snapshot:
        """The state after an edit. The channels that it deletes are removed from `positions`."""
        edited = edit(state)
        if _is_deletion(edit):
            self._delete(edit, state)
        else:
            # The effect of other edits on channels is not known. A layer that they resize cannot be tracked any
            # further.
            widths = {key: size(producer.axis) for key, producer in analyse(edited).producers.items()}
            self.positions = {key: kept for key, kept in self.positions.items() if widths.get(key) == len(kept)}
        return edited

    def _delete(self, edit: Edit, state: Snapshot) -> None:
        deletions = deletions_of(edit)
        flow = flow_for(state, deletions)
        dead = removed(flow, np.logical_or.reduce([deletion.ids_to_delete(state, flow) for deletion in deletions])).dead
        for key, positions in self.positions.items():
            if key in flow.producers:
                kept = flow.solution.kept(flow.producers[key].axis, dead)  # type: ignore[arg-type]
                self.positions[key] = positions[kept]


def _is_deletion(edit: Edit) -> bool:
    return bool(deletions_of(edit))


def deletions_of(edit: Edit) -> list[ChannelEdit]:
    """The deletions of channels that an edit consists of; empty if the edit does anything else."""
    edits: Sequence[Edit] = edit.edits if isinstance(edit, AtOnce) else [edit]
    deletions = [each for each in edits if isinstance(each, ChannelEdit)]
    return deletions if len(deletions) == len(edits) else []
