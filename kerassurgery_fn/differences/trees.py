"""Compares and changes nested dicts and lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerassurgery_fn.errors import OtherModel
from kerassurgery_fn.values.frozen import FrozenDict, FrozenList, Location, freeze

ABSENT = object()


def changes(old: Any, new: Any, place: Location = ()) -> Iterator[tuple[Location, Any, Any]]:
    """Every place at which two trees differ, with the old and the new value; `ABSENT` if there is no value.

    Lists of equal length are compared item by item, other lists as a whole. 1, 1.0 and true are different values.

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


def apply(tree: Any, values: Mapping[str, Any], dropped: Sequence[str], name: str = "the tree") -> Any:
    """The tree with new values and without dropped parts. Everything else is shared with the old tree.

    Args:
        tree: frozen dicts and lists.
        values: JSON pointer -> new value.
        dropped: JSON pointers of the parts to drop.
        name: the name of the tree in errors.

    Raises:
        OtherModel: the tree does not have one of the places.

    >>> apply(freeze({"units": 4, "bias": None}), {"/units": 2}, ["/bias"])
    {'units': 2}
    """
    changes_by_keys = {tuple(keys_of(pointer)): value for pointer, value in values.items()}
    changes_by_keys |= {tuple(keys_of(pointer)): ABSENT for pointer in dropped}
    try:
        return _apply(tree, changes_by_keys) if changes_by_keys else tree
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        places = ", ".join([*values, *dropped][:4])
        raise OtherModel(f"{name} does not have all of the places {places} ({error!r})") from None


def _apply(tree: Any, values: Mapping[tuple[str, ...], Any]) -> Any:
    if () in values:
        return freeze(values[()])
    below: dict[str, dict[tuple[str, ...], Any]] = {}
    for keys, value in values.items():
        below.setdefault(keys[0], {})[keys[1:]] = value
    if isinstance(tree, list):
        items = list(tree)
        for key, inner in below.items():
            items[int(key)] = _apply(items[int(key)], inner)
        return FrozenList(items)
    changed = dict(tree)
    for key, inner in below.items():
        if inner.get((), None) is ABSENT:
            del changed[key]
        else:
            changed[key] = _apply(changed.get(key), inner)
    return FrozenDict(changed)


def pointer(place: Location) -> str:
    """A place as a JSON pointer (RFC 6901).

    >>> pointer(("config", "a/b", 0))
    '/config/a~1b/0'
    """
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in place)


def keys_of(text: str) -> list[str]:
    """The keys of a JSON pointer; the indices of lists are strings, too.

    >>> keys_of("/config/a~1b/0")
    ['config', 'a/b', '0']
    """
    return [key.replace("~1", "/").replace("~0", "~") for key in text.split("/")[1:]]
