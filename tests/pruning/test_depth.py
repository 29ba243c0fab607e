"""Depth: residual blocks are scored and deleted for a budget, before channels are."""

import numpy as np
import pytest

from helpers.pruned_models import IMAGE, chain, conv, dense, filled, residual
from helpers.records import call, functional, layer
from kerassurgery_fn import (
    BadScores,
    BadValue,
    BlockScores,
    BudgetMissed,
    DeleteBlock,
    MissingData,
    NoBlock,
    Plan,
    SurgeryError,
    UnreachableBudget,
    cost,
    importance,
    plan_pruning,
    prune,
    score_blocks,
)
from kerassurgery_fn.pruning.block_scores import block_influence
from kerassurgery_fn.pruning.summed_arrays import SummedArrays

NET = filled(residual())  # the blocks end at the sums 'a' and 'b'
SCORES = importance(NET)
A_FIRST, B_FIRST = BlockScores({"a": 1, "b": 2}), BlockScores({"a": 2, "b": 1})


def tower(blocks, width=6):
    """Blocks whose inner widths differ."""
    calls, last = [call(conv("stem", width, 1), "x")], "stem"
    for i in range(blocks):
        calls += [
            call(conv(f"in_{i}", 4 + i, 1), last),
            call(conv(f"out_{i}", width, 1), f"in_{i}"),
            call(layer("Add", f"sum_{i}"), [last, f"out_{i}"]),
        ]
        last = f"sum_{i}"
    calls += [call(layer("GlobalAveragePooling2D", "pool"), last), call(dense("top", 3), "pool")]
    return functional("tower", {"x": IMAGE}, *calls, outputs="top")


TOWER = filled(tower(8))
ORDER = BlockScores({f"sum_{i}": (5 * i) % 8 for i in range(8)})


# --- scores


def test_the_influence_of_a_block_is_one_minus_the_mean_cosine():
    sums = {"a": (np.array(4), np.array(3.0)), "b": (np.array(4), np.array(4.0))}
    statistics = SummedArrays("cosines of blocks", sums, samples=1)
    assert block_influence(statistics + statistics) == {"a": 0.25, "b": 0.0}


def test_the_score_of_a_block_is_the_mean_score_of_its_inner_channels():
    raw = importance(NET, "magnitude", normalisation="none")
    scores = score_blocks(NET)
    assert dict(scores) == pytest.approx({"a": raw["a_1"].mean(), "b": raw["b_1"].mean()})
    assert scores.criterion == "magnitude"


def test_a_block_with_larger_weights_is_more_important():
    larger = {path: tuple(10 * array for array in arrays) for path, arrays in NET.weights.items() if path == "a_1"}
    scores = score_blocks(type(NET)(NET.record, {**NET.weights, **larger}))
    assert scores["a"] > scores["b"]


# --- plans


@pytest.mark.parametrize("scores, deleted, kept", [(A_FIRST, "a_1", "b_1"), (B_FIRST, "b_1", "a_1")])
def test_the_block_with_the_lowest_score_is_deleted_first(scores, deleted, kept):
    plan = plan_pruning(NET, SCORES, depth=0.5, block_scores=scores)
    after = plan(NET)
    assert deleted not in after.weights
    assert kept in after.weights
    assert plan == Plan(DeleteBlock((min(scores, key=scores.get),)))


@pytest.mark.parametrize("figure", ["parameters", "macs", "bytes"])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.35])
def test_blocks_alone_meet_a_budget_to_within_one_block(figure, share):
    order = sorted(ORDER, key=ORDER.get)
    plan = plan_pruning(TOWER, importance(TOWER), depth="only", block_scores=ORDER, **{figure: share})
    (deleted,) = (edit.layer for edit in plan.edits)
    assert list(deleted) == order[: len(deleted)]
    costs = [getattr(cost(edit(TOWER)), figure) for edit in (plan, Plan(DeleteBlock(deleted[:-1])))]
    target = share * getattr(cost(TOWER), figure)
    assert costs[0] <= target < costs[1]


@pytest.mark.parametrize("budget", [{"macs": 0.4}, {"parameters": 0.3}, {"channels": 0.5}, {"macs": 0.5, "bytes": 0.4}])
def test_channels_are_deleted_after_blocks_until_the_budget_is_met(budget):
    plan = plan_pruning(TOWER, importance(TOWER), depth=0.25, block_scores=ORDER, **budget)
    blocks, channels = plan.edits
    assert len(blocks.layer) == 2
    before, after = cost(TOWER), cost(plan(TOWER))
    for figure, share in budget.items():
        if figure != "channels":
            assert getattr(after, figure) <= share * getattr(before, figure)
            assert getattr(after, figure) > 0.5 * share * getattr(before, figure)
    assert all(edit.channels for edit in channels.edits)


def test_channels_have_the_scores_that_they_had_with_all_blocks():
    """The stream of the tower keeps its scores and its name; the lowest of them go."""
    scores = importance(TOWER)
    plan = plan_pruning(TOWER, scores, ratios={"stem": 0.5}, depth=0.5, block_scores=ORDER)
    (edit,) = plan.edits[1].edits
    assert set(edit.channels) == {"stem"}
    np.testing.assert_array_equal(np.sort(edit.channels["stem"]), np.sort(np.argsort(scores["stem"])[:3]))


def test_options_of_deleted_layers_are_no_error():
    plan = plan_pruning(
        TOWER, importance(TOWER), macs=0.5, max_ratio={"in_0": 0.5, "in_1": 0.25}, depth=0.25, block_scores=ORDER
    )
    assert cost(plan(TOWER)).macs <= 0.5 * cost(TOWER).macs


def test_ignored_layers_keep_their_block():
    plan = plan_pruning(TOWER, importance(TOWER), macs=0.6, ignore="in_0", depth="only", block_scores=ORDER)
    assert "sum_0" not in plan.edits[0].layer
    assert ORDER["sum_0"] == 0


def test_blocks_without_a_score_are_left_alone():
    some = BlockScores({"sum_3": 1.0, "sum_5": 2.0})
    plan = plan_pruning(TOWER, importance(TOWER), depth=1, block_scores=some)
    assert plan == Plan(DeleteBlock(("sum_3", "sum_5")))


def test_a_snapshot_is_pruned_by_its_blocks():
    result = prune(TOWER, macs=0.5, depth="only")
    assert result.after.macs <= 0.5 * result.before.macs
    assert result.after == cost(result.model)
    assert {after for _, after in result.widths.values()} == {0}


# --- what is refused


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"depth": 0.5}, BadValue, "give block_scores=score_blocks"),
        ({"macs": 0.5, "block_scores": ORDER}, BadValue, "block_scores choose the residual blocks that depth deletes"),
        ({"depth": "only", "macs": 0.5, "ratios": 0.2, "block_scores": ORDER}, BadValue, "ratios= are fractions of"),
        ({"depth": 1.5, "block_scores": ORDER}, BadValue, "from 0 to 1, or 'only'"),
        ({"depth": "all", "block_scores": ORDER}, BadValue, "not 'all'"),
        ({"depth": "only", "block_scores": ORDER}, BadValue, "there is none: give macs=0.5"),
        ({"depth": 0.5, "block_scores": {"sum_1": 1}}, BadScores, "expected BlockScores"),
        ({"depth": 0.5, "block_scores": BlockScores({"add": 1})}, BadScores, "no residual block 'add'"),
        ({"depth": 0.5, "block_scores": BlockScores({})}, BadValue, "8 blocks, 0 of them with a score"),
        (
            {"depth": 0.12, "block_scores": ORDER},
            BadValue,
            "less than one of the 8 blocks of 'tower'.*give depth=0.125,",
        ),
        ({"depth": 0.12, "macs": 10**9, "block_scores": ORDER}, BadValue, "nothing would be cut: 'tower' has .* MACs"),
        (
            {"depth": "only", "macs": 10**9, "block_scores": ORDER},
            BadValue,
            "nothing would be cut: 'tower' has .* MACs",
        ),
        ({"depth": "only", "macs": 0.01, "block_scores": ORDER}, UnreachableBudget, "without all 8 blocks it has"),
    ],
)
def test_wrong_options_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        plan_pruning(TOWER, importance(TOWER), **options)


def test_the_closest_plan_is_given_when_asked():
    with pytest.warns(BudgetMissed, match="by deleting blocks"):
        plan = plan_pruning(TOWER, importance(TOWER), macs=0.01, depth="only", block_scores=ORDER, closest=True)
    assert len(plan.edits[0].layer) == 8


@pytest.mark.parametrize(
    "scores, words", [({"a": float("nan")}, "'a' by a criterion is nan"), ({"a": "x"}, "a mapping"), ([1], "a mapping")]
)
def test_scores_are_finite_numbers(scores, words):
    with pytest.raises(SurgeryError, match=words):
        BlockScores(scores)


def test_a_model_without_blocks():
    with pytest.raises(NoBlock, match="has no residual block"):
        score_blocks(filled(chain(3)))


def test_influence_needs_data_and_a_depth():
    with pytest.raises(MissingData, match="cosines of blocks"):
        score_blocks(NET, "block_influence")
    with pytest.raises(BadValue, match="give depth='only'"):
        prune(NET, macs=0.5, by="block_influence")
    with pytest.raises(BadValue, match="delete blocks first"):
        prune(NET, macs=0.5, depth=0.5, reconstruct=True)
