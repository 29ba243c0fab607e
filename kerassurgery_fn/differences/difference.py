"""Differences between models: data that can be called and shown."""

from __future__ import annotations

from dataclasses import dataclass

from kerassurgery_fn.arguments import as_snapshot, takes
from kerassurgery_fn.differences.changes import Changes
from kerassurgery_fn.differences.patching import patch
from kerassurgery_fn.differences.text import tables_of
from kerassurgery_fn.values.snapshot import Snapshot
from kerassurgery_fn.values.tables import Table


@dataclass(frozen=True)
class Diff(Changes):
    """What makes one model of another. It is an edit: called on the first model, it gives the second.

    It prints as tables; its data are those of `Changes`.
    """

    @takes(snapshot=as_snapshot)
    def __call__(self, snapshot: Snapshot) -> Snapshot:
        return patch(snapshot, self)

    def tables(self) -> list[Table]:
        """What there is to show of it."""
        return tables_of(self)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables()))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())
