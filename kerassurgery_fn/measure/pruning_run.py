"""A run of iterative pruning: its rounds one after the other, with the functions of the caller that train and measure.

Keras is imported only to build the models that are fine-tuned and evaluated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerassurgery_fn.analysis.input_shapes import with_shapes
from kerassurgery_fn.analysis.layer_costs import cost
from kerassurgery_fn.arguments import is_keras, shortened
from kerassurgery_fn.documents.preconditions import differences, fingerprint
from kerassurgery_fn.errors import BadValue, OtherModel
from kerassurgery_fn.measure.model_pruning import compared_widths, prune, rebuilt
from kerassurgery_fn.measure.model_scoring import captured
from kerassurgery_fn.measure.round_folder import RoundFolder
from kerassurgery_fn.pruning.budget_targets import BUDGETS
from kerassurgery_fn.pruning.model_latency import latency
from kerassurgery_fn.pruning.pruning_problem import PrunableModel, prunable_model
from kerassurgery_fn.pruning.pruning_rounds import LABELS, Round, until_fall
from kerassurgery_fn.pruning.round_targets import RoundTargets
from kerassurgery_fn.values.snapshot import Snapshot

FineTune = Callable[[Any], Any]
Evaluate = Callable[[Any], float | None]


def planned(snapshot: Snapshot, arguments: Mapping[str, Any]) -> PrunableModel:
    """A snapshot as planning sees it, with the shapes of its inputs and the latencies that the caller gives."""
    shapes = arguments.get("shapes")
    return prunable_model(snapshot if shapes is None else with_shapes(snapshot, shapes), arguments.get("latency_table"))


@dataclass(frozen=True, eq=False)
class Run:
    """The settings and functions of a run of iterative pruning."""

    first: Snapshot
    targets: RoundTargets
    fine_tune: FineTune | None
    evaluate: Evaluate | None
    tolerance: float | None
    store: RoundFolder | None
    arguments: Mapping[str, Any]

    def through(self, model: Any) -> tuple[list[Round], Callable[[int], Snapshot]]:
        """All rounds, including the rounds of an earlier run, and a function: number of a round -> its model.

        Args:
            model: the model that the caller gave.
        """
        done = self.store.rounds() if self.store else []
        models = {0: self.first}

        def model_of(number: int) -> Snapshot:
            return models[number] if number in models or self.store is None else self.store.model(number)

        if not done:
            done = [self.start(model)]
        for number in range(done[-1].number + 1, self.targets.rounds + 1):
            before = model_of(done[-1].number)
            asked = self.targets.of(number, planned(before, self.arguments))
            if asked and until_fall(done, self.tolerance)[1] == len(done):
                each, after = self.round(number, before, asked)
                models = {done[-1].number: before, number: after}
                done.append(each)
        return done, model_of

    def start(self, model: Any) -> Round:
        """Round 0: the first model.

        Raises:
            BadValue: its metric is NaN, so that no fall can be measured.
        """
        metric = None
        if self.evaluate is not None:
            metric = metric_of(self.evaluate, rebuilt(self.first) if isinstance(model, Snapshot) else model)
            if np.isnan(metric):
                raise BadValue("evaluate: the metric of the first model is NaN")
        each = self._round(0, self.first, metric)
        if self.store is not None:
            self.store.save(each, self.first)
        return each

    def round(self, number: int, before: Snapshot, asked: Mapping[str, Any]) -> tuple[Round, Snapshot]:
        """A round and the model after it: pruned, fine-tuned, measured, written to disk."""
        pruned = prune(before, **{**self.arguments, **dict.fromkeys(BUDGETS), **asked})
        after, metric = self.measured(number, pruned.model)
        each = self._round(number, after, metric, pruned.plan)
        if self.store is None:
            return each, after
        self.store.save(each, after)
        return each, self.store.model(number)  # as a run that goes on from here reads it

    def measured(self, number: int, pruned: Snapshot) -> tuple[Snapshot, float | None]:
        """A pruned model after fine-tuning, and its metric. A live model is built only for the caller's functions.

        Raises:
            BadValue, OtherModel: a function of the caller returns something else.
        """
        if self.fine_tune is None and self.evaluate is None:
            return pruned, None
        with random_seed(number):
            live = rebuilt(pruned)
        if self.fine_tune is not None:
            live = trained(self.fine_tune, live)
        after = pruned if self.fine_tune is None else captured(live)
        refuse_other_architecture(pruned, after)
        return after, None if self.evaluate is None else metric_of(self.evaluate, live)

    def _round(self, number: int, snapshot: Snapshot, metric: float | None, plan: Any = None) -> Round:
        figures = cost(snapshot, self.arguments.get("shapes"))
        costs = {key: getattr(figures, key) for key in LABELS}
        if (table := self.arguments.get("latency_table")) is not None:
            costs["latency"] = latency(snapshot, table, self.arguments.get("shapes")).microseconds
        widths = {name: after for name, (_, after) in compared_widths(self.first, snapshot).items()}
        return Round(number, costs, widths, metric, plan)


@contextmanager
def random_seed(seed: int) -> Iterator[None]:
    """A scope with a seed of Python's random numbers, from which Keras seeds the layers of a model that draw some.

    The model of a round then drops the same units, whether the rounds before it ran now or were read from disk.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def trained(fine_tune: FineTune, model: Any) -> Any:
    """The model that `fine_tune` returns.

    Raises:
        BadValue: it returns no Keras model.
    """
    if is_keras(tuned := fine_tune(model), "Model"):
        return tuned
    raise BadValue(
        f"fine_tune must return the trained Keras model, and it returned {shortened(tuned)}: end it with `return model`"
    )


def metric_of(evaluate: Evaluate, model: Any) -> float:
    """The metric of a model.

    Raises:
        BadValue: `evaluate` returns no number.
    """
    metric = evaluate(model)
    try:
        return float(metric)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise BadValue(
            f"evaluate must return a number, higher is better, and it returned {shortened(metric)}: take one of the "
            'metrics, such as model.evaluate(x, y, return_dict=True)["accuracy"]'
        ) from error


def refuse_other_architecture(pruned: Snapshot, tuned: Snapshot) -> None:
    """Raises OtherModel if fine-tuning has changed more than weights."""
    if listed := list(differences(fingerprint(pruned), fingerprint(tuned))):
        raise OtherModel(
            f"fine_tune must return the model that it was given, trained, and it returned another one: {listed[0]}"
        )
