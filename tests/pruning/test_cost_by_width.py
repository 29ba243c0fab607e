"""Costs as functions of widths: polynomials agree with the cost of what is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pruned_models import (
    IMAGE,
    conv,
    dense,
    figure_of,
    filled,
    grouped,
    halves_joined,
    joined,
    latencies,
    residual,
    vgg,
)
from helpers.records import call, functional, layer, operation
from kerassurgery_fn import analyse, cost, latency
from kerassurgery_fn.analysis.coupled_groups import groups_of
from kerassurgery_fn.analysis.layer_costs import cost_of
from kerassurgery_fn.pruning.cost_by_width import FIGURES, AxisSizes, CostByWidth
from kerassurgery_fn.pruning.cost_polynomials import Polynomials, Size, terms_of

# --- numbers that remember how they depend on widths

numbers = st.integers(-5, 5)


@st.composite
def sizes(draw):
    """A size, and a function of two widths that it is a value of, at widths 4 and 6."""
    left, right = Size(4, {(0,): 1}), Size(6, {(1,): 1})
    size, function = draw(st.sampled_from([(left, lambda a, b: a), (right, lambda a, b: b), (3, lambda a, b: 3)]))
    for _ in range(draw(st.integers(0, 5))):
        name, n = draw(st.sampled_from("+-*rx")), draw(numbers)
        before = function
        if name == "+":
            size, function = size + n, lambda a, b, f=before, n=n: f(a, b) + n
        elif name == "-":
            size, function = n - size, lambda a, b, f=before, n=n: n - f(a, b)
        elif name == "*":
            size, function = n * size, lambda a, b, f=before, n=n: n * f(a, b)
        elif name == "r":
            size, function = size * right, lambda a, b, f=before: f(a, b) * b
        else:
            size, function = left + size, lambda a, b, f=before: a + f(a, b)
    return size, function


@given(sizes(), st.integers(0, 9), st.integers(0, 9))
def test_sizes_remember_their_polynomial(pair, a, b):
    size, function = pair
    assert int(size) == function(4, 6)
    assert Polynomials([terms_of(size)])(np.array([a, b])).tolist() == [function(a, b)]


def test_an_exact_division_keeps_the_polynomial_and_another_one_does_not():
    size = Size(8, {(0,): 2})
    assert (size // 2).terms == {(0,): 1}
    assert type(size // 3) is int
    assert size // 3 == 2


@given(st.lists(st.dictionaries(st.lists(st.integers(0, 2), max_size=3).map(lambda k: tuple(sorted(k))), numbers,
                                max_size=4), min_size=1, max_size=4))  # fmt: skip
def test_slopes_are_partial_derivatives(polynomials):
    both, at = Polynomials(polynomials), np.array([2, 3, 5])
    for variable in range(3):
        exact = [
            sum(n * key.count(variable) * np.prod([at[v] for v in key]) / at[variable] for key, n in terms.items())
            for terms in polynomials
        ]
        np.testing.assert_allclose(both.slopes(at)[:, variable], exact)


# --- the cost of a model

MODELS = {
    "vgg": lambda: vgg(5, 6), "residual": residual, "groups": grouped, "halves": halves_joined,
    "branches": lambda: joined(3, 4, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_cost_of_any_widths_is_that_of_a_cut_to_them(name):
    snapshot = filled(MODELS[name]())
    flow = analyse(snapshot)
    groups = groups_of(flow)
    table = latencies(snapshot)
    costs = CostByWidth(snapshot, flow, groups, table)
    whole = {figure: getattr(cost(snapshot), figure) for figure in FIGURES}
    assert costs(costs.full) == {**whole, "latency": latency(snapshot, table).nanoseconds}
    rng = np.random.default_rng(0)
    for _ in range(5):
        widths = np.array([len(group) if group.pinned else rng.integers(1, len(group) + 1) for group in groups])
        dead = flow.solution.none_dead()
        for group, width in zip(groups, widths, strict=True):
            dead[rng.permutation(group.ids)[width:]] = True
        measured = cost_of(snapshot, flow, dead)
        nanoseconds = figure_of(snapshot, flow, dead, "latency", table)
        assert costs(widths) == {figure: getattr(measured, figure) for figure in FIGURES} | {"latency": nanoseconds}
        assert costs.unlike(widths, dead) == []


@pytest.mark.parametrize("name", MODELS)
def test_a_slope_is_what_one_channel_more_costs(name):
    snapshot = filled(MODELS[name]())
    flow = analyse(snapshot)
    costs = CostByWidth(snapshot, flow, groups_of(flow), latencies(snapshot))
    widths = costs.full // 2 + 1
    growth = np.arange(len(widths)) % 3
    added = costs.added_latency(growth, widths)
    for number in range(len(widths)):
        more = costs(widths + (np.arange(len(widths)) == number))
        wider = costs(widths + growth * (np.arange(len(widths)) == number))
        assert added[number] == wider["latency"] - costs(widths)["latency"]
        for figure, slopes in costs.slopes(widths).items():
            assert slopes[number] == more[figure] - costs(widths)[figure]


def test_a_layer_whose_cost_is_no_polynomial_is_found(monkeypatch):
    snapshot = filled(vgg(5, 6))
    flow = analyse(snapshot)
    from kerassurgery_fn.rules.macs import Use

    exact = Use.__call__
    monkeypatch.setattr(Use, "__call__", lambda self, *a, **k: int(exact(self, *a, **k)) ** 2)
    groups = groups_of(flow)
    costs = CostByWidth(snapshot, flow, groups)
    widths = costs.full.copy()
    widths[0] -= 1
    dead = flow.solution.none_dead()
    dead[groups[0].ids[:1]] = True
    assert costs.unlike(widths, dead) == ["conv_0", "conv_1"]


def test_the_size_of_a_part_of_a_group_does_not_follow_from_its_width():
    """A slice of channels that no weight reads: its size does not follow from the width of the group."""
    record = functional(
        "net", {"x": IMAGE},
        call(conv("a", 6, 1), "x"),
        call(operation("Matmul", "m"), "a", "a", out=(None, 8, 8, 8)),
        call(layer("Flatten", "flat"), "a"),
        call(dense("top", 2), "flat"),
        outputs="top",
    )  # fmt: skip
    flow = analyse(filled(record))
    groups = groups_of(flow)
    sizes = AxisSizes(flow, groups)
    axis = flow.producer("a").axis
    assert sizes(axis).terms == {(0,): 1}
    half = axis[:, :3]
    assert (type(sizes(half)), sizes(half)) == (int, 3)
