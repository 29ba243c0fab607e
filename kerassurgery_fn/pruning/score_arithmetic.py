"""Reductions of scores over the members of a group, and normalisations that make groups comparable."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

# How the scores of the members of a group, shape (members, channels), become one score for each channel.
REDUCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda scores: scores.mean(axis=0),
    "sum": lambda scores: scores.sum(axis=0),
    "max": lambda scores: scores.max(axis=0),
    "product": lambda scores: scores.prod(axis=0),
    "first": lambda scores: scores[0],
}


def _divided(scores: np.ndarray, by: float, shift: float = 0.0) -> np.ndarray:
    """(scores - shift) / by; scores that do not differ from zero by `by` stay as they are, less the shift."""
    return (scores - shift) / by if by else scores - shift


# How scores are scaled; the statistics are those of one group or of all groups.
NORMALISATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "none": lambda scores, pool: scores,
    "mean": lambda scores, pool: _divided(scores, pool.mean()),
    "sum": lambda scores, pool: _divided(scores, pool.sum()),
    "max": lambda scores, pool: _divided(scores, pool.max()),
    "median": lambda scores, pool: _divided(scores, float(np.median(pool))),
    "gaussian": lambda scores, pool: _divided(scores, pool.std(), pool.mean()),
    "standardised": lambda scores, pool: _divided(scores, np.ptp(pool), pool.min()),
}


def reduced(scores: np.ndarray, reduction: str) -> np.ndarray:
    """One score for each channel.

    - `mean`, `sum`, `max`, `product`: over the members;
    - `first`: the score of the first member, which is the first axis of a weight that carries the channels.

    Args:
        scores: shape (members, channels).
        reduction: a name in `REDUCTIONS`.

    >>> reduced(np.array([[1.0, 2.0], [3.0, 0.0]]), "mean"), reduced(np.array([[1.0, 2.0], [3.0, 0.0]]), "product")
    (array([2., 1.]), array([3., 0.]))
    """
    return scores[0] if len(scores) == 1 else REDUCTIONS[reduction](scores)


def normalised(scores: Mapping[str, np.ndarray], normalisation: str, over: str = "group") -> dict[str, np.ndarray]:
    """Scores scaled so that those of different groups can be compared.

    - `none`: as they are;
    - `mean`, `sum`, `max`, `median`: divided by it;
    - `gaussian`: mean 0 and standard deviation 1;
    - `standardised`: minimum 0 and maximum 1.

    Scores that are all equal have no spread to divide by: only the shift is applied.

    Args:
        scores: group -> scores, shape (channels,).
        normalisation: a name in `NORMALISATIONS`.
        over: `group`: the statistics are those of each group; `global`: of all groups together.

    >>> normalised({"a": np.array([1.0, 3.0]), "b": np.array([10.0, 30.0])}, "mean")
    {'a': array([0.5, 1.5]), 'b': array([0.5, 1.5])}
    >>> normalised({"a": np.array([1.0, 3.0]), "b": np.array([4.0])}, "max", over="global")
    {'a': array([0.25, 0.75]), 'b': array([1.])}
    """
    pooled = np.concatenate([*scores.values()]) if over == "global" and scores else None
    return {
        name: NORMALISATIONS[normalisation](values, values if pooled is None else pooled)
        for name, values in scores.items()
    }
