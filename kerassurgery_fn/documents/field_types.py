"""Which classes a document may name: the edits, and the dataclasses that the hints of their fields mention."""

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
    """Every class of edits by its name."""
    return {**dict(sorted(EDITS.items())), **PLANS}


def value_classes(more: tuple[type, ...] = ()) -> dict[str, type]:
    """Every class of which instances may stand in the fields of edits, by its name, and `more` with theirs."""
    return _value_classes(tuple(edit_classes().values()), more)


@cache
def _value_classes(edits: tuple[type, ...], more: tuple[type, ...]) -> dict[str, type]:
    own = [*VALUES.values(), *more]
    others = [cls for cls in mentioned([*edits, *own]) if cls not in edits]
    return {cls.__name__: cls for cls in [*own, *others]}


def mentioned(classes: Iterable[type]) -> Iterator[type]:
    """The dataclasses that the hints of the fields of dataclasses mention, and those that these mention.

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
    """The hint of each field of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls)}


def parts(hint: Any) -> Iterator[Any]:
    """A type and all types within it.

    >>> list(parts(tuple[int, ...]))[:2]
    [tuple[int, ...], <class 'int'>]
    """
    yield hint
    for inner in get_args(hint):
        yield from parts(inner)
