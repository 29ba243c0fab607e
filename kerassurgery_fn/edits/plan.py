"""Plans: several edits as one edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from toolz import concat, pipe

from kerassurgery_fn.arguments import as_snapshot, is_keras, shortened, takes
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.deletion import ChannelEdit, flow_for
from kerassurgery_fn.edits.steps.channel_deletion import Allowed, delete, refuse_pinned
from kerassurgery_fn.edits.steps.draft import Draft
from kerassurgery_fn.edits.steps.draft_writing import GraphEdit, finished, redrawn
from kerassurgery_fn.errors import SurgeryError
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True, init=False)
class Plan(Edit):
    """Several edits, each applied to the result of the one before it. A plan is an edit itself.

    >>> from kerassurgery_fn.edits import DeleteChannels
    >>> len(Plan(DeleteChannels("a", [0]), Plan(DeleteChannels("b", [0]))).edits)
    2
    """

    edits: tuple[Edit, ...]

    def __init__(self, *edits: Callable[[Snapshot], Snapshot]) -> None:
        object.__setattr__(self, "edits", tuple(map(as_edit, edits)))

    @takes(snapshot=as_snapshot)
    def __call__(self, snapshot: Snapshot) -> Snapshot:
        return pipe(snapshot, *map(_giving_a_snapshot, self.edits))

    @staticmethod
    def at_once(*edits: Edit) -> AtOnce:
        """The edits as one edit. Every name, call and index refers to the snapshot on which this edit is called."""
        return AtOnce(edits)


def _giving_a_snapshot(edit: Callable[[Snapshot], Snapshot]) -> Callable[[Snapshot], Snapshot]:
    """The edit, with a check that it returns a snapshot; otherwise it raises NotASnapshot."""
    return lambda snapshot: as_snapshot(edit(snapshot), f"the result of {edit!r}")


def as_edit(value: Any, name: str = "edit") -> Edit:
    """The argument, which must be an edit or another function from snapshot to snapshot.

    Raises:
        SurgeryError: the argument is something else.

    >>> from kerassurgery_fn.edits import DeleteLayer
    >>> as_edit(DeleteLayer("dropout"))
    DeleteLayer(layer='dropout', calls=None, allow_shape_change=False)
    """
    if callable(value) and not isinstance(value, type) and not is_keras(value, "Layer"):
        return value
    hint = ", as in Plan(*edits)" * isinstance(value, (list, tuple))
    raise SurgeryError(
        f"{name}: {shortened(value)} is not an edit; give edits such as DeleteLayer('dropout'), or plans of them{hint}"
    )


@dataclass(frozen=True)
class AtOnce(Edit):
    """Edits that all refer to the same snapshot. Edits of layers are done in one traversal, in their order; after them,
    all edits of channels are done in one cut.

    If an edit replaces a nested model, the edits after it do not apply to the new layer or model, because they refer to
    the old layers. An edit without any remaining layer raises UnknownLayer.
    """

    edits: tuple[Edit, ...]

    def __post_init__(self) -> None:
        for edit in map(as_edit, self.edits):
            if not isinstance(edit, (ChannelEdit, GraphEdit)):
                raise SurgeryError(
                    f"only edits of layers and of channels can be done at once, and {edit!r} is neither; put it in a "
                    "Plan of its own"
                )

    @takes(snapshot=as_snapshot)
    def __call__(self, snapshot: Snapshot) -> Snapshot:
        redrawn_snapshot, edits = self.before_the_cut(snapshot)
        return cut_at_once(redrawn_snapshot, edits) if edits else redrawn_snapshot

    def before_the_cut(self, snapshot: Snapshot) -> tuple[Snapshot, list[ChannelEdit]]:
        """The snapshot after the edits of layers, and the edits of channels with the new paths of their layers."""
        draft = Draft(snapshot)
        for edit in self.edits:
            if isinstance(edit, GraphEdit):
                draft = redrawn(edit, draft)
        edits = [edit for edit in self.edits if isinstance(edit, ChannelEdit)]
        edited, paths = finished(draft)
        if edits and edited is not snapshot:
            edits = list(concat(edit.readdressed(snapshot, paths) for edit in edits))
        return edited, edits


def cut_at_once(snapshot: Snapshot, edits: Sequence[ChannelEdit]) -> Snapshot:
    """The snapshot after several channel edits in one analysis and one cut."""
    flow = flow_for(snapshot, edits)
    dead: dict[Allowed, np.ndarray] = {}
    for edit in edits:
        ids = edit.ids_to_delete(snapshot, flow)
        allowed = Allowed.by([edit])
        dead[allowed] = dead[allowed] | ids if allowed in dead else ids
    for allowed, ids in dead.items():
        refuse_pinned(flow, ids, allowed)
    return delete(snapshot, flow, np.logical_or.reduce([*dead.values()]), Allowed.by(edits))
