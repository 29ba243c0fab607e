"""Layers inside layers: models as layers and models inside TimeDistributed, by path and by bare name."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.film_models import FRAMES, convnet, frames
from kerassurgery_fn import DeleteChannels, SurgeryError, analyse, capture, cost, diff, groups, patch, rebuild
from kerassurgery_fn.errors import AmbiguousLayer, NoChannels, NotAGraph, UnknownLayer
from kerassurgery_fn.graph import find_layer, is_model, wrapped_model
from kerassurgery_fn.report.diagram import diagram_of, lost_channels_by_layer

pytestmark = pytest.mark.keras


def backbone(name="backbone"):
    x = keras.Input((6, 6, 3))
    stem = keras.Sequential([keras.Input((6, 6, 3)), L.Conv2D(5, 2, name="conv_0")], name="stem")
    y = L.Conv2D(6, 2, name="conv_1")(stem(x))
    return keras.Model(x, L.Conv2D(7, 2, name="conv_2")(y), name=name)


@pytest.fixture(scope="module")
def model():
    """A backbone in a model in a model, another in a Sequential inside TimeDistributed, and a layer on top."""
    x, film = keras.Input((6, 6, 3)), keras.Input((2, 6, 6, 3))
    inner = keras.Model(x, L.Flatten()(backbone()(x)), name="encoder")
    layers = [keras.Input((6, 6, 3)), backbone("other"), L.GlobalAveragePooling2D(), L.Dense(5, name="conv_3")]
    frames = L.TimeDistributed(keras.Sequential(layers, name="a_name_that_is_in_no_path"), name="frames")
    y = L.Concatenate()([inner(x), L.LSTM(4, name="lstm")(frames(film))])
    return keras.Model([x, film], L.Dense(3, name="top")(y))


PATHS = {
    "encoder/backbone/conv_1": "encoder/backbone/conv_1",
    "encoder/backbone/stem/conv_0": "encoder/backbone/stem/conv_0",
    "backbone/conv_2": "encoder/backbone/conv_2",
    "other/stem/conv_0": "frames/other/stem/conv_0",
    "frames/conv_3": "frames/conv_3",
    "conv_3": "frames/conv_3",
    "lstm": "lstm",
}


@pytest.mark.parametrize("name", PATHS)
def test_a_layer_is_found_by_its_path_or_its_unambiguous_name(model, name):
    snapshot = capture(model)
    path = find_layer(analyse(snapshot).graph, name)
    assert path == PATHS[name]
    smaller = DeleteChannels(name, [0, 2])(snapshot)
    assert smaller.weights[path][-1].shape[0] < snapshot.weights[path][-1].shape[0]
    assert smaller == DeleteChannels(path, [0, 2])(snapshot)
    assert capture(rebuild(smaller)) == smaller


def test_an_ambiguous_name_is_refused_with_all_paths(model):
    with pytest.raises(AmbiguousLayer, match=r"frames/other/conv_1, encoder/backbone/conv_1; give one of these paths"):
        DeleteChannels("conv_1", [0])(capture(model))


def test_an_unknown_name_is_refused_with_a_suggestion(model):
    with pytest.raises(UnknownLayer, match="did you mean 'encoder/backbone/conv_"):
        DeleteChannels("encoder/backbone/conv_7", [0])(capture(model))
    with pytest.raises(UnknownLayer):
        DeleteChannels("a_name_that_is_in_no_path/conv_3", [0])(capture(model))


@pytest.mark.parametrize("name", ["encoder", "frames", "backbone"])
def test_a_nested_model_has_no_channels_as_a_layer(model, name):
    with pytest.raises(SurgeryError) as error:
        DeleteChannels(name, [0])(capture(model))
    assert isinstance(error.value, (NoChannels, UnknownLayer))


def test_weights_and_groups_have_paths(model):
    snapshot = capture(model)
    assert set(snapshot.weights) == {
        "encoder/backbone/stem/conv_0", "encoder/backbone/conv_1", "encoder/backbone/conv_2", "frames/other/conv_1",
        "frames/other/stem/conv_0", "frames/other/conv_2", "frames/conv_3", "lstm", "top",
    }  # fmt: skip
    assert "frames/other/conv_2" in str(groups(snapshot))
    assert sum(array.size for arrays in snapshot.weights.values() for array in arrays) == model.count_params()


def test_a_layer_called_on_different_tensors_is_cut_for_all_of_them():
    a, b = keras.Input((4,)), keras.Input((6, 4))
    shared = L.Dense(8, name="shared")
    y = L.Concatenate()([shared(a), L.GlobalMaxPooling1D()(shared(b))])
    snapshot = DeleteChannels("shared", [1, 5])(capture(keras.Model([a, b], L.Dense(3, name="top")(y))))
    assert [array.shape for array in snapshot.weights["top"]] == [(12, 3), (3,)]


# --- inside TimeDistributed


def test_the_cost_of_a_model_distributed_over_time_steps():
    model, inner = frames(convnet(), (5, 6, 6, 2)), convnet()
    whole, step = cost(capture(model)), cost(capture(inner))
    assert whole.parameters == model.count_params()
    assert sum(row.macs for row in whole.layers if row.path.startswith("frames/")) == 5 * step.macs
    twice = cost(capture(FRAMES["twice"]()))
    assert sum(row.macs for row in twice.layers if "/" in row.path) == 2 * 3 * step.macs


def test_an_opaque_layer_in_a_nested_model_pins_only_its_inputs():
    x = keras.Input((6, 6, 4))
    y = L.Lambda(lambda z: z[..., ::-1], name="mirror")(L.Conv2D(5, 2, name="held")(x))
    inner = keras.Model(x, L.Flatten()(L.Conv2D(6, 2, name="free")(y)))
    flow = analyse(capture(frames(inner)))
    pinned = flow.solution.pinned()
    assert set(flow.opaque) == {"frames/mirror"}
    assert pinned[flow.solution.resolve(flow.producer("held").axis)].all()
    assert not pinned[flow.solution.resolve(flow.producer("free").axis)].any()


def test_a_distributed_model_called_on_two_input_sizes():
    x = keras.Input((None, 4))
    shared = L.TimeDistributed(keras.Model(x, L.Dense(5, name="inner")(x)), name="frames")
    a, b = keras.Input((3, 7, 2)), keras.Input((2, 6, 2))
    y = L.Concatenate()([L.Flatten()(shared(L.Dense(4, name=name)(z))) for name, z in (("a", a), ("b", b))])
    snapshot = capture(keras.Model([a, b], L.Dense(3)(y)))
    smaller = DeleteChannels({"inner": [0], "a": [1]})(snapshot)
    assert [array.shape for array in smaller.weights["frames/inner"]] == [(3, 4), (4,)]
    assert smaller.weights["b"][0].shape == (2, 3)


def test_the_optimizer_state_of_a_nested_model_is_cut():
    model = frames(convnet())
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.ones((2, 3, 6, 6, 2), "float32"), np.ones((2, 3), "float32"), verbose=0)
    snapshot = DeleteChannels("frames/conv_1", [0, 3])(capture(model))
    slots = {slot: value.shape for slot, value in zip(snapshot.training.slots, snapshot.training.values, strict=True)}
    assert slots["frames/conv_1", 0] == snapshot.weights["frames/conv_1"][0].shape == (3, 3, 4, 4)
    rebuilt = rebuild(snapshot)
    assert capture(rebuilt) == snapshot
    rebuilt.fit(np.ones((2, 3, 6, 6, 2), "float32"), np.ones((2, 3), "float32"), verbose=0)


# --- what is a model and what only looks like one


def test_a_preprocessing_pipeline_is_one_layer():
    x = keras.Input((6, 6, 3))
    layers = [L.Rescaling(0.5), L.Pipeline([L.RandomFlip(), L.Rescaling(2.0)], name="pipe"), L.Conv2D(4, 2)]
    y = x
    for layer in layers:
        y = layer(y)
    record = capture(keras.Model(x, y)).config["layers"][2]
    assert record["class_name"] == "Pipeline"
    assert not is_model(record)
    assert wrapped_model(record) is None


@keras.saving.register_keras_serializable("tests")
class Doubling(keras.Model):
    """A functional model that computes something else than its graph."""

    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs)


@pytest.mark.parametrize("wrap", [lambda layer: layer, L.TimeDistributed])
def test_a_nested_model_that_overrides_call_is_refused(wrap):
    x = keras.Input((5, 4))
    y = keras.Input((4,) if wrap is L.TimeDistributed else (5, 4))
    inner = Doubling(y, L.Dense(3)(y), name="inner")
    with pytest.raises(NotAGraph, match=r"'inner' \(Doubling\) is Functional but overrides call"):
        capture(keras.Model(x, wrap(inner)(x)))


def test_nested_layers_in_tables_differences_and_patterns():
    before = capture(frames(convnet()))
    after = DeleteChannels("frames/*@Conv2D", [0])(before)
    widths = {path: arrays[0].shape[-1] for path, arrays in before.weights.items() if path.startswith("frames/conv")}
    assert {path: after.weights[path][0].shape[-1] + 1 for path in widths} == widths
    drawn = diagram_of(after).layers
    assert {path: drawn[path].channels + 1 for path in widths} == widths
    difference = diff(before, after)
    assert patch(before, difference) == after
    lost = lost_channels_by_layer(analyse(before), difference)
    assert {path for path in widths if lost[path] == [0]} == widths.keys()
