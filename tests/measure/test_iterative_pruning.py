"""`prune_iteratively`: rounds, fine-tuning, checkpoints, and a killed run that goes on."""

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from helpers.pruned_models import filled, residual, vgg
from kerassurgery_fn import (
    BadDocument,
    BadValue,
    BudgetMissed,
    OtherModel,
    Plan,
    Scores,
    UnreachableBudget,
    capture,
    cost,
    load_plan,
    prune,
    prune_iteratively,
    read_model,
)

keras_only = pytest.mark.keras


# --- snapshots, without fine-tuning


def test_each_round_is_a_cut_of_the_model_of_the_round_before():
    snapshot = filled(residual(12, 10))
    result = prune_iteratively(snapshot, macs=0.4, rounds=3, schedule="linear", scope="local")
    expected = snapshot
    for fraction in (0.8, 0.6, 0.4):
        expected = prune(expected, macs=int(fraction * cost(snapshot).macs + 1e-6), scope="local").model
    assert result.model == expected == result.plan(snapshot)
    assert isinstance(result.plan, Plan)
    assert [each.number for each in result.rounds] == [0, 1, 2, 3]
    assert [each.cost["macs"] for each in result.rounds][-1] == cost(expected).macs <= 0.4 * cost(snapshot).macs


def test_the_plan_replays_on_a_model_with_other_weights():
    result = prune_iteratively(filled(vgg(12, 16)), channels=0.5, rounds=3)
    other = result.plan(filled(vgg(12, 16), seed=1))
    assert cost(other) == cost(result.model)
    assert other != result.model


def test_scores_are_taken_anew_in_each_round():
    seen = []

    def first_channels(group):
        seen.append((group.name, len(group)))
        return np.arange(len(group))

    prune_iteratively(filled(vgg(12, 16)), by=first_channels, ratios=0.5, rounds=2, schedule="linear")
    assert seen == [("conv_0", 12), ("conv_1", 16), ("conv_0", 9), ("conv_1", 12)]


def test_a_result_prints_as_a_table_of_rounds():
    result = prune_iteratively(filled(vgg(12, 16)), ratios={"conv_1": 0.5}, rounds=2, schedule="linear")
    lines = [line.split() for line in repr(result).splitlines()]
    assert lines[0] == ["pruned", "in", "rounds"]
    assert lines[1] == ["before", "round", "1", "round", "2", "left"]
    assert [line[0] for line in lines[2:]] == ["parameters", "MACs", "bytes", "conv_1"]
    assert lines[-1] == ["conv_1", "16", "12", "8", "50.0", "%"]


def test_blocks_are_deleted_in_rounds():
    snapshot = filled(residual(8, 8))
    result = prune_iteratively(snapshot, macs=0.3, rounds=2, schedule="linear", depth="only")
    for each, share in zip(result.rounds, (1, 0.65, 0.3), strict=True):
        assert each.cost["macs"] <= share * cost(snapshot).macs
    assert [each.widths["a_1"] + each.widths["b_1"] for each in result.rounds] == [16, 8, 0]
    assert result.model == result.plan(snapshot)
    with pytest.raises(BadValue, match="depth: a fraction of the blocks is deleted at once"):
        prune_iteratively(snapshot, macs=0.3, depth=0.5)


def test_one_shot_is_one_round():
    snapshot = filled(vgg(12, 16))
    result = prune_iteratively(snapshot, macs=0.5, schedule="one_shot")
    assert len(result.rounds) == 2
    assert result.model == prune(snapshot, macs=0.5).model


WITHOUT_KERAS = """
import sys
sys.path.insert(0, "tests")
from helpers.pruned_models import filled, vgg
from kerassurgery_fn import prune_iteratively
prune_iteratively(filled(vgg(12, 16)), macs=0.5, folder=sys.argv[1])
sys.exit("keras" in sys.modules or "tensorflow" in sys.modules)
"""


def test_a_snapshot_is_pruned_without_keras(tmp_path):
    assert subprocess.run([sys.executable, "-c", WITHOUT_KERAS, str(tmp_path)], check=False).returncode == 0


@pytest.mark.parametrize("options, error, words", [
    ({}, BadValue, "nothing would be cut: give a budget"),
    ({"macs": 0.0001}, UnreachableBudget, "cannot be reached for 'vgg'"),
    ({"macs": 0.5, "tolerance": 0.1}, BadValue, "the metric is what evaluate= gives, and there is none"),
    ({"macs": 0.5, "tolerance": -1, "evaluate": len}, BadValue, "tolerance: expected how far the metric may fall"),
    ({"macs": 0.5, "by": Scores({"conv_0": [1.0]})}, BadValue, "each round scores another model"),
    ({"macs": 0.5, "statistics": {}}, BadValue, "statistics: each round measures another model; give by="),
    ({"macs": 0.5, "depth": 0.5}, BadValue, "depth: a fraction of the blocks is deleted at once"),
    ({"macs": 0.5, "schedule": "cubik"}, BadValue, "no schedule 'cubik'; did you mean 'cubic'"),
    ({"macs": 0.5, "rounds": 0}, BadValue, "rounds must be a positive integer"),
    ({"macs": 0.5, "fine_tune": 3}, BadValue, "fine_tune must be a function"),
    ({"macs": 0.5, "scop": "local"}, BadValue, r"prune_iteratively\(\) has no argument 'scop'.*did you mean 'scope'"),
    ({"macs": 0.5, "toleranc": 1}, BadValue, r"prune_iteratively\(\) has no argument 'toleranc'.*'tolerance'"),
    ({"ratios": 0.6, "max_ratio": 0.5}, BadValue, "more than its max_ratio of 0.5"),
])  # fmt: skip
def test_bad_input_is_refused_before_the_first_round(options, error, words):
    with pytest.raises(error, match=words):
        prune_iteratively(filled(vgg(12, 16)), **options)


# --- models, with functions of the caller


def net():
    """A small classifier with a dropout and a compiled optimizer: the same one at each call."""
    keras.utils.set_random_seed(0)
    parts = [
        keras.Input((5, 5, 2), name="x"), layers.Conv2D(12, 3, name="conv"), layers.BatchNormalization(name="bn"),
        layers.ReLU(name="relu"), layers.Flatten(name="flat"), layers.Dropout(0.3, name="dropout"),
        layers.Dense(10, activation="relu", name="hidden"), layers.Dense(3, name="top"),
    ]  # fmt: skip
    model = keras.Sequential(parts, name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="loss")
    model.compile(keras.optimizers.Adam(name="adam"), loss, run_eagerly=True)  # a few steps are not worth compiling
    return model


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 5, 5, 2)).astype("float32"), RNG.integers(0, 3, 32)
SETTINGS = {"macs": 0.4, "rounds": 3, "schedule": "linear"}


def train(model):
    keras.utils.set_random_seed(model.count_params())
    model.fit(X, Y, batch_size=16, verbose=0)
    return model


def minus_loss(model):
    return -model.evaluate(X, Y, verbose=0)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    return prune_iteratively(net(), fine_tune=train, evaluate=minus_loss, folder=folder, **SETTINGS), folder


@keras_only
def test_a_killed_run_goes_on_to_the_same_result(uninterrupted, tmp_path):
    tuned = []

    def killed_in_round_3(model):
        if len(tuned) == 2:
            raise KeyboardInterrupt
        tuned.append(model)
        return train(model)

    with pytest.raises(KeyboardInterrupt):
        prune_iteratively(net(), fine_tune=killed_in_round_3, evaluate=minus_loss, folder=tmp_path, **SETTINGS)
    (tmp_path / "round_3").mkdir()
    (tmp_path / "round_3" / "model.keras").write_bytes(b"a round that was not finished")
    keras.utils.set_random_seed(1)  # another process has another random state
    resumed = prune_iteratively(net(), fine_tune=counted(tuned), evaluate=minus_loss, folder=tmp_path,
                                **SETTINGS)  # fmt: skip
    expected, _ = uninterrupted
    assert len(tuned) == 3
    assert capture(resumed.model) == capture(expected.model)
    assert capture(resumed.model).training is not None
    assert (resumed.plan, resumed.rounds, resumed.kept) == (expected.plan, expected.rounds, expected.kept)


def counted(tuned):
    def tune(model):
        tuned.append(model)
        return train(model)

    return tune


@keras_only
def test_blocks_by_their_influence_in_rounds():
    keras.utils.set_random_seed(0)
    x = y = keras.Input((6,), name="x")
    y = layers.Dense(8, name="stem")(y)
    for number in range(4):
        y = layers.Add(name=f"add_{number}")([y, layers.Dense(8, name=f"d_{number}")(y)])
    model = keras.Model(x, layers.Dense(2, name="top")(y), name="deep")
    data = np.ones((8, 6), "float32")
    result = prune_iteratively(model, by="block_influence", data=data, depth="only", macs=0.6, rounds=2, progress=False)
    assert sorted(result.rounds[-1].widths[f"d_{number}"] for number in range(4)) == [0, 0, 8, 8]


@keras_only
@pytest.mark.slow
def test_criteria_read_data_in_each_round():
    batches = []

    def data():
        batches.append(len(batches))
        yield X, Y

    class Data:
        def __iter__(self):
            return data()

    result = prune_iteratively(net(), by="taylor", data=Data(), fine_tune=train, ratios=0.5, rounds=2, progress=False)
    assert len(batches) == 2
    assert result.rounds[-1].widths == {"conv": 6, "hidden": 5, "top": 3}


@keras_only
def test_a_finished_run_trains_nothing(uninterrupted):
    expected, folder = uninterrupted
    again = prune_iteratively(net(), fine_tune=len, evaluate=len, folder=folder, **SETTINGS)
    assert capture(again.model) == capture(expected.model)


@keras_only
def test_the_folder_has_the_plan_the_metrics_and_the_model_of_each_round(uninterrupted):
    result, folder = uninterrupted
    state = capture(net())
    for each in result.rounds[1:]:
        home = folder / f"round_{each.number}"
        assert json.loads((home / "metrics.json").read_text())["metric"] == each.metric
        plan, model = load_plan(home / "plan.json"), read_model(home / "model.keras")
        assert plan == each.plan
        assert cost(plan(state)) == cost(model)
        assert keras.models.load_model(home / "model.keras").name == "net"
        state = model
    assert load_plan(folder / "plan.json") == result.plan
    assert cost(result.plan(capture(net()))) == cost(state)


@keras_only
def test_fine_tuning_continues_where_the_optimizer_stopped(uninterrupted):
    result, _ = uninterrupted
    assert int(result.model.optimizer.iterations) == 3 * 2


@keras_only
def test_another_model_and_other_settings_are_refused_by_name(uninterrupted):
    _, folder = uninterrupted
    other = net()
    other.get_layer("top").bias.assign([1, 2, 3])
    with pytest.raises(OtherModel, match=r"is of another model than 'net': layer 'top' has other weights\. Give"):
        prune_iteratively(other, fine_tune=train, folder=folder, **SETTINGS)
    with pytest.raises(BadValue, match=r"is of other settings: rounds=3 instead of 4, macs=0.4 instead of 0.5\. Give"):
        prune_iteratively(net(), fine_tune=train, folder=folder, **SETTINGS | {"rounds": 4, "macs": 0.5})
    with pytest.raises(BadValue, match="other settings: by='magnitude' instead of 'fpgm'"):
        prune_iteratively(net(), fine_tune=train, folder=folder, by="fpgm", **SETTINGS)


DAMAGED = {
    '{"format": "something else"}': "expected a run of iterative pruning",
    '{"format": "kerassurgery_fn pruning run", "version": 2}': "this library reads version 1 of runs, not 2",
    '{"format": "kerassurgery_fn pruning run", "version": 1, "model": 3}': "does not say of which model and settings",
    "{": "is not valid JSON",
}


@keras_only
def test_a_damaged_folder_is_refused(uninterrupted, tmp_path):
    for text, words in DAMAGED.items():
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(BadDocument, match=words):
            prune_iteratively(net(), folder=tmp_path, **SETTINGS)


@keras_only
def test_a_damaged_round_is_refused_with_the_way_out(tmp_path):
    prune_iteratively(net(), folder=tmp_path, **SETTINGS)
    last = max(tmp_path.glob("round_*"))
    shutil.rmtree(tmp_path / "round_1")
    with pytest.raises(
        BadDocument,
        match=rf"is incomplete: the plans of rounds .* do not lead to the model of {last.name.replace('_', ' ')}",
    ):
        prune_iteratively(net(), folder=tmp_path, **SETTINGS)
    (last / "metrics.json").write_text("{")
    with pytest.raises(
        BadDocument, match=rf"To do .* again, delete the folder {last.name} and those of all later rounds"
    ):
        prune_iteratively(net(), folder=tmp_path, **SETTINGS)


def falling(*metrics):
    remaining = list(metrics)
    return lambda model: remaining.pop(0)


@keras_only
def test_rounds_end_when_the_metric_falls(tmp_path):
    with pytest.warns(BudgetMissed, match=r"fell from 0.9 to 0.8 in round 2, by more than the tolerance of 0.05"):
        result = prune_iteratively(net(), evaluate=falling(0.9, 0.86, 0.8), tolerance=0.05, folder=tmp_path, **SETTINGS)
    assert (result.kept, [each.metric for each in result.rounds]) == (2, [0.9, 0.86, 0.8])
    assert cost(capture(result.model)).macs == result.rounds[1].cost["macs"]
    assert result.plan(capture(net())) == capture(result.model)
    assert "round 2 (dropped)" in repr(result)
    # A larger tolerance goes on from the round that was dropped.
    more = prune_iteratively(net(), evaluate=falling(0.85), tolerance=0.2, folder=tmp_path, **SETTINGS)
    assert (more.kept, more.rounds[-1].metric) == (4, 0.85)


@keras_only
def test_a_first_round_that_falls_gives_the_first_model():
    with pytest.warns(BudgetMissed, match="fell from 0.9 to nan in round 1"):
        result = prune_iteratively(net(), evaluate=falling(0.9, float("nan")), tolerance=1, **SETTINGS)
    assert capture(result.model) == capture(net())
    assert (result.plan, result.kept) == (Plan(), 1)


@keras_only
@pytest.mark.parametrize("functions, error, words", [
    ({"fine_tune": lambda model: None}, BadValue, "must return the trained Keras model, and it returned None: end it"),
    ({"fine_tune": lambda model: net()}, OtherModel, "returned another one: layer 'conv' has 12 filters instead of"),
    ({"evaluate": lambda model: [0.1, 0.9]}, BadValue, "evaluate must return a number, higher is better, and it"),
    ({"evaluate": lambda model: float("nan")}, BadValue, "the metric of the first model is NaN"),
])  # fmt: skip
def test_functions_that_return_something_else(functions, error, words):
    with pytest.raises(error, match=words):
        prune_iteratively(net(), **functions, **SETTINGS)
