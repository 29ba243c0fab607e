"""Statistics of data for criteria: what a criterion needs -> how it is measured on a model. Keras is imported late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from kerassurgery_fn.errors import MissingData
from kerassurgery_fn.pruning.criterion_registry import Criterion


@dataclass(frozen=True)
class Options:
    """What is measured: `views` selects layers, by a function from the flow of the model."""

    views: Callable[[Any], Any]


class Pass(NamedTuple):
    """How statistics are measured in one pass.

    - `start`: a function from (kind, live model, snapshot, options) to a function from a batch to its statistics;
    - `warn`: a function from the result that warns where it says nothing of a layer.
    """

    start: Callable[[str, Any, Any, Options], Callable[[Any], Any]]
    warn: Callable[[Any], None] = lambda statistics: None


def _activations(kind: str, model: Any, snapshot: Any, options: Options) -> Callable[[Any], Any]:
    from kerassurgery_fn.measure.activation_pass import measure_activations

    return measure_activations(kind, model, snapshot, options.views)


def _warn_of_layers_without_zeros(statistics: Any) -> None:
    from kerassurgery_fn.measure.apoz_scoring import apoz_of, warn_of_layers_without_zeros

    warn_of_layers_without_zeros(apoz_of(statistics))


STATISTICS: dict[str, Pass] = {
    "zeros of activations": Pass(_activations, _warn_of_layers_without_zeros),
    "moments of activations": Pass(_activations),
    "ranks of feature maps": Pass(_activations),
}


def refuse_missing_data(criterion: Criterion, data: Any) -> None:
    """Raises MissingData if the statistics that a criterion needs cannot be measured."""
    if criterion.needs and data is None:
        raise MissingData(
            f"the criterion {criterion.name!r} needs {criterion.needs} measured on data: give data= or statistics="
        )
    if criterion.needs and criterion.needs not in STATISTICS:
        raise MissingData(
            f"the criterion {criterion.name!r} needs {criterion.needs}, which the library cannot measure: give "
            f"statistics=. It measures {', '.join(STATISTICS)}"
        )
