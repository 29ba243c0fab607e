"""`explain`: what an edit would do, as data that reads well."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow, analyse
from kerassurgery_fn.analysis.layer_costs import Cost, cost
from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.channels import FIXED, size
from kerassurgery_fn.differences import Diff, diff
from kerassurgery_fn.documents.plan_algebra import _deletions, address_of
from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.edits import DeleteChannels
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.plan import AtOnce, Plan, as_edit
from kerassurgery_fn.edits.steps.branches import removed
from kerassurgery_fn.edits.steps.inexact_cuts import inexact_layers, only_tried
from kerassurgery_fn.report.reason_chains import Chains, Link, makers_of_ids
from kerassurgery_fn.rules.layer import Producer
from kerassurgery_fn.values.frozen import get_in
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table, change, spans, to_text

ASKED, BRANCH = "asked for", "nothing of the branch that they are in is left"


@dataclass(frozen=True)
class Cause:
    """Channels that go for one reason. `chain` leads from the first of them back to one that was asked for; it is
    empty for those that were asked for themselves, and where a whole branch goes."""

    channels: tuple[int, ...]
    words: str
    chain: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Loss:
    """The channels that a layer would make no more: of which kind, which of how many, and why."""

    path: str
    class_name: str
    kind: str
    channels: tuple[int, ...]
    of: int
    causes: tuple[Cause, ...]


@dataclass(frozen=True)
class Cut:
    """Positions that an axis of a weight would lose, and where the channels are made that it carries there."""

    path: str
    weight: str
    slot: int
    axis: int
    positions: tuple[int, ...]
    of: int
    carries: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What an edit would do to a model.

    - `losses`, `cuts`: the channels that layers lose, and the positions that axes of weights lose;
    - `difference`: what else changes: layers and config; values too if the edit is no deletion;
    - `before`, `after`: what the model costs;
    - `warnings`: where the model would compute something else than it does without those channels;
    - `steps`: the edits of a plan one by one, each on what the one before it leaves.
    """

    edit: Edit = field(repr=False)
    losses: tuple[Loss, ...]
    cuts: tuple[Cut, ...]
    difference: Diff
    before: Cost
    after: Cost
    warnings: tuple[str, ...] = ()
    steps: tuple[Explanation, ...] = ()

    def tables(self) -> list[Table]:
        """What there is to show: channels with their reasons, weights, layers, cost."""
        parts = [table for step in self.steps for table in step.tables()[:-1]]
        if not self.steps:
            own = [_loss_table(self.losses), _cut_table(self.cuts)]
            parts = [*(table for table in own if table.rows), *_other_tables(self)]
        return [*parts, _cost_table(self)]

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
    """What an edit would do to a snapshot, and why. The edit is tried; the snapshot stays as it is.

    Raises:
        SurgeryError: what the edit itself would raise.
    """
    if isinstance(edit, MadeFor):
        edit(snapshot)
        return explain(edit.plan, snapshot)
    if isinstance(edit, Plan):
        return _of_plan(edit, snapshot)
    after = edit(snapshot)
    state, deletions = _before_the_cut(edit, snapshot)
    flow = analyse(state)
    dead = asked = flow.solution.none_dead()
    if deletions:
        asked = np.logical_or.reduce([one.dying(flow) for one in deletions])
        dead = removed(flow, asked).dead
    chains = Chains(flow, dead, _asked_ids(flow, deletions, asked))
    return Explanation(
        edit,
        tuple(_losses(state, flow, dead, chains)),
        tuple(_cuts(flow, dead)),
        diff(*map(_record_only, (snapshot, after))) if deletions and state is snapshot else diff(snapshot, after),
        cost(snapshot),
        cost(after),
        tuple(_warnings(flow, dead)),
    )


def _before_the_cut(edit: Edit, snapshot: Snapshot) -> tuple[Snapshot, list[Any]]:
    """The snapshot of which an edit deletes channels, once its edits of layers are done, and the deletions."""
    return edit.before_the_cut(snapshot) if isinstance(edit, AtOnce) else (snapshot, _deletions(edit))


def _record_only(snapshot: Snapshot) -> Snapshot:
    """A snapshot without arrays: what a deletion does to these is told by its cuts."""
    return Snapshot(snapshot.record, {})


def _of_plan(plan: Plan, snapshot: Snapshot) -> Explanation:
    """The steps of a plan one by one, and what they come to."""
    made: list[Explanation] = []
    state = snapshot
    for edit in plan.edits:
        made.append(explain(edit, state))
        state = edit(state)
    return Explanation(
        plan,
        tuple(loss for one in made for loss in one.losses),
        tuple(cut for one in made for cut in one.cuts),
        diff(snapshot, state),
        cost(snapshot),
        cost(state),
        tuple(dict.fromkeys(words for one in made for words in one.warnings)),
        tuple(made),
    )


def _asked_ids(flow: Flow, deletions: Iterable[Any], asked: np.ndarray) -> Iterator[int]:
    """The ids of the channels that edits name: for those that are kept, of all others of their layers."""
    for deletion in deletions:
        named = [
            (producer, own) for address, own in deletion.channels.items() for producer in flow.producers_at(address)
        ]
        for producer, channels in named:
            mask = np.asarray(asked[flow.solution.resolve(producer.axis)].any(axis=0))  # type: ignore[arg-type]
            if isinstance(deletion, DeleteChannels):
                mask = np.isin(np.arange(len(mask)), np.arange(len(mask))[list(channels)])
            yield from (one for one in producer.axis[:, mask].ravel().tolist() if one != FIXED)  # type: ignore[index]


def _losses(snapshot: Snapshot, flow: Flow, dead: np.ndarray, chains: Chains) -> Iterator[Loss]:
    for producer in flow.producers.values():
        kept = flow.solution.kept(producer.axis, dead)  # type: ignore[arg-type]
        lost = np.setdiff1d(np.arange(size(producer.axis) or 0), kept)
        if len(lost):
            record = get_in(snapshot.record, flow.graph.places[producer.path])
            yield Loss(
                producer.path, record["class_name"], producer.kind, tuple(lost.tolist()), size(producer.axis) or 0,
                tuple(_causes(flow, producer, lost.tolist(), chains)),
            )  # fmt: skip


def _causes(flow: Flow, producer: Producer, lost: list[int], chains: Chains) -> Iterator[Cause]:
    """Lost channels by the layers on the chains that lead to them."""
    found: dict[Any, list[int]] = defaultdict(list)
    chain_of: dict[Any, tuple[Link, ...]] = {}
    for position in lost:
        ids = [one for one in producer.axis[:, position].tolist() if chains.reaches(one)]  # type: ignore[index]
        chain = chains.chain(ids[0]) if ids else ()
        key = (bool(ids), tuple((link.by, link.address) for link in chain))
        found[key].append(position)
        chain_of.setdefault(key, chain)
    own = address_of(flow, producer)
    for key, positions in found.items():
        yield Cause(tuple(positions), _words(key[0], own, positions[0], chain_of[key]), chain_of[key])


def _words(reached: bool, own: str, channel: int, chain: tuple[Link, ...]) -> str:
    """Why channels go, in words.

    >>> _words(True, "conv_7", 12, (Link("Add 'res_3'", "conv_5", 12),))
    "Add 'res_3' ties them to conv_5"
    """
    if not reached:
        return BRANCH
    links = [f"{link.by} ties {'them' if i == 0 else 'that'} to {link.address}" for i, link in enumerate(chain)]
    return ", ".join(links) or ASKED


def _cuts(flow: Flow, dead: np.ndarray) -> Iterator[Cut]:
    made = makers_of_ids(flow)
    final = {last: made[one] for one in made for last in flow.solution.table[:, one].tolist()}
    for path, weights in flow.weights.items():
        for slot, weight in enumerate(weights):
            for number, axis in enumerate(weight.axes):
                if not isinstance(axis, np.ndarray):
                    continue
                lost = np.setdiff1d(np.arange(axis.shape[1]), flow.solution.kept(axis, dead))
                if len(lost):
                    carried = _carried(flow, axis[:, lost], made, final)
                    yield Cut(path, weight.name, slot, number, tuple(lost.tolist()), axis.shape[1], carried)


def _carried(
    flow: Flow, ids: np.ndarray, made: Mapping[int, tuple[str, int]], final: Mapping[int, tuple[str, int]]
) -> tuple[str, ...]:
    """The addresses of the channels that ids were made for, those of most ids first."""
    counts: Counter[str] = Counter()
    for one, count in Counter(ids[ids != FIXED].tolist()).items():
        known = made.get(one) or final.get(int(flow.solution.table[0, one]))
        counts[known[0] if known else "a constant"] += count
    return tuple(counts)


def _warnings(flow: Flow, dead: np.ndarray) -> Iterator[str]:
    """What is not exact after the death of ids, each once."""
    for reason, paths in inexact_layers(flow, dead).items():
        yield from (f"{path!r} {reason}: what is left is not computed as before" for path in paths)


# --- tables


def _loss_table(losses: Iterable[Loss]) -> Table:
    rows = [
        (loss.path if i == 0 else "", f"{len(loss.channels)} of {loss.of} {loss.kind}" if i == 0 else "",
         spans(cause.channels, 6), cause.words)
        for loss in losses for i, cause in enumerate(loss.causes)
    ]  # fmt: skip
    return Table("channels that go", ("layer", "loses", "which", "why"), tuple(rows))


def _cut_table(cuts: Iterable[Cut]) -> Table:
    """A row for all axes of a layer's weights that lose the same positions."""
    alike: dict[Any, list[Cut]] = defaultdict(list)
    for cut in cuts:
        alike[cut.path, cut.positions, cut.of, cut.carries].append(cut)
    rows = [
        (path, ", ".join(f"{cut.weight} axis {cut.axis}" if len(some) < 4 else cut.weight for cut in some),
         f"{len(positions)} of {of}", "its own" if carries == (path,) else f"from {', '.join(carries[:3])}")
        for (path, positions, of, carries), some in alike.items()
    ]  # fmt: skip
    return Table("weights that are cut", ("layer", "weights", "lose", "channels"), tuple(rows))


def _other_tables(explanation: Explanation) -> list[Table]:
    """What changes beside channels and their counts: layers, config, values."""
    counts = {(loss.path, loss.kind) for loss in explanation.losses}
    told = explanation.difference.tables() if explanation.difference else []
    others = [table for table in told if not (counts and table.title == "channels")]
    left = [replace(table, rows=tuple(row for row in table.rows if row[:2] not in counts)) for table in others]
    return [table for table in left if table.rows]


def _cost_table(explanation: Explanation) -> Table:
    pairs = [(name, getattr(explanation.before, name), getattr(explanation.after, name)) for name in FIGURES]
    rows = tuple((NAMES.get(name, name), change(before, after)) for name, before, after in pairs)
    return Table("cost", ("what", "before and after"), rows, tuple(f"! {words}" for words in explanation.warnings))


FIGURES = ("parameters", "macs", "bytes")
NAMES = {"macs": "MACs", "bytes": "bytes of weights"}
