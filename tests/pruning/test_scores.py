"""Scores as a value, and in files."""

import json
import pickle

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
    Scores,
    SurgeryError,
    UnknownVersion,
    importance,
    load_scores,
    save_scores,
)
from kerassurgery_fn.pruning.pruning_problem import lowest
from kerassurgery_fn.pruning.score_files import decode_scores, encode_scores

finite = st.floats(allow_nan=False, allow_infinity=False)


def test_scores_are_a_mapping_of_read_only_arrays():
    scores = Scores({"a": [1, 2], "b": np.float32([3])}, "magnitude")
    assert (len(scores), [*scores], "a" in scores, "c" in scores) == (2, ["a", "b"], True, False)
    assert scores["a"].dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        scores["a"][0] = 3


@given(st.lists(st.integers(-2, 2), min_size=2, max_size=9), st.data())
def test_the_first_of_equal_scores_are_the_lowest(values, data):
    count = data.draw(st.integers(1, len(values) - 1))
    scores = np.array(values, float)
    assert lowest(scores, count).tolist() == sorted(np.argsort(scores, kind="stable")[:count].tolist())


def test_an_array_that_changes_later_does_not_change_the_scores():
    array = np.array([1.0, 2.0])
    scores = Scores({"a": array})
    array[0] = 9
    assert scores["a"][0] == 1


def test_scores_are_equal_by_value():
    assert Scores({"a": [1.0]}, "x") == Scores({"a": [1.0]}, "x")
    assert Scores({"a": [1.0]}, "x") != Scores({"a": [2.0]}, "x")
    assert Scores({"a": [1.0]}, "x") != Scores({"b": [1.0]}, "x")
    assert Scores({"a": [1.0]}, "x") != Scores({"a": [1.0]}, "y")
    assert Scores({"a": [1.0]}) != {"a": [1.0]}


def test_scores_can_be_pickled():
    scores = importance(filled(vgg(5, 6)))
    assert pickle.loads(pickle.dumps(scores)) == scores


def test_scores_print_as_a_table():
    assert repr(Scores({"conv_1": [1, 3], "dense": [0.5]}, "magnitude")).splitlines() == [
        "scores by magnitude",
        "group   channels  lowest  mean  highest",
        "conv_1         2       1     2        3",
        "dense          1     0.5   0.5      0.5",
    ]
    assert "conv_1" in Scores({"conv_1": [1]})._repr_html_()


@pytest.mark.parametrize("values, words", [
    ([1.0, np.nan, np.inf], r"'a' \(channels 1-2\)"),
    ([-np.inf], r"'a' \(channels 0\)"),
])  # fmt: skip
def test_scores_that_are_not_finite_are_refused(values, words):
    with pytest.raises(BadScores, match=words):
        Scores({"a": values, "b": [1.0]})


@pytest.mark.parametrize("given_scores", [[1, 2], {"a": "x"}, {"a": [[1.0]]}, {"a": 1.0}, {"a": [None]}])
def test_values_that_are_no_scores_are_refused(given_scores):
    with pytest.raises(SurgeryError):
        Scores(given_scores)


@pytest.mark.parametrize("below", ["x", None, True, [1.0]])
def test_a_threshold_is_a_number(below):
    with pytest.raises(BadValue, match="below: expected a score, such as 1e-6"):
        Scores({"a": [1.0, 2.0]}).ratios(below=below)


def test_an_unknown_group_is_refused_with_the_nearest():
    with pytest.raises(SurgeryError, match="no group 'conv_2' has scores; did you mean 'conv_1'"):
        Scores({"conv_1": [1.0]})["conv_2"]
    assert Scores({"conv_1": [1.0]}).get("conv_2") is None


@given(st.dictionaries(st.text(min_size=1), st.lists(finite, min_size=1), min_size=1), st.text())
def test_json_keeps_every_bit(scores, name):
    value = Scores(scores, name)
    assert decode_scores(json.loads(json.dumps(encode_scores(value)))) == value


@pytest.mark.parametrize("file", ["scores.json", "scores.npz", "scores"])
def test_files_keep_every_bit(tmp_path, file):
    scores = importance(filled(vgg(5, 6)))
    renamed = Scores({"backbone/conv:num_heads#2": scores["conv_0"], "criterion": scores["conv_1"]}, "magnitude")
    for value in (scores, renamed):
        save_scores(value, tmp_path / file)
        assert load_scores(tmp_path / file) == value


@pytest.mark.parametrize("file, content, error", [
    ("a.json", b"{}", BadDocument),
    ("a.json", b"nothing", BadDocument),
    ("a.json", b'{"format": "kerassurgery_fn scores", "version": 2, "criterion": "x", "scores": {}}', UnknownVersion),
    ("a.json", b'{"format": "kerassurgery_fn scores", "version": 1, "criterion": "x", "scores": {"a": "b"}}',
     BadDocument),
    ("a.npz", b"nothing", BadDocument),
])  # fmt: skip
def test_bad_files_are_refused(tmp_path, file, content, error):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(error):
        load_scores(tmp_path / file)


def test_files_that_cannot_be_read_or_written_are_refused(tmp_path):
    with pytest.raises(BadFile):
        load_scores(tmp_path / "none.json")
    with pytest.raises(BadFile):
        save_scores(Scores({"a": [1.0]}), tmp_path / "no folder" / "a.npz")
    with pytest.raises(BadValue, match=r"expected Scores.*importance\(snapshot\)"):
        save_scores({"a": [1.0]}, tmp_path / "a.json")
