"""The facts of a config, forgotten and worked out again, are those that Keras wrote."""

import inspect
from dataclasses import replace

import keras
import pytest
from keras import layers as L

from helpers.older import IS_OLDER
from kerassurgery_fn import capture
from kerassurgery_fn.analysis.call_keywords import added_kwargs, takes
from kerassurgery_fn.analysis.shapes import settled
from kerassurgery_fn.graph import graph_of, is_input, is_model, leaves, record_of
from kerassurgery_fn.rules import RULES
from kerassurgery_fn.values.frozen import get_in, set_in

pytestmark = pytest.mark.keras


def forgetful(record):
    """A layer's record without a word of what it, or any layer in it, was built for."""
    if isinstance(record, dict):
        return (
            record
            if is_model(record)
            else {key: forgetful(value) for key, value in record.items() if key != "build_config"}
        )
    return [forgetful(item) for item in record] if isinstance(record, list) else record


def remembered(snapshot):
    """The record of a model of which all facts but the specs of its inputs were forgotten, and worked out again."""
    net = graph_of(snapshot.record)
    net = replace(
        net,
        layers={key: forgetful(record) for key, record in net.layers.items()},
        changed=frozenset(net.layers),
        stated={port: spec for port, spec in net.stated.items() if is_input(net.layers[port.layer])},
    )
    facts = settled(net, snapshot.weights)
    return record_of(replace(net, layers=net.layers | facts.layers), facts.specs.__getitem__)


def one(layer, *shapes, dtype="float32"):
    """A model of one layer, which another one reads."""
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    outputs = layer(inputs[0] if len(inputs) == 1 else inputs)
    return keras.Model(inputs, [L.Identity()(each) for each in keras.tree.flatten(outputs)])


IMAGE, ROW, STEPS, VIDEO = (8, 8, 4), (6,), (6, 4), (4, 8, 8, 2)
LAYERS = {
    "Dense": lambda: one(L.Dense(3), ROW),
    "Dense on steps": lambda: one(L.Dense(3), (None, 4)),
    "EinsumDense": lambda: one(L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"), STEPS),
    "Embedding": lambda: one(L.Embedding(5, 3), (7,), dtype="int32"),
    "Conv1D": lambda: one(L.Conv1D(3, 2, padding="causal"), STEPS),
    "Conv2D": lambda: one(L.Conv2D(6, 3, strides=2, groups=2), IMAGE),
    "Conv2D of any size": lambda: one(L.Conv2D(6, 3, padding="same"), (None, None, 4)),
    "Conv2D, channels first": lambda: one(L.Conv2D(6, 3, data_format="channels_first"), IMAGE),
    "Conv3D": lambda: one(L.Conv3D(3, 2), VIDEO),
    "Conv2DTranspose": lambda: one(L.Conv2DTranspose(3, 2, strides=2), IMAGE),
    "DepthwiseConv2D": lambda: one(L.DepthwiseConv2D(3, depth_multiplier=2), IMAGE),
    "SeparableConv2D": lambda: one(L.SeparableConv2D(5, 3), IMAGE),
    "MaxPooling2D": lambda: one(L.MaxPooling2D(), IMAGE),
    "AveragePooling1D": lambda: one(L.AveragePooling1D(2, 1, "same"), STEPS),
    "GlobalMaxPooling2D": lambda: one(L.GlobalMaxPooling2D(keepdims=True), IMAGE),
    "GlobalAveragePooling1D": lambda: one(L.GlobalAveragePooling1D(), STEPS),
    "AdaptiveAveragePooling2D": lambda: one(L.AdaptiveAveragePooling2D(2), IMAGE),
    "BatchNormalization": lambda: one(L.BatchNormalization(), IMAGE),
    "LayerNormalization": lambda: one(L.LayerNormalization(), STEPS),
    "GroupNormalization": lambda: one(L.GroupNormalization(2), IMAGE),
    "UnitNormalization": lambda: one(L.UnitNormalization(), STEPS),
    "RMSNormalization": lambda: one(L.RMSNormalization(), STEPS),
    "Normalization": lambda: one(L.Normalization(), STEPS),
    "SpectralNormalization": lambda: one(L.SpectralNormalization(L.Dense(3)), ROW),
    "Dropout": lambda: one(L.Dropout(0.5), ROW),
    "SpatialDropout2D": lambda: one(L.SpatialDropout2D(0.5), IMAGE),
    "GaussianNoise": lambda: one(L.GaussianNoise(0.5), ROW),
    "Activation": lambda: one(L.Activation("gelu"), ROW),
    "ReLU": lambda: one(L.ReLU(), ROW),
    "PReLU": lambda: one(L.PReLU(shared_axes=[1, 2]), IMAGE),
    "Softmax": lambda: one(L.Softmax(), ROW),
    "Flatten": lambda: one(L.Flatten(), IMAGE),
    "Flatten of integers": lambda: one(L.Flatten(), STEPS, dtype="int32"),
    "Reshape": lambda: one(L.Reshape((-1, 8)), IMAGE),
    "Permute": lambda: one(L.Permute((2, 1)), STEPS),
    "RepeatVector": lambda: one(L.RepeatVector(3), ROW),
    "ZeroPadding2D": lambda: one(L.ZeroPadding2D(((1, 0), (2, 1))), IMAGE),
    "Cropping2D": lambda: one(L.Cropping2D(1), IMAGE),
    "UpSampling2D": lambda: one(L.UpSampling2D((2, 3)), IMAGE),
    "Resizing": lambda: one(L.Resizing(5, 6), IMAGE),
    "Rescaling": lambda: one(L.Rescaling(0.1), IMAGE),
    "RandomFlip": lambda: one(L.RandomFlip(), IMAGE),
    "Add": lambda: one(L.Add(), STEPS, STEPS),
    "Multiply, broadcast": lambda: one(L.Multiply(), (1, 4), STEPS),
    "Concatenate": lambda: one(L.Concatenate(axis=1), STEPS, (3, 4)),
    "Dot": lambda: one(L.Dot(axes=1), STEPS, (6, 3)),
    "Attention": lambda: one(L.Attention(), STEPS, (5, 4)),
    "LSTM": lambda: one(L.LSTM(3, return_sequences=True, return_state=True), STEPS),
    "GRU": lambda: one(L.GRU(3), STEPS),
    "ConvLSTM2D": lambda: one(L.ConvLSTM2D(3, 2), VIDEO),
    "RNN of cells": lambda: one(L.RNN(L.StackedRNNCells([L.GRUCell(3), L.LSTMCell(2)])), STEPS),
    "Bidirectional": lambda: one(L.Bidirectional(L.LSTM(3, return_sequences=True)), STEPS),
    "TimeDistributed": lambda: one(L.TimeDistributed(L.Conv2D(3, 2)), VIDEO),
    "a model in TimeDistributed": lambda: one(L.TimeDistributed(keras.Sequential([L.Dense(3), L.ReLU()])), STEPS),
    "a nested Sequential model": lambda: one(keras.Sequential([L.Dense(3), L.ReLU()]), STEPS),
    "a nested Functional model": lambda: one(one(L.Conv2D(3, 2), (None, None, 4)), IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_the_shapes_of_a_layer(make, request):
    if IS_OLDER and "[Reshape]" in request.node.name:
        pytest.skip("an older Keras states less of the shape that Reshape makes")
    snapshot = capture(make())
    assert remembered(snapshot) == snapshot.record


@pytest.mark.parametrize("make", [lambda: L.MultiHeadAttention(2, 3), lambda: L.GroupQueryAttention(2, 4, 2)])
@pytest.mark.parametrize("keys", [0, 1])
def test_the_shapes_of_attention(make, keys):
    x, y, z = keras.Input(STEPS), keras.Input((5, 4)), keras.Input((5, 4))
    made = make()(x, y, *[z][:keys], return_attention_scores=True)
    snapshot = capture(keras.Model([x, y, z], L.Add()([L.Identity()(made[0]), x])))
    assert remembered(snapshot) == snapshot.record


def test_the_shapes_of_operations():
    x, y = keras.Input((6, 4)), keras.Input((6, 4), dtype="int32")
    z = keras.ops.concatenate([x * 2.0 + 1, keras.ops.cast(y, "float32")], axis=-1)
    left, right = keras.ops.split(z, 2, axis=1)
    z = keras.ops.einsum("bij,bkj->bik", left, keras.ops.transpose(right, (0, 1, 2)))
    z = keras.ops.reshape(z, (-1, 9)) > 0.5
    snapshot = capture(keras.Model([x, y], L.Dense(2)(keras.ops.cast(z, "float16"))))
    net = graph_of(snapshot.record)
    facts = settled(replace(net, changed=frozenset(net.layers)), snapshot.weights)
    assert record_of(net, facts.specs.__getitem__) == snapshot.record


MEETING = {
    **{cls.__name__: lambda pair, cls=cls: cls()(pair) for cls in (L.Add, L.Multiply, L.Subtract, L.Concatenate)},
    "Concatenate along it": lambda pair: L.Concatenate(axis=1)(pair), "ops.add": lambda pair: keras.ops.add(*pair),
    "ops.concatenate": lambda pair: keras.ops.concatenate(pair, -1), "ops.stack": keras.ops.stack,
    "ops.append": lambda pair: keras.ops.append(*pair, axis=-1), "ops.vstack": keras.ops.vstack,
}  # fmt: skip


@pytest.mark.parametrize("join", MEETING.values(), ids=MEETING)
@pytest.mark.parametrize("sizes", [(None, 5), (5, None), (None, 1), (1, None)])
def test_an_unknown_size_that_meets_a_known_one(join, sizes):
    snapshot = capture(one(join, *[(size, 4) for size in sizes]))
    assert remembered(snapshot) == snapshot.record


def test_shared_layers_are_built_for_their_first_call():
    layer, x, y = L.Dense(3), keras.Input((5, 4)), keras.Input((7, 4))
    snapshot = capture(keras.Model([x, y], [L.ReLU()(layer(x)), L.ReLU()(layer(y))]))
    assert remembered(snapshot) == snapshot.record


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "bfloat16", "float64"])
def test_the_shapes_of_other_dtypes(policy):
    x, y = keras.Input((8, 8, 4)), keras.Input((3,), dtype="int32")
    z = L.BatchNormalization(dtype=policy)(L.Conv2D(3, 2, dtype=policy)(x))
    z = L.Flatten(dtype=policy)(z) * 2
    z = L.Concatenate(dtype="float32")([L.Dense(4, dtype=policy)(z), L.Flatten(dtype=policy)(y)])
    snapshot = capture(keras.Model([x, y], L.Dense(2)(z)))
    assert remembered(snapshot) == snapshot.record


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_the_arguments_that_keras_adds(make):
    for layer in capture(make()).config["layers"]:
        for node in layer["inbound_nodes"]:
            assert node["kwargs"] == added_kwargs(layer)


def test_forgotten_shapes_are_not_in_the_record():
    """Sabotage: what is to be worked out is not in what it is worked out from."""
    record = capture(one(L.Bidirectional(L.LSTM(3)), STEPS)).record
    bare = forgetful(record["config"]["layers"][1])
    assert "build_config" not in str(bare)
    assert "build_config" in str(record["config"]["layers"][1])
    assert set(leaves(get_in(set_in(record, ("config", "name"), "n"), ("config", "name")))) == {"n"}


NETWORKS = {
    "MobileNetV3Small": {}, "ConvNeXtTiny": {}, "EfficientNetB0": {}, "InceptionV3": {}, "NASNetMobile": {},
    "DenseNet121": {}, "ResNet50V2": {}, "Xception": {}, "VGG16": {}, "EfficientNetV2B0": {},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_shapes_of_networks(name):
    snapshot = capture(getattr(keras.applications, name)(weights=None))
    assert remembered(snapshot) == snapshot.record


def classes():
    made = [
        one
        for one in vars(L).values()
        if isinstance(one, type) and one.__name__ in RULES and RULES[one.__name__].channels
    ]
    return [one for one in made if issubclass(one, L.Layer) and "Cell" not in one.__name__]


def test_all_call_arguments_of_keras_layers_are_known():
    odd = [
        (one.__name__, name)
        for one in classes()
        for name in inspect.signature(one.call).parameters
        if name != "self" and not takes(keras_record(one), name)
    ]
    assert len(classes()) > 90
    assert not odd
    assert not takes(keras_record(L.ReLU), "mask")


def keras_record(cls):
    return {"module": "keras.layers", "class_name": cls.__name__, "config": {}, "registered_name": None}
