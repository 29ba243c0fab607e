"""The algebra of plans: put together, made as short as they can be, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.arguments import as_snapshot, optional, takes
from kerassurgery_fn.channels import size
from kerassurgery_fn.documents.plan_files import dumps, encode
from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.deletion import _ChannelEdit
from kerassurgery_fn.edits.plan import AtOnce, Plan, as_edit
from kerassurgery_fn.edits.steps.branches import removed
from kerassurgery_fn.edits.steps.inexact_cuts import only_tried
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.snapshot import Snapshot

Key = tuple[str, str]


@takes(plans=as_edit)
def concatenate(*plans: Edit) -> Plan:
    """One plan that does what several do, one after the other; plans within plans are laid flat.

    >>> concatenate(Plan(DeleteChannels("a", [0])), DeleteChannels("b", [0])) == Plan(
    ...     DeleteChannels("a", [0]), DeleteChannels("b", [0])
    ... )
    True
    """
    return Plan(*(edit for plan in plans for edit in steps(plan)))


def steps(plan: Edit) -> Iterator[Edit]:
    """The edits of a plan, those of the plans within it in their place."""
    if isinstance(plan, Plan):
        for edit in plan.edits:
            yield from steps(edit)
    else:
        yield plan


@takes(plan=as_edit, snapshot=as_snapshot)
@only_tried()
def simplify(plan: Edit, snapshot: Snapshot) -> Edit:
    """The shortest plan found that makes the same model of a snapshot.

    Edits after which the model is what it was before go, one by one or in a row; deletions in a row become one, in
    which every group of channels is named once. What is put in the place of edits is tried on the snapshot, and
    taken only if it gives an equal model. A plan that was made for some model stays so.
    """
    if isinstance(plan, MadeFor):
        return MadeFor(simplify(plan.plan, snapshot), plan.fingerprint)
    edits = list(steps(plan))
    states = [snapshot]
    for edit in edits:
        states.append(edit(states[-1]))
    kept = list(_needed(states))
    made: list[Edit] = []
    for run in _runs([edits[i] for i in kept], [states[i] for i in kept] + states[-1:]):
        made += _merged(*run)
    return Plan(*made)


@takes(plan=as_edit, snapshot=as_snapshot)
@only_tried()
def lost_channels(plan: Edit, snapshot: Snapshot) -> dict[str, tuple[int, ...]]:
    """The channels that a plan deletes, of every layer that makes any, as they are counted before the plan.

    Channels of layers that other edits put in, rename or resize on the way are not followed.
    """
    alive, flow = _Alive(snapshot), analyse(snapshot)
    state = snapshot
    for edit in steps(plan.plan if isinstance(plan, MadeFor) else plan):
        state = alive.after(edit, state)
    return {
        address_of(flow, producer): tuple(
            np.setdiff1d(np.arange(size(producer.axis) or 0), alive.positions[key]).tolist()
        )
        for key, producer in flow.producers.items()
        if key in alive.positions and len(alive.positions[key]) < (size(producer.axis) or 0)
    }


@dataclass(frozen=True)
class PlanDiff:
    """What one plan does that another does not.

    - `added`, `removed`: edits that only the new plan has, or only the old one;
    - `deleted`, `spared`: channels of layers that only the new plan deletes, or only the old one, as they are counted
      before the plan. Empty if no snapshot was given.
    """

    added: tuple[Edit, ...]
    removed: tuple[Edit, ...]
    deleted: Mapping[str, tuple[int, ...]] = field(default_factory=FrozenDict)
    spared: Mapping[str, tuple[int, ...]] = field(default_factory=FrozenDict)

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.deleted, self.spared))


@takes(old=as_edit, new=as_edit, snapshot=optional(as_snapshot))
def diff_plans(old: Edit, new: Edit, snapshot: Snapshot | None = None) -> PlanDiff:
    """What a revision of a plan does that the one before did not, and the other way round.

    Args:
        old: the plan as it was.
        new: the plan as it is now.
        snapshot: the model that both are for, if the channels that go are to be compared too. Then plans that do the
            same in other words delete the same.

    >>> diff_plans(Plan(DeleteChannels("a", [0])), Plan(DeleteChannels("a", [0]), DeleteChannels("b", [1]))).added
    (DeleteChannels(channels={'b': (1,)}, allow_output_change=False),)
    """
    before, after = list(steps(old)), list(steps(new))
    texts = [[dumps(encode(edit)) for edit in edits] for edits in (before, after)]
    moves = SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes()
    gone, come = ({} if snapshot is None else lost_channels(plan, snapshot) for plan in (old, new))
    return PlanDiff(
        tuple(edit for kind, _, _, i, j in moves if kind != "equal" for edit in after[i:j]),
        tuple(edit for kind, i, j, _, _ in moves if kind != "equal" for edit in before[i:j]),
        _without(come, gone),
        _without(gone, come),
    )


def _without(one: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> FrozenDict:
    """The channels of one that the other does not have."""
    left = {path: tuple(sorted({*channels} - {*other.get(path, ())})) for path, channels in one.items()}
    return FrozenDict({path: channels for path, channels in left.items() if channels})


# --- shorter plans


def _needed(states: Sequence[Snapshot]) -> Iterator[int]:
    """The edits that are left when every row of them goes after which the model is as before it."""
    alike: dict[Any, list[int]] = {}
    for index, state in enumerate(states):
        alike.setdefault(_outline(state), []).append(index)
    index = 0
    while index < len(states) - 1:
        later = (i for i in reversed(alike[_outline(states[index])]) if i > index)
        same = next((i for i in later if states[i] == states[index]), None)
        if same is None:
            yield index
        index = index + 1 if same is None else same


def _outline(snapshot: Snapshot) -> Any:
    """What equal snapshots have in common and is found in no time."""
    return tuple(sorted((path, tuple(a.shape for a in arrays)) for path, arrays in snapshot.weights.items()))


def _runs(edits: Sequence[Edit], states: Sequence[Snapshot]) -> Iterator[tuple[list[Edit], Snapshot, Snapshot]]:
    """Deletions in a row, and other edits alone, with the model before and after."""
    start = 0
    for stop in range(1, len(edits) + 1):
        if stop == len(edits) or not (_is_deletion(edits[stop - 1]) and _is_deletion(edits[stop])):
            yield list(edits[start:stop]), states[start], states[stop]
            start = stop


def _merged(edits: list[Edit], before: Snapshot, after: Snapshot) -> list[Edit]:
    """The deletions as one if that gives the same model, else as they are."""
    if not _is_deletion(edits[0]):
        return edits
    alive, state = _Alive(before), before
    for edit in edits:
        state = alive.after(edit, state)
    merged = DeleteChannels(
        _once_a_group(analyse(before), alive.positions),
        allow_output_change=any(one.allow_output_change for edit in edits for one in _deletions(edit)),
    )
    return [merged] if merged(before) == after else edits


def _once_a_group(flow: Flow, alive: Mapping[Key, np.ndarray]) -> dict[str, list[int]]:
    """The channels that are no more alive, each group of those that die together named at one layer alone."""
    named: set[int] = set()
    chosen: dict[str, list[int]] = {}
    for key, producer in sorted(flow.producers.items(), key=lambda item: _rows(flow, item[1])):
        resolved = flow.solution.resolve(producer.axis)  # type: ignore[arg-type]
        dead = np.setdiff1d(np.arange(resolved.shape[1]), alive.get(key, ()))
        new = [p for p in dead.tolist() if len(resolved) > 1 or int(resolved[0, p]) not in named]
        if new and not {*resolved[:, new].ravel().tolist()} <= named:
            chosen[address_of(flow, producer)] = new
            named |= {*resolved[:, new].ravel().tolist()}
    return chosen


def _rows(flow: Flow, producer: Producer) -> int:
    return len(flow.solution.resolve(producer.axis))  # type: ignore[arg-type]


def address_of(flow: Flow, producer: Producer) -> str:
    """The address of a layer's channels: its path, with the kind if they are not its first."""
    first = next(kind for path, kind in flow.producers if path == producer.path)
    return producer.path if producer.kind == first else f"{producer.path}:{producer.kind}"


class _Alive:
    """Which channels of the layers of a model are alive as edits go on, counted as they were at first."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.positions = {
            key: np.arange(size(producer.axis) or 0) for key, producer in analyse(snapshot).producers.items()
        }

    def after(self, edit: Edit, state: Snapshot) -> Snapshot:
        """The state after an edit, which is noted."""
        made = edit(state)
        if _is_deletion(edit):
            self._note(edit, analyse(state))
        else:
            widths = {key: size(producer.axis) for key, producer in analyse(made).producers.items()}
            self.positions = {key: own for key, own in self.positions.items() if widths.get(key) == len(own)}
        return made

    def _note(self, edit: Edit, flow: Flow) -> None:
        dead = removed(flow, np.logical_or.reduce([one.dying(flow) for one in _deletions(edit)])).dead
        for key, own in self.positions.items():
            if key in flow.producers:
                self.positions[key] = own[flow.solution.kept(flow.producers[key].axis, dead)]  # type: ignore[arg-type]


def _is_deletion(edit: Edit) -> bool:
    return bool(_deletions(edit))


def _deletions(edit: Edit) -> list[_ChannelEdit]:
    """The edits that say which channels go, empty if the edit does something else."""
    edits: Sequence[Edit] = edit.edits if isinstance(edit, AtOnce) else [edit]
    cuts = [one for one in edits if isinstance(one, _ChannelEdit)]
    return cuts if len(cuts) == len(edits) else []
