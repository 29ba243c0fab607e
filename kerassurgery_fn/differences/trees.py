"""Differences of nested dicts and lists, place by place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerassurgery_fn.errors import OtherModel
from kerassurgery_fn.values.frozen import FrozenDict, FrozenList, Location, freeze

ABSENT = object()


def changes(old: Any, new: Any, place: Location = ()) -> Iterator[tuple[Location, Any, Any]]:
    """Every place at which two trees differ, with what stands there in each; `ABSENT` where nothing does.

    Lists of one length are compared item by item, others as a whole. 1, 1.0 and true are three things.

    >>> list(changes({"units": 4, "shape": [None, 3]}, {"units": 2, "shape": [None, 3]}))
    [(('units',), 4, 2)]
    """
    if old is new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            yield from changes(old.get(key, ABSENT), new.get(key, ABSENT), (*place, key))
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from changes(before, after, (*place, index))
    elif type(old) is not type(new) or old != new:
        yield place, old, new


def apply(tree: Any, set_to: Mapping[str, Any], dropped: Sequence[str], name: str = "the tree") -> Any:
    """A tree with values set and parts dropped, given by their pointers; what does not change is shared. `name` is
    what errors call it.

    Raises:
        OtherModel: the tree has no such place.

    >>> apply(freeze({"units": 4, "bias": None}), {"/units": 2}, ["/bias"])
    {'units': 2}
    """
    steps = {tuple(steps_of(pointer)): value for pointer, value in set_to.items()}
    steps |= {tuple(steps_of(pointer)): ABSENT for pointer in dropped}
    try:
        return _apply(tree, steps) if steps else tree
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise OtherModel(f"{name} lacks one of the places {', '.join([*set_to, *dropped][:4])} ({error!r})") from None


def _apply(tree: Any, steps: Mapping[tuple[str, ...], Any]) -> Any:
    if () in steps:
        return freeze(steps[()])
    below: dict[str, dict[tuple[str, ...], Any]] = {}
    for place, value in steps.items():
        below.setdefault(place[0], {})[place[1:]] = value
    if isinstance(tree, list):
        items = list(tree)
        for key, inner in below.items():
            items[int(key)] = _apply(items[int(key)], inner)
        return FrozenList(items)
    made = dict(tree)
    for key, inner in below.items():
        if inner.get((), None) is ABSENT:
            del made[key]
        else:
            made[key] = _apply(made.get(key), inner)
    return FrozenDict(made)


def pointer(place: Location) -> str:
    """A place as a JSON pointer (RFC 6901).

    >>> pointer(("config", "a/b", 0))
    '/config/a~1b/0'
    """
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in place)


def steps_of(text: str) -> list[str]:
    """The keys of a JSON pointer; indices of lists are strings too.

    >>> steps_of("/config/a~1b/0")
    ['config', 'a/b', '0']
    """
    return [key.replace("~1", "/").replace("~0", "~") for key in text.split("/")[1:]]
