"""What an edit is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, Protocol, runtime_checkable

from kerassurgery_fn.arguments import as_flag, as_snapshot, refuse_misspelt, takes
from kerassurgery_fn.values.snapshot import Snapshot


@runtime_checkable
class Edit(Protocol):
    """A frozen dataclass whose fields are all its data: a pure function from snapshot to snapshot."""

    def __call__(self, snapshot: Snapshot) -> Snapshot: ...


EDITS: dict[str, type[Any]] = {}


def edit(cls: type[Any]) -> type[Any]:
    """Lists a class of edits under its name, and checks what it is given: its call takes a snapshot, fields that are
    declared `bool` are flags, and a misspelt keyword is told what is meant."""
    EDITS[cls.__name__] = cls
    cls.__init__ = _with_flags(cls.__init__, [field.name for field in fields(cls) if field.type in (bool, "bool")])
    cls.__call__ = takes(snapshot=as_snapshot)(cls.__call__)
    return cls


def _with_flags(init: Callable[..., None], flags: list[str]) -> Callable[..., None]:
    """A constructor of a frozen dataclass that checks the fields which are flags."""

    @wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        refuse_misspelt(init, kwargs)
        init(self, *args, **kwargs)
        for name in flags:
            object.__setattr__(self, name, as_flag(getattr(self, name), name))

    return checked
