"""What models cost by Keras' own figures, by adding up ones, and by the figures that everybody knows."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import free_ids, random_dead
from helpers.networks import application
from helpers.table_of_models import SMALL_MODELS, small_model
from kerassurgery_fn import analyse, capture, cost
from kerassurgery_fn.analysis.layer_costs import cost_of
from kerassurgery_fn.edits.steps.channel_deletion import delete

pytestmark = pytest.mark.keras

README = Path(__file__).parents[2] / "README.md"


def kerass(model):
    """Parameters, trainable ones and bytes of a model as Keras counts them."""
    width = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4}
    return (
        model.count_params(),
        sum(int(np.prod(v.shape)) for v in model.trainable_weights),
        sum(int(np.prod(v.shape)) * width[v.dtype] for v in model.weights),
    )


def ours(model):
    found = cost(capture(model))
    assert not any(row.note for row in found.layers), found
    return found.parameters, found.trainable, found.bytes


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_parameters_and_bytes_agree_with_keras(name):
    assert ours(small_model(name)) == kerass(small_model(name))


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_the_cost_of_a_cut_is_known_before_the_cut(name):
    before = capture(small_model(name))
    flow = analyse(before)
    dead = random_dead(flow, 1) if free_ids(flow).size else flow.solution.none_dead()
    after = {row.path: row for row in cost(delete(before, flow, dead)).layers}
    for row in cost_of(before, flow, dead).layers:
        assert after.get(row.path, row) == row


def test_half_precision_and_frozen_layers_are_counted_as_keras_does():
    x = keras.Input((6, 5))
    y = L.Dense(4, dtype="mixed_float16")(x)
    y = L.Bidirectional(L.LSTM(3, dtype="float16", return_sequences=True))(y)
    y = L.BatchNormalization(dtype="bfloat16")(y)
    norm = L.Normalization()
    model = keras.Model(x, L.Dense(2, trainable=False)(norm(y)))
    assert ours(model) == kerass(model)


# A layer, and the shapes of its inputs, that multiplies and sums with nothing between. When all numbers are ones,
# each multiply-accumulate adds one: the sum of what it makes of one sample is how many there are.
LINEAR = {
    "dense": (lambda: L.Dense(4), (5,)),
    "dense on a grid": (lambda: L.Dense(4), (2, 3, 5)),
    "conv1d": (lambda: L.Conv1D(4, 3, strides=2), (9, 5)),
    "conv1d dilated": (lambda: L.Conv1D(4, 3, dilation_rate=2), (9, 5)),
    "conv2d": (lambda: L.Conv2D(4, (3, 2)), (7, 6, 5)),
    "conv2d in groups": (lambda: L.Conv2D(6, 3, groups=2), (7, 6, 4)),
    "conv3d": (lambda: L.Conv3D(3, 2), (4, 3, 5, 2)),
    "conv1d transpose": (lambda: L.Conv1DTranspose(4, 3, strides=2), (5, 3)),
    "conv2d transpose": (lambda: L.Conv2DTranspose(4, (3, 2), strides=(2, 1)), (4, 5, 3)),
    "conv3d transpose": (lambda: L.Conv3DTranspose(2, 2), (3, 3, 2, 2)),
    "depthwise1d": (lambda: L.DepthwiseConv1D(3, strides=2), (9, 4)),
    "depthwise2d": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (7, 6, 3)),
    "einsum dense": (lambda: L.EinsumDense("abc,cde->abde", (None, 3, 4), bias_axes="de"), (5, 6)),
    "einsum dense over time": (lambda: L.EinsumDense("abc,bd->adc", (4, 6)), (5, 6)),
    "einsum dense on the last axis": (lambda: L.EinsumDense("...x,xy->...y", 4), (2, 5, 6)),
    "time distributed": (lambda: L.TimeDistributed(L.Conv2D(4, 3, strides=2)), (3, 7, 7, 2)),
    "time distributed twice": (lambda: L.TimeDistributed(L.TimeDistributed(L.Dense(4))), (3, 2, 5)),
    "dot": (lambda: L.Dot(axes=(2, 1)), (3, 5), (5, 4)),
    "dot of vectors": (lambda: L.Dot(axes=1), (5,), (5,)),
    "dot along time": (lambda: L.Dot(axes=1), (3, 5), (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_macs_equal_a_sum_of_ones(name):
    make, *shapes = LINEAR[name]
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, make()(inputs if len(inputs) > 1 else inputs[0]))
    for variable in model.weights:
        variable.assign(np.ones(variable.shape) * ("bias" not in variable.name))
    made = model([np.ones((1, *shape)) for shape in shapes])
    assert cost(capture(model)).macs == int(np.sum(made)) > 0


OPERATIONS = {
    "matmul": (lambda x: x @ np.ones((4, 5), "float32"), (6, 4)),
    "matmul with itself": (lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), (6, 4)),
    "tensordot": (lambda x: ops.tensordot(x, np.ones((6, 4, 3), "float32"), axes=2), (6, 4)),
    "tensordot of named axes": (lambda x: ops.tensordot(x, np.ones((3, 6), "float32"), axes=[[1], [1]]), (6, 4)),
    "dot": (lambda x: ops.dot(x, np.ones((4, 3), "float32")), (6, 4)),
    "einsum": (lambda x: ops.einsum("bij,jk->bik", x, np.ones((4, 3), "float32")), (6, 4)),
    "einsum with itself": (lambda x: ops.einsum("bij,bkj->bik", x, x), (6, 4)),
    "conv": (lambda x: ops.conv(x, np.ones((3, 2, 4, 5), "float32"), strides=2), (7, 6, 4)),
    "depthwise conv": (lambda x: ops.depthwise_conv(x, np.ones((3, 2, 4, 1), "float32")), (7, 6, 4)),
    "conv transpose": (lambda x: ops.conv_transpose(x, np.ones((3, 2, 5, 4), "float32"), 2), (4, 3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_macs_of_operations_equal_a_sum_of_ones(name):
    apply, shape = OPERATIONS[name]
    x = keras.Input(shape)
    model = keras.Model(x, apply(x))
    found = cost(capture(model))
    assert not any(row.note for row in found.layers), found
    assert found.macs == int(np.sum(apply(ops.ones((1, *shape))))) > 0


def attended(query, value, heads, key_dim, value_dim, features):
    """Loops over everything that attention in heads multiplies."""
    (steps, i), (others, j) = query, value
    count = 0
    for _ in range(heads):
        count += steps * i * key_dim + others * j * key_dim + others * j * value_dim + steps * value_dim * features
        for _ in range(steps):
            for _ in range(others):
                count += key_dim + value_dim
    return count


LORA = {  # a layer, the shape of its input, its kernel; LoRA of rank 2 adds the product of two factors once a call
    "dense": (lambda: L.Dense(4), (3, 5), (5, 4)),
    "einsum dense": (lambda: L.EinsumDense("abc,cde->abde", (None, 3, 4)), (5, 6), (6, 3, 4)),
    "conv1d": (lambda: L.Conv1D(4, 3), (9, 5), (3, 5, 4)),
    "embedding": (lambda: L.Embedding(9, 4), (3,), (9, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LORA)
def test_macs_of_lora_are_the_product_of_its_factors_once(name):
    make, shape, kernel = LORA[name]
    x = keras.Input(shape, dtype="int32" if name == "embedding" else "float32")
    layer = make()
    model = keras.Model(x, layer(x))
    plain = cost(capture(model))
    layer.enable_lora(2)
    adapted = cost(capture(model))
    assert adapted.macs - plain.macs == 2 * np.prod(kernel)
    assert (adapted.parameters, adapted.trainable) == (
        model.count_params(), sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    )  # fmt: skip


def test_macs_of_lora_at_every_step():
    x = keras.Input((3, 5))
    layer = L.TimeDistributed(L.Dense(4))
    model = keras.Model(x, layer(x))
    layer.layer.enable_lora(2)
    assert cost(capture(model)).macs == 3 * (5 * 4 + 5 * 2 * 4)


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("name", ["dense", "einsum dense", "embedding"])
def test_macs_of_quantized_layers(name, mode):
    """A packed kernel does as many multiplications as one that is not; LoRA multiplies what the layer reads by both."""
    make, shape, _ = LORA[name]
    x = keras.Input(shape, dtype="int32" if name == "embedding" else "float32")
    layer = make()
    model = keras.Model(x, layer(x))
    plain = cost(capture(model))
    layer.quantize(mode)
    packed = cost(capture(model))
    assert packed.macs == plain.macs
    assert packed.trainable <= 4 + 4 * 3 + 9  # biases and scales, no integers
    layer.enable_lora(2)
    factors = {"dense": 3 * (5 * 2 + 2 * 4), "einsum dense": 5 * 3 * (6 * 2 + 2 * 4), "embedding": 3 * 2 * 4}
    assert cost(capture(model)).macs == plain.macs + factors[name]


def test_macs_of_attention():
    def count(layer, *shapes, listed=False):
        inputs = [keras.Input(shape) for shape in shapes]
        found = cost(capture(keras.Model(inputs, layer(inputs) if listed else layer(*inputs))))
        assert not any(row.note for row in found.layers), found
        return found.macs

    q, v = (5, 8), (7, 6)
    assert count(L.MultiHeadAttention(2, 3, value_dim=4), q, v) == attended(q, v, 2, 3, 4, 8)
    assert count(L.MultiHeadAttention(2, 3, output_shape=9), q, v) == attended(q, v, 2, 3, 3, 9)
    rows = 4  # attention along one of two axes: as many attentions as the other is long
    assert count(L.MultiHeadAttention(2, 3, attention_axes=2), (rows, *q), (rows, *v)) == rows * attended(
        q, v, 2, 3, 3, 8
    )
    saved = 2 * (7 * 8 * 3 + 7 * 8 * 3)  # two of four heads have keys and values of their own
    assert count(L.GroupQueryAttention(3, 4, 2), q, (7, 8)) == attended(q, (7, 8), 4, 3, 3, 8) - saved
    assert count(L.Attention(), (5, 6), (7, 6), listed=True) == 5 * 7 * (6 + 6)
    assert count(L.Attention(score_mode="concat"), (5, 6), (7, 6), listed=True) == 5 * 7 * 6
    assert count(L.Attention(), (5, 6), (7, 4), (7, 6), listed=True) == 5 * 7 * (6 + 4)
    assert count(L.AdditiveAttention(), (5, 6), (7, 6), listed=True) == 5 * 7 * (6 + 6)
    assert count(L.AdditiveAttention(use_scale=False), (5, 6), (7, 6), listed=True) == 5 * 7 * 6


def recurrent(steps, inputs, units, gates, ways=1):
    return ways * sum(gates * (inputs * units + units * units) for _ in range(steps))


@pytest.mark.parametrize("sequences", [False, True])
def test_macs_of_recurrent_layers(sequences):
    def count(layer, *shape):
        x = keras.Input(shape)
        return cost(capture(keras.Model(x, layer(x)))).macs

    options = {"return_sequences": sequences}
    assert count(L.LSTM(4, **options), 7, 3) == recurrent(7, 3, 4, 4)
    assert count(L.GRU(4, **options), 7, 3) == recurrent(7, 3, 4, 3)
    assert count(L.GRU(4, reset_after=False, **options), 7, 3) == recurrent(7, 3, 4, 3)
    assert count(L.SimpleRNN(4, **options), 7, 3) == recurrent(7, 3, 4, 1)
    assert count(L.Bidirectional(L.LSTM(4, **options)), 7, 3) == recurrent(7, 3, 4, 4, ways=2)
    cells = [L.LSTMCell(4), L.GRUCell(5)]
    assert count(L.RNN(cells, **options), 7, 3) == recurrent(7, 3, 4, 4) + recurrent(7, 4, 5, 3)
    kernel, state = 4 * 2 * (3 * 3 * 1 + 3 * 3 * 2), 4 * 3
    assert count(L.ConvLSTM2D(2, 3, **options), 7, 6, 5, 1) == 7 * state * kernel
    first = L.ConvLSTM2D(2, 3, data_format="channels_first", return_state=True, **options)
    x = keras.Input((7, 1, 6, 5))
    assert cost(capture(keras.Model(x, first(x)[0]))).macs == 7 * state * kernel


def test_macs_of_calls_that_name_their_arguments():
    x = keras.Input((5, 4))
    places = keras.Model(x, L.Dense(3)(L.LSTM(6)(x)))
    names = keras.Model(x, L.Dense(3)(inputs=L.LSTM(6)(sequences=x)))
    by_place, by_name = cost(capture(places)), cost(capture(names))
    assert [row.macs for row in by_name.layers] == [row.macs for row in by_place.layers]
    assert not any(row.note for row in by_name.layers)


def test_macs_of_layers_with_two_kernels_or_none():
    def count(layer, *shape, **options):
        x = keras.Input(shape)
        return cost(capture(keras.Model(x, layer(x, **options)))).macs

    out = 5 * 4
    assert count(L.SeparableConv2D(6, 3, depth_multiplier=2), 7, 6, 4) == out * (3 * 3 * 4 * 2 + 4 * 2 * 6)
    assert count(L.SeparableConv1D(6, 3, strides=2), 9, 4) == 4 * (3 * 4 + 4 * 6)
    assert count(L.Conv2D(6, 3, padding="same", data_format="channels_first"), 4, 7, 5) == 7 * 5 * 3 * 3 * 4 * 6
    assert count(L.SpectralNormalization(L.Conv2D(6, 3)), 7, 6, 4) == out * 3 * 3 * 4 * 6
    assert count(L.ReversibleEmbedding(9, 4), 7) == 0
    assert count(L.ReversibleEmbedding(9, 4), 7, 4, reverse=True) == 7 * 4 * 9
    assert count(L.ReversibleEmbedding(9, 4, tie_weights=False), 7, 4, reverse=True) == 7 * 4 * 9
    assert (
        count(L.LayerNormalization(axis=(1, 2)), 7, 4)
        == count(L.PReLU(), 7, 4)
        == count(L.GroupNormalization(2), 4)
        == 0
    )
    assert count(L.MaxPooling2D(), 7, 6, 4) == count(L.Activation("gelu"), 4) == 0


# MACs as the papers and the usual counters give them, here to the last one.
APPLICATIONS = {
    "MobileNet": 568_740_352,
    "MobileNetV2": 300_774_272,
    "ResNet50": 3_857_973_248,
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_whole_networks(name):
    check_application(application(name), APPLICATIONS[name])


def test_the_readme_shows_the_cost_of_resnet():
    lines = repr(cost(capture(application("ResNet50")))).splitlines()
    shown = README.read_text(encoding="utf-8")
    assert all(line in shown for line in [*lines[:4], *lines[-3:-1]])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, expected",
    [("VGG16", 15_470_264_320), ("DenseNet121", 2_834_161_664), ("Xception", None), ("EfficientNetB0", None)],
)
def test_more_whole_networks(name, expected):
    check_application(application(name), expected)


def check_application(model, expected):
    found = cost(capture(model))
    assert not any(row.note for row in found.layers), found
    assert (found.parameters, found.trainable, found.bytes) == kerass(model)
    assert expected is None or found.macs == expected
