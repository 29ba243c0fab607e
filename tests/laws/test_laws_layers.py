"""The laws on layers that are more than a product: attention, einsums, norms, recurrent cells, wrappers, images."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.film_models import FRAMES
from helpers.laws import check_law
from helpers.small_models import chain, dense_head
from kerassurgery_fn import analyse, capture

pytestmark = pytest.mark.keras


# --- attention


def attend(layer, *units, steps=(5, 4), then=None, **options):
    """Attention from one sequence to another of its own length, whose channels are made by Dense layers."""
    query, value = keras.Input((steps[0], 6)), keras.Input((steps[1], 6))
    made = [L.Dense(n)(x) for n, x in zip(units, (query, value, value), strict=False)]
    result = layer(*made, **options)
    result = then(*result) if then else result
    return keras.Model([query, value], dense_head(L.Dense(5)(result)))


def self_attention(layer, units=8, **options):
    x = keras.Input((5, 6))
    y = L.Dense(units)(x)
    y = L.Add()([y, layer(y, y, **options)])
    return keras.Model(x, dense_head(L.Dense(5)(y)))


def both(y, scores):
    return L.Concatenate()([dense_head(y), dense_head(scores)])


def attention_of_rows(layer):
    x = keras.Input((3, 4, 6))
    return keras.Model(x, dense_head(L.Dense(5)(layer([L.Dense(8)(x), L.Dense(7)(x), L.Dense(8)(x)]))))


def attention_of_images(axes, **options):
    x = keras.Input((3, 4, 6))
    y = L.Dense(8)(x)
    return keras.Model(x, dense_head(L.Dense(5)(L.MultiHeadAttention(2, 3, attention_axes=axes)(y, y, **options))))


def attention_under_masks(layer):
    x = keras.Input((5,), dtype="int32")
    y = L.Embedding(8, 6, mask_zero=True)(x)
    return keras.Model(x, L.Dense(3)(L.GlobalAveragePooling1D()(layer(y, y))))


def attention_under_a_given_mask():
    x, mask = keras.Input((5, 6)), keras.Input((5, 5))
    y = L.Dense(8)(x)
    y = L.MultiHeadAttention(2, 3)(y, y, attention_mask=mask > 0)
    return keras.Model([x, mask], dense_head(L.Dense(5)(y)))


MHA, GQA = L.MultiHeadAttention, L.GroupQueryAttention
MULTI_HEAD = {
    "self": lambda: self_attention(MHA(3, 4)),
    "cross": lambda: attend(MHA(3, 4), 8, 7),
    "with a key": lambda: attend(MHA(3, 4), 8, 7, 9),
    "with a value_dim": lambda: attend(MHA(3, 4, value_dim=5), 8, 7, 9),
    "without bias": lambda: self_attention(MHA(3, 4, use_bias=False)),
    "with a gate": lambda: attend(MHA(3, 4, use_gate=True), 8, 7),
    "with a gate and a value_dim": lambda: attend(MHA(3, 4, value_dim=5, use_gate=True, use_bias=False), 8, 7),
    "with an output_shape": lambda: attend(MHA(3, 4, output_shape=7), 8, 9),
    # more steps than channels, as below: Keras on TensorFlow adds a bias of shape (n, 1) along an axis of n steps
    "with an output_shape of two axes": lambda: attend(MHA(3, 4, output_shape=(7, 5)), 8, 9, steps=(13, 4)),
    "with scores": lambda: attend(MHA(3, 4), 8, 7, steps=(4, 4), return_attention_scores=True, then=both),
    "with scores of other steps": lambda: attend(
        MHA(3, 4), 8, 7, return_attention_scores=True, then=lambda y, s: both(y, keras.ops.sum(s, axis=-1))
    ),
    "of scores alone": lambda: attend(
        MHA(3, 4), 8, 7, steps=(4, 4), return_attention_scores=True, then=lambda y, s: L.Permute((2, 3, 1))(s)
    ),
    "with causal mask": lambda: self_attention(MHA(3, 4), use_causal_mask=True),
    "with dropout": lambda: self_attention(MHA(3, 4, dropout=0.5), use_causal_mask=True),
    "in a sliding window": lambda: self_attention(MHA(3, 4, sliding_window=2)),
    "over rows": lambda: attention_of_images((1,)),
    "over columns": lambda: attention_of_images((2,)),
    "over columns, from the end": lambda: attention_of_images((-2,)),
    "over the whole image": lambda: attention_of_images(None),
    "under masks": lambda: attention_under_masks(MHA(3, 4)),
    "under a given mask": attention_under_a_given_mask,
    "a single head": lambda: self_attention(MHA(1, 8)),
}
GROUP_QUERY = {
    "self": lambda: self_attention(GQA(4, 6, 3)),
    "cross": lambda: attend(GQA(4, 6, 2), 8, 8),
    "with a key": lambda: attend(GQA(4, 6, 2), 8, 8, 9),
    "as many queries as keys": lambda: attend(GQA(4, 3, 3), 8, 8),
    "one key": lambda: attend(GQA(4, 3, 1), 8, 8),
    "without bias": lambda: self_attention(GQA(4, 4, 2, use_bias=False)),
    "with a gate": lambda: attend(GQA(4, 4, 2, use_gate=True), 8, 8),
    "with scores": lambda: attend(GQA(4, 6, 2), 8, 8, return_attention_scores=True, then=both),
    "under masks": lambda: attention_under_masks(GQA(4, 4, 2)),
    "with causal mask": lambda: self_attention(GQA(4, 4, 2), use_causal_mask=True),
}


def listed(layer):
    return lambda *tensors, **options: layer(list(tensors), **options)


PLAIN_ATTENTION = {
    "dot": lambda: attend(listed(L.Attention()), 8, 8),
    "dot with a scale": lambda: attend(listed(L.Attention(use_scale=True)), 8, 8),
    "dot with a key": lambda: attend(listed(L.Attention()), 8, 7, 8),
    "concat": lambda: attend(listed(L.Attention(score_mode="concat")), 8, 8),
    "concat with a scale": lambda: attend(listed(L.Attention(score_mode="concat", use_scale=True)), 8, 7, 8),
    "dot with scores": lambda: attend(listed(L.Attention()), 8, 7, 8, return_attention_scores=True, then=both),
    "dot over rows of images": lambda: attention_of_rows(L.Attention()),
    "dot with causal mask": lambda: attend(listed(L.Attention(dropout=0.5)), 8, 7, 8, use_causal_mask=True),
    "additive": lambda: attend(listed(L.AdditiveAttention()), 8, 8),
    "additive without a scale": lambda: attend(listed(L.AdditiveAttention(use_scale=False)), 8, 8),
    "additive with a key": lambda: attend(listed(L.AdditiveAttention()), 8, 7, 8),
    "additive with scores": lambda: attend(
        listed(L.AdditiveAttention()), 8, 7, 8, return_attention_scores=True, then=both
    ),
}


@pytest.mark.parametrize("name", MULTI_HEAD)
def test_multi_head_attention(name):
    check_law(MULTI_HEAD[name]())


@pytest.mark.parametrize("name", GROUP_QUERY)
def test_group_query_attention(name):
    check_law(GROUP_QUERY[name]())


@pytest.mark.parametrize("name", PLAIN_ATTENTION)
def test_attention_without_weights_of_its_own(name):
    check_law(PLAIN_ATTENTION[name]())


def test_attention_whose_scores_have_a_wrong_rank_is_opaque():
    x = keras.Input((3, 4, 6))
    y = L.Dense(8)(x)
    y, scores = MHA(2, 3, attention_axes=(1,), name="mha")(y, y, return_attention_scores=True)
    model = keras.Model(x, [dense_head(L.Dense(5)(y)), keras.ops.mean(scores)])
    assert "mha" in analyse(capture(model)).opaque


# --- einsums


def pooled(*layers):
    """A chain on a sequence, whose length an einsum may leave open."""
    x = keras.Input((5, 6))
    y = x
    for layer in layers:
        y = layer(y)
    return keras.Model(x, L.Dense(3)(keras.ops.mean(y, axis=1)))


EINSUMS = {
    "dense": lambda: chain((6,), L.Dense(8), L.EinsumDense("ab,bc->ac", 7, bias_axes="c"), L.Dense(4)),
    "dense on a sequence": lambda: pooled(
        L.Dense(8), L.EinsumDense("abc,cd->abd", (None, 7), bias_axes="d", activation="relu"), L.Dense(4)
    ),
    "with all sizes": lambda: chain((5, 6), L.Dense(8), L.EinsumDense("abc,cd->abd", (5, 7)), L.Dense(4)),
    "with an ellipsis": lambda: chain(
        (5, 6), L.Dense(8), L.EinsumDense("...x,xy->...y", 7, bias_axes="y"), L.EinsumDense("...x,xy->...y", (6,))
    ),
    "with an ellipsis and two axes": lambda: chain(
        (5, 6), L.Dense(8), L.EinsumDense("...x,xyz->...yz", (7, 3), bias_axes="yz"), L.Dense(4)
    ),
    "with an ellipsis on the right": lambda: chain(
        # 9 steps, more than channels: Keras on TensorFlow adds a bias of shape (n, 1) along a last axis of n positions
        (9, 6),
        L.Permute((2, 1)),
        L.EinsumDense("ab...,bc->ac...", 7, bias_axes="c"),
        L.Permute((2, 1)),
        L.Dense(4),
    ),
    "to heads and back": lambda: pooled(
        L.Dense(8),
        L.EinsumDense("abc,cde->abde", (None, 3, 4), bias_axes="de"),
        L.EinsumDense("abde,dec->abc", (None, 7), bias_axes="c"),
        L.Dense(4),
    ),
    # on TensorFlow, Keras adds a bias of shape (n, 1) to the last axis where that happens to have n positions too
    "bias over an inner axis": lambda: chain(
        (5, 6), L.Dense(8), L.EinsumDense("abc,cde->abde", (5, 3, 9), bias_axes="d"), L.Dense(4)
    ),
    "of channels whose number Keras leaves open": lambda: left_open(),
    "bias over a step": lambda: chain((5, 6), L.Dense(8), L.EinsumDense("abc,cd->abd", (5, 7), bias_axes="bd")),
    "for each step alone": lambda: chain((5, 6), L.Dense(8), L.EinsumDense("abc,bcd->abd", (5, 7), bias_axes="bd")),
    "over steps": lambda: chain((5, 6), L.Dense(8), L.EinsumDense("abc,bd->adc", (7, 8)), L.Dense(4)),
    "for each channel alone": lambda: chain(
        (5, 6), L.Dense(8), L.EinsumDense("abc,c->abc", (5, 8), bias_axes="c"), L.Dense(4)
    ),
    "with a transpose": lambda: chain((5, 6), L.Dense(8), L.EinsumDense("abc,cd->adb", (7, 5)), L.Permute((2, 1))),
    "over space and channels": lambda: chain((5, 6), L.Dense(8), L.EinsumDense("abc,bcd->ad", 7, bias_axes="d")),
}


def left_open():
    """Channels on an axis that the `output_shape` of an EinsumDense does not count."""
    x = keras.Input((6, 3))
    y = L.EinsumDense("abc,cd->abd", (None, 7))(L.Permute((2, 1))(L.Dense(8, use_bias=False)(x)))
    return keras.Model(x, L.Dense(4)(ops.sum(y * np.arange(1, 9, dtype="float32")[:, None], axis=1)))


@pytest.mark.parametrize("name", EINSUMS)
def test_einsum_dense(name):
    check_law(EINSUMS[name]())


# --- normalisations that leave every channel alone

NORMS = {
    "batch renorm": lambda: chain((5, 6), L.Dense(8), L.BatchNormalization(renorm=True), L.Dense(4)),
    "batch renorm without scale": lambda: chain(
        (5, 6), L.Dense(8), L.BatchNormalization(renorm=True, scale=False, center=False), L.Dense(4)
    ),
    "layer over steps": lambda: chain((5, 6), L.Dense(8), L.LayerNormalization(axis=1), L.Dense(4)),
    "layer over steps, rms": lambda: chain((5, 6), L.Dense(8), L.LayerNormalization(axis=1, rms_scaling=True)),
    "layer over space": lambda: chain((4, 5, 3), L.Conv2D(6, 2), L.LayerNormalization(axis=(1, 2)), L.Conv2D(4, 1)),
    "unit over steps": lambda: chain((5, 6), L.Dense(8), L.UnitNormalization(axis=1), L.Dense(4)),
    "unit over space": lambda: chain((4, 5, 3), L.Conv2D(6, 2), L.UnitNormalization(axis=[1, 2]), L.Conv2D(4, 1)),
    "group of one": lambda: chain((5, 5, 3), L.Conv2D(6, 2), L.GroupNormalization(-1), L.Conv2D(4, 1)),
    "as many groups as channels": lambda: chain((5, 5, 3), L.Conv2D(6, 2), L.GroupNormalization(6), L.Conv2D(4, 1)),
    "group of one over axis 1": lambda: chain(
        (5, 6), L.Dense(8), L.Permute((2, 1)), L.GroupNormalization(-1, axis=1), L.Permute((2, 1)), L.Dense(4)
    ),
    "group of one without scale": lambda: chain(
        (5, 5, 3), L.Conv2D(6, 2), L.GroupNormalization(-1, scale=False, center=False), L.Conv2D(4, 1)
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_of_each_channel_alone(name):
    check_law(NORMS[name]())


# --- spectral normalisation

SPECTRAL = {
    "dense": lambda: chain((6,), L.Dense(8), L.SpectralNormalization(L.Dense(7, activation="relu")), L.Dense(4)),
    "dense without bias": lambda: chain((6,), L.SpectralNormalization(L.Dense(7, use_bias=False)), L.Dense(4)),
    "conv": lambda: chain((5, 5, 3), L.Conv2D(6, 2), L.SpectralNormalization(L.Conv2D(7, 2)), L.Conv2D(4, 1)),
    "conv transpose": lambda: chain(
        (5, 5, 3), L.Conv2D(6, 2), L.SpectralNormalization(L.Conv2DTranspose(7, 2)), L.Conv2D(4, 1)
    ),
    "depthwise conv": lambda: chain(
        (5, 5, 3), L.Conv2D(6, 2), L.SpectralNormalization(L.DepthwiseConv2D(2, depth_multiplier=2)), L.Conv2D(4, 1)
    ),
    "conv in groups": lambda: chain(
        (5, 5, 3), L.Conv2D(6, 2), L.SpectralNormalization(L.Conv2D(6, 2, groups=2)), L.Conv2D(4, 1)
    ),
    "einsum": lambda: chain((5, 6), L.Dense(8), L.SpectralNormalization(L.EinsumDense("abc,cd->abd", (5, 7)))),
}


def test_spectral_normalization_of_an_embedding():
    """Keras casts the output to the type of the input, so that only an input of floats leaves anything of it."""
    codes = np.random.default_rng(0).integers(0, 8, (4, 5)).astype("float32")
    model = chain((5,), L.SpectralNormalization(L.Embedding(8, 6)), L.Dense(4))
    check_law(model, inputs=codes)


def test_spectral_normalization_called_twice():
    x = keras.Input((6,))
    shared = L.SpectralNormalization(L.Dense(8))
    check_law(keras.Model(x, L.Dense(3)(shared(shared(L.Dense(8)(x))))))


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_normalization(name):
    check_law(SPECTRAL[name]())


# --- recurrent layers


def cells(cell, **options):
    return lambda: chain((5, 4), L.Dense(6), L.RNN(cell(), return_sequences=True, **options), L.RNN(cell()))


def encoder_and_decoder(layer, decoder, cells=1):
    x, z = keras.Input((5, 4)), keras.Input((3, 6))
    _, *states = layer(x)
    return keras.Model([x, z], dense_head(L.Dense(4)(decoder(L.Dense(6)(z), initial_state=states))))


def masked(*layers):
    x = keras.Input((5,), dtype="int32")
    y = L.Embedding(8, 6, mask_zero=True)(x)
    for layer in layers:
        y = layer(y)
    return keras.Model(x, L.Dense(3)(y))


RECURRENT = {
    "simple cell": cells(lambda: L.SimpleRNNCell(7)),
    "gru cell": cells(lambda: L.GRUCell(7)),
    "gru cell, reset before": cells(lambda: L.GRUCell(7, reset_after=False)),
    "lstm cell": cells(lambda: L.LSTMCell(7)),
    "lstm cell without bias": cells(lambda: L.LSTMCell(7, use_bias=False), unroll=True),
    "stacked cells": cells(lambda: L.StackedRNNCells([L.LSTMCell(7), L.GRUCell(6), L.SimpleRNNCell(5)])),
    "a list of cells": cells(lambda: [L.GRUCell(7), L.LSTMCell(6)]),
    "states of stacked cells": lambda: encoder_and_decoder(
        L.RNN([L.LSTMCell(7), L.GRUCell(6)], return_state=True), L.RNN([L.LSTMCell(7), L.GRUCell(6)])
    ),
    "states of cells": lambda: encoder_and_decoder(L.RNN(L.LSTMCell(7), return_state=True), L.LSTM(7)),
    "states of an encoder": lambda: encoder_and_decoder(
        L.LSTM(7, return_state=True), L.LSTM(7, return_sequences=True)
    ),
    "states of an encoder that goes backwards": lambda: encoder_and_decoder(
        L.GRU(7, return_state=True, go_backwards=True), L.GRU(7, return_sequences=True)
    ),
    "states and masks": lambda: masked(L.LSTM(7, return_sequences=True, dropout=0.5), L.GRU(6)),
    "masks and cells": lambda: masked(
        L.RNN(L.LSTMCell(7), return_sequences=True, zero_output_for_mask=True), L.RNN(L.GRUCell(6))
    ),
    "stateful cells": lambda: keras.Sequential(
        [
            keras.Input(batch_shape=(4, 5, 3)),
            L.RNN(L.LSTMCell(6), stateful=True, return_sequences=True),
            L.RNN([L.GRUCell(7), L.SimpleRNNCell(5)], stateful=True),
            L.Dense(3),
        ]
    ),
    "any length": lambda: chain(
        (None, 4), L.LSTM(6, return_sequences=True), L.GRU(7, return_sequences=True), L.SimpleRNN(5), L.Dense(3),
        head=False,
    ),
}  # fmt: skip

CONV_LSTM = {
    "1d": lambda: chain((3, 6, 2), L.ConvLSTM1D(5, 2, return_sequences=True), L.ConvLSTM1D(4, 3, padding="same")),
    "2d": lambda: chain(
        (3, 5, 6, 2), L.ConvLSTM2D(5, (2, 3), strides=(1, 2), return_sequences=True), L.ConvLSTM2D(4, 2, use_bias=False)
    ),
    "2d dilated": lambda: chain((3, 5, 6, 2), L.Dense(4), L.ConvLSTM2D(5, 2, dilation_rate=2, go_backwards=True)),
    "3d": lambda: chain((2, 3, 3, 4, 2), L.ConvLSTM3D(5, 2, return_sequences=True), L.ConvLSTM3D(3, 2)),
    "states": lambda: conv_lstm_states(),
    "of any length": lambda: chain(
        (None, 4, 5, 2), L.ConvLSTM2D(5, 2, return_sequences=True), L.ConvLSTM2D(4, 2), L.GlobalAveragePooling2D()
    ),
}


def conv_lstm_states():
    x = keras.Input((3, 6, 2))
    y, *states = L.ConvLSTM1D(5, 3, padding="same", return_sequences=True, return_state=True)(x)
    z = L.ConvLSTM1D(5, 3, padding="same")(L.Dense(4)(y), initial_state=states)
    return keras.Model(x, L.Concatenate()([dense_head(z), *map(dense_head, states)]))


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(name):
    check_law(RECURRENT[name]())


@pytest.mark.parametrize("name", CONV_LSTM)
def test_convolutional_recurrent_layers(name):
    check_law(CONV_LSTM[name]())


# --- wrappers


def both_ways(layer, merge_mode="concat", backward=None, **options):
    x = keras.Input((5, 4))
    y = L.Bidirectional(layer, merge_mode=merge_mode, backward_layer=backward, **options)(L.Dense(6)(x))
    return keras.Model(x, L.Concatenate()([dense_head(part) for part in keras.tree.flatten(y)]))


def both_ways_with_states(layer, states):
    x, h = keras.Input((5, 4)), keras.Input((3,))
    given = [L.Dense(7)(h) for _ in range(states)]
    y, *made = L.Bidirectional(layer(7, return_state=True, return_sequences=True))(x, initial_state=given)
    z = L.Bidirectional(layer(7))(L.Dense(6)(y), initial_state=made)
    return keras.Model([x, h], L.Dense(3)(L.Concatenate()([z, *made])))


BIDIRECTIONAL = {
    "concat": lambda: both_ways(L.LSTM(7)),
    "concat of sequences": lambda: both_ways(L.GRU(7, return_sequences=True)),
    "sum": lambda: both_ways(L.LSTM(7), "sum"),
    "mul": lambda: both_ways(L.GRU(7), "mul"),
    "ave": lambda: both_ways(L.SimpleRNN(7, return_sequences=True), "ave"),
    "none": lambda: both_ways(L.LSTM(7, return_sequences=True), None),
    "none, with states": lambda: both_ways(L.LSTM(7, return_state=True), None),
    "another layer backwards": lambda: both_ways(L.LSTM(7), backward=L.GRU(7, go_backwards=True)),
    "another layer backwards, summed": lambda: both_ways(L.GRU(7), "sum", L.SimpleRNN(7, go_backwards=True)),
    "cells": lambda: both_ways(L.RNN(L.LSTMCell(7))),
    "stacked cells": lambda: both_ways(L.RNN([L.GRUCell(6), L.LSTMCell(7)], return_sequences=True)),
    "states of gru": lambda: both_ways_with_states(L.GRU, 2),
    "states of lstm": lambda: both_ways_with_states(L.LSTM, 4),
    "masks": lambda: masked(L.Bidirectional(L.LSTM(7, return_sequences=True)), L.Bidirectional(L.GRU(5))),
    "conv lstm": lambda: chain((3, 6, 2), L.Bidirectional(L.ConvLSTM1D(5, 2, return_sequences=True)), L.Dense(4)),
}
DISTRIBUTED = {
    "dense": lambda: chain((5, 6), L.Dense(8), L.TimeDistributed(L.Dense(7)), L.Dense(4)),
    "conv": lambda: chain((3, 5, 6, 2), L.TimeDistributed(L.Conv2D(6, 2)), L.TimeDistributed(L.Conv2D(5, 2))),
    "norm": lambda: chain((3, 5, 6, 2), L.TimeDistributed(L.Conv2D(6, 2)), L.TimeDistributed(L.BatchNormalization())),
    "flatten": lambda: chain(
        (3, 5, 6, 2), L.TimeDistributed(L.Conv2D(6, 2)), L.TimeDistributed(L.Flatten()), L.LSTM(7)
    ),
    "pooling": lambda: chain((3, 4, 4, 2), L.Dense(6), L.TimeDistributed(L.MaxPooling2D()), L.Dense(4)),
    "lstm": lambda: chain((3, 5, 4), L.TimeDistributed(L.LSTM(6)), L.GRU(5)),
    "both ways": lambda: chain((3, 5, 4), L.TimeDistributed(L.Bidirectional(L.LSTM(6))), L.GRU(5)),
    "itself": lambda: chain((2, 3, 6), L.TimeDistributed(L.TimeDistributed(L.Dense(7))), L.Dense(4)),
    "spectral": lambda: chain((3, 6), L.TimeDistributed(L.SpectralNormalization(L.Dense(7))), L.Dense(4)),
    "any length": lambda: chain((None, 6), L.TimeDistributed(L.Dense(7)), L.LSTM(4), L.Dense(3), head=False),
    "masks": lambda: masked(L.TimeDistributed(L.Dense(7)), L.LSTM(5)),
}


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_bidirectional(name):
    check_law(BIDIRECTIONAL[name]())


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_time_distributed(name):
    check_law(DISTRIBUTED[name]())


# --- embeddings that are read backwards


def language_model(**options):
    x = keras.Input((5,), dtype="int32")
    embedding = L.ReversibleEmbedding(9, 8, **options)
    y = L.Dense(7, activation="relu")(embedding(x))
    return keras.Model(x, embedding(L.Dense(8)(y), reverse=True))


EMBEDDINGS = {
    "tied": lambda: language_model(),
    "not tied": lambda: language_model(tie_weights=False),
    "with a soft cap": lambda: language_model(logit_soft_cap=5.0),
    "forward alone": lambda: chain((5,), L.ReversibleEmbedding(9, 8), L.Dense(4), dtype="int32"),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_reversible_embeddings(name):
    check_law(EMBEDDINGS[name]())


# --- a whole model inside TimeDistributed


@pytest.mark.parametrize("name", FRAMES)
def test_models_inside_time_distributed(name):
    check_law(FRAMES[name]())
