"""Several layers by one string: a name, a pattern, a class.

A **selector** is what every edit takes where it takes a layer:

- `"conv_1"`, `"backbone/conv_1"`: one layer, by its name or path;
- `"block*_conv"`, `"backbone/*"`: all layers whose path or name fits, as a shell would match file names;
- `"*@Dropout"`, `"block*@Conv2D,Dense"`: those of them that are of one of these classes; `of_class` writes that;
- a tuple of selectors: the layers of each. An empty one names none: an edit of several layers then changes nothing,
  and an edit that needs one layer raises `UnknownLayer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from kerassurgery_fn.arguments import as_string, items_of, meant, shortened, takes
from kerassurgery_fn.errors import AmbiguousLayer, BadValue, UnknownLayer
from kerassurgery_fn.graph.model_graph import Graph
from kerassurgery_fn.graph.records import Record

Selector = str | tuple[str, ...]


@takes(among=as_string)
def of_class(*classes: Any, among: str = "*") -> str:
    """The selector of all layers of some classes.

    Args:
        *classes: names of classes, registered names (`package>Class`), or the classes themselves; one or several.
        among: a pattern that their paths or names fit.

    >>> of_class("Conv2D", "Dense"), of_class("Dropout", among="head_*")
    ('*@Conv2D,Dense', 'head_*@Dropout')
    """
    return f"{among}@{','.join(name for one in classes for name in class_names(one))}"


def class_names(given: Any) -> list[str]:
    """The name of a class, given that or the class itself; several names of several of these.

    >>> class_names("Dense"), class_names(["Dense", dict])
    (['Dense'], ['Dense', 'dict'])
    """
    if isinstance(given, str) and given:
        return [given]
    if isinstance(given, type):
        return [given.__name__]
    if isinstance(given, (list, tuple, set, frozenset)) and given:
        return [name for one in given for name in class_names(one)]
    raise BadValue(f"a class of layers is given by its name or as itself, not as {shortened(given)}")


def as_selector(given: Any) -> Selector:
    """A selector as data: a Keras layer goes by its name, lists and the like become tuples.

    >>> as_selector("conv"), as_selector(["a*", "b"])
    ('conv', ('a*', 'b'))
    """
    if isinstance(given, str):
        return given
    if isinstance(name := getattr(given, "name", None), str):
        return name
    if (items := items_of(given)) is not None:
        return tuple(one for item in items for one in selectors(item))
    raise UnknownLayer(
        f"{shortened(given)} names no layer: give a name, a path, a pattern, a Keras layer, or several of these"
    )


def selectors(given: Any) -> tuple[str, ...]:
    """The selectors, each a string, that a selector is made of.

    >>> selectors("conv"), selectors(["a*", "b"])
    (('conv',), ('a*', 'b'))
    """
    selector = as_selector(given)
    return (selector,) if isinstance(selector, str) else selector


def is_pattern(selector: Selector, graph: Graph) -> bool:
    """Whether a selector may stand for several layers."""
    return not isinstance(selector, str) or (
        selector not in graph.places and any(mark in selector for mark in ("*", "?", "[", "@"))
    )


def find_layer(graph: Graph, name: Any) -> str:
    """The path of a layer, given its path, its name where that is unambiguous, or a Keras layer.

    Raises:
        UnknownLayer: no layer has that name.
        AmbiguousLayer: layers of several nested models have it.
    """
    name = name if isinstance(name, str) else getattr(name, "name", name)
    if isinstance(name, str) and name in graph.places:
        return name
    matches = [path for path in graph.places if path.endswith(f"/{name}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise AmbiguousLayer(f"{len(matches)} layers are named {name!r}: {', '.join(matches)}; give one of these paths")
    raise UnknownLayer(f"no layer named {name!r} among {len(graph.places)} layers; {meant(name, graph.places)}")


def find_layers(graph: Graph, selector: Selector, records: Mapping[str, Record] | None = None) -> list[str]:
    """The paths of the layers that a selector names, in the order of the config.

    Args:
        graph: the model.
        selector: see above.
        records: path -> record of the layers to choose among; all by default, those in nested models included.

    Raises:
        UnknownLayer: it names none.
        AmbiguousLayer: a bare name is that of layers of several nested models.
    """
    if not is_pattern(selector, graph):
        return [find_layer(graph, selector)]
    if isinstance(selector, tuple):
        chosen = {path for one in selector for path in find_layers(graph, one, records)}
        return sorted(chosen, key=graph.places.__getitem__)
    records = graph.records if records is None else records
    pattern, _, classes = selector.partition("@")
    found = [path for path, record in records.items() if _fits(path, record, pattern, classes.split(","))]
    if not found:
        known = ", ".join(dict.fromkeys(record["class_name"] for record in records.values()))
        raise UnknownLayer(f"no layer fits {selector!r} among {len(records)} layers of the classes {known}")
    return sorted(found, key=graph.places.__getitem__)


def find_one(graph: Graph, selector: Selector, records: Mapping[str, Record] | None = None) -> str:
    """The path of the one layer that a selector names; takes and raises what `find_layers` does.

    Raises:
        UnknownLayer: it names none; an empty list names none.
        AmbiguousLayer: it names several.
    """
    paths = find_layers(graph, selector, records)
    if not paths:
        raise UnknownLayer(f"{list(selector)!r} names no layer, and one is needed; give a name or a path")
    if len(paths) > 1:
        raise AmbiguousLayer(f"{selector!r} names {len(paths)} layers: {', '.join(paths[:8])}; name one")
    return paths[0]


def _fits(path: str, record: Record, pattern: str, classes: list[str]) -> bool:
    known = {record["class_name"], record.get("registered_name")}
    named = fnmatchcase(path, pattern or "*") or fnmatchcase(path.rpartition("/")[2], pattern or "*")
    return named and (classes == [""] or bool(known & set(classes)))
