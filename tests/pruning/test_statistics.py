"""Statistics that are added up: the split of the data does not matter; files keep every bit. Without Keras."""

from dataclasses import astuple, fields
from functools import reduce
from itertools import pairwise
from operator import add
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pruned_models import filled, vgg
from kerassurgery_fn import (
    BadDocument,
    BadFile,
    BadScores,
    BadValue,
    MissingData,
    UnknownGroup,
    UnknownVersion,
    importance,
    load_statistics,
    save_statistics,
)
from kerassurgery_fn.pruning.activation_statistics import (
    LEVELS,
    Moments,
    levels_of,
    lowest_level,
    moments_of,
    ranks_of,
)
from kerassurgery_fn.pruning.apoz_scores import ZeroCounts, count_zeros
from kerassurgery_fn.pruning.channel_statistics import ChannelStatistics, at_starts, largest
from kerassurgery_fn.pruning.gate_gradients import GateGradients, gate_gradients_of
from kerassurgery_fn.pruning.summed_arrays import SummedArrays


def map_ranks_of(activations):
    maps = np.moveaxis(activations, -1, 1)
    seeds = np.array([crc32(one.tobytes()) for one in activations], np.uint32)
    return ranks_of(np.linalg.matrix_rank(maps).reshape(maps.shape[:2]), levels_of(seeds), len(maps))


def gate_gradients(activations):
    return gate_gradients_of(activations, np.cos(7 * activations))


RECORDS = {
    "zeros of activations": count_zeros, "moments of activations": moments_of, "ranks of feature maps": map_ranks_of,
    "gradients of gates": gate_gradients,
}  # fmt: skip


def statistics_of(kind, activations):
    """Statistics of two layers: one with one tensor, one with two calls, at the second of which the graph forks."""
    one, two = RECORDS[kind](activations), RECORDS[kind](activations[:, :2] - 1)
    return ChannelStatistics(kind, {"conv_0": ((one,),), "block/conv_1": ((two,), (one, two))}, len(activations))


def data(seed=0, samples=12, offset=0.0):
    values = np.random.default_rng(seed).normal(size=(samples, 3, 4, 5)) + offset
    return np.where(values > offset, values, 0)


def assert_equal(a, b, rtol=1e-12):
    assert (a.kind, a.samples, [*a]) == (b.kind, b.samples, [*b])
    for name, array in a.arrays().items():
        np.testing.assert_allclose(array, b.arrays()[name], rtol=rtol, atol=1e-12, err_msg=name)


# --- the law: the split does not matter


@pytest.mark.parametrize("kind", RECORDS)
@given(cuts=st.lists(st.integers(0, 12), max_size=5), seed=st.integers(0, 99), data_=st.data())
def test_the_split_of_the_data_does_not_matter(kind, cuts, seed, data_):
    activations = data(seed)
    parts = [statistics_of(kind, part) for part in np.split(activations, sorted(cuts))]
    expected = statistics_of(kind, activations)
    assert_equal(reduce(add, parts), expected)
    assert_equal(reduce(add, data_.draw(st.permutations(parts))), expected)
    half = len(parts) // 2
    if half:
        assert_equal(reduce(add, parts[:half]) + reduce(add, parts[half:]), expected)


@given(cuts=st.lists(st.integers(0, 12), max_size=5), seed=st.integers(0, 99))
def test_the_split_does_not_matter_for_gradients_of_weights(cuts, seed):
    def gradients(part):
        return SummedArrays(
            "gradients of weights",
            {"a": (part.sum(axis=0), part.sum(axis=(0, 1))), "b/c": (part[:, 0, 0].sum(axis=0),)},
            len(part),
        )

    activations = data(seed)
    parts = [gradients(part) for part in np.split(activations, sorted(cuts))]
    assert_equal(reduce(add, parts), gradients(activations))
    assert_equal(reduce(add, parts[::-1]), gradients(activations))


def ranked(samples, start, stop):
    """The statistics of a part of some samples of two channels, in which those samples are ranked whose level counts
    within the part."""
    rng = np.random.default_rng(samples)
    levels, ranks = levels_of(rng.integers(2**32, size=samples, dtype=np.uint32)), rng.integers(9, size=(samples, 2))
    part = slice(start, stop)
    where = levels[part] >= lowest_level(stop - start)
    return ranks_of(ranks[part][where], levels[part][where], stop - start), levels, ranks


@given(samples=st.integers(1, 20_000), cuts=st.lists(st.integers(0, 20_000), max_size=4), data_=st.data())
def test_ranks_are_those_of_the_same_samples_for_each_split(samples, cuts, data_):
    bounds = [0, *sorted(cut % samples for cut in cuts), samples]
    parts = [ranked(samples, start, stop)[0] for start, stop in pairwise(bounds)]
    whole, levels, ranks = ranked(samples, 0, samples)
    for order in (parts, data_.draw(st.permutations(parts))):
        for total, other in zip(astuple(reduce(add, order)), astuple(whole), strict=True):
            np.testing.assert_array_equal(total, other)
    chosen = ranks[levels >= lowest_level(samples)]
    np.testing.assert_allclose(whole.mean_rank, chosen.mean(axis=0))
    assert len(chosen) == samples if samples <= 500 else 170 < len(chosen) < 600


def test_equal_samples_are_ranked_whatever_their_level():
    """Among 3,000 samples, levels from 3 count; all samples are equal and have level 0."""
    equal = ranks_of(np.array([[3, 1]]), np.array([0]), samples=1500)
    assert (equal + equal).mean_rank.tolist() == [3, 1]


def test_levels_halve_the_samples():
    counts = np.bincount(levels_of(np.random.default_rng(0).integers(2**32, size=2**16, dtype=np.uint32)))
    np.testing.assert_allclose(counts[:5] / 2**16, [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32], rtol=0.05)
    assert lowest_level(10**12) == levels_of(np.zeros(1, np.uint32))[0] == LEVELS - 1


def test_the_comparison_fails_where_samples_are_lost():
    whole, part = (statistics_of("moments of activations", data()[:n]) for n in (12, 11))
    with pytest.raises(AssertionError):
        assert_equal(whole, part)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_agree_with_numpy(offset):
    activations = data(offset=offset)
    moments = reduce(add, map(moments_of, np.split(activations, 6)))
    np.testing.assert_allclose(moments.variance, activations.var(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(moments.mean_absolute, np.abs(activations).mean(axis=(0, 1, 2)))


def test_the_sum_of_squares_would_lose_digits():
    """What the means of batches are for: the plain formula fails on the data of the test above."""
    activations = np.random.default_rng(0).normal(size=(12, 60)).astype("float32") + np.float32(1e5)
    plain = (activations**2).mean() - activations.mean() ** 2
    assert abs(plain - 1) > 0.5
    assert abs(reduce(add, map(moments_of, activations.reshape(12, 60, 1))).variance[0] - 1) < 0.1


def test_channels_without_values_are_zero():
    empty = moments_of(np.zeros((0, 3)))
    assert empty.variance.tolist() == empty.mean_absolute.tolist() == [0, 0, 0]
    assert (empty + moments_of(np.ones((2, 3)))).mean_absolute.tolist() == [1, 1, 1]


# --- calls and branches


def test_at_a_fork_the_branch_with_the_largest_value_counts():
    low, high = moments_of(np.array([[1.0, 0.0]])), moments_of(np.array([[0.5, 2.0]]))
    assert largest([low, high], lambda moments: moments.mean_absolute).mean_absolute.tolist() == [1, 2]
    statistics = ChannelStatistics("moments of activations", {"a": ((low, high), (low,))}, 1)
    assert statistics.pooled("a", lambda moments: moments.mean_absolute).tolist() == [1, 1]


def test_channels_that_occur_several_times_are_added_up():
    moments = at_starts(moments_of(np.array([[1.0, 2.0, 9.0, 3.0, 6.0]])), [0, 3], 2)
    assert moments.mean_absolute.tolist() == [2, 4]
    assert moments.variance.tolist() == [1, 4]


# --- files


@pytest.mark.parametrize("kind", RECORDS)
def test_files_keep_every_bit(kind, tmp_path):
    statistics = statistics_of(kind, data())
    save_statistics(statistics, tmp_path / "statistics.npz")
    loaded = load_statistics(tmp_path / "statistics.npz")
    assert (loaded.kind, loaded.samples, [*loaded]) == (kind, 12, [*statistics])
    for name, array in statistics.arrays().items():
        assert array.dtype == loaded.arrays()[name].dtype
        assert np.array_equal(array, loaded.arrays()[name])
    assert_equal(loaded + loaded, statistics + statistics)
    assert repr(loaded) == f"<{kind} of 2 layers, 12 samples>"


def changed(statistics, **entries):
    def save(path):
        save_statistics(statistics, path)
        with np.load(path) as file:
            content = {**file, **entries}
        np.savez(path, **{name: array for name, array in content.items() if array is not None})

    return save


BAD_FILES = {
    "text": (lambda path: path.write_text("no file"), BadDocument, "is not an .npz file of statistics"),
    "an array": (lambda path: np.savez(path, a=np.zeros(3)), BadDocument, "the file has no statistics"),
    "a later version": (changed(statistics_of("zeros of activations", data()), version=7), UnknownVersion, "version 7"),
    "another kind": (changed(statistics_of("zeros of activations", data()), kind="x"), UnknownVersion, "'x'"),
    "a missing array": (
        changed(statistics_of("zeros of activations", data()), **{"arrays/conv_0/0/0/zeros": None}),
        BadDocument, "the arrays are not those of zeros",
    ),
    "a name": (
        changed(statistics_of("zeros of activations", data()), **{"arrays/x": np.zeros(3)}),
        BadDocument, "the arrays are not those of zeros",
    ),
}  # fmt: skip


@pytest.mark.parametrize("write, error, words", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_files_without_statistics_are_refused(write, error, words, tmp_path):
    path = tmp_path / "statistics.npz"
    write(path)
    with pytest.raises(error, match=words):
        load_statistics(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadFile):
        load_statistics(tmp_path / "nowhere.npz")
    with pytest.raises(BadValue, match=r"expected statistics of data, got .*; measure_statistics"):
        save_statistics({}, tmp_path / "statistics.npz")


# --- criteria on statistics


def moments_for(**means):
    record = {name: ((moments_of(np.array([values], float)),),) for name, values in means.items()}
    return ChannelStatistics("moments of activations", record, 1)


def test_a_criterion_reads_statistics_of_its_kind():
    snapshot = filled(vgg(3, 2))
    statistics = moments_for(conv_0=[1, -3, 2], conv_1=[4, 0])
    scores = importance(snapshot, "mean_activation", statistics=statistics, normalisation="none")
    assert {name: values.tolist() for name, values in scores.items()} == {"conv_0": [1, 3, 2], "conv_1": [4, 0]}
    with pytest.raises(
        MissingData, match=r"'hrank' needs ranks of feature maps, and these are <moments of activations"
    ):
        importance(snapshot, "hrank", statistics=statistics)


@pytest.mark.parametrize("channels", [2, 4], ids=["narrower", "wider"])
def test_statistics_of_another_model_are_refused(channels):
    words = f"another model: they have {channels} channels of 'conv_0', and 'vgg' has 3"
    with pytest.raises(BadScores, match=words):
        importance(filled(vgg(3, 2)), "variance", statistics=moments_for(conv_0=range(channels)))
    with pytest.raises(BadScores, match=words):
        importance(filled(vgg(3, 2)), "apoz", statistics={"conv_0": np.zeros(channels)})


def test_the_path_of_a_file_is_no_statistics(tmp_path):
    for path in ("statistics.npz", tmp_path / "statistics.npz"):
        with pytest.raises(MissingData, match=r"statistics: expected moments of activations, got .*load_statistics"):
            importance(filled(vgg(3, 2)), "variance", statistics=path)


def test_layers_without_statistics_have_no_scores():
    assert [*importance(filled(vgg(3, 2)), "variance", statistics=moments_for(conv_1=[1, 2]))] == ["conv_1"]


def test_statistics_are_added_by_sum():
    moments = statistics_of("moments of activations", data())
    assert_equal(sum([moments, moments]), moments + moments)
    gradients = SummedArrays("gradients of weights", {"a": (np.ones(2),)}, 3)
    assert_equal(sum([gradients, gradients]), gradients + gradients)


# --- what cannot be added


def test_statistics_of_other_kinds_or_models_cannot_be_added():
    moments = statistics_of("moments of activations", data())
    with pytest.raises(BadValue, match="different kinds"):
        moments + statistics_of("zeros of activations", data())
    with pytest.raises(BadValue, match="'conv_0' is not the same in both"):
        moments + statistics_of("moments of activations", data()[..., :3])
    with pytest.raises(
        BadValue, match="different models cannot be added: 'conv_0' is not the same in both, and 1 more"
    ):
        moments + moments_for(conv_0=[1, 2])
    with pytest.raises(TypeError):
        moments + 3
    with pytest.raises(TypeError):
        3 + moments


def test_an_unknown_kind_or_layer_is_refused():
    with pytest.raises(BadValue, match="did you mean 'moments of activations'"):
        ChannelStatistics("moment of activations", {}, 0)
    with pytest.raises(UnknownGroup, match="no statistics of 'conv_9'"):
        moments_for(conv_0=[1])["conv_9"]


@pytest.mark.parametrize("record", [ZeroCounts, Moments, GateGradients])
def test_records_have_arrays_of_equal_shape(record):
    values = record(*(np.arange(3) for _ in fields(record)))
    assert {array.shape for array in astuple(values + values)} == {(3,)}


def test_sums_of_ranks_have_the_shapes_of_their_parts():
    values = ranks_of(np.ones((4, 3), int), np.array([0, 1, 0, 2]), samples=4)
    shapes = [array.shape for array in astuple(values)]
    assert shapes == [(3,), (3, LEVELS), (3, LEVELS)]
    assert [array.shape for array in astuple(values + values)] == shapes
