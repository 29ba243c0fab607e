"""Data in files, without Keras."""

import numpy as np
import pytest

from kerassurgery_fn import BadData, BadFile
from kerassurgery_fn.measure.data_files import read_data

X, Y = np.arange(70).reshape(35, 2), np.arange(35)


def test_a_file_has_inputs_targets_and_weights(tmp_path):
    np.savez(tmp_path / "a.npz", y=Y, x=X)
    x, y = read_data(tmp_path / "a.npz")
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)
    np.savez(tmp_path / "b.npz", x=X, y=Y, weights=Y)
    assert len(read_data(tmp_path / "b.npz")) == 3
    np.savez(tmp_path / "c.npz", x=X)
    assert len(read_data(str(tmp_path / "c.npz"))) == 1


def test_several_inputs_have_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", left=X, right=X + 1, y=Y)
    (inputs, y), *_ = [read_data(tmp_path / "a.npz")]
    assert {*inputs} == {"left", "right"}
    assert np.array_equal(y, Y)
    batches = [*read_data(tmp_path)]
    assert [len(batch["right"]) for batch, _ in batches] == [32, 3]
    assert np.array_equal(batches[1][0]["right"], X[32:] + 1)


def test_the_files_of_a_folder_are_read_in_order(tmp_path):
    for name, where in (("b", slice(20, 35)), ("a", slice(0, 20))):
        np.savez(tmp_path / f"{name}.npz", x=X[where], y=Y[where])
    assert np.array_equal(np.concatenate([y for _, y in read_data(tmp_path)]), Y)


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(BadFile, match=r"is no \.npz file of arrays"):
        read_data(tmp_path / "text.npz")
    with pytest.raises(BadFile, match="No such file"):
        read_data(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "y.npz", y=Y)
    with pytest.raises(BadData, match=r"has 1 array \(y\), and none of inputs: name it x"):
        read_data(tmp_path / "y.npz")
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(BadFile, match=r"is no \.npz file"):
        read_data(tmp_path / "y.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match=r"has no \.npz file"):
        read_data(tmp_path / "empty")
