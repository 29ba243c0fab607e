"""The rounds of iterative pruning with their results, as a value that prints as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerassurgery_fn.arguments import shortened
from kerassurgery_fn.documents.plan_files import refuse_other_version
from kerassurgery_fn.edits.base import Edit
from kerassurgery_fn.edits.plan import Plan
from kerassurgery_fn.errors import BadDocument
from kerassurgery_fn.values.frozen import FrozenDict
from kerassurgery_fn.values.tables import ShownAsTable, Table

FORMAT, VERSION = "kerassurgery_fn pruning round", 1
LABELS = {"parameters": "parameters", "macs": "MACs", "bytes": "bytes"}
LATENCY = {"latency": "latency in microseconds"}


@dataclass(frozen=True)
class Round:
    """A round of iterative pruning. Round 0 is the first model.

    - `number`: the number of the round;
    - `cost`: parameters, MACs and bytes of the model, and its latency in microseconds if there is a budget for it;
    - `widths`: address of each layer of the first model that creates channels -> their number, 0 if it was deleted;
    - `metric`: what `evaluate` gave after fine-tuning; None without `evaluate`;
    - `plan`: the edit that the round applied to the model of the round before; None for round 0.
    """

    number: int
    cost: Mapping[str, float]
    widths: Mapping[str, int]
    metric: float | None = None
    plan: Edit | None = None


@dataclass(frozen=True, eq=False, repr=False)
class PrunedInRounds(ShownAsTable):
    """The result of `prune_iteratively`. It prints as a table.

    - `model`: the model of the last good round, a Keras model or a snapshot, as the model that was given;
    - `plan`: the edits of all good rounds as one plan, for models with the architecture of the first one;
    - `rounds`: all rounds, the first model included as round 0;
    - `kept`: how many of them are good; a round is not if its metric fell by more than the tolerance.
    """

    model: Any
    plan: Plan
    rounds: tuple[Round, ...]
    kept: int

    def table(self) -> Table:
        """A column for each round: the metric, the costs, and the widths of layers that lost channels."""
        labels = {key: label for key, label in (LABELS | LATENCY).items() if key in self.rounds[0].cost}
        costs = [(label, [each.cost[key] for each in self.rounds]) for key, label in labels.items()]
        widths = [(name, [each.widths.get(name, 0) for each in self.rounds]) for name in self.rounds[0].widths]
        changed = [(name, numbers) for name, numbers in widths if len({*numbers}) > 1]
        rows: list[tuple[Any, ...]] = [
            (name, *numbers, f"{100 * numbers[self.kept - 1] / max(1, numbers[0]):.1f} %")
            for name, numbers in costs + changed
        ]
        if self.rounds[0].metric is not None:
            rows.insert(0, ("metric", *(f"{each.metric:.4g}" for each in self.rounds), ""))
        return Table("pruned in rounds", ("", *map(self._heading, range(len(self.rounds))), "left"), tuple(rows))

    def _heading(self, place: int) -> str:
        name = f"round {self.rounds[place].number}" if place else "before"
        return f"{name} (dropped)" if place >= self.kept else name


def until_fall(rounds: Sequence[Round], tolerance: float | None) -> tuple[list[Round], int]:
    """The rounds up to the first whose metric fell by more than the tolerance, and how many of them did not.

    A metric that is NaN has fallen.

    Args:
        rounds: the rounds, the first model first.
        tolerance: the largest fall of the metric, absolute; None allows any.

    >>> rounds = [Round(number, {}, {}, metric) for number, metric in enumerate([0.9, 0.89, 0.7, 0.6])]
    >>> shown, kept = until_fall(rounds, 0.05)
    >>> [each.number for each in shown], kept
    ([0, 1, 2], 2)
    """
    if tolerance is None:
        return list(rounds), len(rounds)
    for place, each in enumerate(rounds):
        if not rounds[0].metric - each.metric <= tolerance:  # type: ignore[operator]
            return list(rounds[: place + 1]), place
    return list(rounds), len(rounds)


def encode_round(each: Round) -> dict[str, Any]:
    """A round as JSON-ready data, without its plan, which is a document of its own.

    >>> encode_round(Round(1, {"macs": 5}, {"conv": 2}, 0.75))["metric"]
    0.75
    """
    metric = each.metric if each.metric is None or math.isfinite(each.metric) else str(each.metric)
    cost, widths = dict(each.cost), dict(each.widths)
    return {
        "format": FORMAT, "version": VERSION, "number": each.number, "metric": metric, "cost": cost, "widths": widths
    }  # fmt: skip


def decode_round(data: Any, source: str, plan: Edit | None = None) -> Round:
    """The round from the data that `encode_round` returned.

    Raises:
        BadDocument: the data is not that of a round; the message names `source`.
        UnknownVersion: it has another version.
    """
    refuse_other_version(data, FORMAT, VERSION, "rounds", source)
    match data:
        case {
            "format": str(form), "number": int(number), "metric": None | int() | float() | "nan" | "inf" | "-inf",
            "cost": dict(cost), "widths": dict(widths),
        } if form == FORMAT and _is_cost(cost) and _are_counts(widths):  # fmt: skip
            metric = None if data["metric"] is None else float(data["metric"])
            return Round(number, FrozenDict(cost), FrozenDict(widths), metric, plan)
    raise BadDocument(f"{source}: expected a round of iterative pruning, got {shortened(data)}")


def _is_cost(data: Mapping[str, Any]) -> bool:
    """Whether a round can have this cost: that of a latency is not a whole number."""
    others = {key: number for key, number in data.items() if key in LATENCY}
    is_latency = all(type(number) in (int, float) and number >= 0 for number in others.values())
    counts = {key: number for key, number in data.items() if key not in LATENCY}
    return counts.keys() == LABELS.keys() and _are_counts(counts) and is_latency


def _are_counts(data: Mapping[str, Any]) -> bool:
    return all(type(number) is int and number >= 0 for number in data.values())
