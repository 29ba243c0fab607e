"""`measure_latencies`: which layers are measured, with which others, and at which widths. No times are compared."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

from kerassurgery_fn import (
    BadValue,
    LatencyTable,
    SurgeryError,
    WrongShape,
    capture,
    latency,
    layer_work,
    measure_latencies,
    prune,
)
from kerassurgery_fn.measure import latency_measurement, layer_runtimes
from kerassurgery_fn.measure.layer_models import LayerModels
from kerassurgery_fn.measure.layer_runtimes import RUNTIMES, converted, random_input, runner, timed

pytestmark = pytest.mark.keras


def small(size=6):
    image = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Add(name="sum")([x, layers.Conv2D(8, 1, name="side")(x)])
    return keras.Model(image, layers.Dense(2, name="top")(layers.Flatten(name="flat")(x)))


@pytest.fixture
def by_size(monkeypatch):
    """Each model takes 10 microseconds for each of its layers."""
    monkeypatch.setattr(latency_measurement, "runner", lambda model, *_: len(model.layers))
    monkeypatch.setattr(
        latency_measurement, "timed", lambda runs, repeats: ([10.0 * n for n in runs], [1.0] * len(runs))
    )


def test_layers_are_measured_with_those_that_a_runtime_computes_together(by_size):
    model = small()
    table = measure_latencies(model, fractions=1, progress=False)
    works = {each.path: each for each in layer_work(capture(model))}
    idle = 20.0
    alone = {path: [point[1] for point in table[each.signature]] for path, each in works.items()}
    assert alone["conv"] == [20.0 - idle]
    assert works["relu"].signature.startswith("ReLU after BatchNormalization after Conv2D: ")
    assert alone["bn"] == alone["relu"] == [10.0]
    assert alone["sum"] == [30.0 - idle]
    assert latency(capture(model), table).microseconds == 10.0 + 10.0 + 10.0


def test_a_difference_within_the_spread_counts_as_zero(by_size, monkeypatch):
    monkeypatch.setattr(latency_measurement, "timed", lambda runs, _: ([10.0 * n for n in runs], [5.0] * len(runs)))
    table = measure_latencies(small(), fractions=1, progress=False)
    assert {point[1] for name, some in table.items() if name.startswith("ReLU") for point in some} == {0.0}


def test_layers_are_measured_at_fractions_of_all_channels(by_size):
    model = small()
    table = measure_latencies(model, fractions=(0.5, 1, 0.25), progress=False)
    snapshot = capture(model)
    cut = [snapshot, *(prune(snapshot, ratios=ratio).model for ratio in (0.5, 0.75))]
    for each in [work for one in cut for work in layer_work(one)]:
        assert each.work in dict(table[each.signature])
    result = prune(model, latency=0.9, latency_table=table, closest=True)
    assert result.latencies[1] <= result.latencies[0]


def test_distinct_works_are_spaced(by_size, monkeypatch):
    monkeypatch.setattr(latency_measurement, "MOST", 2)
    table = measure_latencies(small(), fractions=(1, 0.75, 0.5), progress=False)
    assert max(len(some) for some in table.values()) == 2


def test_a_model_of_a_layer_computes_what_the_layer_computes():
    model = small()
    made = LayerModels(capture(model), None)
    calls = {path: call for (path, _), call in made.calls.items()}
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype("float32")
    part = made.model([calls["conv"], calls["bn"], calls["relu"]])
    expected = keras.Model(model.inputs, model.get_layer("relu").output)
    np.testing.assert_allclose(part([x]), expected([x]), rtol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_measures_times(runtime):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    table = measure_latencies(model, fractions=1, runtime=runtime, repeats=2, progress=False)
    assert isinstance(table, LatencyTable)
    assert latency(capture(model), table).nanoseconds >= 0


def test_layers_that_lite_fuses_are_one_operation():
    model = small()
    made = LayerModels(capture(model), None)
    calls = {path: call for (path, _), call in made.calls.items()}
    one, three = (converted(made.model(some)) for some in ([calls["conv"]], [calls[n] for n in ("conv", "bn", "relu")]))
    operations = [operations_of(content) for content in (one, three)]
    assert operations == [["CONV_2D"], ["CONV_2D"]]


def test_inputs_of_lite_are_set_by_their_names():
    """More than ten inputs of different shapes, which are not in order by name; one of them is not used."""
    inputs = [keras.Input(batch_shape=(1, width)) for width in range(1, 13)]
    run = runner(keras.Model(inputs, layers.Concatenate()([*inputs[:3], *inputs[4:]])), "litert", 1)
    run()
    interpreter = run.__self__
    (output,) = interpreter.get_output_details()
    values = [random_input(x.shape, x.dtype) for x in (*inputs[:3], *inputs[4:])]
    np.testing.assert_array_equal(interpreter.get_tensor(output["index"]), np.concatenate(values, axis=1))


def operations_of(content):
    interpreter = layer_runtimes.interpreter_class()(model_content=content)
    return [operation["op_name"] for operation in interpreter._get_ops_details()]


def test_functions_take_turns():
    seen = []
    times, spreads = timed([lambda: seen.append("a"), lambda: seen.append("b")], repeats=2)
    assert "".join(seen) == "aaabbb" + "abab"
    assert len(times) == len(spreads) == 2
    assert min(times) > 0


def test_a_variable_input_size_needs_shapes(by_size):
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 1), layers.GlobalAveragePooling2D()])
    with pytest.raises(WrongShape, match=r"variable size.*give shapes="):
        measure_latencies(model, progress=False)
    table = measure_latencies(model, shapes=(8, 8, 3), progress=False)
    assert latency(capture(model), table, (8, 8, 3)).microseconds >= 0


@pytest.mark.parametrize("options, words", [
    ({"fractions": 0}, "fractions: expected fractions of channels up to 1, such as .*, not 0"),
    ({"fractions": ()}, "expected fractions"),
    ({"fractions": (0.5, 1.5)}, "expected fractions"),
    ({"fractions": (True,)}, "expected fractions"),
    ({"runtime": "onnx"}, "runtime: no runtime 'onnx'; there are litert, keras"),
    ({"threads": 0}, "threads must be a positive integer"),
    ({"repeats": 0}, "repeats must be a positive integer"),
])  # fmt: skip
def test_bad_input_is_refused(options, words):
    with pytest.raises(BadValue, match=words):
        measure_latencies(small(), **options)


def test_without_lite_keras_measures(monkeypatch):
    monkeypatch.setattr(layer_runtimes, "interpreter_class", lambda: None)
    assert layer_runtimes.as_runtime(None) == "keras"
    with pytest.raises(SurgeryError, match="runtime='litert' is not installed: pip install ai-edge-litert"):
        measure_latencies(small(), runtime="litert")


def test_the_interpreter_of_tensorflow_is_used_where_lite_is_not_installed(monkeypatch):
    import tensorflow as tf

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert layer_runtimes.interpreter_class() is tf.lite.Interpreter


def test_a_layer_that_cannot_be_run_is_named(monkeypatch):
    def broken(*_):
        raise RuntimeError("no such operation\nmore lines")

    monkeypatch.setattr(latency_measurement, "runner", broken)
    words = r"the latency of layer 'conv' \(Conv2D\) cannot be measured by runtime='litert': no such operation$"
    with pytest.raises(SurgeryError, match=words):
        measure_latencies(small(), fractions=1, runtime="litert", progress=False)
