"""`prune` on snapshots: the steps in one call, and what it says of the result."""

import subprocess
import sys

import numpy as np
import pytest

from helpers.pruned_models import conv, filled, residual, vgg
from helpers.records import layer, sequential
from kerassurgery_fn import (
    BadScores,
    BadValue,
    BudgetMissed,
    MissingData,
    NotAGraph,
    Scores,
    Snapshot,
    UnknownCriterion,
    UnreachableBudget,
    cost,
    importance,
    plan_pruning,
    prune,
)
from kerassurgery_fn.pruning.criterion_registry import CRITERIA, criterion


def test_a_snapshot_gives_a_snapshot():
    snapshot = filled(residual(12, 10))
    result = prune(snapshot, macs=0.5)
    assert isinstance(result.model, Snapshot)
    assert result.model == result.plan(snapshot)
    assert result.plan == plan_pruning(snapshot, importance(snapshot), macs=0.5)
    assert (result.before, result.after) == (cost(snapshot), cost(result.model))
    assert result.after.macs <= 0.5 * result.before.macs


@pytest.mark.parametrize("by", [name for name, known in CRITERIA.items() if not known.needs])
def test_every_criterion_prunes(by):
    result = prune(filled(vgg(12, 16)), by=by, macs=0.5)
    assert 0.4 * result.before.macs < result.after.macs <= 0.5 * result.before.macs
    assert result.scores.criterion == by


def test_the_table_of_criteria_is_complete_when_it_is_imported():
    code = "from kerassurgery_fn.pruning import CRITERIA; print(*CRITERIA)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"magnitude", "apoz", "taylor", "thinet"} <= {*found.split()}


def test_criteria_choose_other_channels():
    snapshot = filled(vgg(12, 16))
    plans = [prune(snapshot, by=by, channels=0.5).plan for by in ("magnitude", "fpgm", "bn_scale", "random")]
    assert all(a != b for i, a in enumerate(plans) for b in plans[:i])


def test_options_reach_their_step():
    snapshot = filled(vgg(16, 16))
    result = prune(
        snapshot, by="random", seed=3, normalisation="max", channels=0.8, scope="local", round_to=8, ignore=["conv_0"]
    )
    assert result.scores == importance(snapshot, "random", seed=3, normalisation="max")
    assert result.widths == {"conv_1": (16, 8)}


def test_a_function_and_scores_are_criteria():
    snapshot = filled(vgg(12, 16))
    result = prune(snapshot, by=lambda group: np.arange(len(group)), channels=0.5)
    assert result.plan == prune(snapshot, by=result.scores, channels=0.5).plan
    assert [channels for edit in result.plan.edits for channels in edit.channels.values()] == [
        tuple(range(7)), tuple(range(7))
    ]  # fmt: skip


def test_a_result_prints_as_a_table():
    result = prune(filled(vgg(12, 16)), by=Scores({"conv_1": np.arange(16)}, "rank"), channels=0.5)
    lines = repr(result).splitlines()
    assert lines[0] == "pruned by rank"
    assert lines[1].split() == ["before", "after", "left"]
    assert [line.split()[0] for line in lines[2:]] == ["parameters", "MACs", "bytes", "conv_1"]
    assert lines[-1].split() == ["conv_1", "16", "2", "12.5", "%"]
    assert "conv_1" in result._repr_html_()


def test_a_depth_multiplier_of_which_one_is_left_is_no_kind_of_channels_any_more():
    depthwise = layer("DepthwiseConv2D", "b", kernel_size=[3, 3], depth_multiplier=2)
    snapshot = filled(sequential("net", (None, 8, 8, 3), conv("a", 4), depthwise, conv("c", 2)))
    assert prune(snapshot, channels=2).widths == {"a": (4, 1), "b": (2, 1)}


def test_an_unreachable_budget():
    snapshot = filled(vgg(12, 16))
    with pytest.raises(UnreachableBudget, match="Most of the rest is held by"):
        prune(snapshot, macs=0.001)
    with pytest.warns(BudgetMissed):
        assert prune(snapshot, macs=0.001, closest=True).widths == {"conv_0": (12, 1), "conv_1": (16, 1)}


@pytest.mark.parametrize("options, error, words", [
    ({}, BadValue, "nothing would be cut: give a budget"),
    ({"macs": 0.5, "by": "entropy"}, UnknownCriterion, "by: no criterion 'entropy'; there are .*magnitude"),
    ({"macs": 0.5, "by": {"conv_0": [1]}}, UnknownCriterion, "by: no criterion"),
    ({"mac": 0.5}, BadValue, r"prune\(\) has no argument 'mac'.*did you mean 'macs'"),
    ({"macs": 0.5, "seed": 1}, BadValue, r"prune\(\) has no argument 'seed'"),
    ({"macs": 0.5, "by": Scores({}), "p": 1}, BadValue, r"prune\(\) has no argument 'p'"),
    ({"macs": 0.5, "by": Scores({"a": [1.0]})}, BadScores, "scores are of another model"),
    ({"macs": 0.5, "reduction": "median"}, BadValue, "no reduction 'median'"),
])  # fmt: skip
def test_bad_input_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        prune(filled(vgg(12, 16)), **options)


def test_what_is_no_model_is_refused():
    with pytest.raises(NotAGraph, match=r"expected a keras.Model, got 'model.keras'"):
        prune("model.keras", macs=0.5)


def test_a_criterion_that_needs_data_is_refused_without():
    criterion("from data", needs="activations")(lambda group, *, statistics: statistics[group.name])
    snapshot = filled(vgg(3, 2))
    try:
        with pytest.raises(MissingData, match="needs activations measured on data: give data="):
            prune(snapshot, by="from data", macs=0.5)
        with pytest.raises(MissingData, match=r"cannot measure: give statistics=\. It measures zeros of"):
            prune(snapshot, by="from data", data=np.zeros(3), macs=0.5)
        scores = importance(snapshot, "from data", statistics={"conv_0": [3, 1, 2], "conv_1": [5, 4]})
        assert prune(snapshot, by=scores, channels=4).widths == {"conv_0": (3, 2)}
        statistics = {"conv_0": [3, 1, 2], "conv_1": [5, 4]}
        assert prune(snapshot, by="from data", statistics=statistics, channels=4).widths == {"conv_0": (3, 2)}
    finally:
        del CRITERIA["from data"]


WITHOUT_KERAS = """
import sys
sys.path.insert(0, "tests")
from helpers.pruned_models import filled, vgg
from kerassurgery_fn import prune
prune(filled(vgg(12, 16)), macs=0.5)
sys.exit("keras" in sys.modules or "tensorflow" in sys.modules)
"""


def test_a_snapshot_is_pruned_without_keras():
    assert subprocess.run([sys.executable, "-c", WITHOUT_KERAS], check=False).returncode == 0
