"""The variables of Keras' optimizers, in the order in which a file has them.

    iteration, learning_rate                     numbers that belong to no weight
    a_kernel_momentum, a_kernel_velocity,        one round over the weights, here with two variables for each
    a_bias_momentum, a_bias_velocity, ...
    a_kernel_velocity_hat, a_bias_velocity_hat   a second round, here with one

A file has the values only. Which round has which variables is known of every class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kerassurgery_fn.graph import Record

Owner = tuple[str, int]  # layer path, index in layer.get_weights()
Config = Mapping[str, Any]
Round = tuple[float | None, ...]  # the first values of the variables of one weight; None: the weight itself
SCALE_VARIABLES = 4  # iteration, learning_rate, step_counter and dynamic_scale of a LossScaleOptimizer


class Variable(NamedTuple):
    """A variable of an optimizer: the weight that it belongs to, and the value that it starts with."""

    owner: Owner | None
    initial: float | None = 0.0


def _momentum(config: Config) -> list[Round]:
    return [(0,)] if config.get("momentum") else []


def _rms_prop(config: Config) -> list[Round]:
    return [(0,), *_momentum(config), *([(0,)] if config.get("centered") else [])]


def _adam(config: Config) -> list[Round]:
    return [(0, 0), *([(0,)] if config.get("amsgrad") else [])]


ROUNDS: dict[str, Callable[[Config], list[Round]]] = {
    "SGD": _momentum,
    "RMSprop": _rms_prop,
    "Adam": _adam,
    "AdamW": _adam,
    **dict.fromkeys(("Adadelta", "Adamax", "Lamb", "Nadam"), lambda config: [(0, 0)]),
    "Adagrad": lambda config: [(config.get("initial_accumulator_value", 0.1),)],
    "Ftrl": lambda config: [(config.get("initial_accumulator_value", 0.1), 0)],
    "Lion": lambda config: [(0,)],
    "ScheduleFreeAdamW": lambda config: [(None, 0)],
}


def variables_of(optimizer: Record, owners: Sequence[Owner]) -> list[list[Variable]]:
    """The variables that an optimizer may have for trained weights: without, and with a scale of the loss.

    Keras adds the scale by itself if the model computes in float16. No lists if the class is not known.
    """
    if optimizer["class_name"] == "LossScaleOptimizer":
        plain = variables_of(optimizer["config"]["inner_optimizer"], owners)[:1]
        return [with_scale(variables) for variables in plain]
    if optimizer["class_name"] not in ROUNDS:
        return []
    plain_variables = list(_variables(optimizer, owners))
    return [plain_variables, with_scale(plain_variables)]


def with_scale(variables: list[Variable]) -> list[Variable]:
    return [Variable(None)] * SCALE_VARIABLES + variables


def _variables(optimizer: Record, owners: Sequence[Owner]) -> Iterator[Variable]:
    name, config = optimizer["class_name"], optimizer["config"]
    yield Variable(None)  # iteration
    if not isinstance(config.get("learning_rate"), dict):  # a schedule is no variable
        yield Variable(None)
    averages: list[Round] = [(0,)] if config.get("use_ema") else []
    accumulators: list[Round] = [(0,)] if config.get("gradient_accumulation_steps") else []
    for first_values in (*averages, *accumulators, *ROUNDS[name](config)):
        for owner in owners:
            yield from (Variable(owner, value) for value in first_values)
    if name == "Nadam":
        yield Variable(None)  # the product of its momentum schedule
