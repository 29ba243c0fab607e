"""The arguments that Keras adds to a call where a layer takes them and is not given any."""

from __future__ import annotations

import re
from typing import Any

from kerassurgery_fn.graph import Record, is_model
from kerassurgery_fn.rules.registry import key_of

RECURRENT = r"LSTM|GRU|SimpleRNN|RNN|ConvLSTM\dD"
AT_WORK = re.compile(  # layers that do something only in training, so that they do not do it in a graph
    rf"AlphaDropout|(Spatial|Gaussian)?Dropout(\dD)?|GaussianNoise|SpectralNormalization|{RECURRENT}"
)
MASKED = re.compile(rf"BatchNormalization|Bidirectional|GlobalAveragePooling1D|Softmax|TimeDistributed|{RECURRENT}")
PREPARING = re.compile(
    "AugMix|AutoContrast|CenterCrop|ContrastLimitedAdaptiveHistogramEqualization|CutMix|Equalization|MixUp|"
    "RandAugment|Random[A-Z][A-Za-z]*|Resizing|Solarization"
)


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
    """The keyword arguments of a call when another layer takes its place: what Keras added for the old one goes.

    >>> dense, dropout = ({"module": "keras.layers", "class_name": name, "config": {}} for name in ("Dense", "Dropout"))
    >>> exchanged_kwargs({"training": False}, dropout, dense), exchanged_kwargs({"training": True}, dropout, dense)
    ({}, {'training': True})
    """
    added = usual_kwargs(old)
    given = {key: value for key, value in kwargs.items() if key not in added or value is not added[key]}
    return usual_kwargs(new) | given
