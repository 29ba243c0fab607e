"""Scores: how important each channel of each coupled group is, as an immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.arguments import as_string, shortened
from kerassurgery_fn.errors import BadScores, BadValue
from kerassurgery_fn.pruning.group_limits import ByGroup
from kerassurgery_fn.pruning.named_scores import NamedScores
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.tables import Table, spans


@dataclass(frozen=True, eq=False, repr=False)
class Scores(NamedScores[np.ndarray]):
    """The importance of each channel of each coupled group. Low means that the channel can be deleted.

    It is a mapping: name of a group -> float64 scores of shape (channels,), read-only, in the order of the group's
    channels. The name of a group is the address of the first layer that creates its channels. Two values are equal if
    all their scores and their criteria are.

    Args:
        scores: name of a group -> scores of its channels.
        criterion: the name of the criterion, for the table.

    Raises:
        BadScores: a score is NaN or infinite; the message names the layer.
        BadValue: the scores are not a mapping from names to numbers of shape (channels,).

    >>> scores = Scores({"conv_1": [0.5, 2.0]}, "magnitude")
    >>> scores["conv_1"]
    array([0.5, 2. ])
    >>> print(scores)
    scores by magnitude
    group   channels  lowest  mean  highest
    conv_1         2     0.5  1.25        2
    """

    unknown = "no group {} has scores"

    def __post_init__(self) -> None:
        if not isinstance(self.scores, Mapping):
            raise BadValue(f"scores are a mapping from groups to arrays, not {shortened(self.scores)}")
        arrays = {str(name): _as_scores(name, values) for name, values in self.scores.items()}
        refuse_not_finite(arrays, self.criterion)
        object.__setattr__(self, "scores", FrozenDict(arrays))
        object.__setattr__(self, "criterion", as_string(self.criterion, "criterion"))

    def ratios(self, below: float) -> ByGroup:
        """The share of each group's channels with a score below a threshold, for `ratios=` of `plan_pruning`.

        A plan with these ratios deletes just these channels. One channel of a group is always left.

        Raises:
            BadValue: the threshold is not a number.

        >>> Scores({"conv_1": [0.5, 2.0], "conv_2": [0.0, 0.1]}).ratios(below=1.0)
        {'conv_1': 0.5, 'conv_2': 0.5}
        """
        if isinstance(below, bool) or not isinstance(below, int | float | np.number):
            raise BadValue(f"below: expected a score, such as 1e-6, not {shortened(below)}")
        low = {name: int((values < below).sum()) for name, values in self.scores.items()}
        return ByGroup(
            {name: min(n, len(self[name]) - 1) / len(self[name]) for name, n in low.items() if self[name].size}
        )

    def table(self) -> Table:
        """A row for each group: the number of its channels, the lowest, mean and highest score."""
        rows = tuple(
            (name, values.size, f"{values.min():.4g}", f"{values.mean():.4g}", f"{values.max():.4g}")
            for name, values in self.scores.items()
            if values.size
        )
        return Table(f"scores by {self.criterion}", ("group", "channels", "lowest", "mean", "highest"), rows)


def _as_scores(name: Any, values: Any) -> np.ndarray:
    """Scores as a read-only array.

    Raises:
        BadValue: the values are not numbers of shape (channels,).
    """
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise BadValue(f"the scores of the group {name!r} are not numbers: {shortened(values)}") from error
    if array.ndim != 1:
        raise BadValue(
            f"the scores of the group {name!r} have the shape {array.shape}; give one score for each channel"
        )
    array.flags.writeable = False
    return array


def refuse_not_finite(scores: Mapping[str, np.ndarray], criterion: str) -> None:
    """Raises BadScores if a score is NaN or infinite."""
    finite = {name: np.isfinite(values) for name, values in scores.items()}
    wrong = {name: np.flatnonzero(~each).tolist() for name, each in finite.items() if not each.all()}
    if wrong:
        layers = "; ".join(f"{name!r} (channels {spans(channels)})" for name, channels in [*wrong.items()][:5])
        more = f" and {len(wrong) - 5} more groups" * (len(wrong) > 5)
        raise BadScores(
            f"scores by {criterion} are NaN or infinite in {layers}{more}: look for NaN or infinite weights or data "
            "there, or leave these groups out of the scores"
        )
