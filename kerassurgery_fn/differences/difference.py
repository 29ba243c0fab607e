"""`Diff`: a difference between two models that can be called and printed."""

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
    """A difference between two models. It is an edit: called on the old model, it gives the new model.

    It prints as tables. For its fields see `Changes`.
    """

    @takes(snapshot=as_snapshot)
    def __call__(self, snapshot: Snapshot) -> Snapshot:
        return patch(snapshot, self)

    def tables(self) -> list[Table]:
        """The difference as tables, one for each kind of change."""
        return tables_of(self)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.tables()))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())
