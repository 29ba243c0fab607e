"""The registry of criteria: name -> function, with the data that it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import as_string, meant, one_of, shortened, takes
from kerassurgery_fn.errors import UnknownCriterion
from kerassurgery_fn.pruning.score_arithmetic import NORMALISATIONS

CriterionFunction = Callable[..., np.ndarray | None]


@dataclass(frozen=True)
class Criterion:
    """A criterion: how important each channel of a coupled group is.

    - `name`: its name for `by=`;
    - `function`: `function(group, **options)`: a `GroupWeights` -> scores of shape (channels,), or of shape
      (members, channels), which a reduction combines; None for a group of which the criterion says nothing;
    - `needs`: what it reads besides the weights, in words, such as "activations"; empty if it reads weights only. A
      function that needs something takes it as the keyword `statistics`;
    - `normalisation`: how its scores are normalised unless the caller says.
    """

    name: str
    function: CriterionFunction
    needs: str = ""
    normalisation: str = "none"

    @property
    def options(self) -> list[str]:
        """The names of the options of the function; empty if Python does not know them."""
        try:
            return [*inspect.signature(self.function).parameters][1:]
        except (TypeError, ValueError):
            return []


CRITERIA: dict[str, Criterion] = {}


@takes(name=as_string, needs=as_string, normalisation=one_of(NORMALISATIONS))
def criterion(
    name: str, *, needs: str = "", normalisation: str = "none"
) -> Callable[[CriterionFunction], CriterionFunction]:
    """Registers a criterion under a name for `importance(snapshot, by=name)`.

    The function takes a `GroupWeights` and options, and returns scores of shape (channels,), or (members, channels).
    Low means that the channel can be deleted.

    Args:
        name: the name for `by=`. A criterion of the same name is replaced.
        needs: the statistics that it reads besides the weights; empty if it reads weights only.
        normalisation: how its scores are normalised unless the caller says.

    Raises:
        BadValue: the name is not a string, or there is no such normalisation.

    >>> @criterion("largest weight", normalisation="mean")
    ... def largest_weight(group):
    ...     return np.stack([np.abs(member.rows()).max(axis=1) for member in group.members])
    >>> CRITERIA.pop("largest weight").normalisation
    'mean'
    """

    def register(function: CriterionFunction) -> CriterionFunction:
        CRITERIA[name] = Criterion(name, function, needs, normalisation)
        return function

    return register


def as_criterion(value: Any, name: str = "by") -> Criterion:
    """The criterion of a name, or of a function of one's own.

    Raises:
        UnknownCriterion: there is no criterion of that name; the message lists all of them.
    """
    if isinstance(value, Criterion):
        return value
    if isinstance(value, str) and value in CRITERIA:
        return CRITERIA[value]
    if registered := [known for known in CRITERIA.values() if known.function is value]:
        return registered[0]
    if callable(value):
        return Criterion(getattr(value, "__name__", "criterion"), value)
    known = meant(value, CRITERIA, len(CRITERIA)) if isinstance(value, str) else f"there are {', '.join(CRITERIA)}"
    raise UnknownCriterion(
        f"{name}: no criterion {shortened(value)}; {known} (a function from the weights of a group to scores is a "
        "criterion, too; scores of your own are Scores(mapping))"
    )
