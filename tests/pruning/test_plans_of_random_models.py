"""Plans of random models by random options: their costs are those of the cut models, and budgets are met."""

from random import Random

import pytest

from helpers.pruned_models import dead_of, latencies
from helpers.random_laws import quiet
from helpers.random_models import random_model
from kerassurgery_fn import BadValue, UnreachableBudget, analyse, capture, cost, importance, latency, plan_pruning
from kerassurgery_fn.analysis.layer_costs import cost_of, measure_of
from kerassurgery_fn.pruning.layer_work import work_by

pytestmark = pytest.mark.keras

FIGURES = ["macs", "parameters", "bytes", "latency"]
CRITERIA = ["magnitude", "group_magnitude", "fpgm", "lamp", "cosine", "random"]


def options(r):
    """A budget and options, at random."""
    budget = {r.choice(FIGURES): r.choice([0.3, 0.5, 0.8])}
    return {
        **budget, "scope": r.choice(["global", "local", "isomorphic"]), "inexact": r.random() < 0.3,
        "round_to": r.choice([1, 1, 2]),
    }  # fmt: skip


def check_plan(snapshot, by, options):
    """Whether there is a plan; if so, it costs what the widths say."""
    try:
        table = latencies(snapshot) if "latency" in options else None
        plan = plan_pruning(snapshot, importance(snapshot, by), **options, latency_table=table)
    except (UnreachableBudget, BadValue):
        return False
    before, after = cost(snapshot), cost(plan(snapshot))
    assert after == cost_of(snapshot, analyse(snapshot), dead_of(plan, snapshot))
    if table is not None:
        assert latency(plan(snapshot), table).times == planned_times(snapshot, plan, table)
        assert latency(plan(snapshot), table).nanoseconds <= options["latency"] * latency(snapshot, table).nanoseconds
    assert all(
        getattr(after, name) <= part * getattr(before, name) for name, part in options.items() if name in FIGURES[:-1]
    )
    return True


def planned_times(snapshot, plan, table):
    """The latency of each layer by the widths that the plan leaves."""
    flow = analyse(snapshot)
    works = work_by(snapshot, flow, measure_of(flow, dead_of(plan, snapshot)))
    return tuple(table.nanoseconds(each.signature, each.work) for each in works)


@pytest.mark.parametrize("share", range(4))
def test_plans_of_random_models(share, request):
    count = request.config.getoption("--random-models")
    planned = 0
    for seed in range(share, count, 4):
        r = Random(f"{seed} plans")
        with quiet():
            snapshot = capture(random_model(seed))
            drawn = [(r.choice(CRITERIA), options(r)) for _ in range(4)]
            outcomes = [check_plan(snapshot, by, chosen) for by, chosen in drawn]
        planned += sum(outcomes)
    assert planned > count / 4
