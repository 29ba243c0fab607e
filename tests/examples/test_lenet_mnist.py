"""The main example, with settings that take seconds."""

import keras
import numpy as np
import pytest

from helpers import trials

pytestmark = pytest.mark.keras


@pytest.fixture(scope="module")
def example():
    return trials.example("lenet_mnist")


@pytest.fixture(autouse=True)
def _not_deterministic(example, monkeypatch):
    """Once it is on, TensorFlow's determinism cannot be turned off for the tests that follow."""
    monkeypatch.setattr(example.tf.config.experimental, "enable_op_determinism", lambda: None)


def test_the_example_writes_a_trimmed_model_and_a_plot(example, tmp_path):
    few = ("--samples", 200, "--epochs", 1, "--tune-epochs", 1, "--rounds", 1, "--tolerance", 100)
    rows, output = trials.run(example, "--out", tmp_path / "made", *few)
    told = [line.partition(",")[0] for line in output.splitlines() if line.startswith("round ")]
    assert told == ["round 0: widths 20-50-500", f"round 1: widths {rows[1][1]}"]
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["lenet.keras", "lenet.png"]
    assert (tmp_path / "made" / "lenet.png").read_bytes().startswith(b"\x89PNG")
    model = keras.models.load_model(tmp_path / "made" / "lenet.keras")
    widths = "-".join(str(model.get_layer(name).kernel.shape[-1]) for name in example.TRIMMED)
    assert rows[0][:4] == ["0", "20-50-500", "431,080", "2,293,000"]
    assert rows[1][:3] == ["1 *", widths, f"{model.count_params():,}"]
    assert model.count_params() < 431_080
    assert model.predict(np.zeros((1, 28, 28, 1)), verbose=0).shape == (1, 10)


def test_a_round_that_loses_too_much_accuracy_is_not_kept(example, tmp_path, monkeypatch):
    monkeypatch.setattr(example, "high_apoz", lambda apoz, *_: np.arange(1, len(apoz)))  # all channels but one
    few = ("--samples", 600, "--epochs", 2, "--tune-epochs", 1, "--rounds", 3)
    _, output = trials.run(example, "--out", tmp_path, *few)
    assert "1-1-1" in output
    assert "round 2" not in output
    assert keras.models.load_model(tmp_path / "lenet.keras").count_params() == 431_080


def test_the_parts_of_the_digits_do_not_overlap(example):
    data = example.split(full=False, samples=None, seed=3)
    parts = [data.train, data.validation, data.test]
    assert [len(part.labels) for part in parts] == [3000, 1000, 1000]
    assert np.bincount(np.concatenate([part.labels for part in parts])).tolist() == [500] * 10
    assert all((part.images.min(), part.images.max()) == (0, 1) for part in parts)
    every = np.concatenate([part.images.reshape(-1, 784) for part in parts])
    assert len(np.unique(every, axis=0)) == len(np.unique(example.sample_of_mnist().images.reshape(-1, 784), axis=0))
    assert min(np.bincount(part.labels).min() for part in parts) > 60


def test_a_loss_equal_to_the_tolerance_is_accepted(example):
    def good(before, after):
        one, two = (example.Round(None, {}, np.nan, accuracy, np.nan) for accuracy in (before, after))
        return example.is_within_tolerance(one, two, tolerance=0.5)

    assert [good(0.982, after) for after in (0.99, 0.982, 0.977, 0.976)] == [True, True, True, False]


def test_every_epoch_has_all_shifted_digits(example):
    labels = np.arange(130)
    marked = np.zeros((130, 28, 28, 1), np.float32)
    marked[:, 14, 14, 0] = labels + 1
    batches = example.Shifted(example.Digits(marked, labels), seed=0)
    seen = [
        (image, label) for x, y in (batches[i] for i in range(len(batches))) for image, label in zip(x, y, strict=True)
    ]
    assert sorted(label for _, label in seen) == labels.tolist()
    assert all(image.max() == label + 1 for image, label in seen)
    places = np.array([np.argwhere(image[..., 0])[0] for image, _ in seen]) - 14
    assert {tuple(place) for place in places.tolist()} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
