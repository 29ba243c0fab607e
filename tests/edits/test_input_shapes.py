"""Inputs of other shapes: as pairs of pictures, and against models that Keras builds for the other shape."""

import json

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_purity, check_rebuilt_record, compute, deviation, differences, sabotage
from helpers.laws import randomise as fill
from helpers.records import call, functional, layer, numbers
from kerassurgery_fn import DeleteLayer, InsertLayer, Plan, SetInputShape, capture, rebuild
from kerassurgery_fn.documents.plan_files import decode, encode
from kerassurgery_fn.edits.steps.interpolation import METHODS, Run, interpolated
from kerassurgery_fn.errors import BadValue, MisfitTensor, UnknownLayer, WrongShape
from kerassurgery_fn.values.snapshot import Snapshot

# --- pictures, without Keras


def image(high, wide):
    """A convolution, whose pixels become the steps of a sequence."""
    record = functional(
        "image", {"x": (None, high, wide, 2)},
        call(layer("Conv2D", "a", filters=3), "x"),
        call(layer("Reshape", "steps", target_shape=[(high - 1) * (wide - 1), 3]), "a",
             out=(None, (high - 1) * (wide - 1), 3)),
        call(layer("Dense", "b", units=2), "steps"),
        outputs="b",
    )  # fmt: skip
    return Snapshot(record, {"a": (numbers(2, 2, 2, 3), numbers(3)), "b": (numbers(3, 2), numbers(2))})


def flat(high, units=4):
    record = functional(
        "flat", {"x": (None, high, 3, 2)},
        call(layer("Flatten", "flat"), "x"), call(layer("Dense", "b", units=units), "flat"), outputs="b",
    )  # fmt: skip
    return Snapshot(record, {"b": (numbers(high * 6, units), numbers(units))})


PICTURES = {
    "another size": (SetInputShape("x", (6, 4, 2)), image(3, 3), image(6, 4)),
    "the same size": (SetInputShape("x", (3, 3, 2)), image(3, 3), image(3, 3)),
    "by a pattern": (SetInputShape("*@InputLayer", (6, 4, 2)), image(3, 3), image(6, 4)),
    "there and back": (Plan(SetInputShape("x", (6, 4, 2)), SetInputShape("x", (3, 3, 2))), image(3, 3), image(3, 3)),
    "at once with another": (
        Plan.at_once(SetInputShape("x", (6, 4, 2)), DeleteLayer("b", allow_shape_change=True)),
        image(3, 3), DeleteLayer("b", allow_shape_change=True)(image(6, 4)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    assert check_purity(before, edit) == after
    assert decode(json.loads(json.dumps(encode(edit)))) == edit


REFUSED = {
    "a layer": (SetInputShape("a", (3, 3, 2)), image(3, 3), UnknownLayer, r"'a' \(Conv2D\) is not an input.* 'x'"),
    "a Flatten into a Dense": (
        SetInputShape("x", (4, 3, 2)), flat(3), MisfitTensor,
        r"'b' \(Dense\) would read 24 values in place of 18.* from 'flat' \(Flatten\).*Resizing\(3, 3\)",
    ),
    "an open size": (SetInputShape("x", (None, 3, 2)), flat(3), MisfitTensor, r"'b' \(Dense\).*'flat' \(Flatten\)"),
    "other channels": (SetInputShape("x", (3, 3, 1)), image(3, 3), MisfitTensor, "'a' .*WidenChannels"),
    "another number of axes": (SetInputShape("x", (3, 2)), image(3, 3), MisfitTensor, "'a' .* tensors of 4 axes"),
    "too small": (SetInputShape("x", (1, 1, 2)), image(3, 3), MisfitTensor, "'a' .*kernel_size is larger"),
    "integers": (SetInputShape("x", dtype="int32"), image(3, 3), MisfitTensor, "'a' .*it needs floats"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_what_a_layer_cannot_take_is_refused_with_a_reason(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


@pytest.mark.parametrize("values, error, words", [
    ({}, BadValue, "give shape=, batch_shape= or dtype="),
    ({"shape": (3,), "batch_shape": (1, 3)}, BadValue, "not both"),
    ({"shape": "abc"}, WrongShape, "shape must be a tuple of sizes"),
    ({"shape": (0, 3)}, WrongShape, "positive"),
    ({"dtype": "complex"}, BadValue, "no dtype 'complex'"),
    ({"shape": (3,), "resize": "linear"}, BadValue, "did you mean 'bilinear'"),
])  # fmt: skip
def test_wrong_values_are_refused_where_they_are_given(values, error, words):
    with pytest.raises(error, match=words):
        SetInputShape("x", **values)


# --- arrays


@pytest.mark.keras
@pytest.mark.parametrize("method, tolerance", [("nearest", 1e-6), ("bilinear", 1e-6), ("bicubic", 1e-3)])
@pytest.mark.parametrize("size", [(9, 4), (10, 14), (3, 3)])
def test_images_are_interpolated_as_keras_does(method, tolerance, size):
    values = np.random.default_rng(0).random((5, 7, 3)).astype("float32")
    theirs = keras.ops.image.resize(values[None], size, interpolation=method, antialias=False)[0]
    ours = interpolated(values.reshape(35, 3), 0, [Run((5, 7), size)], method).reshape(*size, 3)
    assert ours.dtype == values.dtype
    assert np.abs(ours - keras.ops.convert_to_numpy(theirs)).max() < tolerance  # TensorFlow has a table of cubics


@pytest.mark.parametrize("method", METHODS)
def test_the_same_size_and_a_constant_stay(method):
    values = np.random.default_rng(0).random((3, 12))
    assert np.allclose(interpolated(values, 1, [Run((3, 4), (3, 4))], method), values)
    assert np.allclose(interpolated(np.ones((3, 12)), 1, [Run((3, 4), (5, 2))], method), 1)


# --- against Keras


def with_size(make, size, weights):
    model = make(*size)
    model.set_weights(weights)
    return model


def convolutions(high=16, wide=16):
    i = keras.Input((high, wide, 3), name="img")
    x = L.BatchNormalization(name="norm")(L.Conv2D(6, 3, strides=2, name="conv")(i))
    x = L.Concatenate(name="both")([L.MaxPooling2D(2, padding="same", name="pool")(x), L.Conv2D(4, 1, 2, name="b")(x)])
    return keras.Model(i, L.Dense(3, name="top")(L.GlobalAveragePooling2D(name="mean")(x)), name="net")


def in_a_row(high=12, wide=12):
    return keras.Sequential(
        [keras.Input((high, wide, 3), name="img"), L.Conv2D(4, 3, name="conv"), L.GlobalMaxPooling2D(name="peak"),
         L.Dense(2, name="top")], name="row",
    )  # fmt: skip


def in_models(high=16, wide=16):
    i = keras.Input((high, wide, 3), name="inner")
    backbone = keras.Model(i, L.Conv2D(4, 3, name="c")(L.MaxPooling2D(2, name="p")(i)), name="backbone")
    x = keras.Input((high, wide, 3), name="img")
    y = backbone(L.Rescaling(0.5, name="scale")(x))
    head = keras.Sequential([keras.Input(y.shape[1:], name="h"), L.Conv2D(3, 1, name="d")], name="head")
    return keras.Model(x, L.GlobalMaxPooling2D(name="peak")(head(y)), name="outer")


def over_time(high=8, wide=8):
    i = keras.Input((high, wide, 2), name="frame")
    step = keras.Model(i, L.GlobalAveragePooling2D(name="mean")(L.Conv2D(3, 3, name="c")(i)), name="step")
    x = keras.Input((5, high, wide, 2), name="img")
    return keras.Model(x, L.LSTM(3, name="lstm")(L.TimeDistributed(step, name="steps")(x)), name="film")


def up_and_down(high=8, wide=8):
    i = keras.Input((high, wide, 3), name="img")
    x = L.Conv2D(4, 3, strides=2, padding="same", name="down")(i)
    x = L.Reshape((high * wide // 4, 4), name="lay")(x)
    x = L.Add(name="sum")([x, L.MultiHeadAttention(2, 2, name="att")(x, x)])
    x = L.Reshape((high // 2, wide // 2, 4), name="raise")(x)
    return keras.Model(i, L.Conv2DTranspose(3, 3, strides=2, padding="same", name="up")(x), name="unet")


def pyramid(high=16, wide=16):
    """As in DeepLab: the mean of an image, repeated to the size of the features, beside the features."""
    i = keras.Input((high, wide, 3), name="img")
    x = L.Conv2D(4, 3, strides=2, padding="same", name="features")(i)
    mean = L.Conv2D(3, 1, name="mixed")(L.GlobalAveragePooling2D(keepdims=True, name="mean")(x))
    mean = L.ReLU(name="relu")(L.UpSampling2D((high // 2, wide // 2), name="repeat")(mean))
    small = L.Resizing(high // 2, wide // 2, name="smaller")(i)
    both = L.Concatenate(name="both")([x, mean, small])
    y = L.Reshape((high * wide // 4, 10), name="lay")(both)
    vector = L.RepeatVector(high * wide // 4, name="again")(L.GlobalMaxPooling1D(name="peak")(y))
    return keras.Model(i, L.Dense(3, name="top")(L.Add(name="sum")([y, vector])), name="pyramid")


@pytest.mark.keras
@pytest.mark.parametrize("make", [convolutions, in_a_row, in_models, over_time, up_and_down, pyramid])
def test_the_model_is_the_one_that_keras_builds_for_the_size(make):
    model = make()
    fill(model)
    size = (24, 20)
    truth = with_size(make, size, model.get_weights())
    shape = truth.input_shape[1:]
    bigger = check_purity(capture(model), SetInputShape("img", shape))
    check_rebuilt_record(bigger)
    assert differences(bigger.record, capture(truth).record) == []
    inputs = np.random.default_rng(0).standard_normal((3, *shape)).astype("float32")
    expected = [keras.ops.convert_to_numpy(truth(inputs))]
    assert deviation(compute(bigger, inputs), expected) < 1e-5
    assert deviation(compute(sabotage(bigger), inputs), expected) > 1e-3


@pytest.mark.keras
@pytest.mark.parametrize("shape", [(None, None, 3), (None, 24, 3)])
@pytest.mark.parametrize("make", [convolutions, in_a_row, in_models])
def test_sizes_can_be_open(make, shape):
    model = make()
    fill(model)
    opened = SetInputShape("img", shape)(capture(model))
    check_rebuilt_record(opened)
    assert differences(opened.record, capture(make(*shape[:2])).record) == []
    if make is not in_models:  # in which sizes that are open stay open
        assert SetInputShape("img", model.input_shape[1:])(opened) == capture(model)


@pytest.mark.keras
def test_the_size_of_the_batch_and_the_dtype():
    snapshot = capture(in_models())
    for edit in [SetInputShape("img", batch_shape=(4, 16, 16, 3)), SetInputShape("img", dtype="uint8")]:
        check_rebuilt_record(edit(snapshot))
    assert rebuild(SetInputShape("img", batch_shape=(4, 16, 16, 3))(snapshot)).input_shape[0] == 4


@pytest.mark.keras
def test_the_way_out_of_a_refusal_works():
    i = keras.Input((8, 8, 3), name="img")
    x = L.Dropout(0.1, name="drop")(L.Flatten(name="flat")(L.Conv2D(4, 3, name="c")(i)))
    snapshot = capture(keras.Model(i, L.Dense(3, name="d")(x)))
    with pytest.raises(MisfitTensor, match=r"'flat' \(Flatten\).*InsertLayer\(keras.layers.Resizing\(6, 6\), before"):
        SetInputShape("img", (12, 12, 3))(snapshot)
    plan = Plan(InsertLayer(L.Resizing(6, 6), before="flat"), SetInputShape("img", (12, 12, 3)))
    check_rebuilt_record(plan(snapshot))


@pytest.mark.keras
def test_a_reshape_of_several_open_sizes_is_refused():
    i = keras.Input((6, 4), name="img")
    snapshot = capture(keras.Model(i, L.Dense(2)(keras.ops.reshape(i, (-1, 6, 1, 4)))))
    check_rebuilt_record(SetInputShape("img", (9, 4))(snapshot))
    with pytest.raises(MisfitTensor, match=r"newshape \[-1, -1, 1, 4\] has several unknown sizes"):
        SetInputShape("img", (None, 4))(snapshot)


@pytest.mark.keras
def test_a_shared_model_is_called_on_one_shape():
    i = keras.Input((8, 8, 3))
    tower = keras.Model(i, L.GlobalMaxPooling2D()(L.Conv2D(4, 3, name="c")(i)), name="tower")
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    snapshot = capture(keras.Model([a, b], L.Subtract()([tower(a), tower(b)])))
    check_rebuilt_record(SetInputShape(["a", "b"], (12, 10, 3))(snapshot))
    with pytest.raises(MisfitTensor, match=r"'tower' would be called on .*UnshareLayer\('tower'\)"):
        SetInputShape("a", (12, 10, 3))(snapshot)


# --- values for positions


def transformer(side=12, array=False):
    """A small ViT of Keras' own layers: patches, a class token, position embeddings, a block of attention."""
    steps = (side // 2) ** 2
    i = keras.Input((side, side, 3), name="img")
    x = L.Reshape((steps, 8), name="lay")(L.Conv2D(8, 2, strides=2, name="patch")(i))
    token = L.Dense(8, name="token")(L.Reshape((1, 8), name="one")(L.GlobalAveragePooling1D(name="mean")(x)))
    x = L.Concatenate(axis=1, name="with_token")([token, x])
    if array:
        x = x + np.random.default_rng(1).standard_normal((steps + 1, 8)).astype("float32")
    else:
        x = L.EinsumDense("abc,cd->abd", (steps + 1, 8), bias_axes="bd", name="positions")(x)
    y = L.LayerNormalization(name="norm")(x)
    x = L.Add(name="sum")([x, L.MultiHeadAttention(2, 4, name="attention")(y, y)])
    return keras.Model(i, L.Dense(3, name="top")(L.GlobalAveragePooling1D(name="pool")(x)), name="vit")


@pytest.mark.keras
def test_position_embeddings_are_interpolated_when_asked():
    model = transformer()
    fill(model)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.zeros((2, 12, 12, 3)), np.zeros((2, 3)), verbose=0)
    snapshot = capture(model)
    with pytest.raises(MisfitTensor, match=r"'positions' \(EinsumDense\): its bias of shape \(37, 8\).* would be 65"):
        SetInputShape("img", (16, 16, 3))(snapshot)
    bigger = check_purity(snapshot, SetInputShape("img", (16, 16, 3), resize="bilinear"))
    assert differences(bigger.record, capture(rebuild(bigger)).record) == []
    truth = transformer(16)
    assert differences({**bigger.record, "compile_config": 0}, {**capture(truth).record, "compile_config": 0}) == []
    kernel, bias = snapshot.weights["positions"]
    grid = keras.ops.image.resize(bias[None, 1:].reshape(1, 6, 6, 8), (8, 8), antialias=False)
    new = bigger.weights["positions"][1]
    assert np.allclose(new[:1], bias[:1])
    assert np.allclose(new[1:].reshape(8, 8, 8), grid[0], atol=1e-6)
    slots = {owner[0] for owner in bigger.training.slots if owner}
    assert slots == {*snapshot.weights} - {"positions"}
    inputs = np.random.default_rng(0).standard_normal((3, 16, 16, 3)).astype("float32")
    for path, arrays in {**snapshot.weights, "positions": (kernel, new)}.items():
        truth.get_layer(path).set_weights(arrays)
    assert deviation(compute(bigger, inputs), [keras.ops.convert_to_numpy(truth(inputs))]) < 1e-5


@pytest.mark.keras
def test_arrays_that_are_added_to_positions_are_interpolated_when_asked():
    snapshot = capture(transformer(array=True))
    with pytest.raises(MisfitTensor, match=r"an array among its arguments of shape \(37, 8\).*resize="):
        SetInputShape("img", (16, 16, 3))(snapshot)
    check_rebuilt_record(SetInputShape("img", (16, 16, 3), resize="bicubic")(snapshot))


@pytest.mark.keras
def test_weights_over_an_image_are_interpolated_along_both_axes():
    i = keras.Input((4, 6, 2), name="img")
    model = keras.Model(i, L.PReLU(name="relu", alpha_initializer="random_uniform")(i))
    alpha = capture(model).weights["relu"][0]
    bigger = SetInputShape("img", (8, 9, 2), resize="bilinear")(capture(model))
    check_rebuilt_record(bigger)
    grid = keras.ops.image.resize(alpha[None], (8, 9), antialias=False)
    assert np.allclose(bigger.weights["relu"][0], grid[0], atol=1e-6)


@pytest.mark.keras
@pytest.mark.slow
def test_mobile_net_of_another_size_against_a_copy_of_its_weights():
    model = keras.applications.MobileNetV2((96, 96, 3), weights=None, alpha=0.35, classes=5)
    fill(model)
    truth = keras.applications.MobileNetV2((160, 128, 3), weights=None, alpha=0.35, classes=5)
    truth.set_weights(model.get_weights())
    bigger = SetInputShape(model.layers[0].name, (160, 128, 3))(capture(model))
    check_rebuilt_record(bigger)
    inputs = np.random.default_rng(0).standard_normal((2, 160, 128, 3)).astype("float32")
    assert deviation(compute(bigger, inputs), [keras.ops.convert_to_numpy(truth(inputs))]) < 1e-5
