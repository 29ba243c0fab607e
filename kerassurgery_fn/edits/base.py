"""The base class of all edits, and the table of registered edits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from functools import partial, wraps
from typing import Any, TypeVar, overload

from kerassurgery_fn.arguments import as_flag, as_snapshot, kind_of, refuse_misspelt
from kerassurgery_fn.errors import BadValue, NameTaken
from kerassurgery_fn.values.snapshot import Snapshot

E = TypeVar("E", bound="Edit")


class Edit(ABC):
    """A frozen dataclass whose fields are all its data: a pure function from snapshot to snapshot.

    To define an edit of your own, derive a frozen dataclass from one of three bases and register it with `@edit`:

    - `ChannelEdit`: an edit that deletes channels. Its method `channels_to_delete` says which; several such
      edits are one cut in `Plan.at_once`;
    - `GraphEdit`: an edit of layers. Its method `redraw` is a function from draft to draft; several such edits are one
      traversal in `Plan.at_once`;
    - `Edit`: any other function of a snapshot. It cannot be done at once with others.
    """

    @abstractmethod
    def __call__(self, snapshot: Snapshot) -> Snapshot:
        """The edited snapshot."""


# The name of each registered class of edits in documents -> the class.
EDITS: dict[str, type[Any]] = {}


@overload
def edit(cls: type[E], /) -> type[E]: ...
@overload
def edit(package: str, /) -> Callable[[type[E]], type[E]]: ...
def edit(cls: Any, /) -> Any:
    """Registers a class of edits, so that its instances can be written to documents, and adds checks: the call takes
    and returns a snapshot, fields declared as `bool` are flags, and the error for a misspelt keyword suggests a field.

    `@edit("package")` registers the class as `package>Class`, `@edit` uses the name of its module. Reading a document
    imports nothing, so the class must be registered before.

    Raises:
        BadValue: the class is not a frozen dataclass that is derived from `Edit` and has all its methods.
        NameTaken: another class has that name.
    """
    if isinstance(cls, str):
        return partial(_registered, package=as_package(cls))
    return _registered(cls, "" if in_library(cls) else as_package(cls.__module__))


def _registered(cls: type[Any], package: str) -> type[Any]:
    refuse_no_edit(cls)
    name = f"{package}>{cls.__name__}" if package else cls.__name__
    known = EDITS.get(name, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise NameTaken(
            f"{name!r} is the edit {known.__qualname__} of the module {known.__module__!r} already; register yours "
            'under another package, as in @edit("package")'
        )
    cls.__init__ = _with_flags(cls.__init__, [field.name for field in fields(cls) if field.type in (bool, "bool")])
    cls.__call__ = _from_snapshot_to_snapshot(cls.__call__)
    EDITS[name] = cls
    return cls


def in_library(cls: type[Any]) -> bool:
    """Whether a class is part of this library. Documents name it without a package.

    >>> in_library(Edit), in_library(int)
    (True, False)
    """
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def as_package(name: str) -> str:
    """The name of a package of edits.

    Raises:
        BadValue: the name is empty or contains `>`.
    """
    if not name or ">" in name:
        raise BadValue(f"the package of an edit must be a name without '>', not {name!r}")
    return name


def refuse_no_edit(cls: Any) -> None:
    """Raises BadValue for a class that cannot be registered as an edit."""
    if not isinstance(cls, type) or not issubclass(cls, Edit):
        raise BadValue(f"{_named(cls)} is not derived from Edit, ChannelEdit or GraphEdit, so it cannot be an edit")
    if not _is_frozen_dataclass(cls):
        raise BadValue(f"{_named(cls)} is not a frozen dataclass: write @dataclass(frozen=True) below @edit")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise BadValue(f"{_named(cls)} does not define {', '.join(missing)}, which its base class asks for")
    if "edit" in {field.name for field in fields(cls)}:  # type: ignore[arg-type]
        raise BadValue(f"{_named(cls)} has a field 'edit', which has a meaning in documents; give it another name")


def _is_frozen_dataclass(cls: Any) -> bool:
    """Whether a class itself is a frozen dataclass, and not only one that it is derived from."""
    return "__dataclass_fields__" in vars(cls) and cls.__dataclass_params__.frozen


def _named(cls: Any) -> str:
    return cls.__qualname__ if isinstance(cls, type) else kind_of(cls)


def _with_flags(init: Callable[..., None], flags: list[str]) -> Callable[..., None]:
    """A constructor of a frozen dataclass that checks the fields which are flags."""

    @wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        refuse_misspelt(init, kwargs)
        init(self, *args, **kwargs)
        for name in flags:
            object.__setattr__(self, name, as_flag(getattr(self, name), name))

    return checked


def _from_snapshot_to_snapshot(call: Callable[..., Any]) -> Callable[..., Snapshot]:
    """The call of an edit that checks its argument and its result."""

    @wraps(call)
    def checked(self: Any, snapshot: Any) -> Snapshot:
        return as_snapshot(call(self, as_snapshot(snapshot)), f"the result of {type(self).__name__}")

    return checked
