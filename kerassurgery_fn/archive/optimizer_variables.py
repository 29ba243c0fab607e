"""The variables of Keras' optimizers, in the order in which a file has them.

    iteration, learning_rate                     numbers that belong to no weight
    a_kernel_momentum, a_kernel_velocity,        one round over the weights, here with two variables for each
    a_bias_momentum, a_bias_velocity, ...
    a_kernel_velocity_hat, a_bias_velocity_hat   a second round, here with one

A file has the values only. Which round has which variables is known of every class. An optimizer that contains others
lists its own numbers, then the variables of the others, and the file has the others once more, each in its own group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from toolz import groupby

from kerassurgery_fn.archive.path_patterns import NotKnown, is_any_found, optimizer_of
from kerassurgery_fn.graph import Record
from kerassurgery_fn.rules.weight_groups import unique_names

Owner = tuple[str, int]  # layer path, index in layer.get_weights()
Config = Mapping[str, Any]


class TrainedWeight(NamedTuple):
    """A weight that training changes.

    - `path`: its path in Keras, such as `dense/kernel`, as far as it follows from the config;
    - `rank`: the number of its axes.
    """

    owner: Owner
    path: str
    rank: int


class Variable(NamedTuple):
    """A variable of an optimizer: the weight that it belongs to, and the value that it starts with."""

    owner: Owner | None
    initial: float | None = 0.0


@dataclass(frozen=True)
class OptimizerVariables:
    """The variables of an optimizer: its own, then those of the optimizers in it, by the names of their groups."""

    own: tuple[Variable, ...]
    inner: tuple[tuple[str, OptimizerVariables], ...] = ()

    @property
    def all(self) -> tuple[Variable, ...]:
        return self.own + tuple(variable for _, inner in self.inner for variable in inner.all)


FirstValues = tuple[float | None, ...]  # of the variables of one weight; None: the weight itself
Round = FirstValues | Callable[[TrainedWeight], FirstValues]
NUMBER = Variable(None)
SCALE_VARIABLES = 4  # iteration, learning_rate, step_counter and dynamic_scale of a LossScaleOptimizer


def _momentum(config: Config) -> list[Round]:
    return [(0,)] if config.get("momentum") else []


def _rms_prop(config: Config) -> list[Round]:
    return [(0,), *_momentum(config), *([(0,)] if config.get("centered") else [])]


def _adam(config: Config) -> list[Round]:
    return [(0, 0), *([(0,)] if config.get("amsgrad") else [])]


def _muon(config: Config) -> list[Round]:
    """Muon has one variable for a matrix, and two, those of Adam, for all other weights."""

    def variables(weight: TrainedWeight) -> FirstValues:
        embedding = bool(config.get("exclude_embeddings", True)) and "embedding" in weight.path.lower()
        excluded = embedding or is_any_found(config.get("exclude_layers") or (), weight.path)
        return (0,) if weight.rank == 2 and not excluded else (0, 0)

    return [variables]


ROUNDS: dict[str, Callable[[Config], list[Round]]] = {
    "SGD": _momentum,
    "RMSprop": _rms_prop,
    "Adam": _adam,
    "AdamW": _adam,
    **dict.fromkeys(("Adadelta", "Adamax", "Lamb", "Nadam"), lambda config: [(0, 0)]),
    "Adagrad": lambda config: [(config.get("initial_accumulator_value", 0.1),)],
    "Ftrl": lambda config: [(config.get("initial_accumulator_value", 0.1), 0)],
    "Lion": lambda config: [(0,)],
    "Muon": _muon,
    "ScheduleFreeAdamW": lambda config: [(None, 0)],
}


def variables_of(optimizer: Record, weights: Sequence[TrainedWeight]) -> list[OptimizerVariables]:
    """The variables that an optimizer may have for trained weights: without, and with a scale of the loss.

    Keras adds the scale by itself if the model computes in float16. Empty if the class is not known.
    """
    try:
        if optimizer["class_name"] == "LossScaleOptimizer":
            return [_scaled(_without_scale(optimizer["config"]["inner_optimizer"], weights))]
        plain = _without_scale(optimizer, weights)
        return [plain, _scaled(plain)]
    except NotKnown:
        return []


def _scaled(variables: OptimizerVariables) -> OptimizerVariables:
    return OptimizerVariables((NUMBER,) * SCALE_VARIABLES, (("inner_optimizer", variables),))


def _without_scale(optimizer: Record, weights: Sequence[TrainedWeight]) -> OptimizerVariables:
    if optimizer["class_name"] == "MultiOptimizer":
        return _of_several(optimizer["config"]["optimizer_map"], weights)
    if optimizer["class_name"] not in ROUNDS:
        raise NotKnown
    return OptimizerVariables(tuple(_variables(optimizer, weights)))


def _of_several(optimizer_map: Any, weights: Sequence[TrainedWeight]) -> OptimizerVariables:
    """The variables of a MultiOptimizer: it has a number of steps and a learning rate, and one optimizer for the
    weights of each pattern. What a function of Python chooses is not known."""
    if not isinstance(optimizer_map, Mapping) or optimizer_map.get("class_name") != "OptimizerMap":
        raise NotKnown
    by_pattern, default = optimizer_map["config"]["optimizer_map"], optimizer_map["config"]["default_optimizer"]
    optimizers = [*by_pattern.values(), default]
    by_optimizer = groupby(lambda weight: optimizer_of(weight.path, list(by_pattern)), weights)
    inner = []
    for index, optimizer in enumerate(optimizers):
        own = by_optimizer.get(index)
        # Keras does not build an optimizer that has no weights.
        inner.append(_without_scale(optimizer, own) if own else OptimizerVariables(tuple(_numbers(optimizer))))
    names = unique_names(optimizer["class_name"] for optimizer in optimizers)
    groups = tuple((f"optimizers/{name}", part) for name, part in zip(names, inner, strict=True))
    return OptimizerVariables((NUMBER, NUMBER), groups)


def _numbers(optimizer: Record) -> Iterator[Variable]:
    """The number of steps and the learning rate, which is no variable if it follows a schedule."""
    yield NUMBER
    if not isinstance(optimizer["config"].get("learning_rate"), dict):
        yield NUMBER


def _variables(optimizer: Record, weights: Sequence[TrainedWeight]) -> Iterator[Variable]:
    name, config = optimizer["class_name"], optimizer["config"]
    yield from _numbers(optimizer)
    averages: list[Round] = [(0,)] if config.get("use_ema") else []
    accumulators: list[Round] = [(0,)] if config.get("gradient_accumulation_steps") else []
    for first_values in (*averages, *accumulators, *ROUNDS[name](config)):
        for weight in weights:
            values = first_values(weight) if callable(first_values) else first_values
            yield from (Variable(weight.owner, value) for value in values)
    if name == "Nadam":
        yield NUMBER  # the product of its momentum schedule
