"""Reads the records of layers and models, as Keras writes them: names, nested and wrapped models, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from kerassurgery_fn.errors import BrokenSnapshot, SurgeryError
from kerassurgery_fn.values.frozen import Location
from kerassurgery_fn.values.named_tuples import new
from kerassurgery_fn.values.snapshot import Record as Record

Leaf = TypeVar("Leaf")

# Keys that the library adds to a layer's record, beside the config.
TRAINED = "trainable_weights"  # the indices of the trainable weights, if the config does not determine them
STATE_WEIGHTS = "state_weights"  # the indices of the weights that are never trained, for classes that are not of Keras
WEIGHT_GROUPS = (
    "weight_groups"  # group of a weight file -> the indices of its weights, for custom layers made of layers
)
WEIGHTS_BY_NAME = "weights_by_name"  # whether weights are in the order of these groups, not in that of get_weights()
MEASURED = "measured"  # the result of running the code of a layer, see `rules/measured.py`


def is_model(record: Record) -> bool:
    """Whether a record is the record of a model whose graph can be read.

    >>> is_model({"class_name": "Sequential", "config": {"layers": []}}), is_model({"config": {"units": 3}})
    (True, False)
    """
    config = record.get("config")
    return (
        isinstance(config, dict)
        and isinstance(config.get("layers"), list)
        and (record.get("class_name") == "Sequential" or bool({"input_layers", "build_input_shape"} & config.keys()))
    )


def wrapped_model(record: Record, where: Location = ()) -> tuple[Record, Location] | None:
    """The record of the model that a TimeDistributed layer wraps, and the place of that record; None for other layers.

    >>> model = {"class_name": "Sequential", "config": {"layers": []}}
    >>> wrapped_model({"class_name": "TimeDistributed", "config": {"layer": model}})
    ({'class_name': 'Sequential', 'config': {'layers': []}}, ('config', 'layer'))
    """
    if record.get("class_name") != "TimeDistributed" or not isinstance(record["config"].get("layer"), dict):
        return None
    record, where = record["config"]["layer"], (*where, "config", "layer")
    return (record, where) if is_model(record) else wrapped_model(record, where)


def model_in(record: Record) -> tuple[Record, Location] | None:
    """The record of a nested or wrapped model, and its place in the record of the layer; None for other layers.

    >>> model_in({"class_name": "Sequential", "config": {"layers": []}})
    ({'class_name': 'Sequential', 'config': {'layers': []}}, ())
    """
    return (record, ()) if is_model(record) else wrapped_model(record)


class Placed(NamedTuple):
    """A layer of a model or of a model nested in it: its path, its record, and the place of the record."""

    path: str
    record: Record
    place: Location


def layers_in(record: Record, place: Location = (), path: str = "") -> Iterator[Placed]:
    """The layers of a model, followed by the layers of each nested or wrapped model.

    >>> model = {"class_name": "Sequential", "config": {"layers": [{"class_name": "ReLU", "config": {"name": "r"}}]}}
    >>> [(layer.path, layer.place) for layer in layers_in(model, path="net")]
    [('net/r', ('config', 'layers', 0))]
    """
    scope = f"{path}/" if path else ""
    layers = [
        new(Placed, (f"{scope}{name_of(layer)}", layer, (*place, "config", "layers", index)))
        for index, layer in enumerate(record["config"]["layers"])
    ]
    yield from layers
    for layer in layers:
        if inner := model_in(layer.record):
            yield from layers_in(inner[0], (*layer.place, *inner[1]), layer.path)


@contextmanager
def reading_config() -> Iterator[None]:
    """A context that turns every error into a BrokenSnapshot, because a config can be broken in any way."""
    try:
        yield
    except SurgeryError:
        raise
    except Exception as error:
        raise BrokenSnapshot(
            f"the config is not one of Keras 3 ({type(error).__name__}: {error}); take snapshots with capture()"
        ) from error


def is_functional(record: Record) -> bool:
    """Whether a record is the record of a Functional model."""
    return is_model(record) and "input_layers" in record["config"]


def is_input(record: Record) -> bool:
    return record["class_name"] == "InputLayer"


def name_of(record: Record) -> str:
    """The name of a layer. It is a key of the record in a Functional model, or if the class writes no name into the
    config; otherwise it is in the config."""
    return record.get("name") or record["config"]["name"]


def with_name(record: Record, name: str) -> Record:
    """The record of a layer with another name: in the config if the class writes the name there, otherwise as a key of
    the record.

    >>> with_name({"config": {"name": "a"}}, "b"), with_name({"config": {"width": 3}}, "b")
    ({'config': {'name': 'b'}}, {'config': {'width': 3}, 'name': 'b'})
    """
    if "name" in record["config"]:
        return {**record, "config": {**record["config"], "name": name}}
    return {**record, "name": name}


def join_path(*parts: str) -> str:
    """The path of a layer from the names of the models around it and its own name; empty parts are left out.

    >>> join_path("", "conv"), join_path("backbone", "conv")
    ('conv', 'backbone/conv')
    """
    return "/".join(part for part in parts if part)


def leaves(tree: Any) -> list[Any]:
    """The leaves of nested dicts and lists, dicts in order of their keys, as Keras flattens them.

    >>> leaves({"b": 1, "a": [2, 3]})
    [2, 3, 1]
    """
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, list):
        return [leaf for item in tree for leaf in leaves(item)]
    return [tree]


def leaves_of(kind: type[Leaf], tree: Any) -> list[Leaf]:
    """The leaves of one type, in the order of `leaves`. Analyses ask every call for its tensors, so this is fast.

    >>> leaves_of(int, {"b": 1, "a": ["x", 3]})
    [3, 1]
    """
    gathered: list[Leaf] = []
    _gather(kind, tree, gathered)
    return gathered


def _gather(kind: type[Leaf], tree: Any, gathered: list[Leaf]) -> None:
    if isinstance(tree, kind):
        gathered.append(tree)
    elif isinstance(tree, list):
        for item in tree:
            if isinstance(item, kind):  # nearly always
                gathered.append(item)
            else:
                _gather(kind, item, gathered)
    elif isinstance(tree, dict):
        for key in sorted(tree):
            _gather(kind, tree[key], gathered)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Nested dicts and lists with every leaf replaced.

    >>> map_leaves(str, {"a": [1, 2]})
    {'a': ['1', '2']}
    """
    if isinstance(tree, dict):
        return {key: map_leaves(function, item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [map_leaves(function, item) for item in tree]
    return function(tree)


def triples(tree: Any) -> Iterator[list[Any]]:
    """The [layer, node, tensor] leaves of `input_layers` or `output_layers`."""
    if isinstance(tree, list) and len(tree) == 3 and isinstance(tree[0], str):
        yield tree
    elif isinstance(tree, dict):
        for key in sorted(tree):
            yield from triples(tree[key])
    else:
        for item in tree:
            yield from triples(item)
