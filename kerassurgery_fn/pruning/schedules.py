"""Schedules of iterative pruning: how much of the cost is left after each round.

A schedule is a pure function of `progress`, the share of the rounds that are done, from 0 to 1, and of `target`, the
fraction that is left in the end. It gives the fraction that is left now: 1 at the start and `target` at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kerassurgery_fn.arguments import meant, shortened
from kerassurgery_fn.errors import BadValue

Schedule = Callable[[float, float], float]


def one_shot(progress: float, target: float) -> float:
    """Everything in the first round.

    >>> one_shot(0.2, 0.5)
    0.5
    """
    return target if progress > 0 else 1.0


def linear(progress: float, target: float) -> float:
    """The same amount in each round: 1 - progress * (1 - target).

    >>> linear(0.5, 0.5)
    0.75
    """
    return 1 - progress * (1 - target)


def cubic(progress: float, target: float) -> float:
    """Much in the first rounds and little in the last: target + (1 - target) * (1 - progress) ** 3.

    Zhu and Gupta 2017, To prune, or not to prune, arXiv:1710.01878, equation 1, with the initial sparsity 0.

    >>> cubic(0.5, 0.5)
    0.5625
    """
    return target + (1 - target) * (1 - progress) ** 3


def geometric(progress: float, target: float) -> float:
    """The same share of what is left in each round: target ** progress.

    >>> geometric(0.5, 0.25)
    0.5
    """
    return target**progress


SCHEDULES: dict[str, Schedule] = {
    "one_shot": one_shot, "linear": linear, "cubic": cubic, "geometric": geometric,
}  # fmt: skip


def as_schedule(value: Any, name: str = "schedule") -> Schedule:
    """The schedule of a name, or a function of one's own.

    Raises:
        BadValue: there is no schedule of that name.
    """
    if isinstance(value, str) and value in SCHEDULES:
        return SCHEDULES[value]
    if callable(value):
        return value
    raise BadValue(
        f"{name}: no schedule {shortened(value)}; {meant(value, SCHEDULES)} (or a function of progress and target)"
    )


def fractions_left(schedule: Schedule, rounds: int, target: float) -> list[float]:
    """The fraction that is left after each round.

    Args:
        schedule: the schedule.
        rounds: the number of rounds.
        target: the fraction that is left after the last one.

    Raises:
        BadValue: a function of one's own fails, or gives a fraction that is not from `target` to 1, or grows.

    >>> fractions_left(linear, 4, 0.5)
    [0.875, 0.75, 0.625, 0.5]
    """
    fractions = [_fraction(schedule, number / rounds, target) for number in range(1, rounds)]
    for before, now in zip([1.0, *fractions], fractions, strict=False):
        if not target <= now <= before + 1e-9:
            raise BadValue(
                f"schedule: the fractions that are left must fall from 1 to {target}, and the schedule gives "
                f"{', '.join(f'{fraction:.4g}' for fraction in fractions)} before the last round"
            )
    return [*fractions, target]


def _fraction(schedule: Schedule, progress: float, target: float) -> float:
    """The fraction that a schedule gives.

    Raises:
        BadValue: a function of one's own fails, or gives no number.
    """
    try:
        return float(schedule(progress, target))
    except (TypeError, ValueError) as error:
        raise BadValue(
            "schedule: expected a function from (progress, target) to the fraction that is left, such as "
            f"lambda progress, target: 1 - progress * (1 - target), and it fails ({error})"
        ) from error
