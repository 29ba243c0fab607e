"""The laws on models that are more than a chain: merges, sharing, nesting, several inputs and outputs."""

import keras
import pytest
from keras import layers as L

from helpers.laws import check_law
from helpers.merging_models import MERGES, STATES, dot
from helpers.needs import NEEDS_CHANNELS_FIRST
from helpers.nested_models import NESTED, SHARED, STRUCTURES, backbone
from helpers.small_models import dense_head
from kerassurgery_fn import DeleteChannels, analyse, capture

pytestmark = pytest.mark.keras


# --- merges


@pytest.mark.parametrize("name", MERGES)
def test_merges(name):
    check_law(MERGES[name]())


def test_a_normalised_dot_product_is_inexact():
    check_law(dot(2, normalize=True), inexact=True)


def test_channels_multiplied_with_steps_are_pinned():
    x = keras.Input((8, 6))
    y = L.Dot(axes=(2, 1))([L.Dense(8, name="a")(x), L.Dense(7, name="b")(x)])
    check_law(keras.Model(x, dense_head(L.Dense(6)(y))))
    flow = analyse(capture(keras.Model(x, dense_head(L.Dense(6)(y)))))
    held = flow.solution.pinned()
    assert held[flow.solution.resolve(flow.producer("a").axis)].all()
    assert not held[flow.solution.resolve(flow.producer("b").axis)].any()


# --- recurrent layers and their states


@pytest.mark.parametrize("name", STATES)
def test_states_of_recurrent_layers(name):
    check_law(STATES[name]())


# --- shared layers, several inputs and outputs


def named_arguments():
    x = keras.Input((6, 4))
    y = L.LSTM(5, return_sequences=True)(sequences=L.Activation("relu")(inputs=L.Dense(8)(inputs=x)))
    y = L.MultiHeadAttention(2, 3)(value=y, query=L.Concatenate()(inputs=[y, L.Dense(3)(training=False, inputs=x)]))
    return keras.Model(x, L.Dense(3)(inputs=L.Flatten()(inputs=L.BatchNormalization()(inputs=y))))


@pytest.mark.parametrize("name", SHARED)
def test_shared_layers(name):
    check_law(SHARED[name]())


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_inputs_and_outputs(name):
    check_law(STRUCTURES[name]())


def test_calls_with_keyword_arguments():
    assert check_law(named_arguments()).prunable > 0.8


# --- nested models


@pytest.mark.parametrize("name", NESTED)
def test_nested_models(name):
    check_law(NESTED[name]())


# --- data formats, dtypes, frozen layers


def image_net(data_format):
    """Images wider than they have channels: where both are equal, Keras adds a channels_first bias along the width."""
    kwargs = {"data_format": data_format}
    axis = 1 if data_format == "channels_first" else -1
    x = keras.Input((3, 18, 17) if axis == 1 else (18, 17, 3))
    y = L.Conv2D(6, 3, name="a", **kwargs)(x)
    y = L.ReLU()(L.BatchNormalization(axis=axis, name="norm")(y))
    y = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise", **kwargs)(y)
    z = L.SeparableConv2D(8, 3, padding="same", name="separable", **kwargs)(y)
    y = L.Concatenate(axis=axis)([z, L.Conv2D(5, 1, name="b", **kwargs)(y)])
    y = L.UpSampling2D(2, **kwargs)(L.MaxPooling2D(2, padding="same", **kwargs)(y))
    y = L.Cropping2D(1, **kwargs)(L.ZeroPadding2D(((1, 2), (0, 1)), **kwargs)(y))
    y = L.Conv2DTranspose(6, 3, strides=2, name="transpose", **kwargs)(y)
    y = L.AveragePooling2D(2, **kwargs)(L.SpatialDropout2D(0.5, **kwargs)(y))
    y = L.Concatenate()([L.GlobalMaxPooling2D(**kwargs)(y), L.Flatten(**kwargs)(L.Conv2D(4, 9, name="c", **kwargs)(y))])
    return keras.Model(x, L.Dense(5, name="top")(y))


@pytest.mark.parametrize("data_format", ["channels_last", pytest.param("channels_first", marks=NEEDS_CHANNELS_FIRST)])
def test_data_formats(data_format):
    check_law(image_net(data_format))


@pytest.mark.onednn
def test_channels_first_is_cut_like_channels_last():
    models = [image_net(data_format) for data_format in ("channels_last", "channels_first")]
    dead = {"a": [1, 4], "separable": [0, 7], "b": [2], "transpose": [0, 3], "c": [1]}
    last, first = (DeleteChannels(dead)(capture(model)) for model in models)
    assert [[a.shape for a in arrays] for arrays in last.weights.values()] == [
        [a.shape for a in arrays] for arrays in first.weights.values()
    ]


def test_mixed_precision():
    """bfloat16 has three digits: the weights stay float32, and so does what the policy says of each layer."""
    x = keras.Input((7, 7, 3))
    policy = {"dtype": "mixed_bfloat16"}
    y = L.ReLU(**policy)(L.BatchNormalization(**policy)(L.Conv2D(8, 3, **policy)(x)))
    model = keras.Model(x, L.Dense(5, dtype="float32")(L.Flatten(**policy)(L.Conv2D(6, 3, **policy)(y))))
    check_law(model, tolerance=0.02, visible=0.05)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_floats(dtype):
    x = keras.Input((7, 7, 3), dtype=dtype)
    y = L.ReLU(dtype=dtype)(L.BatchNormalization(dtype=dtype)(L.Conv2D(8, 3, dtype=dtype)(x)))
    tolerance = {"float64": 1e-6, "bfloat16": 0.1, "float16": 0.02}[dtype]
    check_law(keras.Model(x, L.Dense(5, dtype=dtype)(L.Flatten(dtype=dtype)(y))), tolerance=tolerance, visible=0.3)


def test_frozen_layers_stay_frozen():
    x = keras.Input((7, 7, 3))
    inner = backbone()
    inner.trainable = False
    frozen = L.Conv2D(6, 3, trainable=False, name="frozen")
    model = keras.Model(x, dense_head(frozen(inner(x))))
    smaller = check_law(model).smaller
    layers = {layer["name"]: layer for layer in smaller.config["layers"]}
    assert layers["frozen"]["config"]["trainable"] is False
    assert layers["backbone"]["config"]["trainable"] is False
