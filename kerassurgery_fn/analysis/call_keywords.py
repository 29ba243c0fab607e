"""The arguments that a call of a layer can have, and the arguments that Keras adds to calls."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.graph import Record, is_model
from kerassurgery_fn.rules.registry import rule_for
from kerassurgery_fn.rules.rule_fields import Rule

OF_MODELS = ("inputs", "training", "mask")  # the arguments of Sequential and Functional models
MODEL = Rule(keywords=("training", "mask"), added={"mask": None})  # the calls of these models, as a rule


def takes(record: Record, name: str) -> bool:
    """Whether a call of a layer may have a keyword argument.

    >>> takes({"module": "keras.layers", "class_name": "LSTM", "config": {}}, "initial_state")
    True
    """
    if is_model(record):
        is_user_class = ">" in (record.get("registered_name") or "")
        return is_user_class or name in OF_MODELS
    rule = rule_for(record)
    if rule.arguments is None:
        return True
    return name in ("inputs", "training", *rule.arguments, *rule.keywords)


def misuse(record: Record, args: list[Any], kwargs: dict[str, Any]) -> str:
    """The reason why a call of a layer is invalid, in words; an empty string if the call is valid.

    >>> misuse({"module": "keras.layers", "class_name": "ReLU", "config": {}}, [["a", "b"]], {})
    'it takes one tensor, not a list of tensors'
    """
    rule = MODEL if is_model(record) else rule_for(record)
    if rule.arguments is None:
        return ""
    if words := misplaced(rule.arguments, args, kwargs):
        return words
    if unknown := [name for name in kwargs if not takes(record, name)]:
        return f"it takes no argument {unknown[0]!r}"
    if is_model(record):
        return ""
    if args and rule.takes == "list" and not isinstance(args[0], list):
        return "it takes a list of tensors"
    if args and rule.takes == "tensor" and isinstance(args[0], list):
        return "it takes one tensor, not a list of tensors"
    return misused_states(rule, args[1] if len(args) > 1 else kwargs.get("initial_state"))


def misused_states(rule: Rule, states: Any) -> str:
    """The reason why a recurrent layer cannot take some initial states, in words; an empty string if it can.

    >>> misused_states(Rule(states=2), ["h"])
    'it takes an initial_state of 2 tensors, not 1'
    """
    count = len(states) if isinstance(states, list) else 1
    if rule.states is None or states is None or count == rule.states:
        return ""
    return f"it takes an initial_state of {rule.states} tensors, not {count}"


def misplaced(names: tuple[str, ...], args: list[Any], kwargs: dict[str, Any]) -> str:
    """The reason why positional arguments are invalid, in words; an empty string if they are valid.

    Args:
        names: the names of the arguments that the layer takes by position.
        args, kwargs: the arguments of the call.

    >>> misplaced(("inputs",), ["a", "b"], {}), misplaced(("inputs",), ["a", 2.0], {})
    ('it takes 1 tensor by position, not 2', 'it takes no 2.0 by position, only tensors')
    """
    if numbers := [arg for arg in args if isinstance(arg, (bool, int, float))]:
        return f"it takes no {numbers[0]!r} by position, only tensors"
    if len(args) > len(names):
        return f"it takes {len(names)} tensor{'s' * (len(names) > 1)} by position, not {len(args)}"
    if repeated := [name for name in names[1 : len(args)] if name in kwargs]:
        return f"it would get {repeated[0]!r} both by position and by name"
    return ""


def added_kwargs(record: Record) -> dict[str, Any]:
    """The keyword arguments that Keras adds to a call that has only tensors, in a Functional model.

    >>> added_kwargs({"module": "keras.layers", "class_name": "LSTM", "config": {}})
    {'training': False, 'mask': None}
    """
    return dict((MODEL if is_model(record) else rule_for(record)).added)


def exchanged_kwargs(kwargs: dict[str, Any], old: Record, new: Record) -> dict[str, Any]:
    """The keyword arguments of a call when another layer takes it over.

    The arguments that Keras added for the old layer are removed. A mask is also removed if the new layer takes none.

    >>> dense, dropout = ({"module": "keras.layers", "class_name": name, "config": {}} for name in ("Dense", "Dropout"))
    >>> exchanged_kwargs({"training": False}, dropout, dense), exchanged_kwargs({"training": True}, dropout, dense)
    ({}, {'training': True})
    """
    added = added_kwargs(old)
    by_user = {key: value for key, value in kwargs.items() if key not in added or value is not added[key]}
    return added_kwargs(new) | {key: value for key, value in by_user.items() if key != "mask" or takes(new, key)}
