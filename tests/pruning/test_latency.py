"""Latency: a table of the latencies of layers as a value, the latency of a model by it, and budgets of it. No Keras."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pruned_models import (
    PLANNED_MODELS,
    assert_within_one_channel,
    conv,
    dense,
    filled,
    latencies,
    residual,
    vgg,
)
from helpers.records import call, functional, layer, sequential
from kerassurgery_fn import (
    BadDocument,
    BadFile,
    BadValue,
    BlockScores,
    BudgetMissed,
    LatencyTable,
    SurgeryError,
    UnknownVersion,
    UnreachableBudget,
    importance,
    latency,
    layer_work,
    load_latencies,
    plan_pruning,
    prune,
    prune_iteratively,
    save_latencies,
)
from kerassurgery_fn.pruning.latency_tables import curve_of

NET = filled(vgg(12, 16))
TABLE = latencies(NET)

# --- tables

points = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 100)), min_size=1, max_size=8)


@given(points, st.integers(1, 200), st.integers(1, 200))
def test_a_latency_never_falls_with_the_work(some, a, b):
    table = LatencyTable({"Dense": some})
    least, most = sorted((a, b))
    assert table.nanoseconds("Dense", least) <= table.nanoseconds("Dense", most)


@given(points)
def test_a_curve_is_the_closest_that_never_falls(some):
    """The slow way: the value at a work is the largest of the smallest means of ranges around it."""
    works = sorted({work for work, _ in some})
    means = [np.mean([time for each, time in some if each == work]) for work in works]
    expected = [
        max(min(np.mean(means[i : j + 1]) for j in range(place, len(works))) for i in range(place + 1))
        for place in range(len(works))
    ]
    found = curve_of(some)
    assert found.works == works
    np.testing.assert_allclose(found.times, np.array(expected) * 1000, atol=1)


@given(points, points, points)
def test_tables_are_joined_in_any_order(a, b, c):
    first, second, third = LatencyTable({"x": a, "y": b}), LatencyTable({"x": b}), LatencyTable({"x": c, "z": a})
    assert (first | second) | third == first | (third | second)
    assert first | first == first
    assert hash(first | second) == hash(second | first)


def test_latencies_follow_the_points_and_the_work_beyond_them():
    table = LatencyTable({"Dense": [(200, 4.0), (100, 2.5)]})
    assert [table.microseconds("Dense", work) for work in (40, 100, 150, 200, 300)] == [1.6, 2.5, 3.25, 4.0, 6.0]
    steep = LatencyTable({"Dense": [(200, 9.0), (100, 1.0)], "ReLU": [(100, 3.0)]})
    assert [steep.microseconds("Dense", work) for work in (80, 95)] == [0.0, 0.6]
    assert [steep.microseconds("ReLU", work) for work in (50, 100, 200)] == [1.5, 3.0, 6.0]
    assert table["Dense"] == ((100, 2.5), (200, 4.0))
    assert pickle.loads(pickle.dumps(table)) == table
    assert [line.split() for line in str(table).splitlines()][2] == ["Dense", "2", "100", "-", "200", "2.5", "-", "4"]


@pytest.mark.parametrize("value, words", [
    ({}, "with at least one signature, not {}; measure_latencies"),
    (None, "a latency table is a mapping"),
    ({"Dense": []}, r"the latencies of 'Dense': expected points \(work, microseconds\), got \[\]"),
    ({"Dense": 3.0}, "expected points"),
    ({"Dense": "ab"}, "expected points"),
    ({"Dense": [(1, 2, 3)]}, "expected points"),
    ({"Dense": [(0, 1.0)]}, "work is a positive integer, not 0"),
    ({"Dense": [(1.5, 1.0)]}, "work is a positive integer, not 1.5"),
    ({"Dense": [(10, float("nan"))]}, "microseconds are a number from 0, not nan"),
    ({"Dense": [(10, float("inf"))]}, "not inf"),
    ({"Dense": [(10, -1.0)]}, "not -1.0"),
    ({"Dense": [(10, "1")]}, "not '1'"),
])  # fmt: skip
def test_wrong_points_are_refused(value, words):
    with pytest.raises(BadValue, match=words):
        LatencyTable(value)


def test_a_file_gives_the_table_back(tmp_path):
    path = tmp_path / "latencies.json"
    save_latencies(TABLE, path)
    assert load_latencies(path) == TABLE
    data = json.loads(path.read_text())
    for changed, error, words in [
        ({"version": 2}, UnknownVersion, "reads version 1 of latencies, not 2"),
        ({"layers": {"a": [[0, 1]]}}, BadDocument, "work is a positive integer"),
        ({"format": "other"}, BadDocument, "expected latencies"),
    ]:
        path.write_text(json.dumps(data | changed))
        with pytest.raises(error, match=words):
            load_latencies(path)
    with pytest.raises(BadFile):
        load_latencies(tmp_path / "no.json")
    with pytest.raises(BadValue, match="expected a LatencyTable, got 3"):
        save_latencies(3, path)


# --- the latency of a model


def test_signatures_do_not_have_widths():
    narrow, wide = (layer_work(filled(vgg(n, 16))) for n in (3, 12))
    assert [each.signature for each in narrow] == [each.signature for each in wide]
    assert [each.path for each in wide] == ["conv_0", "bn_0", "relu_0", "conv_1", "bn_1", "relu_1", "flat", "top"]
    assert wide[0].work == 64 * (3 * 12 + 3 + 12)
    assert wide[2].work == 64 * (12 + 12)
    assert wide[2].signature.startswith("ReLU after BatchNormalization after Conv2D: (*, 8, 8, *) -> (*, 8, 8, *) {")
    assert wide[0].signature != wide[3].signature  # the first reads three channels that cannot be cut


def test_the_latency_of_a_model_is_the_sum_over_its_calls():
    works = layer_work(NET)
    found = latency(NET, TABLE)
    assert found.times == tuple(TABLE.nanoseconds(each.signature, each.work) for each in works)
    assert found.microseconds == sum(found.times) / 1000
    lines = str(found).splitlines()
    assert lines[0] == "latency"
    assert lines[-1].split()[0] == "total"


def test_a_layer_that_is_called_twice_counts_twice():
    both = [call(dense("tower", 5), "x"), call("tower", "tower")]
    net = functional("net", {"x": (None, 5)}, *both, outputs=("tower", 1, 0))
    assert [each.path for each in layer_work(filled(net))] == ["tower", "tower"]


def test_the_work_at_an_input_size():
    net = filled(sequential("net", (None, None, 3), dense("a", 8), dense("b", 2)))
    assert layer_work(net, (10, 3))[0].work == 10 * (24 + 3 + 8)
    table = LatencyTable({each.signature: [(each.work, 1.0)] for each in layer_work(net, (10, 3))})
    assert latency(net, table, (10, 3)).microseconds == 2.0
    with pytest.raises(BadValue, match="does not have 2 layers of 'net': 'a', 'b'"):
        latency(net, table)


# --- budgets


def table_of(name):
    snapshot = filled(PLANNED_MODELS[name]())
    return snapshot, latencies(snapshot)


@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
@pytest.mark.parametrize("fraction", [0.8, 0.5, 0.3])
@pytest.mark.parametrize("name", PLANNED_MODELS)
def test_a_budget_is_met_from_below_to_within_one_channel(name, fraction, scope):
    snapshot, table = table_of(name)
    target = fraction * latency(snapshot, table).nanoseconds
    plan = plan_pruning(snapshot, importance(snapshot), latency=fraction, latency_table=table, scope=scope)
    assert latency(plan(snapshot), table).nanoseconds <= target
    assert_within_one_channel(snapshot, plan, "latency", target, table)


def test_the_planned_latency_is_that_of_the_cut_model():
    """The closest plan to a budget that cannot be reached says what it reaches."""
    for name in PLANNED_MODELS:
        snapshot, table = table_of(name)
        with pytest.warns(BudgetMissed) as caught:
            plan = plan_pruning(snapshot, importance(snapshot), latency=1.5, latency_table=table, closest=True)
        reached = latency(plan(snapshot), table).microseconds
        assert f"the closest is {reached:,} microseconds" in str(caught[0].message)


def test_an_absolute_budget_is_in_microseconds():
    whole = latency(NET, TABLE).microseconds
    plan = plan_pruning(NET, importance(NET), latency=whole / 2, latency_table=TABLE)
    assert plan == plan_pruning(NET, importance(NET), latency=0.5, latency_table=TABLE)
    assert whole / 2 > 1


def test_several_budgets_are_met_at_once():
    budgets = {"latency": 0.6, "parameters": 0.5, "macs": 0.7}
    result = prune(NET, **budgets, latency_table=TABLE)
    assert latency(result.model, TABLE).nanoseconds <= 0.6 * latency(NET, TABLE).nanoseconds
    assert result.after.parameters <= 0.5 * result.before.parameters
    assert result.after.macs <= 0.7 * result.before.macs
    alone = [prune(NET, latency_table=TABLE if name == "latency" else None, **{name: n}) for name, n in budgets.items()]
    assert result.after.macs == min(each.after.macs for each in alone)


def test_a_result_says_the_latencies():
    result = prune(NET, latency=0.5, latency_table=TABLE)
    assert result.latencies == tuple(latency(each, TABLE).microseconds for each in (NET, result.model))
    assert "latency in microseconds" in str(result)
    assert prune(NET, macs=0.5).latencies is None


def test_a_budget_in_rounds(tmp_path):
    options = {"latency": 0.4, "latency_table": TABLE, "rounds": 2, "schedule": "linear"}
    result = prune_iteratively(NET, **options, folder=tmp_path)
    whole = latency(NET, TABLE).microseconds
    for each, share in zip(result.rounds, (1, 0.7, 0.4), strict=True):
        assert each.cost["latency"] <= share * whole
    assert result.rounds[-1].cost["latency"] == latency(result.model, TABLE).microseconds
    assert "latency in microseconds" in str(result)
    assert prune_iteratively(NET, **options, folder=tmp_path).rounds == result.rounds
    with pytest.raises(BadValue, match="latency_table="):
        prune_iteratively(NET, **options | {"latency_table": latencies(NET, seed=1)}, folder=tmp_path)


def test_blocks_are_deleted_for_a_budget():
    snapshot = filled(residual(8, 8))
    blocks, shorter = BlockScores({"a": 1, "b": 2}), prune(snapshot, macs=0.7, depth="only").model
    table = latencies(snapshot, shorter)
    options = {"latency_table": table, "block_scores": blocks}
    plan = plan_pruning(snapshot, importance(snapshot), latency=0.8, depth="only", **options)
    assert latency(plan(snapshot), table).nanoseconds <= 0.8 * latency(snapshot, table).nanoseconds
    plan = plan_pruning(snapshot, importance(snapshot), latency=0.4, depth=0.5, **options)
    assert latency(plan(snapshot), table).nanoseconds <= 0.4 * latency(snapshot, table).nanoseconds


# --- bad input


@pytest.mark.parametrize("options, error, words", [
    ({"latency": 0.5}, BadValue, "latency: .* there is no table of these: give latency_table=measure_latencies"),
    ({"latency_table": TABLE}, BadValue, "latency_table: there is no budget of latency: give latency=0.5"),
    ({"latency_table": TABLE, "macs": 0.5}, BadValue, "there is no budget of latency"),
    ({"latency": 0.5, "latency_table": {"a": 1}}, BadValue, "latency_table: expected a LatencyTable, got"),
    ({"latency": 0.5, "latency_table": LatencyTable({"a": [(1, 1.0)]})}, BadValue,
     "the latency table does not have 8 layers of 'vgg': 'conv_0', 'bn_0', 'relu_0', 'conv_1', 'bn_1' and 3 more. The "
     r"first is Conv2D: \(\*, 8, 8, 3\) -> \(\*, 8, 8, \*\). Measure the layers of this model, too: latency_table \| "),
    ({"latency": float("nan"), "latency_table": TABLE}, BadValue, "latency: a budget is the fraction .* not nan"),
    ({"latency": -1, "latency_table": TABLE}, BadValue, "or a number of microseconds from 1, .* not -1"),
    ({"latency": 1e6, "latency_table": TABLE}, BadValue, "'vgg' has .* microseconds .100.0 %., within the budget"),
    ({"latency": 1.5, "latency_table": TABLE}, UnreachableBudget,
     r"the budget of 1.5 microseconds .* Most of the rest is held by '"),
    ({"latency": 0.5, "latency_table": TABLE, "macs": 1}, UnreachableBudget, "the budget of 1 MACs"),
])  # fmt: skip
@pytest.mark.parametrize("function", [prune, prune_iteratively])
def test_bad_input_is_refused(function, options, error, words):
    with pytest.raises(error, match=words):
        function(NET, **options)
    with pytest.raises(error, match=words):
        plan_pruning(NET, importance(NET), **options)


def test_a_table_of_layers_without_any_time_has_no_budget():
    table = LatencyTable({each.signature: [(each.work, 0.0)] for each in layer_work(NET)})
    with pytest.raises(SurgeryError, match="within the budget"):
        prune(NET, latency=0.5, latency_table=table)


def test_a_rounded_budget_counts_whole_multiples():
    result = prune(NET, latency=0.7, latency_table=TABLE, round_to=4)
    assert all(after % 4 == 0 for _, after in result.widths.values())


def test_a_cut_that_makes_another_layer_is_left_alone():
    """A Permute of one channel keeps the shape of its tensor, and is measured after the layer that it reads."""
    record = functional(
        "net", {"x": (None, 4, 4, 3)},
        call(conv("a", 2, 1), "x"),
        call(layer("GlobalAveragePooling2D", "pool", keepdims=True), "a", out=(None, 1, 1, 2)),
        call(layer("Permute", "p", dims=[2, 3, 1]), "pool", out=(None, 1, 2, 1)),
        call(layer("Flatten", "f"), "p", out=(None, 2)),
        call(dense("b", 6), "f"),
        call(dense("c", 2), "b"),
        outputs="c",
    )  # fmt: skip
    snapshot = filled(record)
    table = latencies(snapshot)
    with pytest.warns(BudgetMissed, match="'a' .*the latency of 'p' does not follow from its width"):
        plan = plan_pruning(snapshot, importance(snapshot), latency=1.1, latency_table=table, closest=True)
    assert latency(plan(snapshot), table).nanoseconds <= latency(snapshot, table).nanoseconds
    assert [path for edit in plan.edits for path in edit.channels] == ["b"]
