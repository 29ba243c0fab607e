"""Criteria on the inputs of layers, and reconstruction, on statistics of arrays; without Keras."""

from functools import partial
from itertools import combinations as subsets

import numpy as np
import pytest

from helpers.pruned_models import chain, conv, dense, filled, grouped, halves_joined, residual, vgg
from helpers.records import sequential
from kerassurgery_fn import (
    BadScores,
    BadValue,
    DeleteChannels,
    DeleteLayer,
    MissingData,
    MixInputs,
    Plan,
    analyse,
    groups,
    importance,
    load_plan,
    plan_pruning,
    reconstructed,
    save_plan,
)
from kerassurgery_fn.pruning.activation_statistics import moments_of
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics
from kerassurgery_fn.pruning.consumer_inputs import consumer_inputs
from kerassurgery_fn.pruning.group_weights import named_groups
from kerassurgery_fn.pruning.reconstruction_criteria import (
    combinations,
    errors_left_out,
    errors_replaced,
    inverse,
)
from kerassurgery_fn.pruning.summed_arrays import SummedArrays, input_name

KIND = "products of inputs"


raw_scores = partial(importance, normalisation="none")


def mlp():
    return filled(sequential("net", (None, 3), dense("a", 6), dense("b", 4)))


def activations(seed=0, n=6, samples=200):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, n)) @ rng.normal(size=(n, n))


def statistics_of(inputs):
    """From (path, group) to the statistics of activations."""
    layers = {input_name(*key): (np.array(len(x)), x.T @ x) for key, x in inputs.items()}
    return SummedArrays(KIND, layers, len(next(iter(inputs.values()))))


def kernel(snapshot, path="b"):
    return snapshot.weights[path][0].astype(float)


# --- criteria against slow formulas


def error_left_out(x, w, removed):
    """The share of the output that is lost without some channels."""
    return ((x[:, removed] @ w[removed]) ** 2).sum() / ((x @ w) ** 2).sum()


def error_replaced(x, w, removed):
    """The share of the output that no combination of the channels that stay gives."""
    kept = [c for c in range(x.shape[1]) if c not in removed]
    best = np.linalg.lstsq(x[:, kept], x @ w, rcond=None)[0]
    return ((x @ w - x[:, kept] @ best) ** 2).sum() / ((x @ w) ** 2).sum()


@pytest.mark.parametrize("by, error", [("thinet", error_left_out), ("least_squares", error_replaced)])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_errors_of_a_greedy_choice(by, error, seed):
    snapshot, x = mlp(), activations(seed)
    scores = raw_scores(snapshot, by, statistics=statistics_of({("b", "a"): x}))["a"]
    removed, largest = [], 0.0
    for _ in range(6):
        errors = {c: error(x, kernel(snapshot), [*removed, c]) for c in range(6) if c not in removed}
        removed.append(min(errors, key=errors.get))
        largest = max(largest, errors[removed[-1]])  # what is left out later may make up for what was left out before
        np.testing.assert_allclose(scores[removed[-1]], largest, rtol=1e-3, atol=1e-5)
    assert np.argsort(scores).tolist() == removed


def test_changes_are_collected_and_applied_at_once():
    """More channels than are collected, against the plain formulas."""
    x = activations(n=150, samples=400)
    products, dots = x.T @ x / 400, np.cov(activations(1, n=150).T)
    scores, p, d = errors_replaced([(products, dots)]), inverse(products), dots.copy()
    for channel, error in zip(np.argsort(scores), np.diff(np.sort(scores), prepend=0), strict=True):
        np.testing.assert_allclose(
            d[channel, channel] / p[channel, channel], error, rtol=1e-3, atol=1e-9 * scores.max()
        )
        spread, row, own = p[:, channel] / p[channel, channel], d[channel].copy(), d[channel, channel]
        d -= np.outer(spread, row) + np.outer(row, spread) - own * np.outer(spread, spread)
        p -= np.outer(spread, p[channel])


def test_the_greedy_choice_is_near_the_best():
    x = activations(4)
    snapshot = mlp()
    scores = raw_scores(snapshot, "least_squares", statistics=statistics_of({("b", "a"): x}))["a"]
    chosen = np.argsort(scores)[:3].tolist()
    best = min(error_replaced(x, kernel(snapshot), [*removed]) for removed in subsets(range(6), 3))
    assert error_replaced(x, kernel(snapshot), chosen) < 1.5 * best + 1e-9


def test_several_readers_count_alike():
    pairs = [(np.eye(3), np.diag(weights)) for weights in ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])]
    np.testing.assert_allclose(np.sort(errors_left_out(pairs)), [2, 4, 6])
    np.testing.assert_allclose(np.sort(errors_replaced(pairs)), [2, 4, 6], rtol=1e-5)


@pytest.mark.parametrize("by", ["thinet", "least_squares"])
def test_dead_channels_score_lowest(by):
    x = activations()
    x[:, 4] = 0
    scores = raw_scores(mlp(), by, statistics=statistics_of({("b", "a"): x}))["a"]
    assert np.argmin(scores) == 4
    assert scores[4] < 1e-6


def test_a_duplicated_channel_can_be_replaced_but_not_left_out():
    x = activations()
    x[:, 4] = 2 * x[:, 1]
    statistics = statistics_of({("b", "a"): x})
    assert np.sort(raw_scores(mlp(), "least_squares", statistics=statistics)["a"])[0] < 1e-5
    assert np.sort(raw_scores(mlp(), "thinet", statistics=statistics)["a"])[0] > 1e-3


def test_inputs_of_zeros_say_nothing():
    scores = raw_scores(mlp(), "thinet", statistics=statistics_of({("b", "a"): np.zeros((5, 6))}))["a"]
    assert np.abs(scores).max() < 1e-290


def test_groups_that_nothing_sums_over_have_no_scores():
    statistics = statistics_of({("d_1", "d_0"): activations(n=4)})
    assert [*raw_scores(filled(chain(4)), "thinet", statistics=statistics)] == ["d_0"]
    with pytest.raises(BadScores, match="gives no score"):
        raw_scores(mlp(), "thinet", statistics=SummedArrays(KIND, {}, 0))
    with pytest.raises(BadScores, match="another model: they have 4 channels of 'a', and the model has 6"):
        raw_scores(mlp(), "thinet", statistics=statistics_of({("b", "a"): activations(n=4)}))


# --- reconstruction


def outputs(snapshot, x, removed=()):
    """What the second layer computes from activations of the first, of which some are gone."""
    kept = [c for c in range(x.shape[1]) if c not in removed]
    return x[:, kept] @ kernel(snapshot) + snapshot.weights["b"][1]


def test_the_reconstruction_of_a_dense_layer_is_that_of_least_squares():
    snapshot, x, removed = mlp(), activations(), [1, 4]
    plan = reconstructed(snapshot, DeleteChannels("a", removed), statistics_of({("b", "a"): x}))
    kept = [0, 2, 3, 5]
    best = np.linalg.lstsq(x[:, kept], x @ kernel(snapshot), rcond=None)[0]
    np.testing.assert_allclose(kernel(plan(snapshot)), best, rtol=1e-3, atol=1e-4)


def test_a_reconstruction_is_closer_than_a_deletion():
    snapshot, x, removed = mlp(), activations(), [1, 4]
    cut = DeleteChannels("a", removed)
    plan = reconstructed(snapshot, cut, statistics_of({("b", "a"): x}))
    before = outputs(snapshot, x)
    errors = [((outputs(edit(snapshot), x, removed) - before) ** 2).mean() for edit in (cut, plan)]
    assert errors[1] < 0.9 * errors[0]


def test_nothing_is_reconstructed_where_all_channels_are_kept():
    snapshot, statistics = mlp(), statistics_of({("b", "a"): activations()})
    assert reconstructed(snapshot, Plan.at_once(), statistics) == Plan(Plan.at_once())
    assert np.array_equal(combinations(np.cov(activations().T), np.zeros(6, bool)), np.eye(6))


@pytest.mark.parametrize("dead", [0, 2], ids=["silent", "doubled"])
def test_channels_that_add_nothing_are_replaced_exactly(dead):
    snapshot, x = mlp(), activations()
    x[:, 4] = dead * x[:, 1]
    plan = reconstructed(snapshot, DeleteChannels("a", [4]), statistics_of({("b", "a"): x}))
    np.testing.assert_allclose(outputs(plan(snapshot), x, [4]), outputs(snapshot, x), rtol=1e-3, atol=1e-3)


def test_a_reconstruction_is_data(tmp_path):
    snapshot, statistics = mlp(), statistics_of({("b", "a"): activations()})
    plan = reconstructed(snapshot, plan_pruning(snapshot, importance(snapshot), channels=3), statistics)
    save_plan(plan, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    assert load_plan(tmp_path / "plan.json")(snapshot) == plan(snapshot)
    assert isinstance(plan.edits[0], MixInputs)


def test_all_channels_of_a_layer_are_not_reconstructed():
    """The branch goes as a whole, or the deletion is refused as it is without a reconstruction."""
    snapshot, statistics = mlp(), statistics_of({("b", "a"): activations()})
    assert len(reconstructed(snapshot, DeleteChannels("a", range(6)), statistics).edits) == 1


def test_readers_and_where_they_read():
    def read(record):
        flow = analyse(filled(record))
        free = {name: group for name, group in named_groups(groups(filled(record))).items() if not group.pinned}
        return {(r.path, r.group, r.tensor.path, r.positions.shape) for r in consumer_inputs(flow, free)}

    assert read(vgg(4, 5)) == {("conv_1", "conv_0", "relu_0", (4, 1)), ("top", "conv_1", "flat", (5, 64))}
    assert read(residual(6, 5)) == {
        ("a_1", "stem", "stem", (6, 1)), ("b_1", "stem", "bn", (6, 1)), ("top", "stem", "pool", (6, 1)),
        ("a_2", "a_1", "a_1", (5, 1)), ("b_2", "b_1", "b_1", (5, 1)),
    }  # fmt: skip
    assert read(halves_joined()) == {("out", name, "sum", (8, 1)) for name in ("p", "q")}
    assert read(grouped(4)) == {("top", "last", "flat", (5, 16))}  # groups of a convolution are lines of a grid


def test_channels_that_are_half_of_what_a_layer_reads():
    snapshot = filled(halves_joined())
    x = activations(n=8)
    plan = reconstructed(snapshot, DeleteChannels("q", [3]), statistics_of({("out", "q"): x}))
    expected = combinations(x.T @ x / len(x), np.arange(8) == 3)
    assert plan.edits[0] == MixInputs("out", "q", expected)
    mixed = plan.edits[0](snapshot).weights["out"][0]
    assert np.array_equal(mixed[:, :, :8], snapshot.weights["out"][0][:, :, :8])
    assert not mixed[:, :, 11].any()
    assert plan(snapshot).weights["out"][0].shape[2] == 15


# --- refusals


def test_bad_input_is_refused():
    snapshot, statistics = mlp(), statistics_of({("b", "a"): activations()})
    moments = ChannelStatistics("moments of activations", {"a": ((moments_of(activations()),),)}, 200)
    with pytest.raises(MissingData, match=r"needs products of inputs, not <moments of activations of 1 layer"):
        reconstructed(snapshot, DeleteChannels("a", [1]), moments)
    with pytest.raises(BadValue, match="only deletions of channels can be reconstructed, not DeleteLayer"):
        reconstructed(snapshot, Plan.at_once(DeleteLayer("b")), statistics)
    with pytest.raises(BadValue, match="another model: they have 4 channels of 'a', and the model has 6"):
        reconstructed(snapshot, DeleteChannels("a", [1]), statistics_of({("b", "a"): activations(n=4)}))
    with pytest.raises(BadValue, match="did you mean 'products of inputs'"):
        SummedArrays("products of input", {}, 0)


def test_layers_without_statistics_do_not_change():
    snapshot = filled(sequential("net", (None, 8, 8, 3), conv("a", 4), conv("b", 5), conv("c", 2)))
    plan = reconstructed(snapshot, DeleteChannels({"a": [1], "b": [2]}), statistics_of({("b", "a"): activations(n=4)}))
    assert [type(edit) for edit in plan.edits] == [MixInputs, DeleteChannels]
