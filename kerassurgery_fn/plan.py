"""Plans: several edits that are one edit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.channels import _ChannelEdit, delete, refuse_pinned
from kerassurgery_fn.errors import SurgeryError
from kerassurgery_fn.flow import analyse
from kerassurgery_fn.snapshot import Snapshot


@dataclass(frozen=True, init=False)
class Plan:
    """Edits one after the other, each on what the one before it left. A plan is an edit itself.

    >>> from kerassurgery_fn.edits import DeleteChannels
    >>> len(Plan(DeleteChannels("a", [0]), Plan(DeleteChannels("b", [0]))).edits)
    2
    """

    edits: tuple[Edit, ...]

    def __init__(self, *edits: Edit) -> None:
        object.__setattr__(self, "edits", edits)

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        return reduce(lambda before, edit: edit(before), self.edits, snapshot)

    @staticmethod
    def at_once(*edits: Edit) -> AtOnce:
        """The edits as one: every index means the channel that it names in the snapshot the whole is called on."""
        return AtOnce(edits)


@dataclass(frozen=True)
class AtOnce:
    """Channel edits that all refer to the same snapshot, done in one analysis and one cut."""

    edits: tuple[Edit, ...]

    def __post_init__(self) -> None:
        for edit in self.edits:
            if not isinstance(edit, _ChannelEdit):
                raise SurgeryError(
                    f"only channel edits can be done at once, {edit!r} is none; put it in a Plan of its own"
                )

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        flow = analyse(snapshot)
        edits = [edit for edit in self.edits if isinstance(edit, _ChannelEdit)]
        dying = [edit.dying(flow) for edit in edits]
        for edit, own in zip(edits, dying, strict=True):
            refuse_pinned(flow, own, edit.allow_output_change)
        dead = np.logical_or.reduce([flow.fates.nobody(), *dying])
        return delete(snapshot, flow, dead, allow_output_change=any(edit.allow_output_change for edit in edits))
