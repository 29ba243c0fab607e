"""What the scores of channels and of blocks share: an immutable mapping that prints as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from kerassurgery_fn.arguments import meant, shortened
from kerassurgery_fn.errors import UnknownGroup
from kerassurgery_fn.values.tables import ShownAsTable

Score = TypeVar("Score", np.ndarray, float)


@dataclass(frozen=True, eq=False, repr=False)
class NamedScores(ShownAsTable, Mapping[str, Score]):
    """Scores by name, and the criterion that gave them. Two values are equal if all scores and the criteria are."""

    unknown: ClassVar[str] = "no {} has scores"  # the start of the error for a name without a score

    scores: Mapping[str, Score]
    criterion: str = "a criterion"

    def __getitem__(self, name: str) -> Score:
        try:
            return self.scores[name]
        except KeyError:
            raise UnknownGroup(f"{self.unknown.format(shortened(name))}; {meant(name, self.scores)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.scores

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return (
            self.criterion == other.criterion
            and self.keys() == other.keys()
            and all(np.array_equal(score, other.scores[name]) for name, score in self.items())
        )

    __hash__ = None  # type: ignore[assignment]
