"""Plans: budgets met from below by exact arithmetic, limits kept, and what cannot be done is said."""

import warnings

import numpy as np
import pytest

from helpers.pruned_models import (
    IMAGE,
    PLANNED_MODELS,
    assert_within_one_channel,
    chain,
    channels_of,
    conv,
    dead_of,
    dense,
    filled,
    grouped,
    halves_joined,
    joined,
    norm,
    residual,
    vgg,
)
from helpers.records import call, functional, layer, sequential
from helpers.records import snapshot as snapshot_of
from kerassurgery_fn import (
    BadScores,
    BadValue,
    BudgetMissed,
    InexactCut,
    NoChannels,
    Scores,
    SurgeryError,
    UnknownLayer,
    UnreachableBudget,
    WrongShape,
    analyse,
    cost,
    decode,
    encode,
    groups,
    importance,
    plan_pruning,
)
from kerassurgery_fn.analysis.layer_costs import cost_of
from kerassurgery_fn.pruning.budget_targets import BUDGETS
from kerassurgery_fn.pruning.cost_by_width import FIGURES
from kerassurgery_fn.pruning.group_weights import named_groups

COSTS = BUDGETS[:-1]  # latency has tests of its own


def figures(snapshot):
    measured = cost(snapshot)
    return {"channels": channels_of(snapshot), **{figure: getattr(measured, figure) for figure in FIGURES}}


def widths(snapshot):
    return {name: len(group) for name, group in named_groups(groups(snapshot)).items()}


# --- budgets


@pytest.mark.parametrize("scope", ["global", "local", "isomorphic"])
@pytest.mark.parametrize("fraction", [0.8, 0.5, 0.3])
@pytest.mark.parametrize("figure", COSTS)
@pytest.mark.parametrize("name", PLANNED_MODELS)
def test_a_budget_is_met_from_below_to_within_one_channel(name, figure, fraction, scope):
    snapshot = filled(PLANNED_MODELS[name]())
    target = int(fraction * figures(snapshot)[figure])
    plan = plan_pruning(snapshot, importance(snapshot), scope=scope, **{figure: fraction})
    assert figures(plan(snapshot))[figure] <= target
    assert_within_one_channel(snapshot, plan, figure, target)


@pytest.mark.parametrize("name", PLANNED_MODELS)
def test_several_budgets_are_met_at_once(name):
    snapshot = filled(PLANNED_MODELS[name]())
    before = figures(snapshot)
    plan = plan_pruning(snapshot, importance(snapshot), macs=0.6, parameters=0.5, channels=0.9)
    after = figures(plan(snapshot))
    assert after["macs"] <= 0.6 * before["macs"]
    assert after["parameters"] <= 0.5 * before["parameters"]
    assert after["channels"] <= 0.9 * before["channels"]


def test_an_absolute_budget():
    snapshot = filled(vgg(12, 16))
    plan = plan_pruning(snapshot, importance(snapshot), macs=10_000)
    assert 9_500 < figures(plan(snapshot))["macs"] <= 10_000
    assert plan == plan_pruning(snapshot, importance(snapshot), macs=10_000.0)
    assert figures(plan_pruning(snapshot, importance(snapshot), channels=7)(snapshot))["channels"] == 7


def test_a_budget_for_an_input_size():
    record = sequential("net", (None, None, 3), dense("a", 8), dense("b", 8), dense("c", 2))
    snapshot = filled(record)
    plan = plan_pruning(snapshot, importance(snapshot), macs=0.5, shapes=(10, 3))
    before, after = (cost(one, (10, 3)).macs for one in (snapshot, plan(snapshot)))
    assert 0.45 * before < after <= 0.5 * before
    with pytest.raises(WrongShape):
        plan_pruning(snapshot, importance(snapshot), macs=0.5, shapes=(10, 4))


def test_the_lowest_scores_of_the_whole_model_go_first():
    snapshot = filled(vgg(4, 4))
    scores = Scores({"conv_0": [1, 8, 2, 7], "conv_1": [6, 3, 5, 4]})
    plan = plan_pruning(snapshot, scores, channels=4)
    assert [dict(edit.channels) for edit in plan.edits] == [{"conv_0": (0, 2)}, {"conv_1": (1, 3)}]


def test_a_local_scope_removes_the_same_ratio_everywhere():
    snapshot = filled(vgg(8, 16))
    scores = Scores({"conv_0": np.arange(8) * 1e6, "conv_1": np.arange(16)})
    assert widths(plan_pruning(snapshot, scores, channels=0.5, scope="local")(snapshot))["conv_0"] == 4
    assert widths(plan_pruning(snapshot, scores, channels=0.5)(snapshot))["conv_0"] == 7


def test_cheap_channels_do_not_fill_the_gap_of_a_local_scope():
    """A channel of the classifier costs next to nothing, and its layer loses the same ratio all the same."""
    record = sequential("net", (None, 16, 16, 3), conv("a", 24), conv("b", 40), layer("GlobalAveragePooling2D", "p"),
                        dense("c", 64), dense("top", 3))  # fmt: skip
    snapshot = filled(record)
    cut = widths(plan_pruning(snapshot, importance(snapshot), macs=0.5, scope="local")(snapshot))
    removed = {name: n - cut[name] for name, n in widths(snapshot).items() if name != "top"}
    most = max(removed[name] / n for name, n in widths(snapshot).items() if name in removed)
    assert all(removed[name] / n <= most <= (removed[name] + 2) / n for name, n in widths(snapshot).items() if n != 3)


def test_isomorphic_groups_share_a_ratio():
    """The layers inside of the two blocks are ranked together, and lose what the stream loses."""
    snapshot = filled(residual(8, 8))
    scores = Scores({"stem": np.arange(8) * 1e6, "a_1": np.arange(8), "b_1": np.arange(8) + 100})
    cut = widths(plan_pruning(snapshot, scores, channels=0.5, scope="isomorphic")(snapshot))
    assert (cut["stem"], cut["a_1"], cut["b_1"]) == (4, 1, 7)


def test_no_group_loses_its_last_channel():
    snapshot = filled(vgg(6, 6))
    scores = Scores({"conv_0": np.zeros(6), "conv_1": np.ones(6)})
    assert widths(plan_pruning(snapshot, scores, channels=3)(snapshot))["conv_0"] == 1


# --- the plan as a value


def test_a_plan_is_data():
    snapshot = filled(residual(12, 10))
    plan = plan_pruning(snapshot, importance(snapshot), macs=0.5)
    assert decode(encode(plan)) == plan
    assert plan == plan_pruning(snapshot, importance(snapshot), macs=0.5)
    assert decode(encode(plan))(snapshot) == plan(snapshot)


def test_a_plan_deletes_exactly_its_channels():
    for record in (residual(12, 10), grouped(), halves_joined()):
        snapshot = filled(record)
        flow = analyse(snapshot)
        plan = plan_pruning(snapshot, importance(snapshot), macs=0.5)
        smaller = plan(snapshot)
        assert cost(smaller) == cost_of(snapshot, flow, dead_of(plan, snapshot))


# --- limits


def test_ignored_layers_keep_their_channels():
    snapshot = filled(residual(12, 10))
    cut = widths(plan_pruning(snapshot, importance(snapshot), macs=0.6, ignore=["a_*"])(snapshot))
    assert (cut["a_1"], cut["stem"]) == (10, 12)  # a_2 is tied to the stem
    assert cut["b_1"] < 10
    cut = widths(plan_pruning(snapshot, importance(snapshot), macs=0.7, ignore="stem")(snapshot))
    assert cut["stem"] == 12


def test_classes_of_layers_keep_their_channels():
    record = sequential("net", IMAGE, conv("a", 8, 1), layer("Flatten", "flat"), dense("b", 9), dense("top", 2))
    snapshot = filled(record)
    cut = widths(plan_pruning(snapshot, importance(snapshot), macs=0.5, ignore="*@Dense")(snapshot))
    assert (cut["a"] < 8, cut["b"]) == (True, 9)


def test_ratios_of_groups():
    snapshot = filled(vgg(10, 20, 30))
    cut = widths(plan_pruning(snapshot, importance(snapshot), ratios=0.3)(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (7, 14, 21)
    cut = widths(plan_pruning(snapshot, importance(snapshot), ratios={"conv_1": 0.5})(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (10, 10, 30)


def test_the_groups_and_the_places_of_a_grouped_convolution_have_ratios_of_their_own():
    snapshot = filled(grouped(4))
    before = widths(snapshot)
    cut = widths(plan_pruning(snapshot, importance(snapshot), ratios={"first#2": 0.5})(snapshot))
    assert {name: n for name, n in cut.items() if n != before[name]} == {"first#2": 2}


def test_a_ratio_holds_for_those_groups_of_a_pattern_that_can_be_cut():
    snapshot = filled(vgg(10, 20, 30))
    cut = widths(plan_pruning(snapshot, importance(snapshot), ratios={"*": 0.5}, ignore="conv_0")(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["top"]) == (10, 10, 4)


def test_other_groups_meet_the_budget_if_some_have_a_ratio():
    snapshot = filled(vgg(10, 20, 30))
    plan = plan_pruning(snapshot, importance(snapshot), ratios={"conv_0": 0.5, "conv_1": 0.0}, channels=0.6)
    cut = widths(plan(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (5, 20, 11)


def test_maximum_ratios_and_minimum_channels():
    snapshot = filled(vgg(10, 20, 30))
    scores = Scores({"conv_0": np.zeros(10), "conv_1": np.ones(20), "conv_2": np.full(30, 2)})
    cut = widths(plan_pruning(snapshot, scores, channels=0.5, max_ratio=0.6)(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (4, 8, 18)
    cut = widths(plan_pruning(snapshot, scores, channels=0.5, max_ratio={"conv_0": 0.1, "conv_[1]": 0.5})(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (9, 10, 11)
    cut = widths(plan_pruning(snapshot, scores, channels=0.5, min_channels=5)(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (5, 5, 20)
    cut = widths(plan_pruning(snapshot, scores, channels=0.9, min_channels=20)(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (10, 20, 24)
    cut = widths(plan_pruning(snapshot, scores, ratios=0.5, min_channels=8)(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (8, 10, 15)
    cut = widths(plan_pruning(snapshot, scores, channels=0.5, min_channels={"*@Conv2D": 7})(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (7, 7, 16)


# --- multiples


@pytest.mark.parametrize("multiple", [2, 4, 8])
@pytest.mark.parametrize(
    "record", [vgg(16, 20), residual(24, 16), joined(16, 32, 24)], ids=lambda r: r["config"]["name"]
)
def test_widths_are_multiples(record, multiple):
    snapshot = filled(record)
    before = widths(snapshot)
    for fraction in (0.7, 0.5):
        cut = widths(plan_pruning(snapshot, importance(snapshot), macs=fraction, round_to=multiple)(snapshot))
        assert any(cut[name] < before[name] for name in before)
        assert all(cut[name] % multiple == 0 for name in before if cut[name] != before[name])


def layer_width(snapshot, path):
    return snapshot.weights[path][0].shape[-1]


def test_multiples_hold_for_layers_whose_channels_are_in_two_groups():
    snapshot = filled(halves_joined())
    smaller = plan_pruning(snapshot, importance(snapshot), macs=0.6, round_to=4)(snapshot)
    assert layer_width(smaller, "wide") in (4, 8, 12)
    assert all(layer_width(smaller, path) in (4, 8) for path in "pq")


def test_multiples_hold_in_each_group_of_a_grouped_convolution():
    record = sequential("net", IMAGE, conv("first", 32, 1), conv("apart", 48, groups=4), layer("Flatten", "flat"),
                        dense("top", 2))  # fmt: skip
    snapshot = filled(record)
    smaller = plan_pruning(snapshot, importance(snapshot), macs=0.3, round_to=4)(snapshot)
    config = smaller.config["layers"][2]["config"]
    assert config["filters"] < 48
    assert config["filters"] // config["groups"] % 4 == 0
    assert layer_width(smaller, "first") // config["groups"] % 4 == 0


# --- what is left alone


def normalised(axis=-1):
    """Layer normalisation over channels: a cut before it is not exact."""
    return functional(
        "net", {"x": (None, 6)},
        call(dense("a", 8), "x"),
        call(layer("LayerNormalization", "norm", axis=axis, epsilon=0.001, center=True, scale=True,
                   rms_scaling=False), "a", out=(None, 8)),
        call(dense("b", 8), "norm"),
        call(dense("c", 2), "b"),
        outputs="c",
    )  # fmt: skip


def test_channels_that_cannot_be_cut_exactly_are_left_alone():
    snapshot = filled(normalised())
    plan = plan_pruning(snapshot, importance(snapshot), channels=0.7)
    assert (widths(plan(snapshot))["a"], widths(plan(snapshot))["b"]) == (8, 3)
    plan = plan_pruning(snapshot, importance(snapshot), channels=0.5, scope="local", inexact=True)
    with pytest.warns(InexactCut):
        smaller = plan(snapshot)
    assert (widths(smaller)["a"], widths(smaller)["b"]) == (4, 4)


def test_groups_without_scores_are_left_alone():
    snapshot = filled(vgg(10, 20))
    plan = plan_pruning(snapshot, Scores({"conv_1": np.arange(20)}), channels=0.5)
    assert [[*edit.channels] for edit in plan.edits] == [["conv_1"]]


# --- what cannot be reached


def test_an_unreachable_budget_names_what_holds_it_and_why():
    snapshot = filled(normalised())
    with pytest.raises(UnreachableBudget) as error:
        plan_pruning(snapshot, importance(snapshot), parameters=0.01, ignore=["b"])
    message = str(error.value)
    assert "cannot be reached for 'net': the closest is 162 parameters (100.0 %)" in message
    assert "'a' (8 channels, 84 %: not exact, and inexact=False: 'norm' " in message
    assert "'b' (8 channels, 54 %: ignored by 'b')" in message
    assert "it is an output of the model" in message
    assert "closest=True" in message


def test_layers_without_a_rule_are_named_with_their_share():
    record = sequential(
        "net", (None, 8), dense("a", 8), layer("Identity", "mystery", registered_name="mine>Mystery"), dense("top", 2)
    )
    arrays = {"a": [(8, 8), (8,)], "mystery": [(20, 20)], "top": [(8, 2), (2,)]}
    snapshot = snapshot_of(record, {path: tuple(map(np.ones, shapes)) for path, shapes in arrays.items()})
    with pytest.raises(UnreachableBudget, match=r"held by 'mystery' \(\d\d %: is of the class .*, which has no rule"):
        plan_pruning(snapshot, importance(snapshot), parameters=0.01)


def test_a_ratio_of_less_than_one_channel_is_the_reason():
    snapshot = filled(vgg(12, 16))
    words = "nothing would be cut of 'vgg': 'conv_0': its ratio of 0.01 is less than one of its 12 channels$"
    with pytest.raises(UnreachableBudget, match=words):
        plan_pruning(snapshot, importance(snapshot), ratios={"conv_0": 0.01})


def test_the_minimum_is_a_reason():
    snapshot = filled(vgg(12, 16))
    with pytest.raises(
        UnreachableBudget, match=r"'conv_1' \(8 channels, \d+ %: at its minimum of 8 in multiples of 4\)"
    ):
        plan_pruning(snapshot, importance(snapshot), macs=0.01, min_channels=6, round_to=4)


def test_only_five_groups_are_named():
    snapshot = filled(chain(12, 4))
    with pytest.raises(UnreachableBudget) as error:
        plan_pruning(snapshot, importance(snapshot), macs=0.01, min_channels=2)
    assert str(error.value).count(" channels, ") == 5


def test_the_closest_plan_comes_with_a_warning():
    snapshot = filled(vgg(12, 16))
    with pytest.warns(BudgetMissed, match=r"The plan is the closest one") as caught:
        plan = plan_pruning(snapshot, importance(snapshot), macs=0.01, closest=True)
    assert caught[0].filename == __file__
    assert widths(plan(snapshot)) == {"conv_0": 1, "conv_1": 1, "top": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_pruning(snapshot, importance(snapshot), macs=0.5, closest=True)


def test_of_several_budgets_the_one_that_is_missed_is_named():
    snapshot = filled(vgg(12, 16))
    with pytest.raises(UnreachableBudget, match=r"the budget of 41 parameters"):
        plan_pruning(snapshot, importance(snapshot), channels=0.5, parameters=41, min_channels=2)


def test_a_ratio_that_removes_nothing_is_refused():
    snapshot = filled(vgg(4, 4))
    words = "nothing would be cut of 'vgg': 'conv_0': its ratio of 0.1 is less than one of its 4 channels"
    with pytest.raises(UnreachableBudget, match=words):
        plan_pruning(snapshot, importance(snapshot), ratios=0.1)


# --- bad input


@pytest.mark.parametrize("options, error, words", [
    ({}, BadValue, "nothing would be cut: give a budget, such as macs=0.5"),
    ({"ratios": 0}, BadValue, "nothing would be cut: all ratios are 0"),
    ({"macs": 10**9}, BadValue, "within the budget; give a smaller one"),
    ({"macs": 1.0}, BadValue, "macs: a budget is the fraction that may be left, between 0 and 1"),
    ({"macs": 0}, BadValue, "a budget is the fraction"),
    ({"macs": -0.5}, BadValue, "a budget is the fraction"),
    ({"macs": 1.5}, BadValue, "or a whole number"),
    ({"macs": float("nan")}, BadValue, "not nan"),
    ({"macs": "50%"}, BadValue, "not '50%'"),
    ({"macs": True}, BadValue, "not True"),
    ({"ratios": 1}, BadValue, "ratios: a ratio is the fraction of channels to remove, at least 0 and below 1, not 1"),
    ({"ratios": {"conv_0": -0.1}}, BadValue, r"ratios\['conv_0'\]: a ratio is"),
    ({"macs": 0.5, "max_ratio": 1.1}, BadValue, "max_ratio: a ratio is"),
    ({"macs": 0.5, "min_channels": 0}, BadValue, "min_channels must be a positive integer"),
    ({"ratios": {"conv_*": 0.5, "conv_0": 0.4}}, BadValue, "contradict each other for the group 'conv_0': 0.5 and 0.4"),
    ({"ratios": 0.5, "max_ratio": {"conv_0": 0.2}}, BadValue, "group .conv_0. is more than its max_ratio of 0.2"),
    ({"ratios": {"top": 0.5, "conv_0": 0.5}}, BadValue, "'top' has the ratio 0.5, .*: it is an output"),
    ({"ratios": {"conv_*": 0.5, "conv_[0]": 0.5}, "ignore": "conv_0"}, BadValue, r"'conv_\[0\]'.* ignored by 'conv_0'"),
    ({"macs": 0.5, "round_to": 0}, BadValue, "round_to must be a positive integer"),
    ({"macs": 0.5, "round_to": 13}, BadValue, r"no width of 'conv_0' \(12\) is a multiple of 13.*ignore=\['conv_0'\]"),
    ({"macs": 0.5, "ignore": ["conv_7"]}, UnknownLayer, "conv_7"),
    ({"macs": 0.5, "ignore": ["block_*"]}, UnknownLayer, "no layer matches 'block_\\*'"),
    ({"macs": 0.5, "ignore": ["relu_0"]}, NoChannels, "relu_0"),
    ({"macs": 0.5, "ratios": {"conv_0:heads": 0.5}}, NoChannels, "none of 'heads'"),
    ({"macs": 0.5, "scope": "globl"}, BadValue, "did you mean 'global'"),
    ({"macs": 0.5, "inexact": 1}, BadValue, "inexact must be True or False"),
])  # fmt: skip
def test_bad_input_is_refused(options, error, words):
    snapshot = filled(vgg(12, 16))
    with pytest.raises(error, match=words):
        plan_pruning(snapshot, importance(snapshot), **options)


def test_a_narrow_layer_that_is_ignored_does_not_stop_rounding():
    snapshot = filled(vgg(4, 16))
    plan = plan_pruning(snapshot, importance(snapshot), channels=0.6, round_to=8, ignore=["conv_0"])
    assert widths(plan(snapshot))["conv_1"] == 8


@pytest.mark.parametrize("scores, words", [
    ({"conv_9": np.zeros(12)}, "scores are of another model: 'vgg' has no group 'conv_9'; did you mean 'conv_"),
    ({"conv_0": np.zeros(5)}, "the group 'conv_0' has 12 channels in 'vgg', and 5 scores"),
])  # fmt: skip
def test_scores_of_another_model_are_refused(scores, words):
    with pytest.raises(BadScores, match=words):
        plan_pruning(filled(vgg(12, 16)), Scores(scores), macs=0.5)


def test_a_mapping_is_no_scores():
    with pytest.raises(SurgeryError, match=r"scores: expected Scores, got \{\}; importance\(snapshot\) gives them"):
        plan_pruning(filled(vgg(12, 16)), {}, macs=0.5)


def test_the_steps_of_a_group_keep_the_order_of_its_scores():
    """Rounded steps have the mean score of their channels."""
    snapshot = filled(vgg(8, 8))
    scores = Scores({"conv_0": [0, 0, 0, 9, 1, 1, 1, 1], "conv_1": [2, 2, 2, 2, 3, 3, 3, 3]})
    plan = plan_pruning(snapshot, scores, channels=12, round_to=4)
    assert [dict(edit.channels) for edit in plan.edits] == [{"conv_0": (0, 1, 2, 4)}]


def test_a_batch_normalisation_follows_its_layer():
    snapshot = filled(sequential("net", IMAGE, conv("a", 8, 1), norm("n"), layer("Flatten", "f"), dense("top", 2)))
    smaller = plan_pruning(snapshot, importance(snapshot), channels=0.5)(snapshot)
    assert [array.shape for array in smaller.weights["n"]] == [(4,)] * 4


def test_groups_whose_cost_is_no_polynomial_are_left_alone(monkeypatch):
    from kerassurgery_fn.rules.macs import Use

    def squared(use, *args, **kwargs):
        return int(use.kernels) ** 2 if use.record["config"]["name"] == "conv_1" else use.kernels

    monkeypatch.setattr(Use, "__call__", squared)
    snapshot = filled(vgg(10, 20, 30))
    plan = plan_pruning(snapshot, importance(snapshot), channels=0.7)
    cut = widths(plan(snapshot))
    assert (cut["conv_0"], cut["conv_1"], cut["conv_2"]) == (10, 20, 12)
    with pytest.raises(UnreachableBudget, match="the cost of 'conv_1' does not follow from its width"):
        plan_pruning(snapshot, importance(snapshot), macs=0.01)
