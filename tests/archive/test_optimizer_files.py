"""The state of the optimizer in a file: read as captured, cut with the weights, and continued by Keras."""

import inspect
import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.trained_models import Y, step, trained
from kerassurgery_fn import DeleteChannels, InsertLayer, capture, rebuild
from kerassurgery_fn.archive.model_files import read_model, write_model

pytestmark = pytest.mark.keras

O = keras.optimizers  # noqa: E741
HAS_MULTI, HAS_FREE = hasattr(O, "MultiOptimizer"), hasattr(O, "ScheduleFreeAdamW")


def several(default, by_pattern):
    return O.MultiOptimizer(O.OptimizerMap(default, by_pattern))


OPTIMIZERS = {
    "Adam": lambda: O.Adam(),
    "amsgrad and averages": lambda: O.Adam(amsgrad=True, use_ema=True),
    "SGD": lambda: O.SGD(0.1),
    "momentum": lambda: O.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda: O.RMSprop(),
    "centered": lambda: O.RMSprop(momentum=0.5, centered=True),
    "AdamW on a schedule": lambda: O.AdamW(O.schedules.CosineDecay(0.01, 10)),
    "Nadam": lambda: O.Nadam(),
    "Adagrad": lambda: O.Adagrad(),
    "Adadelta": lambda: O.Adadelta(),
    "Adamax": lambda: O.Adamax(),
    "Ftrl": lambda: O.Ftrl(),
    "Lion": lambda: O.Lion(),
    "Lamb": lambda: O.Lamb(),
    "accumulated gradients": lambda: O.Adam(gradient_accumulation_steps=2),
    "scaled loss": lambda: O.LossScaleOptimizer(O.Adam()),
    "Muon": lambda: O.Muon(),
    "Muon without a layer": lambda: O.Muon(exclude_layers=["den.e"]),
    "scaled Muon": lambda: O.LossScaleOptimizer(O.Muon(use_ema=True)),
    "ScheduleFreeAdamW": lambda: O.ScheduleFreeAdamW(),
    "several": lambda: O.MultiOptimizer(
        O.OptimizerMap(O.SGD(0.1, momentum=0.9), {"conv/.*": O.Adam(), "no": O.Adam()})
    ),
    "scaled several": lambda: O.LossScaleOptimizer(O.MultiOptimizer(O.OptimizerMap(O.Lion(), {"conv/.*": O.Adam()}))),
}
OFTEN = {"Adam", "momentum", "Nadam", "Muon"}
NEEDS = {"ScheduleFreeAdamW": HAS_FREE, "several": HAS_MULTI, "scaled several": HAS_MULTI}


def case(name):
    marks = [pytest.mark.skipif(not NEEDS.get(name, True), reason="this Keras does not have it")]
    return pytest.param(name, marks=marks if name in OFTEN else [*marks, pytest.mark.slow])


def test_every_optimizer_of_keras_is_tested():
    classes = {name for name, cls in vars(O).items() if inspect.isclass(cls) and issubclass(cls, O.Optimizer)}
    used = {type(make()).__name__ for name, make in OPTIMIZERS.items() if NEEDS.get(name, True)}
    assert classes == used | {"Optimizer", "Adafactor"}


def written_and_loaded(snapshot, path):
    """The model that Keras loads from a written file. It takes the state of the optimizer as it is."""
    write_model(snapshot, path, overwrite=True)
    assert read_model(path) == snapshot
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping variable loading")
        loaded = keras.models.load_model(path)
    assert capture(loaded) == snapshot
    return loaded


def check_next_step(snapshot, path, *data):
    """The next training step of the file is that of the rebuilt model."""
    for a, b in zip(step(written_and_loaded(snapshot, path), *data), step(rebuild(snapshot), *data), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", [case(name) for name in OPTIMIZERS])
def test_training_continues(name, tmp_path):
    model = trained(OPTIMIZERS[name]())
    model.save(tmp_path / "model.keras")
    snapshot, captured = read_model(tmp_path / "model.keras"), capture(model)
    assert snapshot.training is not None
    assert snapshot == captured
    check_next_step(snapshot, tmp_path / "written.keras")
    cut = DeleteChannels("conv", [1])
    assert cut(snapshot) == cut(captured)
    check_next_step(cut(snapshot), tmp_path / "written.keras")


def words():
    """A model with an embedding, matrices of a recurrent cell, and weights of attention with two and three axes."""
    x = keras.Input((5,), dtype="int32")
    y = L.LSTM(4, return_sequences=True, name="lstm")(L.Embedding(9, 4, name="words")(x))
    y = L.Flatten(name="flat")(L.MultiHeadAttention(2, 3, name="attention")(y, y))
    return keras.Model(x, L.Dense(2, name="dense")(L.Dense(4, name="hidden")(y)))


MUON = {
    "": {},
    "embeddings too": {"exclude_embeddings": False},
    "without layers": {"exclude_layers": ["^hid", "lstm|den.*"]},
    "averages": {"use_ema": True, "gradient_accumulation_steps": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUON)
def test_muon_has_one_variable_for_a_matrix(name, tmp_path):
    model, x = words(), np.arange(40).reshape(8, 5) % 9
    model.compile(O.Muon(**MUON[name]), "mse", run_eagerly=True)
    step(model, x, Y)
    model.save(tmp_path / "model.keras")
    snapshot = read_model(tmp_path / "model.keras")
    assert snapshot == capture(model)
    cut = DeleteChannels({"hidden": [0], "lstm": [1]})(snapshot)
    assert cut == DeleteChannels({"hidden": [0], "lstm": [1]})(capture(model))
    check_next_step(cut, tmp_path / "written.keras", x, Y)


@pytest.mark.parametrize("patterns", [["(a+)+$"], ["["], ["a" * 300], [3], ["a"] * 2000], ids=range(5))
def test_patterns_that_are_not_used(patterns, tmp_path):
    """They are no regular expressions, or may take years to match."""
    snapshot = capture(trained(O.Muon()))
    compiled = dict(snapshot.record["compile_config"])
    optimizer = compiled["optimizer"]
    compiled["optimizer"] = {**optimizer, "config": {**optimizer["config"], "exclude_layers": patterns}}
    write_model(type(snapshot)({**snapshot.record, "compile_config": compiled}, snapshot.weights, snapshot.training),
                tmp_path / "model.keras")  # fmt: skip
    with pytest.warns(UserWarning, match=r"the state of the optimizer \(Muon\) is not read"):
        assert read_model(tmp_path / "model.keras").training is None


def test_training_with_frozen_layers(tmp_path):
    model = trained("adam", frozen=["conv"])
    model.save(tmp_path / "model.keras")
    assert read_model(tmp_path / "model.keras") == capture(model)
    check_next_step(capture(model), tmp_path / "written.keras")


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("muon", marks=pytest.mark.slow)])
def test_layers_frozen_after_training(optimizer, tmp_path):
    model = trained(optimizer)
    model.get_layer("conv").trainable = False
    model.save(tmp_path / "model.keras")
    snapshot = read_model(tmp_path / "model.keras")
    assert snapshot == capture(model)
    check_next_step(snapshot, tmp_path / "written.keras")


NEW = ["Adam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Adagrad", "Nadam", "Muon"))]


@pytest.mark.parametrize("name", NEW)
def test_new_layers_start_as_the_optimizer_starts_them(name, tmp_path):
    snapshot = InsertLayer(L.Dense(2, name="new"), after="dense")(capture(trained(OPTIMIZERS[name]())))
    snapshot = capture(rebuild(snapshot))
    assert ("new", 0) in snapshot.training.by_owner()
    bare = [i for i, slot in enumerate(snapshot.training.slots) if slot is None or slot[0] != "new"]
    training = type(snapshot.training)(
        tuple(snapshot.training.slots[i] for i in bare), tuple(snapshot.training.values[i] for i in bare)
    )
    write_model(type(snapshot)(snapshot.record, snapshot.weights, training), tmp_path / "model.keras")
    assert read_model(tmp_path / "model.keras") == snapshot


def test_an_optimizer_without_a_step_has_no_state(tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(4)])
    model.compile("adam", "mse")
    model.save(tmp_path / "model.keras")
    assert read_model(tmp_path / "model.keras") == capture(model)


@pytest.mark.filterwarnings("ignore:the state of the optimizer .* is not captured")
def test_the_state_of_adafactor_is_not_read(tmp_path):
    model = trained(O.Adafactor())
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match=r"the state of the optimizer \(Adafactor\) is not read: .* cannot be cut"):
        snapshot = read_model(tmp_path / "model.keras")
    assert snapshot == capture(model)
    write_model(DeleteChannels("conv", [1])(snapshot), tmp_path / "cut.keras")
    assert keras.models.load_model(tmp_path / "cut.keras").optimizer.name == "adafactor"


@pytest.mark.skipif(not HAS_MULTI, reason="this Keras has no MultiOptimizer")
def test_a_map_of_optimizers_that_is_a_function_is_not_read(tmp_path):
    compiled = {"optimizer": {"class_name": "MultiOptimizer", "config": {"optimizer_map": {"class_name": "function"}}}}
    model = trained("adam")
    model.save(tmp_path / "model.keras")
    snapshot = read_model(tmp_path / "model.keras")
    other = type(snapshot)({**snapshot.record, "compile_config": compiled}, snapshot.weights, snapshot.training)
    write_model(other, tmp_path / "other.keras")
    with pytest.warns(UserWarning, match=r"\(MultiOptimizer\) is not read: the class is not known"):
        assert read_model(tmp_path / "other.keras").training is None
