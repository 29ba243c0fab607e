"""The statistics that criteria need, each with the function that measures it on a model. Keras is imported late."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from kerassurgery_fn.errors import MissingData
from kerassurgery_fn.pruning.criterion_registry import Criterion

# Batches, and the number of their samples or None -> batches of those samples that are measured.
Select = Callable[[Iterable[Any], int | None], Iterable[Any]]


def every_sample(batches: Iterable[Any], total: int | None) -> Iterable[Any]:
    """The batches as they are."""
    return batches


@dataclass(frozen=True)
class Options:
    """What is measured.

    - `views`: selects layers, by a function from the flow of the model;
    - `objective`: the loss, for gradients of the loss.
    """

    views: Callable[[Any], Any]
    objective: Any = None


class Pass(NamedTuple):
    """How statistics are measured in one pass.

    - `start`: a function from (kind, live model, snapshot, options) to a function from a batch to its statistics;
    - `loss`: whether it measures gradients of the loss;
    - `warn`: a function from the result that warns where it says nothing of a layer;
    - `select`: a function from the batches and the number of samples to batches of the samples that are measured.
    """

    start: Callable[[str, Any, Any, Options], Callable[[Any], Any]]
    loss: bool = False
    warn: Callable[[Any], None] = lambda statistics: None
    select: Select = every_sample


def _late(module: str, function: str) -> Callable[..., Any]:
    """A function of a module of this room, which is imported when it is called."""
    return lambda *arguments: getattr(import_module(f"{__package__}.{module}"), function)(*arguments)


def _warn_of_layers_without_zeros(statistics: Any) -> None:
    from kerassurgery_fn.measure.apoz_scoring import apoz_of, warn_of_layers_without_zeros

    warn_of_layers_without_zeros(apoz_of(statistics))


ACTIVATIONS = _late("activation_pass", "measure_activations")
STATISTICS: dict[str, Pass] = {
    "zeros of activations": Pass(ACTIVATIONS, warn=_warn_of_layers_without_zeros),
    "moments of activations": Pass(ACTIVATIONS),
    "ranks of feature maps": Pass(ACTIVATIONS, select=_late("sample_selection", "selected")),
    "gradients of gates": Pass(_late("gradient_pass", "measure_gates"), loss=True),
    "sensitivities of outputs": Pass(_late("gradient_pass", "measure_sensitivities")),
    "gradients of weights": Pass(_late("gradient_pass", "measure_weights"), loss=True),
    "products of inputs": Pass(_late("product_pass", "measure_products")),
    "cosines of blocks": Pass(_late("block_pass", "measure_blocks")),
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
