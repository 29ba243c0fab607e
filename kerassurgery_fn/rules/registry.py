"""The table of layer classes and operations: one record for each class, with all that the library knows about it.

To support a class, write one function under `@rule(...)` in the file of its family, and add one row to its test. The
function is the layer's call on channel maps instead of tensors: it takes the `Layer` and the arguments of the call,
with a tuple of axes in place of every tensor, and returns the axes of the outputs. The arguments of `rule` are the
other fields of the record, see `rule_fields`; their defaults are right for most classes. For example, the record of a
layer that adds a trained offset to each channel, and computes nothing across channels:

>>> @rule("mine>Offset", last=lambda config: "linear", equal_channels=True)
... def offset(layer, inputs, **_):
...     layer.weights(offset="c", c=inputs[-1])
...     return inputs
>>> RULES.pop("mine>Offset").equal_channels
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, wraps
from itertools import count
from typing import Any

from kerassurgery_fn.arguments import as_function, as_string, meant, takes
from kerassurgery_fn.errors import UnknownField
from kerassurgery_fn.graph import MEASURED
from kerassurgery_fn.rules.rule_fields import Channels, Rule
from kerassurgery_fn.rules.strictness import is_strict

LAYERS = ("keras.layers", "keras.src.layers", "keras._legacy.layers", "keras.src.legacy.layers")
OPERATIONS = ("keras.src.ops", "keras.ops", "keras.src.activations", "keras.src.quantizers")


class NoRule(Exception):
    """The library has no rule for a class, or the rule cannot follow this use of the class. The message follows the
    name of the layer."""


class RuleTable(dict[str, Rule]):
    """The records by class. Every change gives the table a new version number, which is never used again.

    >>> table = RuleTable()
    >>> before = table.version
    >>> table.update(Gate=Rule())
    >>> table.version > before
    True
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.version = next(_VERSIONS)


_VERSIONS = count()


def _counted(name: str) -> Callable[..., Any]:
    """A method of dict that changes it, followed by a new version number."""
    change = getattr(dict, name)

    @wraps(change)
    def counted(self: RuleTable, *args: Any, **kwargs: Any) -> Any:
        try:
            return change(self, *args, **kwargs)
        finally:  # after the change, so that results that are computed during the change belong to the old version
            self.version = next(_VERSIONS)

    return counted


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(RuleTable, _name, _counted(_name))

UNKNOWN = Rule(arguments=None)
RULES = RuleTable()


def state_of_rules() -> tuple[int, bool]:
    """What an analysis depends on besides the snapshot: the version of the rules, and whether they are strict."""
    return RULES.version, is_strict()


def rule_for(record: Mapping[str, Any]) -> Rule:
    """The rule for the class of a layer's record; `UNKNOWN` for a class without a rule.

    >>> rule_for({"module": "mine", "class_name": "Gate", "config": {}}) == UNKNOWN
    True
    """
    return RULES.get(key_of(record), UNKNOWN)


@takes(classes=as_string)
def rule(*classes: str, **known: Any) -> Callable[[Channels], Channels]:
    """Registers the record of classes of layers. The decorated function is the layer's call on channel maps.

    Args:
        *classes: names under which a rule is looked up, see `key_of`: `Dense` for a layer of Keras, `ops.Matmul` for
            an operation, `package>Class` for a layer registered with `keras.saving.register_keras_serializable`.
        **known: the other fields of the record, see `Rule`. Custom layers mostly need these:
            `approximate`, where a cut is not exact and why, in words; `last`, config -> the activation that the layer
            applies last to all of its output, such as `lambda config: config["activation"]`; `equal_channels=True`
            if channels can be copied.

    Raises:
        UnknownField: a record has no such field.
        BadValue: a class name or `approximate` is not a string.
    """

    def register(function: Channels) -> Channels:
        RULES.update(dict.fromkeys(classes, _record(classes, channels=as_function(function, "a rule"), **known)))
        return function

    _record(classes, **known)
    return register


def pins(reason: str, *classes: str, **known: Any) -> None:
    """Registers classes for which no call on channel maps can be written. They pin all channels that they read or
    create.

    Args:
        reason: why, in words that follow the name of the class.
        *classes, **known: as for `rule`.
    """
    RULES.update(dict.fromkeys(classes, _record(classes, pins=reason, **known)))


def _record(classes: tuple[str, ...], **known: Any) -> Rule:
    names = [each.name for each in fields(Rule)]
    if unknown := [name for name in known if name not in names]:
        raise UnknownField(
            f"the rule for {', '.join(classes)}: a record has no field {unknown[0]!r}; {meant(unknown[0], names)}"
        )
    as_string(known.get("approximate", ""), "approximate")
    # The arguments of operations and of classes of other packages are not in the record.
    is_open = all(name.startswith("ops.") or ">" in name for name in classes)
    return Rule(**{**({"arguments": None} if is_open else {}), **known})


def key_of(record: Mapping[str, Any]) -> str:
    """The key of the rule for a record: the key of the class, or, if the class has no rule, the key of the rule that a
    measurement found for the layer (see `measured`).

    >>> cached = {"module": "mine", "class_name": "Cached", "config": {}, "measured": {"as": "Dense"}}
    >>> key_of(cached), class_key(cached)
    ('Dense', 'mine>Cached')
    """
    key, measured = class_key(record), record.get(MEASURED)
    if measured and "as" in measured and (key not in RULES or RULES[key].channels is None):
        return str(measured["as"])
    return key


def class_key(record: Mapping[str, Any]) -> str:
    """The name of the class of a record in the table of rules.

    >>> class_key({"module": "keras.layers", "class_name": "Add", "registered_name": None})
    'Add'
    >>> class_key({"module": "keras._legacy.layers", "class_name": "AlphaDropout", "registered_name": None})
    'AlphaDropout'
    >>> class_key({"module": "keras.src.ops.numpy", "class_name": "Add", "registered_name": "Add"})
    'ops.Add'
    >>> class_key({"module": "mine", "class_name": "Gate", "registered_name": "pack>Gate"})
    'pack>Gate'
    >>> class_key({"module": "mine", "class_name": "Dense", "registered_name": "Dense"})
    'mine>Dense'
    >>> class_key({"module": "keras.src.activations.activations", "class_name": "ReLU", "registered_name": "ReLU"})
    'ops.ReLU'
    """
    return _class_key(record.get("module") or "", record["class_name"], record.get("registered_name") or "")


@cache
def _class_key(module: str, name: str, registered: str) -> str:
    if ">" in registered:
        return registered
    if module.startswith(OPERATIONS):
        return f"ops.{name}"
    return name if module.startswith(LAYERS) else f"{module}>{name}"


def is_operation(record: Mapping[str, Any]) -> bool:
    """Whether a record is that of an operation of Keras.

    >>> is_operation({"module": "keras.src.ops.numpy", "class_name": "Add", "config": {}})
    True
    """
    return key_of(record).startswith("ops.")


def rank_of(record: Mapping[str, Any]) -> int | None:
    """The number of axes that the input of a layer must have; None if any number is possible.

    >>> import kerassurgery_fn.rules
    >>> rank_of({"module": "keras.layers", "class_name": "MaxPooling2D", "config": {}})
    4
    """
    rank = rule_for(record).rank
    return rank(record["config"]) if callable(rank) else rank


def is_foreign(record: Mapping[str, Any]) -> bool:
    """Whether a layer is of a class that is not one of Keras.

    >>> is_foreign({"module": "mine", "class_name": "Gate", "registered_name": "pack>Gate"})
    True
    """
    return ">" in class_key(record)
