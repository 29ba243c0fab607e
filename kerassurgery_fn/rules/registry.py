"""The table of layer classes and operations: one record for each, with all that the library knows of it.

To support a class, write one function under `@rule(...)` in the file of its family. The function is the layer's call
on channel maps instead of tensors: it takes the `Layer` and the arguments of the call, with a tuple of axes in place of
every tensor, and returns the axes of the outputs. The arguments of `rule` state everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kerassurgery_fn.arguments import as_function, as_string, takes

Channels = Callable[..., Any]
Last = Callable[[Mapping[str, Any]], Any]
LAYERS = ("keras.layers", "keras.src.layers", "keras._legacy.layers", "keras.src.legacy.layers")
OPERATIONS = ("keras.src.ops", "keras.ops", "keras.src.activations", "keras.src.quantizers")


class NoRule(Exception):
    """A class that the library knows nothing about, or a use of a known one that it cannot follow."""


@dataclass(frozen=True)
class Rule:
    """All that the library knows of a class of layers or operations.

    - `channels`: the call of a layer on channel maps; None where no function can follow what the class does;
    - `pins`: why there is no such function;
    - `approximate`: where a cut is not exact and why, for the table of supported classes; empty if it is exact;
    - `last`: config -> the activation that the layer applies last to everything that it outputs: its name, its record,
      or the record of an inner layer. None where that is not known.
    """

    channels: Channels | None = None
    pins: str = ""
    approximate: str = ""
    last: Last | None = None


UNKNOWN = Rule()
RULES: dict[str, Rule] = {}


def rule_for(record: Mapping[str, Any]) -> Rule:
    """The rule for the class of a layer's record; one without any knowledge for a class that has none.

    >>> rule_for({"module": "mine", "class_name": "Gate", "config": {}}) == UNKNOWN
    True
    """
    return RULES.get(key_of(record), UNKNOWN)


@takes(classes=as_string, approximate=as_string)
def rule(*classes: str, approximate: str = "", last: Last | None = None) -> Callable[[Channels], Channels]:
    """Registers a rule for classes of layers.

    Args:
        *classes: names under which a rule is looked up, see `key_of`: `Dense` for a layer of Keras, `ops.Matmul` for
            an operation, `package>Class` for a layer registered with `keras.saving.register_keras_serializable`.
        approximate: where a cut is not exact, and why, in words for the table of what is supported; nothing if it is
            exact everywhere.
        last: config -> the activation that these layers apply last to all that they output, by its name, its record or
            that of a layer inside: `lambda config: config["activation"]`, `"linear"` if there is none. Left out where
            that is not known: no field of a config, `activation` neither, means the same in every class.
    """

    def register(function: Channels) -> Channels:
        known = Rule(as_function(function, "a rule"), approximate=approximate, last=last)
        RULES.update(dict.fromkeys(classes, known))
        return function

    return register


def pins(reason: str, *classes: str) -> None:
    """Lists classes that no rule can be written for: they pin all channels that they touch, and this is why."""
    RULES.update(dict.fromkeys(classes, Rule(pins=reason)))


def key_of(record: Mapping[str, Any]) -> str:
    """The name under which the rule for a record is looked up.

    >>> key_of({"module": "keras.layers", "class_name": "Add", "registered_name": None})
    'Add'
    >>> key_of({"module": "keras._legacy.layers", "class_name": "AlphaDropout", "registered_name": None})
    'AlphaDropout'
    >>> key_of({"module": "keras.src.ops.numpy", "class_name": "Add", "registered_name": "Add"})
    'ops.Add'
    >>> key_of({"module": "mine", "class_name": "Gate", "registered_name": "pack>Gate"})
    'pack>Gate'
    >>> key_of({"module": "mine", "class_name": "Dense", "registered_name": "Dense"})
    'mine>Dense'
    >>> key_of({"module": "keras.src.activations.activations", "class_name": "ReLU", "registered_name": "ReLU"})
    'ops.ReLU'
    """
    module, name = record.get("module") or "", record["class_name"]
    registered = record.get("registered_name") or ""
    if ">" in registered:
        return registered
    if module.startswith(OPERATIONS):
        return f"ops.{name}"
    return name if module.startswith(LAYERS) else f"{module}>{name}"
