"""Selectors: one string for one or several layers, by name, pattern or class.

Every edit takes a **selector** where it takes a layer:

- `"conv_1"`, `"backbone/conv_1"`: one layer, by its name or path;
- `"block*_conv"`, `"backbone/*"`: all layers whose path or name matches the pattern, as in a shell;
- `"*@Dropout"`, `"block*@Conv2D,Dense"`: the layers among them that have one of these classes, see `of_class`;
- a tuple of selectors: the layers of each of them. An empty tuple selects no layer: an edit of several layers then
  changes nothing, and an edit that needs a layer raises `UnknownLayer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from toolz import concat, unique

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
        among: a pattern that the paths or names of the layers match.

    >>> of_class("Conv2D", "Dense"), of_class("Dropout", among="head_*")
    ('*@Conv2D,Dense', 'head_*@Dropout')
    """
    return f"{among}@{','.join(concat(map(class_names, classes)))}"


def class_names(classes: Any) -> list[str]:
    """The names of one or several classes; each is a name or a class object.

    >>> class_names("Dense"), class_names(["Dense", dict])
    (['Dense'], ['Dense', 'dict'])
    """
    if isinstance(classes, str) and classes:
        return [classes]
    if isinstance(classes, type):
        return [classes.__name__]
    if isinstance(classes, (list, tuple, set, frozenset)) and classes:
        return list(concat(map(class_names, classes)))
    raise BadValue(f"{shortened(classes)} is not a class of layers; give the class or its name")


def as_selector(value: Any) -> Selector:
    """A selector as data: the name of a Keras layer, a string, or a tuple of strings.

    >>> as_selector("conv"), as_selector(["a*", "b"])
    ('conv', ('a*', 'b'))
    """
    if isinstance(value, str):
        return value
    if isinstance(name := getattr(value, "name", None), str):
        return name
    if (items := items_of(value)) is not None:
        return tuple(concat(map(selectors, items)))
    raise UnknownLayer(
        f"{shortened(value)} is not a layer: give a name, a path, a pattern, a Keras layer, or several of these"
    )


def selectors(value: Any) -> tuple[str, ...]:
    """The strings of a selector.

    >>> selectors("conv"), selectors(["a*", "b"])
    (('conv',), ('a*', 'b'))
    """
    selector = as_selector(value)
    return (selector,) if isinstance(selector, str) else selector


def is_pattern(selector: Selector, graph: Graph) -> bool:
    """Whether a selector can select several layers."""
    return not isinstance(selector, str) or (
        selector not in graph.places and any(mark in selector for mark in ("*", "?", "[", "@"))
    )


def find_layer(graph: Graph, name: Any) -> str:
    """The path of a layer.

    Args:
        graph: the model.
        name: the path of the layer, its name if only one layer has it, or the Keras layer.

    Raises:
        UnknownLayer: no layer has this name.
        AmbiguousLayer: layers of several nested models have this name.
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
    """The paths of the selected layers, in the order of the config.

    Args:
        graph: the model.
        selector: the selector, see the docstring of this module.
        records: path -> record of the layers from which the selector selects; by default all layers, including the
            layers of nested models.

    Raises:
        UnknownLayer: the selector selects no layer.
        AmbiguousLayer: layers of several nested models have the name.
    """
    if not is_pattern(selector, graph):
        return [find_layer(graph, selector)]
    if isinstance(selector, tuple):
        selected = {path for part in selector for path in find_layers(graph, part, records)}
        return sorted(selected, key=graph.places.__getitem__)
    records = graph.records if records is None else records
    paths = [path for path, record in records.items() if matches(path, record, selector)]
    if not paths:
        known = ", ".join(unique(record["class_name"] for record in records.values()))
        raise UnknownLayer(f"no layer matches {selector!r} among {len(records)} layers of the classes {known}")
    return sorted(paths, key=graph.places.__getitem__)


def find_one(graph: Graph, selector: Selector, records: Mapping[str, Record] | None = None) -> str:
    """The path of the only layer that a selector selects. The arguments are those of `find_layers`.

    Raises:
        UnknownLayer: the selector selects no layer.
        AmbiguousLayer: the selector selects several layers.
    """
    paths = find_layers(graph, selector, records)
    if not paths:
        raise UnknownLayer(f"{list(selector)!r} selects no layer, but one is needed; give a name or a path")
    if len(paths) > 1:
        raise AmbiguousLayer(f"{selector!r} selects {len(paths)} layers: {', '.join(paths[:8])}; select one of them")
    return paths[0]


def matches(path: str, record: Record, selector: str) -> bool:
    """Whether a layer matches a name or a pattern.

    >>> conv = {"class_name": "Conv2D"}
    >>> matches("stem/conv_1", conv, "conv_*"), matches("conv_1", conv, "*@Dense"), matches("stem/a", conv, "stem/*")
    (True, False, True)
    """
    pattern, _, class_list = selector.partition("@")
    classes = class_list.split(",")
    names = {record["class_name"], record.get("registered_name")}
    has_path = fnmatchcase(path, pattern or "*") or fnmatchcase(path.rpartition("/")[2], pattern or "*")
    return has_path and (classes == [""] or bool(names & set(classes)))
