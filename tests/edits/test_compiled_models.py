"""Losses, weights and metrics by the names of outputs, when other layers make the outputs."""

import keras
import numpy as np
import pytest
from keras import layers as L

from kerassurgery_fn import (
    DeepenLayer,
    DeleteChannels,
    DeleteLayer,
    FoldBatchNorm,
    InsertLayer,
    Plan,
    RenameLayer,
    ReplaceLayer,
    UnshareLayer,
    capture,
    rebuild,
)
from kerassurgery_fn.edits.steps.compile_config import BY_OUTPUT, renamed_fields
from kerassurgery_fn.graph import triples
from kerassurgery_fn.values.snapshot import Snapshot

FIELDS = {
    "loss": {"a": "mse", "s": "mae", "n": "mse"},
    "loss_weights": {"a": 0.5, "s": 2.0, "n": 1.0},
    "metrics": {"s": ["mse"], "a": "mae"},
    "weighted_metrics": {"n": ["mae"]},
}


def net():
    """Outputs of a Dense layer, of the second call of a shared one, of a normalisation and of a sum."""
    x = keras.Input((4,), name="x")
    h, shared = L.Dense(5, name="h")(x), L.Dense(5, name="s")
    normalised = L.BatchNormalization(name="n")(L.Dense(3, name="c")(h))
    total = L.Add(name="t")([L.Dense(3, name="p")(L.Dense(2, name="q")(h)), L.Dense(3, name="r")(h)])
    return keras.Model(x, [L.Dense(2, name="a")(shared(h)), shared(shared(h)), normalised, total])


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(1)
    model = net()
    extra = {"loss": {"t": "mae"}, "loss_weights": {"t": 3.0}}
    model.compile("adam", run_eagerly=True, **{field: value | extra.get(field, {}) for field, value in FIELDS.items()})
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    y = [np.ones((6, tensor.shape[-1])) for tensor in model.outputs]
    model.train_on_batch(x, y)
    return model, capture(model), x, y


MOVES = {
    "InsertLayer": (InsertLayer(L.ReLU(name="z"), after="a"), {"a": "z"}),
    "DeepenLayer": (DeepenLayer("a"), {"a": "a_1"}),
    "DeleteLayer": (DeleteLayer("n"), {"n": "c"}),
    "FoldBatchNorm": (FoldBatchNorm(), {"n": "c"}),
    "RenameLayer": (RenameLayer("a", "q_1"), {"a": "q_1"}),
    "UnshareLayer": (UnshareLayer("s", calls=[2]), {"s": "s_1"}),
    "ReplaceLayer": (ReplaceLayer("s", L.Dense(5, name="w"), calls=[2]), {"s": "w"}),
    "a sum that loses its other term": (DeleteChannels("q", [0, 1]), {"t": "r"}),
    "two at once": (Plan.at_once(RenameLayer("a", "n"), RenameLayer("n", "a")), {"a": "n", "n": "a"}),
}


@pytest.mark.keras
@pytest.mark.parametrize("edit, names", MOVES.values(), ids=MOVES)
def test_losses_follow_a_renamed_output(trained, edit, names):
    _, before, _, _ = trained
    after = edit(before)
    outputs = [name for name, _, _ in triples(after.config["output_layers"])]
    assert outputs == [names.get(name, name) for name in ("a", "s", "n", "t")]
    for field in BY_OUTPUT:
        old, new = before.record["compile_config"][field], after.record["compile_config"][field]
        assert new == {names.get(name, name): value for name, value in old.items()}
    assert {owner for owner in after.training.slots if owner} <= {owner for owner in before.training.slots if owner} | {
        (names.get("a", "a"), 0), (names.get("a", "a"), 1), ("s_1", 0), ("s_1", 1)
    }  # fmt: skip


def evaluated(model, x, y):
    return model.evaluate(x, y, sample_weight=[np.arange(6.0)] * 4, verbose=0, return_dict=True)


@pytest.mark.keras
def test_training_continues_with_the_same_losses(trained):
    model, snapshot, x, y = trained
    edit = Plan(DeepenLayer("a"), UnshareLayer("s", calls=[2]), RenameLayer("t", "total"), FoldBatchNorm())
    made = rebuild(edit(snapshot))
    assert made.output_names == ["a_1", "s_1", "c", "total"]
    expected, found = evaluated(model, x, y), evaluated(made, x, y)
    names = {"a_": "a_1_", "s_": "s_1_", "n_": "c_", "t_": "total_", "lo": "lo"}
    assert found == pytest.approx({names[key[:2]] + key[2:]: value for key, value in expected.items()}, rel=1e-4)
    assert np.isfinite(made.train_on_batch(x, y)).all()


@pytest.mark.keras
def test_two_outputs_of_one_name_have_a_list_of_losses(trained):
    x = keras.Input((4,))
    h = L.Dense(3, name="h")(x)
    model = keras.Model(x, [L.Dropout(0.5, name="a")(h), L.ReLU(name="b")(h)])
    model.compile("sgd", {"a": "mse", "b": "mae"}, {"a": 0.5, "b": 2.0}, {"b": ["mse"]}, run_eagerly=True)
    after = Plan.at_once(DeleteLayer("a"), DeleteLayer("b"))(capture(model))
    compiled = after.record["compile_config"]
    assert [compiled[field] for field in BY_OUTPUT[:3]] == [["mse", "mae"], [0.5, 2.0], [None, ["mse"]]]
    made, data = rebuild(after), np.ones((2, 4), "float32")
    h = np.asarray(made(data)[0])
    loss = made.evaluate(data, [h + 1, h + 3], verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(0.5 * 1 + 2 * 3, rel=1e-5)


def test_losses_of_renamed_outputs():
    """One name becomes two; values that agree stay under one name; losses become a list together with their weights."""
    loss = {"s": "mae", "a": "mse"}
    assert renamed_fields({"loss": loss}, ["s", "s", "a"], ["s", "w", "a"]) == {
        "loss": {"s": "mae", "w": "mae", "a": "mse"}
    }
    same = {"loss": {"a": "mse", "b": "mse"}, "loss_weights": {"a": 1.0, "b": 2.0}, "metrics": {"a": ["mae"]}}
    assert renamed_fields(same, ["a", "b"], ["z", "z"]) == {
        "loss": ["mse", "mse"], "loss_weights": [1.0, 2.0], "metrics": [["mae"], None],
    }  # fmt: skip
    assert renamed_fields({"loss": {"a": "mse", "b": "mse"}}, ["a", "b"], ["z", "z"]) == {"loss": {"z": "mse"}}
    whole = {"class_name": "MeanSquaredError", "config": {}}
    assert renamed_fields({"loss": whole, "metrics": [["mae"], None], "loss_weights": None}, ["a"], ["z"]) == {}


@pytest.mark.keras
def test_losses_of_a_dict_of_outputs_keep_its_keys(trained):
    _, before, _, _ = trained
    config = {**before.config, "output_layers": {"a": ["a", 0, 0], "k": ["n", 0, 0]}}
    compiled = {**before.record["compile_config"], "loss": {"a": "mse", "k": "mae"}}
    inside = Snapshot({**before.record, "config": config, "compile_config": compiled}, before.weights)
    after = RenameLayer("a", "z")(inside)
    assert after.config["output_layers"]["a"] == ["z", 0, 0]
    assert after.record["compile_config"] == compiled
