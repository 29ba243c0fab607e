"""Schedules of iterative pruning, and the targets that follow from them, without Keras."""

import numpy as np
import pytest

from helpers.pruned_models import filled, residual, vgg
from kerassurgery_fn import BadValue, UnknownGroup, groups, importance, plan_pruning
from kerassurgery_fn.pruning.group_limits import ByGroup
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.pruning_problem import prunable_model
from kerassurgery_fn.pruning.pruning_rounds import Round, decode_round, encode_round, until_fall
from kerassurgery_fn.pruning.round_targets import round_targets
from kerassurgery_fn.pruning.schedules import SCHEDULES, as_schedule, cubic, fractions_left, linear

# The fractions that are left after each of four rounds, down to 0.2.
LEFT = {
    "one_shot": [0.2, 0.2, 0.2, 0.2],
    "linear": [0.8, 0.6, 0.4, 0.2],
    "cubic": [0.2 + 0.8 * 27 / 64, 0.2 + 0.8 / 8, 0.2 + 0.8 / 64, 0.2],
    "geometric": [0.2**0.25, 0.2**0.5, 0.2**0.75, 0.2],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_fractions_of_each_schedule(name):
    assert fractions_left(SCHEDULES[name], 4, 0.2) == pytest.approx(LEFT[name])
    assert SCHEDULES[name](0, 0.2) == 1
    assert fractions_left(SCHEDULES[name], 1, 0.2) == [0.2]


def test_cubic_is_the_formula_of_the_paper():
    """Zhu and Gupta: the sparsity is s_f + (s_i - s_f) * (1 - t / n) ** 3, with s_i = 0."""
    sparsity = [0.7 + (0 - 0.7) * (1 - t / 10) ** 3 for t in range(11)]
    assert [1 - cubic(t / 10, 0.3) for t in range(11)] == pytest.approx(sparsity)


def test_a_function_is_a_schedule():
    assert fractions_left(as_schedule(lambda progress, target: 1 - progress**2 * (1 - target)), 2, 0.5) == [0.875, 0.5]
    with pytest.raises(BadValue, match=r"must fall from 1 to 0.5, and the schedule gives 0.5, 1 before"):
        fractions_left(lambda progress, target: progress * 1.5, 3, 0.5)
    with pytest.raises(BadValue, match=r"schedule: no schedule 'cubik'; did you mean 'cubic'\?"):
        as_schedule("cubik")


@pytest.mark.parametrize("schedule", [lambda progress: 0.5, lambda progress, target: "half", lambda *_: None])
def test_a_function_that_gives_no_fraction_is_refused(schedule):
    with pytest.raises(BadValue, match=r"schedule: expected a function from \(progress, target\)"):
        fractions_left(schedule, 2, 0.5)


def targets(snapshot, schedule=linear, rounds=4, ratios=None, max_ratio=1.0, min_channels=1, **values):
    return round_targets(prunable_model(snapshot), values, ratios, max_ratio, min_channels, schedule, rounds)


def pruned(snapshot, asked):
    return plan_pruning(snapshot, importance(snapshot), **asked)(snapshot)


def test_budgets_are_relative_to_the_first_model():
    snapshot = filled(vgg(16, 16))
    wanted = targets(snapshot, macs=0.2, parameters=0.5)
    full = prunable_model(snapshot).figures(prunable_model(snapshot).costs.full)
    smaller = pruned(snapshot, wanted.of(1, prunable_model(snapshot)))
    for model in (snapshot, smaller):
        asked = wanted.of(2, prunable_model(model))
        assert (asked["macs"], asked["parameters"]) == (int(0.6 * full["macs"]), int(0.75 * full["parameters"]))
    assert wanted.of(4, prunable_model(snapshot))["macs"] == int(0.2 * full["macs"])


def test_an_absolute_budget_and_a_round_with_nothing_to_cut():
    snapshot = filled(vgg(16, 16))
    wanted = targets(snapshot, SCHEDULES["one_shot"], channels=20)
    assert wanted.of(1, prunable_model(snapshot))["channels"] == 20
    assert wanted.of(2, prunable_model(pruned(snapshot, wanted.of(1, prunable_model(snapshot))))) == {}


def widths(snapshot):
    return {name: len(group) for name, group in named_groups(groups(snapshot)).items()}


def test_ratios_are_relative_to_the_first_model():
    snapshot = filled(residual(12, 10))
    wanted, widths_by_round = targets(snapshot, ratios={"stem": 0.5, "b_1": 0.3}), [widths(snapshot)]
    for number in range(1, 5):
        snapshot = pruned(snapshot, wanted.of(number, prunable_model(snapshot)))
        widths_by_round.append(widths(snapshot))
    assert [each["stem"] for each in widths_by_round] == [12, 11, 9, 8, 6]  # 12 - floor(12 * 0.5 * n / 4)
    assert [each["b_1"] for each in widths_by_round] == [10, 10, 9, 8, 7]
    assert {each["a_1"] for each in widths_by_round} == {10}


@pytest.mark.filterwarnings("ignore::kerassurgery_fn.errors.BudgetMissed")
def test_limits_are_relative_to_the_first_model():
    snapshot = filled(residual(12, 10))
    wanted = targets(snapshot, channels=10, max_ratio={"stem": 0.25}, min_channels={"a_1": 8})
    for number in range(1, 5):
        snapshot = pruned(snapshot, wanted.of(number, prunable_model(snapshot)) | {"closest": True})
    assert {name: widths(snapshot)[name] for name in ("stem", "a_1", "b_1")} == {"stem": 9, "a_1": 8, "b_1": 1}


def test_values_by_the_name_of_a_group():
    snapshot = filled(residual(12, 10))
    plan = plan_pruning(snapshot, importance(snapshot), ratios=ByGroup({"a_1": 0.5}))
    assert [*plan(snapshot).weights["a_1"][0].shape] == [1, 1, 12, 5]
    with pytest.raises(UnknownGroup, match=r"ratios: no group 'a_2'"):  # a coupled layer is not the name of its group
        plan_pruning(snapshot, importance(snapshot), ratios=ByGroup({"a_2": 0.5}))


@pytest.mark.parametrize("metric", [None, 0.5, float("nan"), float("-inf")])
def test_a_round_as_json_and_back(metric):
    each = Round(3, {"parameters": 7, "macs": 5, "bytes": 28}, {"conv": 2}, metric)
    again = decode_round(encode_round(each), "metrics.json")
    assert np.array_equal([again.metric or 0], [metric or 0], equal_nan=True)
    assert (again.number, again.cost, again.widths) == (each.number, each.cost, each.widths)


def test_where_the_rounds_end():
    rounds = [Round(n, {}, {}, metric) for n, metric in enumerate([0.9, 0.95, float("nan"), 0.9])]
    assert [kept for _, kept in (until_fall(rounds, tolerance) for tolerance in (None, 0.0))] == [4, 2]
    assert until_fall(rounds[:2], 0.0) == (rounds[:2], 2)
