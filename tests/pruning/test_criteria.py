"""Criteria on weights: against slow formulas on small arrays, and what each must do by design."""

import numpy as np
import pytest

from helpers.pruned_models import conv, dense, filled, grouped, halves_joined, norm, residual, vgg
from helpers.records import layer, sequential
from kerassurgery_fn import (
    BadScores,
    BadValue,
    BrokenSnapshot,
    SurgeryError,
    UnknownCriterion,
    analyse,
    criterion,
    groups,
    importance,
)
from kerassurgery_fn.pruning.criterion_registry import CRITERIA
from kerassurgery_fn.pruning.group_weights import BLOCK, axis_sums, group_weights, named_groups
from kerassurgery_fn.rules.layer import STATE
from kerassurgery_fn.values.snapshot import Snapshot

MODELS = {
    "vgg": lambda: vgg(5, 6), "residual": residual, "groups": grouped, "halves": halves_joined,
}  # fmt: skip

WITHOUT_DATA = [name for name, known in CRITERIA.items() if not known.needs]


@pytest.fixture(params=MODELS, scope="module")
def snapshot(request):
    return filled(MODELS[request.param]())


# --- slow formulas: all values of one channel, one by one


def values_of(snapshot, group, channel):
    """For each axis of a weight that carries the channels of a group: all values that go with one channel."""
    for carrier in group.carried:
        if carrier.name not in STATE:
            array = snapshot.weights[carrier.path][carrier.slot]
            taken = [np.take(array, at, axis=carrier.axis).ravel() for at in carrier.positions[channel]]
            yield carrier, np.concatenate(taken).astype(float)


def by_hand(snapshot, score):
    """Name of each free group -> a function of the values of each of its channels."""
    free = {name: group for name, group in named_groups(groups(snapshot)).items() if not group.pinned}
    return {
        name: np.array([score(list(values_of(snapshot, group, channel))) for channel in range(len(group))])
        for name, group in free.items()
    }


def assert_equal(scores, expected):
    assert {*scores} == {*expected}
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("p", [1, 2, 3, 0.5])
def test_magnitude_is_the_mean_of_the_norms_in_all_weights(snapshot, p):
    expected = by_hand(snapshot, lambda members: np.mean([(abs(v) ** p).sum() ** (1 / p) for _, v in members]))
    assert_equal(importance(snapshot, "magnitude", p=p, normalisation="none"), expected)


@pytest.mark.parametrize("p", [1, 2])
def test_group_magnitude_is_the_norm_of_all_weights_together(snapshot, p):
    expected = by_hand(snapshot, lambda members: sum((abs(v) ** p).sum() for _, v in members) ** (1 / p))
    assert_equal(importance(snapshot, "group_magnitude", p=p, normalisation="none"), expected)


def test_lamp_is_the_share_in_what_is_not_smaller(snapshot):
    squares = by_hand(snapshot, lambda members: sum((v**2).sum() for _, v in members))
    expected = {name: [s / sum(t for t in own if t >= s) for s in own] for name, own in squares.items()}
    assert_equal(importance(snapshot, "lamp"), expected)


def filters(snapshot, path):
    return snapshot.weights[path][0].reshape(-1, snapshot.weights[path][0].shape[-1]).T.astype(float)


def test_fpgm_is_the_sum_of_distances():
    snapshot = filled(vgg(5, 6))
    for name, scores in importance(snapshot, "fpgm", normalisation="none").items():
        own = filters(snapshot, name)
        np.testing.assert_allclose(scores, [sum(np.linalg.norm(a - b) for b in own) for a in own], rtol=1e-6)


def test_cosine_compares_with_larger_filters():
    snapshot = filled(vgg(5, 6))
    for name, scores in importance(snapshot, "cosine").items():
        own = filters(snapshot, name)
        norms = np.linalg.norm(own, axis=1)
        for c, score in enumerate(scores):
            larger = [a @ own[c] / np.linalg.norm(a) / norms[c] for a in own if np.linalg.norm(a) > norms[c]]
            np.testing.assert_allclose(score, 1 - max(larger, default=-1), rtol=1e-6)


def test_bn_scale_is_the_absolute_gamma():
    snapshot = filled(vgg(5, 6))
    scores = importance(snapshot, "bn_scale")
    assert_equal(scores, {f"conv_{i}": abs(snapshot.weights[f"bn_{i}"][0]) for i in range(2)})


def test_dot_products_are_summed_in_blocks(monkeypatch):
    from kerassurgery_fn.pruning import group_weights as module

    for record in (vgg(5, 6), grouped(4)):
        snapshot = filled(record)
        monkeypatch.setattr(module, "BLOCK", 1)
        free = {name: group for name, group in named_groups(groups(snapshot)).items() if not group.pinned}
        for weights in group_weights(snapshot, analyse(snapshot), free):
            for member in weights.members:
                rows = member.rows().astype(float)
                np.testing.assert_allclose(member.dot_products(), rows @ rows.T, atol=1e-9)


def test_of_chooses_members():
    snapshot = filled(sequential("net", (None, 3), dense("a", 4), dense("b", 2)))
    kernel, _ = snapshot.weights["a"]
    reader, _ = snapshot.weights["b"]
    options = {"p": 1, "normalisation": "none"}
    assert_equal(importance(snapshot, of="producers", **options), {"a": abs(kernel).sum(axis=0)})
    assert_equal(importance(snapshot, of="consumers", **options), {"a": abs(reader).sum(axis=1)})


# --- by design


def changed(snapshot, path, slot, function):
    """The snapshot with another array in place of a weight."""
    arrays = list(snapshot.weights[path])
    arrays[slot] = function(arrays[slot].copy())
    return Snapshot(snapshot.record, {**snapshot.weights, path: tuple(arrays)})


def column(at, value):
    def change(array):
        array[..., at] = value(array) if callable(value) else value
        return array

    return change


@pytest.mark.parametrize("name", ["fpgm", "cosine"])
def test_a_duplicated_filter_is_the_most_redundant(name):
    """Of a cluster, the copy of a filter scores lowest."""
    snapshot = changed(filled(vgg(8, 6)), "conv_0", 0, column(5, lambda array: array[..., 2]))
    for at in (0, 1, 3, 4, 6, 7):  # far from each other, so that the pair is near the median
        snapshot = changed(snapshot, "conv_0", 0, lambda array, at=at: column(at, array[..., at] * 3)(array))
    assert np.argmin(importance(snapshot, name)["conv_0"]) in (2, 5)


def test_cosine_keeps_one_of_two_equal_filters():
    snapshot = changed(filled(vgg(8, 6)), "conv_0", 0, column(5, lambda array: array[..., 2]))
    scores = importance(snapshot, "cosine")["conv_0"]
    assert scores[5] == 0
    assert scores[2] > 0


@pytest.mark.parametrize("name", ["magnitude", "group_magnitude", "lamp"])
def test_a_filter_of_zeros_scores_lowest(name):
    snapshot = changed(filled(vgg(8, 6)), "conv_1", 0, column(3, 0))
    assert np.argmin(importance(snapshot, name, of="producers")["conv_1"]) == 3
    assert importance(snapshot, name, of="producers")["conv_1"][3] == 0
    silent = changed(changed(snapshot, "conv_1", 1, column(3, 0)), "bn_1", 0, column(3, 0))
    assert np.argmin(importance(silent, name)["conv_1"]) == 3


def test_a_filter_of_zeros_is_redundant():
    assert importance(changed(filled(vgg(8, 6)), "conv_1", 0, column(3, 0)), "cosine")["conv_1"][3] == 0


@pytest.mark.parametrize("name", ["magnitude", "group_magnitude", "lamp"])
def test_a_filter_scaled_by_its_batch_norm_counts_by_both(name):
    snapshot = filled(vgg(8, 6))
    for path in ("conv_0", "bn_0"):
        larger = changed(snapshot, path, 0, lambda array: column(3, array[..., 3] * 4)(array))
        before, after = (importance(one, name, normalisation="none")["conv_0"] for one in (snapshot, larger))
        assert after[3] > before[3]


def test_coupled_layers_count_together():
    """The stream of a residual network: a large channel in any of its layers scores higher."""
    snapshot = filled(residual())
    base = importance(snapshot, normalisation="none")["stem"]
    for path in ("stem", "a_2", "b_2", "bn"):
        larger = changed(snapshot, path, 0, lambda array: column(1, array[..., 1] * 4)(array))
        scores = importance(larger, normalisation="none")["stem"]
        assert scores[1] > base[1]
        assert np.array_equal(np.delete(scores, 1), np.delete(base, 1))


def test_consumers_count():
    snapshot = filled(sequential("net", (None, 3), dense("a", 4), dense("b", 2)))
    larger = changed(snapshot, "b", 0, lambda array: array * np.array([1, 1, 5, 1], "float32")[:, None])
    assert importance(larger, normalisation="none")["a"][2] > importance(snapshot, normalisation="none")["a"][2]


def test_the_largest_channel_of_each_group_has_the_highest_lamp_score():
    assert [values.max() for values in importance(filled(vgg(5, 6, 7)), "lamp").values()] == [1, 1, 1]


def test_random_scores_depend_on_the_seed_and_the_group_alone():
    snapshot = filled(vgg(6, 6))
    first = importance(snapshot, "random", seed=3)
    assert first == importance(filled(vgg(6, 6), seed=9), "random", seed=3)
    assert first != importance(snapshot, "random", seed=4)
    assert not np.array_equal(first["conv_0"], first["conv_1"])


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_only_groups_that_can_be_cut_have_scores(name):
    assert {*importance(filled(vgg(5, 6)), name)} == {"conv_0", "conv_1"}


def test_the_lines_of_a_grid_have_scores():
    scores = importance(filled(grouped(4)))
    assert {name: values.size for name, values in scores.items()} == {
        "first": 4, "first#2": 4, "apart": 6, "last": 5
    }  # fmt: skip


def test_criteria_do_not_change_their_argument_and_are_repeatable():
    snapshot = filled(vgg(5, 6))
    before = {path: [array.copy() for array in arrays] for path, arrays in snapshot.weights.items()}
    assert all(importance(snapshot, name) == importance(snapshot, name) for name in WITHOUT_DATA)
    assert all(
        np.array_equal(a, b) for path in before for a, b in zip(before[path], snapshot.weights[path], strict=True)
    )


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_weights_of_other_precisions(dtype):
    import ml_dtypes

    exact = filled(vgg(5, 6))
    rounded = filled(vgg(5, 6), dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    for name, values in importance(rounded).items():
        np.testing.assert_allclose(values, importance(exact)[name], rtol=1e-2)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4, 5), (7, BLOCK // 4), (1, 1, 6, 1)])
def test_axis_sums_read_an_array_once_for_all_axes(shape):
    array = np.random.default_rng(0).normal(size=shape)
    sums = axis_sums(array, lambda block, out: np.abs(block, out=out))
    for axis, found in enumerate(sums):
        others = tuple(i for i in range(len(shape)) if i != axis)
        np.testing.assert_allclose(found, abs(array).sum(axis=others), rtol=1e-12)


def test_members_know_their_role():
    snapshot = filled(sequential("net", (None, 3), dense("a", 4), norm("n"), dense("b", 2)))
    flow = analyse(snapshot)
    (weights,) = (w for w in group_weights(snapshot, flow, named_groups(groups(snapshot))) if w.name == "a")
    roles = [(member.path, member.name, member.role, member.is_kernel) for member in weights.members]
    assert roles == [
        ("a", "kernel", "output", True), ("a", "bias", "output", False), ("n", "gamma", "output", False),
        ("n", "beta", "output", False), ("b", "kernel", "input", False),
    ]  # fmt: skip
    assert weights.members[0].rows().tolist() == snapshot.weights["a"][0].T.tolist()
    assert repr(weights.members[-1]) == "<input axis 0 of b kernel: 4 channels>"


# --- reductions and normalisations


def test_reductions():
    snapshot = filled(vgg(5, 6))
    norms = by_hand(snapshot, lambda members: np.array([np.linalg.norm(v) for _, v in members]))
    for name, function in {
        "mean": np.mean, "sum": np.sum, "max": np.max, "product": np.prod, "first": lambda a, axis: a[:, 0]
    }.items():  # fmt: skip
        scores = importance(snapshot, reduction=name, normalisation="none")
        assert_equal(scores, {group: function(values, axis=1) for group, values in norms.items()})


def test_normalisations_of_each_group():
    snapshot = filled(vgg(5, 6))
    raw = importance(snapshot, normalisation="none")
    for name, function in {
        "mean": lambda v: v / v.mean(), "sum": lambda v: v / v.sum(), "max": lambda v: v / v.max(),
        "median": lambda v: v / np.median(v), "gaussian": lambda v: (v - v.mean()) / v.std(),
        "standardised": lambda v: (v - v.min()) / (v.max() - v.min()),
    }.items():  # fmt: skip
        assert_equal(importance(snapshot, normalisation=name), {group: function(v) for group, v in raw.items()})
    pool = np.concatenate([*raw.values()])
    expected = {group: values / pool.mean() for group, values in raw.items()}
    assert_equal(importance(snapshot, normalisation="mean", over="global"), expected)


@pytest.mark.parametrize("normalisation", ["mean", "sum", "max", "median", "gaussian", "standardised"])
def test_equal_scores_are_not_divided_by_zero(normalisation):
    scores = importance(filled(vgg(5, 6)), lambda group: np.zeros(len(group)), normalisation=normalisation)
    assert all((values == 0).all() for values in scores.values())


# --- criteria of one's own


def test_a_function_is_a_criterion():
    def bias(group, *, factor=1):
        return factor * np.abs(group.members[1].array)

    snapshot = filled(vgg(5, 6))
    scores = importance(snapshot, bias, factor=2)
    assert scores.criterion == "bias"
    assert_equal(scores, {f"conv_{i}": 2 * abs(snapshot.weights[f"conv_{i}"][1]) for i in range(2)})
    kernels_of_one = importance(snapshot, lambda group: np.zeros((int(len(group) == 5), len(group))))
    assert {*kernels_of_one} == {"conv_0"}  # no row: no score


def test_a_criterion_is_registered_under_a_name():
    @criterion("first kernel", normalisation="max")
    def first_kernel(group):
        return group.kernels[0].power_sums(1)

    try:
        assert importance(filled(vgg(5, 6)), "first kernel")["conv_0"].max() == 1
        assert importance(filled(vgg(5, 6)), first_kernel) == importance(filled(vgg(5, 6)), "first kernel")
    finally:
        del CRITERIA["first kernel"]


# --- bad input


def test_an_unknown_criterion_is_refused_with_the_list():
    with pytest.raises(UnknownCriterion, match=r"'entropy'; there are .*magnitude, group_magnitude, bn_scale, fpgm"):
        importance(filled(vgg(5)), "entropy")


@pytest.mark.parametrize("by", [None, {"conv_0": [1, 2]}, 3])
def test_what_is_no_criterion_is_refused_without_a_guess(by):
    with pytest.raises(UnknownCriterion, match=r"there are .*magnitude, .*scores of your own are Scores\(mapping\)"):
        importance(filled(vgg(5)), by)


@pytest.mark.parametrize("seed", ["x", -1, 0.5, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(BadValue, match="seed must be a whole number, 0 or larger"):
        importance(filled(vgg(5)), "random", seed=seed)


@pytest.mark.parametrize("options, words", [
    ({"q": 1}, r"importance\(\) has no argument 'q', and the criterion 'magnitude' has no such option; there are"),
    ({"normalization": "max"}, "did you mean 'normalisation'"),
    ({"p": 0}, "positive number"),
    ({"p": "2"}, "positive number"),
    ({"of": "producer"}, "did you mean 'producers'"),
    ({"reduction": "median"}, "no reduction 'median'; did you mean 'mean'"),
    ({"normalisation": "maxx"}, "did you mean 'max'"),
    ({"over": "layer"}, "there are group, global"),
])  # fmt: skip
def test_bad_options_are_refused(options, words):
    with pytest.raises(BadValue, match=words):
        importance(filled(vgg(5)), **options)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("name", ["magnitude", "group_magnitude", "lamp", "fpgm", "cosine"])
def test_not_finite_scores_are_named_with_their_layer(name, value):
    snapshot = changed(filled(vgg(5, 6)), "conv_1", 0, column(3, value))
    if value < np.inf and name in ("fpgm", "cosine"):
        importance(snapshot, name)  # in 64 bits
        return
    groups = r"('conv_0' \(channels 0-4\); )?'conv_1' \(channels 3\)"  # conv_1 reads the channels of conv_0
    with pytest.raises(BadScores, match=f"NaN or infinite in {groups}"):
        importance(snapshot, name)


def test_a_criterion_with_a_result_of_another_shape_is_refused():
    with pytest.raises(BadScores, match=r"must return numbers of shape \(5,\) or \(members, 5\) .*'conv_0'.*\(3,\)"):
        importance(filled(vgg(5)), lambda group: np.zeros(3))


def test_a_criterion_with_rows_of_different_lengths_is_refused():
    with pytest.raises(BadScores, match="fails on the group 'conv_0'"):
        importance(filled(vgg(5)), lambda group: [[1.0], [1.0, 2.0]])


def test_a_criterion_that_fails_is_named():
    with pytest.raises(BadScores, match=r"'<lambda>' fails on the group 'conv_0' \(ZeroDivisionError"):
        importance(filled(vgg(5)), lambda group: 1 // 0)


def test_a_criterion_without_any_score_is_refused():
    with pytest.raises(BadScores, match="'bn_scale' gives no score for any of the 1 groups"):
        importance(filled(sequential("net", (None, 3), dense("a", 4), dense("b", 2))), "bn_scale")


def test_a_snapshot_without_weights_is_refused():
    with pytest.raises(BrokenSnapshot, match="no weights for the layer 'conv_0'"):
        importance(Snapshot(vgg(5), {}))


@pytest.mark.parametrize("needs", ["activations"])
def test_a_criterion_that_needs_data_says_so(needs):
    criterion("from data", needs=needs)(lambda group: None)
    try:
        with pytest.raises(SurgeryError, match="needs activations measured on data"):
            importance(filled(vgg(5)), "from data")
    finally:
        del CRITERIA["from data"]


def test_apoz_of_layers_becomes_scores_of_groups():
    """The activity of coupled layers is averaged; layers without APoZ have no scores."""
    snapshot = filled(residual(3, 2))
    statistics = {"stem": np.array([0, 1, 0.5]), "a_2": np.array([0, 0.5, 0.5]), "b_1": np.array([0.25, 1])}
    scores = importance(snapshot, "apoz", statistics=statistics)
    assert {name: values.tolist() for name, values in scores.items()} == {"stem": [1, 0.25, 0.5], "b_1": [0.75, 0]}


def test_the_apoz_of_a_group_of_a_convolution_is_that_of_its_channels():
    scores = importance(filled(grouped(2)), "apoz", statistics={"last": np.zeros(5), "apart": np.arange(12) / 12})
    assert {*scores} == {"first", "apart", "last"}
    np.testing.assert_allclose(scores["first"], [1 - 2.5 / 12, 1 - 8.5 / 12])  # the groups, named by the first layer


def test_depthwise_kernels_carry_channels():
    record = sequential("net", (None, 8, 8, 3), conv("a", 4, 1), layer("DepthwiseConv2D", "dw", kernel_size=[3, 3]),
                        layer("Flatten", "flat"), dense("top", 2))  # fmt: skip
    snapshot = filled(record)
    larger = changed(snapshot, "dw", 0, lambda array: array * np.array([1, 1, 9, 1], "float32")[:, None])
    assert np.argmax(importance(larger)["a"] / importance(snapshot)["a"]) == 2
