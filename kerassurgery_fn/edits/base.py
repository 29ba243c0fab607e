"""What an edit is."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from kerassurgery_fn.snapshot import Snapshot


@runtime_checkable
class Edit(Protocol):
    """A frozen dataclass whose fields are all its data: a pure function from snapshot to snapshot."""

    def __call__(self, snapshot: Snapshot) -> Snapshot: ...


EDITS: dict[str, type[Any]] = {}


def edit(cls: type[Any]) -> type[Any]:
    """Lists a class of edits under its name."""
    EDITS[cls.__name__] = cls
    return cls
