"""Immutable dicts and lists, and functions that return changed copies. Unchanged parts are shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

Location = tuple[str | int, ...]
PLAIN = frozenset({str, int, float, bool, type(None)})  # the types of most values in a record


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError(
        f"a {type(self).__name__} cannot be changed; build a new one with set_in() or {{**old, key: value}}"
    )


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed. It compares, prints, pickles and dumps as JSON like a dict.

    >>> FrozenDict(a=1) == {"a": 1}
    True
    """

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __copy__(self) -> FrozenDict:
        return self

    def __deepcopy__(self, _: object) -> FrozenDict:
        return self

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed. It compares, prints, pickles and dumps as JSON like a list.

    >>> FrozenList([1, 2]) == [1, 2]
    True
    """

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __copy__(self) -> FrozenList:
        return self

    def __deepcopy__(self, _: object) -> FrozenList:
        return self

    def __reduce__(self) -> tuple[type, tuple[list[Any]]]:
        return FrozenList, (list(self),)


def freeze(value: Any) -> Any:
    """The value with immutable dicts and lists in place of all dicts, lists and tuples. Frozen parts are shared.

    >>> freeze({"a": [1, (2, 3)]})
    {'a': [1, [2, 3]]}
    """
    if type(value) in PLAIN or isinstance(value, (FrozenDict, FrozenList)):
        return value
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return FrozenList([freeze(item) for item in value])
    return value


def thaw(value: Any) -> Any:
    """A deep copy of the value with ordinary dicts and lists, for functions that change their arguments.

    >>> type(thaw(freeze({"a": []}))["a"])
    <class 'list'>
    """
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return value


def get_in(value: Any, location: Iterable[str | int]) -> Any:
    """The part of a nested value at a location.

    >>> get_in({"a": [1, {"b": 2}]}, ("a", 1, "b"))
    2
    """
    for key in location:
        value = value[key]
    return value


def set_in(value: Any, location: Location, new: Any) -> Any:
    """The nested value with one part replaced. All other parts are shared.

    >>> set_in(freeze({"a": [1, 2], "b": 3}), ("a", 0), 9)
    {'a': [9, 2], 'b': 3}
    """
    return set_all(value, {location: new})


def set_all(value: Any, changes: Mapping[Location, Any]) -> Any:
    """The nested value with the part at each location replaced. All other parts are shared.

    If no part changes, the result is the same object.

    >>> old = freeze({"a": [1, 2], "b": {"c": 3}})
    >>> new = set_all(old, {("a", 1): 5})
    >>> new, new["b"] is old["b"], set_all(old, {("a", 1): 2}) is old
    ({'a': [1, 5], 'b': {'c': 3}}, True, True)
    """
    tree: dict[Any, Any] = {}  # key -> a dict of the changes below it, or (new,) if the whole part is replaced
    for location, new in changes.items():
        below: Any = tree
        last: Any = ""
        for key in location:
            inner = below.get(last)
            if inner is None:
                inner = below[last] = {}
            elif type(inner) is tuple:
                break
            below, last = inner, key
        else:
            below[last] = (new,)
    return _changed({"": value}, tree)[""] if tree else value


def _changed(value: Any, changes: dict[Any, Any]) -> Any:
    """The nested value after changes, see `set_all`."""
    is_dict, changed = isinstance(value, dict), value
    for key, inner in changes.items():
        before = value[key]
        if type(inner) is dict:
            part = _changed(before, inner)
        else:
            part = before if _same(before, inner[0]) else freeze(inner[0])
        if part is before:
            continue
        if changed is value:
            changed = FrozenDict(value) if is_dict else FrozenList(value)
        if is_dict:
            dict.__setitem__(changed, key, part)
        else:
            list.__setitem__(changed, key, part)
    return changed


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal as JSON. 1, 1.0 and true are different values."""
    if a is b:
        return True
    if isinstance(b, (FrozenDict, FrozenList)) and a != b:  # a tuple in another value counts as a list
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(item, b[key]) for key, item in a.items())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)
