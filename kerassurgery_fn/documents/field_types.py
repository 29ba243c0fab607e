"""The classes that a document may name: the edits, and the dataclasses in the type hints of their fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from kerassurgery_fn.documents.preconditions import MadeFor
from kerassurgery_fn.edits import EDITS
from kerassurgery_fn.edits.plan import AtOnce, Plan
from kerassurgery_fn.values.snapshot import Snapshot, Training

PLANS: dict[str, type] = {"Plan": Plan, "AtOnce": AtOnce, "MadeFor": MadeFor}
VALUES: dict[str, type] = {"Snapshot": Snapshot, "Training": Training}


def edit_classes() -> dict[str, type]:
    """Every edit class by name."""
    return {**dict(sorted(EDITS.items())), **PLANS}


def value_classes(more: tuple[type, ...] = ()) -> dict[str, type]:
    """The dataclasses that the fields of edits and of the `more` classes may contain, by name; `more` included."""
    return _value_classes(tuple(edit_classes().values()), more)


@cache
def _value_classes(edits: tuple[type, ...], more: tuple[type, ...]) -> dict[str, type]:
    values = [*VALUES.values(), *more]
    in_fields = [cls for cls in mentioned([*edits, *values]) if cls not in edits]
    return {cls.__name__: cls for cls in [*values, *in_fields]}


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
    """The type hint of each field of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls)}


def parts(hint: Any) -> Iterator[Any]:
    """A type hint and all type hints inside it.

    >>> list(parts(tuple[int, ...]))[:2]
    [tuple[int, ...], <class 'int'>]
    """
    yield hint
    for inner in get_args(hint):
        yield from parts(inner)
