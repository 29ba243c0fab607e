"""`sensitivity` on live models: against models that are really cut, with a cache and with workers."""

import json
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import (
    BadValue,
    OtherModel,
    Scores,
    capture,
    importance,
    load_sensitivity,
    prune,
    sensitivity,
)
from kerassurgery_fn.pruning.group_limits import ByGroup

pytestmark = pytest.mark.keras
X = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype("float32")


def net(seed=0):
    """A convolution with batch normalisation, a residual addition, attention, a norm over channels, dense layers."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((6, 6, 3), name="x")
    y = layers.BatchNormalization(name="bn")(layers.Conv2D(8, 3, name="conv")(x))
    y = layers.Add(name="add")([y, layers.Conv2D(8, 1, activation="relu", name="side")(y)])
    y = layers.Reshape((16, 8), name="tokens")(y)
    y = layers.MultiHeadAttention(2, 4, name="attention")(y, y)
    y = layers.Dense(6, activation="sigmoid", name="hidden")(layers.Flatten(name="flat")(y))
    y = layers.LayerNormalization(name="norm")(layers.Dense(5, name="mixed")(y))
    model = keras.Model(x, layers.Dense(3, name="top")(y), name="net")
    rng = np.random.default_rng(seed)
    model.set_weights([np.abs(array) * rng.uniform(0.5, 1.5, array.shape) for array in model.get_weights()])
    return model


def outputs(model):
    """A number that depends on all outputs: larger is no better, but it tells models apart."""
    return float(np.asarray(model(X))[:, :2].sum())


@pytest.fixture(scope="module")
def model():
    return net()


@pytest.fixture(scope="module")
def found(model):
    return sensitivity(model, outputs, ratios=(0.3, 0.6), inexact=True, progress=False)


def test_each_metric_is_that_of_the_cut_model(model, found):
    """The masked model computes what the model computes that is really cut, for each group."""
    snapshot, metrics = capture(model), set()
    assert found.baseline == pytest.approx(outputs(model), rel=1e-6)
    assert {"conv", "attention", "attention:key_dim", "hidden", "mixed"} <= {*found.metrics}
    for name, row in found.metrics.items():
        if name == "mixed":  # behind it stands a norm over channels
            continue
        for ratio, metric in row.items():
            if ratio * len(importance(snapshot)[name]) < 1:
                assert metric == found.baseline
                continue
            cut = prune(model, ratios=ByGroup({name: ratio}))
            assert metric == pytest.approx(outputs(cut.model), rel=1e-5), name
            metrics.add(round(metric, 6))
    assert len(metrics) > 6  # cuts differ, so that a wrong one would be seen


def test_an_inexact_cut_is_applied(model, found):
    with pytest.warns(UserWarning, match="norm"):
        cut = prune(model, ratios=ByGroup({"mixed": 0.6}), inexact=True)
    assert found.metrics["mixed"][0.6] == pytest.approx(outputs(cut.model), rel=1e-5)
    assert "mixed" not in sensitivity(model, outputs, ratios=0.5, ignore=["conv", "attention"]).metrics


def test_the_model_is_not_changed(model, found):
    assert capture(model) == capture(net())


def test_scores_and_options_and_ignored_layers(model):
    scores = importance(model, "random", seed=3)
    by_name = sensitivity(model, outputs, ratios=0.5, by="random", seed=3, ignore=["attention", "side"])
    assert by_name == sensitivity(model, outputs, ratios=0.5, by=scores, ignore=["attention", "side"])
    assert [*by_name.metrics] == ["hidden"]  # the convolutions are coupled with what is ignored


def test_threads_give_the_same(model):
    options = {"ratios": (0.3, 0.6), "ignore": "attention"}
    alone = sensitivity(model, outputs, **options)
    with ThreadPoolExecutor(2) as executor:
        assert sensitivity(model, outputs, executor=executor, **options) == alone


def test_a_stopped_call_resumes_from_its_cache(model, tmp_path):
    path, calls = tmp_path / "cache.json", []

    def stopped(live, after=3):
        if len(calls) == after:
            raise KeyboardInterrupt
        calls.append(outputs(live))
        return calls[-1]

    options = {"ratios": (0.4, 0.8), "ignore": "attention", "cache": path}
    with pytest.raises(KeyboardInterrupt):
        sensitivity(model, stopped, **options)
    assert load_sensitivity(path).baseline == pytest.approx(outputs(model))
    whole = sensitivity(model, lambda live: stopped(live, after=99), **options)
    assert whole == sensitivity(model, outputs, ratios=(0.4, 0.8), ignore="attention")
    assert len(calls) == 1 + sum(map(len, whole.metrics.values()))
    assert sensitivity(model, len, **options) == whole  # nothing is evaluated again
    more = sensitivity(model, lambda live: stopped(live, after=99), **options | {"ratios": (0.4, 0.6)})
    assert more.tried == [0.4, 0.6]
    assert len(calls) == 1 + sum(map(len, whole.metrics.values())) + len(more.metrics)


def test_a_cache_of_something_else_is_refused(model, tmp_path):
    path = tmp_path / "cache.json"
    sensitivity(model, outputs, ratios=0.5, ignore=["attention", "side"], cache=path)
    with pytest.raises(OtherModel, match=r"the cache '.*' is of another model than 'net': layer 'conv' has other"):
        sensitivity(net(1), outputs, ratios=0.5, cache=path)
    with pytest.raises(BadValue, match="is of other settings: by='magnitude' instead of 'fpgm'"):
        sensitivity(model, outputs, ratios=0.5, cache=path, by="fpgm")
    data = json.loads(path.read_text())
    data.pop("model")
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="does not say of which model and settings it is"):
        sensitivity(model, outputs, ratios=0.5, cache=path)


@pytest.mark.parametrize("options, words", [
    ({"ratios": (0.1, 1.0)}, "a ratio is the fraction of channels to remove"),
    ({"ratios": ()}, r"ratios: expected ratios between 0 and 1, such as \(0.1"),
    ({"ratios": 0}, "ratios: expected ratios between 0 and 1"),
    ({"evaluate": lambda model: "good"}, "evaluate must return a number"),
    ({"evaluate": 0.5}, "evaluate must be a function"),
    ({"by": Scores({})}, "no group of 'net' can be cut"),
    ({"evaluate": lambda model: float("nan")}, "the metric of the whole model is NaN"),
    ({"seed": 1}, r"sensitivity\(\) has no argument 'seed'"),
    ({"normalization": "max"}, "did you mean 'normalisation'"),
])  # fmt: skip
def test_bad_input_is_refused(options, words, model):
    with pytest.raises(BadValue, match=words):
        sensitivity(model, **{"evaluate": outputs, "ratios": 0.5, **options})


def test_progress_is_a_step_for_each_cut(model):
    totals = []

    def progress(steps, total):
        items = list(steps)
        totals.append((total, len(items)))
        return items

    found = sensitivity(capture(model), outputs, ratios=0.5, ignore="attention", progress=progress)
    assert totals == [(1 + len(found.metrics),) * 2]
