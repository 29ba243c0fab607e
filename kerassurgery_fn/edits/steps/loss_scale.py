"""The optimizer that scales the loss of a model in mixed precision.

When a model with the policy `mixed_float16` is compiled, Keras wraps its optimizer in a `LossScaleOptimizer`. So the
optimizer has more variables if the model gets this policy, and fewer if the model loses it:

    without    iteration, learning_rate, (variables of weights)
    with       iteration, learning_rate, step_counter, dynamic_scale, and then all variables of the wrapped optimizer

Functional models do not state a policy. They have the global policy, which no edit changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.dtypes import policy_name
from kerassurgery_fn.values.snapshot import Training

INITIAL_SCALE = 2.0**15  # the default of Keras
OWN_VARIABLES = 4


def with_loss_scale(training: Training | None, before: Record, after: Record) -> Training | None:
    """The state of an optimizer after an edit, with the variables of a LossScaleOptimizer if Keras wraps it then.

    Args:
        training: the optimizer's state.
        before, after: the record of the model before and after the edit.
    """
    if training is None or None not in training.slots or scales_loss(before) == scales_loss(after):
        return training
    return wrapped(training) if scales_loss(after) else unwrapped(training)


def scales_loss(record: Record) -> bool:
    """Whether Keras wraps the optimizer of a model when it compiles the model.

    >>> scales_loss({"config": {"dtype": "mixed_float16"}}), scales_loss({"config": {"dtype": "float16"}})
    (True, False)
    """
    compiled = record.get("compile_config") or {}
    optimizer: Any = compiled.get("optimizer")
    by_hand = isinstance(optimizer, dict) and optimizer.get("class_name") == "LossScaleOptimizer"
    is_mixed = policy_name(record["config"].get("dtype")) == "mixed_float16"
    return is_mixed and not by_hand and bool(compiled.get("auto_scale_loss", True))


def wrapped(training: Training) -> Training:
    """The state of an optimizer in a new LossScaleOptimizer.

    >>> state = Training((None, None), (np.array(7), np.array(0.1, "float32")))
    >>> wrapped(state).slots, [float(value) for value in wrapped(state).values[:4]]
    ((None, None, None, None, None, None), [0.0, 0.0, 0.0, 32768.0])
    """
    iteration = training.values[training.slots.index(None)]  # Keras counts in an integer dtype that the backend sets
    count, learning_rate = np.zeros_like(iteration), np.array(0.0, "float32")
    scaling = (count, learning_rate, count, np.array(INITIAL_SCALE, "float32"))
    return Training((None,) * OWN_VARIABLES + training.slots, scaling + training.values)


def unwrapped(training: Training) -> Training:
    """The state of the optimizer in a LossScaleOptimizer, whose own variables come first.

    >>> state = Training((None, None), (np.array(7), np.array(0.1, "float32")))
    >>> unwrapped(wrapped(state)) == state
    True
    """
    return Training(training.slots[OWN_VARIABLES:], training.values[OWN_VARIABLES:])
