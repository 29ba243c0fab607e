"""The classes that a document can name: the edits, and the dataclasses in the type hints of their fields.

A class of this library is named by its name, any other class by `package>Class`. For an edit, the package is the one
with which it is registered; for a dataclass in a field, it is the module of the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from toolz import keyfilter

from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.edits import EDITS
from kerassurgery_fn.edits.base import in_library
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.values.snapshot import Snapshot, Training

PLANS: dict[str, type] = {"Plan": Plan, "AtOnce": AtOnce, "MadeFor": MadeFor}
VALUES: dict[str, type] = {"Snapshot": Snapshot, "Training": Training}


def edit_classes() -> dict[str, type]:
    """Every registered edit class by name."""
    return {**dict(sorted(EDITS.items())), **PLANS}


def library_edits() -> dict[str, type]:
    """Every edit class of this library by name."""
    return keyfilter(is_library_name, edit_classes())


def is_library_name(name: str) -> bool:
    """Whether a name in a document is the name of a class of this library.

    >>> is_library_name("DeleteLayer"), is_library_name("mine>DropSmall")
    (True, False)
    """
    return ">" not in name


def name_of(cls: type, classes: Mapping[str, type]) -> str | None:
    """The name of a class in a table of classes; None if the table does not have the class."""
    return next((name for name, other in classes.items() if other is cls), None)


def value_classes(more: tuple[type, ...] = ()) -> dict[str, type]:
    """The dataclasses that the fields of edits and of the `more` classes can contain, by name, including `more`."""
    return values_in(tuple(edit_classes().values()), more)


@cache
def values_in(edits: tuple[type, ...], more: tuple[type, ...]) -> dict[str, type]:
    """The result of `value_classes` for some classes of edits."""
    values = [*VALUES.values(), *more]
    in_fields = [cls for cls in mentioned([*edits, *values]) if cls not in edits]
    return {document_name(cls): cls for cls in [*values, *in_fields]}


def document_name(cls: type) -> str:
    """The name of a dataclass in documents: the name in the table for an edit, otherwise the name of the class.

    >>> document_name(Plan), document_name(Snapshot)
    ('Plan', 'Snapshot')
    """
    return name_of(cls, edit_classes()) or (cls.__name__ if in_library(cls) else f"{cls.__module__}>{cls.__name__}")


def mentioned(classes: Iterable[type]) -> Iterator[type]:
    """The dataclasses in the type hints of the fields of some dataclasses, and recursively in their own fields.

    >>> from kerassurgery_fn.documents.preconditions import MadeFor
    >>> [cls.__name__ for cls in mentioned([MadeFor])]
    ['Fingerprint']
    """
    waiting, seen = list(classes), set(classes)
    while waiting:
        for hint in field_hints(waiting.pop()).values():
            for cls in parts(hint):
                if isinstance(cls, type) and is_dataclass(cls) and cls not in seen:
                    seen.add(cls)
                    waiting.append(cls)
                    yield cls


def field_hints(cls: type) -> Mapping[str, Any]:
    """The type hint of each field of a dataclass. It is `Any` if the hints of the class cannot be evaluated, because
    the class is defined in a function and names another class of this function."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError:
        hints = {}
    return {f.name: hints.get(f.name, Any) for f in fields(cls)}


def parts(hint: Any) -> Iterator[Any]:
    """A type hint and all type hints inside it.

    >>> list(parts(tuple[int, ...]))[:2]
    [tuple[int, ...], <class 'int'>]
    """
    yield hint
    for inner in get_args(hint):
        yield from parts(inner)
