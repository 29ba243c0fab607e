"""What deletions leave of the channels of a model, so that the next deletion needs no new analysis.

The channels of a smaller model are the channels of the model that are left: they have the same ids, and the same
reasons tie and pin them. So one flow serves a sequence of deletions, which only add dead ids:

    model -- delete --> smaller model -- delete --> still smaller model
    flow                same flow, dead ids         same flow, more dead ids

This does not hold in general. A new analysis is made if an axis is left with one position, which layers broadcast, if
a reshape turns channels into a grid, or if the record counts positions in another way than by their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerassurgery_fn.analysis.channel_flow import Flow
from kerassurgery_fn.channels import Axis, Solution
from kerassurgery_fn.edits.steps.axis_places import Sources, changed, places_of
from kerassurgery_fn.rules.counts import Size
from kerassurgery_fn.rules.findings import Producer
from kerassurgery_fn.rules.registry import rule_for, state_of_rules
from kerassurgery_fn.rules.rule_checks import is_own
from kerassurgery_fn.values.kept_results import computed_once, store
from kerassurgery_fn.values.snapshot import Snapshot


@dataclass(frozen=True)
class Remainder:
    """The channels that deletions have left.

    - `flow`: the channels of the model before all of these deletions;
    - `dead`: boolean mask over the final ids that they have deleted, as `flow.solution.none_dead()`.
    """

    flow: Flow
    dead: np.ndarray

    @property
    def solution(self) -> Solution:
        return self.flow.solution

    def producers_at(self, address: str) -> list[Producer]:
        """The channels at an address that are left, see `Flow.producers_at`."""
        return [self._left(producer) for producer in self.flow.producers_at(address)]

    def size(self, axis: Axis) -> int | None:
        """The number of positions of an axis that are left; None if it is unknown."""
        return len(self.solution.kept(axis, self.dead)) if isinstance(axis, np.ndarray) else axis

    def _left(self, producer: Producer) -> Producer:
        if not isinstance(producer.axis, np.ndarray):
            return producer
        return producer._replace(axis=producer.axis[:, self.solution.kept(producer.axis, self.dead)])


@computed_once(state=state_of_rules)
def remainder_of(snapshot: Snapshot) -> Remainder | None:
    """What the deletions that led to a snapshot have left; None for other snapshots."""
    return None


def hand_on(smaller: Snapshot, remainder: Remainder, least: int) -> None:
    """Stores with a snapshot what a deletion has left, if the next deletion can use it.

    Args:
        smaller: the result of the deletion.
        remainder: what is left after it.
        least: the fewest positions on an axis that it changed, see `axis_places.least_left`.
    """
    if least > 1 and is_constant(remainder.flow):
        store(remainder_of, smaller, remainder)


@computed_once()
def is_constant(flow: Flow) -> bool:
    """Whether rules state the same of a smaller model. The rules of users can depend on anything, a grid depends on the
    sizes of its axes, and the channels of inputs have ids in some analyses only."""
    rules = {rule_for(call.record).channels for call in flow.trace.all_calls}
    return not flow.opened and len(flow.solution.table) == 1 and all(rule is None or is_own(rule) for rule in rules)


def counts_only(flow: Flow, keep: Sources) -> bool:
    """Whether a deletion only changes numbers that count positions, so that no value of the model before all deletions
    is needed."""
    places = places_of(flow)
    weights = (flow.weights[path][number] for path, number in changed(places.weights, keep))
    return all(isinstance(flow.sizes[place], Size) for place in changed(places.sizes, keep)) and all(
        weight.root is None or keep(weight.root) is None for weight in weights
    )
