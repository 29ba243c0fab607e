"""The examples with Inception V3: fine-tuning, pruning in rounds, continuing an interrupted run."""

import keras
import numpy as np
import pytest

from helpers.trials import example, run

pytestmark = pytest.mark.keras

FEW = ("--each", 4, "--epochs", 1)


@pytest.mark.exhaustive
def test_a_tuned_network_is_pruned_in_rounds(tmp_path):
    run(example("inception_flowers_tune"), "--out", tmp_path, "--top-epochs", 1, *FEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flowers.keras", "tune.png"]
    pruning = example("inception_flowers_prune")
    rows, output = run(pruning, "--out", tmp_path, "--step", 0.25, "--until", 0.25, *FEW)
    assert [row[:2] for row in rows] == [["0", "17,216"], ["1", "12,912"]]
    first = (tmp_path / "round_01.keras").read_bytes()
    rows, output = run(pruning, "--out", tmp_path, "--step", 0.25, "--until", 0.5, *FEW)
    assert "continuing after round 1" in output
    assert [row[1] for row in rows] == ["17,216", "12,912", "8,608"]
    assert (tmp_path / "round_01.keras").read_bytes() == first
    model = keras.models.load_model(tmp_path / "round_02.keras")
    assert rows[2][2] == f"{model.count_params():,}"
    assert sum(layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)) == 8608


def test_drawn_flowers_are_all_different():
    drawn = example("flowers").flowers(32, 6, seed=0)
    assert drawn.images.shape == (30, 32, 32, 3)
    assert np.abs(drawn.images).max() <= 1
    assert len(np.unique(drawn.images.reshape(30, -1), axis=0)) == 30
    train, validation = drawn.split(seed=0)
    assert len(train.labels) + len(validation.labels) == 30
    assert len(train.labels) > len(validation.labels) > 0


def test_flowers_are_read_from_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("rose", "aster"):
        (tmp_path / kind).mkdir()
        for n in range(3):
            keras.utils.save_img(tmp_path / kind / f"{n}.png", rng.integers(0, 256, (40, 50, 3)))
    read = example("flowers").flowers(24, 2, seed=0, data_dir=tmp_path)
    assert read.images.shape == (4, 24, 24, 3)
    assert read.kinds == ("aster", "rose")
    assert read.labels.tolist() == [0, 0, 1, 1]
    assert -1 <= read.images.min() < -0.5 < 0.5 < read.images.max() <= 1
