"""Channels on axes where layers do not expect them: steps and rows that are channels of a layer before a transpose.

Each layer must let them pass exactly, say that a cut is not exact, or hold them; here is which.
"""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_law
from helpers.small_models import dense_head
from kerassurgery_fn import analyse, capture

pytestmark = pytest.mark.keras


def laid(layer, shape, axis):
    """A layer on a tensor whose axis of that number is made by a Dense layer."""
    x = keras.Input(shape)
    order = list(range(1, len(shape)))
    order.insert(axis - 1, len(shape))
    y = layer(L.Permute(order)(L.Dense(8, name="made", activation="tanh")(x)))
    y = [dense_head(L.Dense(5)(one) if one.ndim > 2 else one) for one in keras.tree.flatten(y)]
    return keras.Model(x, L.Dense(4)(y[0] if len(y) == 1 else L.Concatenate()(y)))


def itself(layer, count=2, **options):
    return lambda y: layer([y] * count, **options)


def twice(layer, **options):
    return lambda y: layer(y, y, **options)


STEPS = {
    "attention": (lambda: itself(L.Attention()), "inexact"),
    "attention with causal mask": (lambda: itself(L.Attention(), use_causal_mask=True), "pinned"),
    "additive attention": (lambda: itself(L.AdditiveAttention(), 3), "inexact"),
    "multi head attention": (lambda: twice(L.MultiHeadAttention(2, 3)), "inexact"),
    "multi head attention with causal mask": (
        lambda: twice(L.MultiHeadAttention(2, 3), use_causal_mask=True),
        "pinned",
    ),
    "multi head attention in a window": (lambda: twice(L.MultiHeadAttention(2, 3, sliding_window=2)), "pinned"),
    "queries": (lambda: lambda y: L.MultiHeadAttention(2, 3)(y, L.Conv1D(6, 2)(L.Permute((2, 1))(y))), "exact"),
    "group query attention": (lambda: twice(L.GroupQueryAttention(2, 4, 2)), "inexact"),
    "simple rnn": (lambda: L.SimpleRNN(4), "pinned"),
    "gru": (lambda: L.GRU(4), "pinned"),
    "lstm": (lambda: L.LSTM(4, return_sequences=True), "pinned"),
    "rnn": (lambda: L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_sequences=True), "pinned"),
    "bidirectional": (lambda: L.Bidirectional(L.LSTM(4)), "pinned"),
    "time distributed": (lambda: L.TimeDistributed(L.Dense(4)), "exact"),
    "dense": (lambda: L.Dense(4), "exact"),
    "einsum": (lambda: L.EinsumDense("abc,cd->abd", (8, 4), bias_axes="bd"), "exact"),
    "einsum over steps": (lambda: L.EinsumDense("abc,bd->adc", (7, 5)), "exact"),
    "batch normalization": (lambda: L.BatchNormalization(), "exact"),
    "batch normalization of steps": (lambda: L.BatchNormalization(axis=1), "exact"),
    "layer normalization": (lambda: L.LayerNormalization(), "exact"),
    "layer normalization of steps": (lambda: L.LayerNormalization(axis=1), "inexact"),
    "rms normalization": (lambda: L.RMSNormalization(), "exact"),
    "unit normalization": (lambda: L.UnitNormalization(), "exact"),
    "group normalization": (lambda: L.GroupNormalization(-1), "inexact"),
    "group normalization of steps": (lambda: L.GroupNormalization(-1, axis=1), "exact"),
    "normalization": (lambda: L.Normalization(), "exact"),
    "conv1d": (lambda: L.Conv1D(4, 2), "pinned"),
    "conv1d of one step": (lambda: L.Conv1D(4, 1), "pinned"),
    "depthwise conv1d": (lambda: L.DepthwiseConv1D(2), "pinned"),
    "separable conv1d": (lambda: L.SeparableConv1D(4, 2), "pinned"),
    "conv1d transpose": (lambda: L.Conv1DTranspose(4, 2), "pinned"),
    "max pooling": (lambda: L.MaxPooling1D(2), "pinned"),
    "global average pooling": (lambda: L.GlobalAveragePooling1D(), "pinned"),
    "adaptive pooling": (lambda: L.AdaptiveMaxPooling1D(2), "pinned"),
    "zero padding": (lambda: L.ZeroPadding1D(1), "pinned"),
    "cropping": (lambda: L.Cropping1D((0, 1)), "pinned"),
    "up sampling": (lambda: L.UpSampling1D(2), "pinned"),
    "softmax": (lambda: L.Softmax(), "exact"),
    "softmax over steps": (lambda: L.Softmax(axis=1), "inexact"),
    "prelu": (lambda: L.PReLU(), "exact"),
    "spatial dropout": (lambda: L.SpatialDropout1D(0.5), "exact"),
    "dot over channels": (lambda: itself(L.Dot(2)), "exact"),
    "dot over steps": (lambda: itself(L.Dot(1)), "exact"),
    "concatenate": (lambda: itself(L.Concatenate(1)), "exact"),
    "flatten and repeat": (lambda: lambda y: L.RepeatVector(3)(L.Flatten()(y)), "exact"),
    "discretization": (lambda: lambda y: keras.ops.cast(L.Discretization([-0.5, 0.5])(y), "float32"), "exact"),
}
ROWS = {
    "conv2d": (1, lambda: L.Conv2D(4, 2), "pinned"),
    "conv lstm over time": (1, lambda: L.ConvLSTM1D(4, 2), "pinned"),
    "conv lstm over space": (2, lambda: L.ConvLSTM1D(4, 2), "pinned"),
    "time distributed over time": (1, lambda: L.TimeDistributed(L.Conv1D(4, 2)), "exact"),
    "time distributed over space": (2, lambda: L.TimeDistributed(L.Conv1D(4, 2)), "pinned"),
    "attention of rows": (1, lambda: itself(L.Attention()), "exact"),
    "attention of columns": (2, lambda: itself(L.Attention()), "inexact"),
    "heads of rows": (1, lambda: twice(L.MultiHeadAttention(2, 3, attention_axes=(2,))), "exact"),
    "heads of columns": (2, lambda: twice(L.MultiHeadAttention(2, 3, attention_axes=(2,))), "inexact"),
    "heads of images": (1, lambda: twice(L.MultiHeadAttention(2, 3)), "inexact"),
    "group normalization": (2, lambda: L.GroupNormalization(-1), "inexact"),
    "layer normalization": (2, lambda: L.LayerNormalization(axis=(1, 2)), "inexact"),
    "resizing": (1, lambda: L.Resizing(3, 3), "pinned"),
    "center crop": (2, lambda: L.CenterCrop(2, 8), "pinned"),
    "random flip": (1, lambda: L.RandomFlip(), "pinned"),
    "random contrast": (1, lambda: L.RandomContrast(0.5), "pinned"),
    "random brightness": (1, lambda: L.RandomBrightness(0.5), "exact"),
    "auto contrast": (1, lambda: L.AutoContrast(), "inexact"),
    "adaptive pooling": (2, lambda: L.AdaptiveAveragePooling2D(2), "pinned"),
}


def check(model, fate):
    """The law, and that the channels in question have just that fate: a rule that held everything would be no use."""
    flow = analyse(capture(model))
    made = flow.solution.resolve(flow.producer("made").axis).ravel()
    pinned = flow.solution.pinned()[made]
    named = np.isin(made, [one for inexact in flow.inexact for one in flow.solution.resolve(inexact.axis).ravel()])
    assert pinned.all() if fate == "pinned" else not pinned.any()
    assert named.all() if fate == "inexact" else fate == "pinned" or not named.any()
    check_law(model, inexact=fate == "inexact")


@pytest.mark.parametrize("name", STEPS)
def test_channels_that_are_steps(name):
    layer, fate = STEPS[name]
    check(laid(layer(), (5, 6), 1), fate)


@pytest.mark.parametrize("name", ROWS)
def test_channels_that_are_rows_or_columns(name):
    axis, layer, fate = ROWS[name]
    check(laid(layer(), (4, 5, 6), axis), fate)


# --- masks that are made of channels


def masked(layer, steps=5):
    x, h = keras.Input((steps, 4)), keras.Input((3,))
    mask = L.Dense(steps, name="made")(h) > 0
    return keras.Model([x, h], L.Dense(3)(layer(L.Dense(6)(x), mask)))


MASKS = {
    "lstm": lambda: lambda x, mask: L.LSTM(5)(x, mask=mask),
    "softmax": lambda: lambda x, mask: L.GRU(5)(L.Softmax(axis=1)(x, mask=mask[:, :, None])),
    "attention": lambda: lambda x, mask: L.GRU(5)(L.Attention()([x, x], mask=[mask, mask])),
    "heads": lambda: lambda x, mask: L.GRU(5)(L.MultiHeadAttention(2, 3)(x, x, attention_mask=mask[:, None])),
    "pooling": lambda: lambda x, mask: L.GlobalAveragePooling1D()(x, mask=mask),
    "bidirectional": lambda: lambda x, mask: L.Bidirectional(L.GRU(5))(x, mask=mask),
    "time distributed": lambda: lambda x, mask: L.GRU(5)(L.TimeDistributed(L.Dense(4))(x, mask=mask)),
}


def hands_its_mask_on(layer):
    made = layer(np.ones((2, 5, 6), "float32"), mask=keras.ops.ones((2, 5), "bool"))
    return getattr(made, "_keras_mask", None) is not None


@pytest.mark.parametrize("name", MASKS)
def test_channels_used_as_a_mask_are_pinned(name):
    if name == "time distributed" and not hands_its_mask_on(L.TimeDistributed(L.Dense(4))):
        pytest.skip("TimeDistributed of this Keras keeps a mask that it is called with to itself")
    model = masked(MASKS[name]())
    flow = analyse(capture(model))
    assert flow.solution.pinned()[flow.solution.resolve(flow.producer("made").axis)].all()
    check_law(model)
