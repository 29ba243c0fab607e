"""The classes that a document may name: the edits, and the dataclasses in the type hints of their fields.

Classes of this library go by their name, all others by `package>Class`: edits under the package with which they are
registered, dataclasses in their fields under their module.
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
    """Whether a document that names a class so means a class of this library.

    >>> is_library_name("DeleteLayer"), is_library_name("mine>DropSmall")
    (True, False)
    """
    return ">" not in name


def name_of(cls: type, classes: Mapping[str, type]) -> str | None:
    """The name of a class in a table of classes; None if it is not there."""
    return next((name for name, other in classes.items() if other is cls), None)


def value_classes(more: tuple[type, ...] = ()) -> dict[str, type]:
    """The dataclasses that the fields of edits and of the `more` classes may contain, by name; `more` included."""
    return values_in(tuple(edit_classes().values()), more)


@cache
def values_in(edits: tuple[type, ...], more: tuple[type, ...]) -> dict[str, type]:
    """The dataclasses that the fields of some classes of edits may contain, as `value_classes` has them."""
    values = [*VALUES.values(), *more]
    in_fields = [cls for cls in mentioned([*edits, *values]) if cls not in edits]
    return {document_name(cls): cls for cls in [*values, *in_fields]}


def document_name(cls: type) -> str:
    """The name by which documents name a dataclass: an edit by its name in the table, another one by its own.

    >>> document_name(Plan), document_name(Snapshot)
    ('Plan', 'Snapshot')
    """
    return name_of(cls, edit_classes()) or (cls.__name__ if in_library(cls) else f"{cls.__module__}>{cls.__name__}")


def mentioned(classes: Iterable[type]) -> Iterator[type]:
    """The dataclasses in the type hints of the fields of some dataclasses, and in the hints of their fields in turn.

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
    """The type hint of each field of a dataclass; `Any` where the hints of a class cannot be evaluated, as those of a
    class in a function that name another one there."""
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
