"""Converts between `config.json` of a `.keras` file and the record of a snapshot."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.archive.layer_groups import SHARED_ID
from kerassurgery_fn.errors import BadFile, NotAGraph
from kerassurgery_fn.graph import check_record, is_model

TENSORS = ("input_layers", "output_layers")


def to_record(config: Any, source: str) -> dict[str, Any]:
    """The record of a model: its saved config without marks of shared objects and compile configs of nested models.

    Raises:
        BadFile: the config is no record of a model.
        NotAGraph: the model is subclassed, so that its config is not a graph of layers.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict) or "class_name" not in config:
        raise BadFile(f"{source} is not the config of a model")
    if not is_model(config):
        raise NotAGraph(
            f"{source}: the model is of the class {config['class_name']!r}, and its config is no graph of layers; load "
            "it with Keras and capture the Functional models inside it"
        )
    record = _without_marks({**config, "config": _uncompiled(config["config"])})
    if _is_older(record):
        record = _as_today(record)
    check_record(record, f"{source}: the model")
    return record


def _without_marks(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_marks(item) for key, item in tree.items() if key != SHARED_ID}
    return [_without_marks(item) for item in tree] if isinstance(tree, list) else tree


def _uncompiled(tree: Any) -> Any:
    """A config without the compile configs of the models in it. A model that is code keeps it, as a layer does."""
    if isinstance(tree, list):
        return [_uncompiled(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    omitted = {"compile_config"} if is_model(tree) else set()
    return {key: _uncompiled(item) for key, item in tree.items() if key not in omitted}


def _is_older(tree: Any) -> bool:
    """Whether a record is of Keras before 3.11, which does not write whether an input is optional."""
    if isinstance(tree, list):
        return any(map(_is_older, tree))
    if not isinstance(tree, dict):
        return False
    config = tree.get("config")
    if tree.get("class_name") == "InputLayer" and isinstance(config, dict):
        return "optional" not in config
    return any(map(_is_older, tree.values()))


def _as_today(tree: Any) -> Any:
    """A record of an older Keras in the form of today.

    An older Keras writes lists for `Model(x, y)` as well as for `Model([x], [y])`. The first is what most people write.
    """
    if isinstance(tree, list):
        return [_as_today(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: _single(item) if key in TENSORS else _as_today(item) for key, item in tree.items()}
    if tree.get("class_name") == "InputLayer" and isinstance(tree.get("config"), dict):
        tree["config"].setdefault("optional", False)
    return tree


def _single(tensors: Any) -> Any:
    """
    >>> _single([["a", 0, 0]]), _single([["a", 0, 0], ["b", 0, 0]])
    (['a', 0, 0], [['a', 0, 0], ['b', 0, 0]])
    """
    is_single = isinstance(tensors, list) and len(tensors) == 1 and isinstance(tensors[0], list)
    return tensors[0] if is_single else tensors
