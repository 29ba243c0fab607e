"""Statistics of data for criteria: what a criterion needs -> the function that measures it on a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kerassurgery_fn.errors import MissingData
from kerassurgery_fn.pruning.criterion_registry import Criterion


def zeros_of_activations(model: Any, data: Any) -> Any:
    """Address of the channels of each layer -> their APoZ. The model is a Keras model or a snapshot."""
    from kerassurgery_fn.measure.apoz_scoring import score_by_apoz

    return score_by_apoz(model, data)


STATISTICS: dict[str, Callable[[Any, Any], Any]] = {"zeros of activations": zeros_of_activations}


def refuse_missing_data(criterion: Criterion, data: Any) -> None:
    """Raises MissingData if the statistics that a criterion needs cannot be measured."""
    if criterion.needs and data is None:
        raise MissingData(f"the criterion {criterion.name!r} needs {criterion.needs} measured on data: give data=")
    if criterion.needs and criterion.needs not in STATISTICS:
        raise MissingData(
            f"the criterion {criterion.name!r} needs {criterion.needs}, which the library cannot measure: call "
            "importance(snapshot, by, statistics=...) and pass by=scores"
        )


def statistics_for(criterion: Criterion, model: Any, data: Any) -> Any:
    """What a criterion reads besides the weights, measured on data; None if it reads weights only.

    Args:
        criterion: the criterion.
        model: a Keras model or a snapshot.
        data: what `fit` takes.
    """
    return STATISTICS[criterion.needs](model, data) if criterion.needs else None
