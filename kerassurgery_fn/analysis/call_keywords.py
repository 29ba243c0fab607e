"""The arguments of calls: those that layers take, and those that Keras adds where they are not given."""

from __future__ import annotations

import re
from typing import Any

from kerassurgery_fn.graph import Record, is_model
from kerassurgery_fn.rules.registry import key_of

RECURRENT = r"LSTM|GRU|SimpleRNN|RNN|ConvLSTM\dD"
AT_WORK = re.compile(  # layers that do something only in training, so that they do not do it in a graph
    rf"AlphaDropout|(Spatial|Gaussian)?Dropout(\dD)?|GaussianNoise|SpectralNormalization|{RECURRENT}"
)
MASKED = re.compile(
    rf"BatchNormalization|Bidirectional|GlobalAveragePooling1D|Lambda|Softmax|TimeDistributed|{RECURRENT}"
)
PREPARING = re.compile(
    "AugMix|AutoContrast|CenterCrop|ContrastLimitedAdaptiveHistogramEqualization|CutMix|Equalization|MixUp|"
    "RandAugment|Random[A-Z][A-Za-z]*|Resizing|Solarization"
)
LISTED = re.compile(
    "Add|AdditiveAttention|Attention|Average|Concatenate|Dot|HashedCrossing|Maximum|Minimum|Multiply|Subtract"
)
OPEN = re.compile("Lambda|ops[.].*|.*>.*")  # what they take only they know
ATTENTION = ("query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask")
OF_MODELS = ("inputs", "training", "mask")  # what Sequential and Functional models take
# What layers of Keras take beside tensors by position and `training`.
TAKEN = {
    "mask": re.compile(rf"{MASKED.pattern}|{LISTED.pattern}|Pipeline"),
    "initial_state": re.compile(rf"Bidirectional|{RECURRENT}"),
    "sequences": re.compile(rf"Bidirectional|{RECURRENT}"),
    "data": re.compile(f"{PREPARING.pattern}|MaxNumBoundingBoxes"),
    "count_weights": re.compile("CategoryEncoding"),
    "reverse": re.compile("ReversibleEmbedding"),
    "x": re.compile("RMSNormalization"),
    "return_attention_scores": re.compile(".*Attention"),
    "use_causal_mask": re.compile(".*Attention"),
    **dict.fromkeys(
        ATTENTION,
        re.compile("MultiHeadAttention|GroupedQueryAttention|GroupQueryAttention"),
    ),
}
# What layers of Keras take by position: tensors alone, one where nothing else is said.
POSITIONAL = [
    (re.compile("MultiHeadAttention|GroupedQueryAttention|GroupQueryAttention"), ATTENTION),
    (re.compile(f"Bidirectional|{RECURRENT}"), ("sequences", "initial_state", "mask")),
    (re.compile("AdditiveAttention|Attention|GlobalAveragePooling1D|Softmax"), ("inputs", "mask")),
    (re.compile(".*"), ("inputs",)),
]
STATES = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1, "ConvLSTM1D": 2, "ConvLSTM2D": 2, "ConvLSTM3D": 2}


def takes(record: Record, name: str) -> bool:
    """Whether a call of a layer may have a keyword argument.

    >>> takes({"module": "keras.layers", "class_name": "LSTM", "config": {}}, "initial_state")
    True
    """
    key = key_of(record)
    if is_model(record):
        is_user_class = ">" in (record.get("registered_name") or "")
        return is_user_class or name in OF_MODELS
    if OPEN.fullmatch(key):
        return True
    return name in ("inputs", "training") or (name in TAKEN and bool(TAKEN[name].fullmatch(key)))


def strange(record: Record, args: list[Any], kwargs: dict[str, Any]) -> str:
    """What a layer would be given that it does not take, in words; empty if there is no such thing.

    >>> strange({"module": "keras.layers", "class_name": "ReLU", "config": {}}, [["a", "b"]], {})
    'it takes one tensor, not a list of them'
    """
    key = key_of(record)
    if OPEN.fullmatch(key) and not is_model(record):
        return ""
    if words := misplaced(key, args, kwargs):
        return words
    if odd := [name for name in kwargs if not takes(record, name)]:
        return f"it takes no argument {odd[0]!r}"
    if is_model(record):
        return ""
    if args and LISTED.fullmatch(key) and not isinstance(args[0], list):
        return "it takes a list of tensors"
    if args and isinstance(args[0], list) and not LISTED.fullmatch(key) and key != "Identity":
        return "it takes one tensor, not a list of them"
    states = args[1] if len(args) > 1 and key in STATES else kwargs.get("initial_state")
    number = len(states) if isinstance(states, list) else 1
    if states is not None and number != STATES.get(key, number):
        return f"it takes an initial_state of {STATES[key]} tensors, not of {number}"
    return ""


def misplaced(key: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """What a layer would be given by position that it does not take there, in words; empty if all is well.

    >>> misplaced("Dense", ["a", "b"], {}), misplaced("Dense", ["a", 2.0], {}), misplaced("LSTM", ["a", "b"], {})
    ('it takes 1 tensor by position, not 2', 'it takes no 2.0 by position, only tensors', '')
    """
    names = next(names for classes, names in POSITIONAL if classes.fullmatch(key))
    if numbers := [arg for arg in args if isinstance(arg, (bool, int, float))]:
        return f"it takes no {numbers[0]!r} by position, only tensors"
    if len(args) > len(names):
        return f"it takes {len(names)} tensor{'s' * (len(names) > 1)} by position, not {len(args)}"
    if twice := [name for name in names[1 : len(args)] if name in kwargs]:
        return f"it would be given {twice[0]!r} both by position and by name"
    return ""


def usual_kwargs(record: Record) -> dict[str, Any]:
    """What stands in the keyword arguments of a call of a layer, in a Functional model, that was given only tensors.

    >>> usual_kwargs({"module": "keras.layers", "class_name": "LSTM", "config": {}})
    {'training': False, 'mask': None}
    """
    key = key_of(record)
    made: dict[str, Any] = {}
    if AT_WORK.fullmatch(key) or PREPARING.fullmatch(key):
        made["training"] = bool(PREPARING.fullmatch(key))
    if MASKED.fullmatch(key) or is_model(record):
        made["mask"] = None
    return made


def exchanged_kwargs(kwargs: dict[str, Any], old: Record, new: Record) -> dict[str, Any]:
    """The keyword arguments of a call when another layer takes its place: what Keras added for the old one goes, and a
    mask if the new one takes none.

    >>> dense, dropout = ({"module": "keras.layers", "class_name": name, "config": {}} for name in ("Dense", "Dropout"))
    >>> exchanged_kwargs({"training": False}, dropout, dense), exchanged_kwargs({"training": True}, dropout, dense)
    ({}, {'training': True})
    """
    added = usual_kwargs(old)
    given = {key: value for key, value in kwargs.items() if key not in added or value is not added[key]}
    given = {key: value for key, value in given.items() if key != "mask" or takes(new, key)}
    return usual_kwargs(new) | given
