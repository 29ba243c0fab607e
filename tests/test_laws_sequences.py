"""The laws on generated models of sequences: recurrent layers, attention and raw operations at random."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers as L
from keras import ops
from laws import random_dead
from test_laws_generated import GENERATED, MANY, check, grown, programs, whole_layer

pytestmark = pytest.mark.keras


# --- what a step makes of a sequence (N, T, C)


def dense(x, _, n):
    return L.Dense(2 + n % 6, activation=(None, "relu", "tanh")[n % 3])(x)


def conv(x, _, n):
    return L.Conv1D(2 + n % 6, min(1 + n % 3, x.shape[1]), padding="same", activation=(None, "relu")[n % 2])(x)


def lstm(x, _, n):
    return L.LSTM(2 + n % 4, return_sequences=True, go_backwards=n % 3 == 0, use_bias=n % 5 != 0)(x)


def gru(x, _, n):
    return L.GRU(2 + n % 4, return_sequences=True, reset_after=n % 2 == 0)(x)


def states(x, y, n):
    """The states of one layer are those that another starts with."""
    _, *state = L.LSTM(3, return_state=True)(x)
    return L.LSTM(3, return_sequences=True)(y, initial_state=state)


def bidirectional(x, _, n):
    cell = (L.LSTM, L.GRU, L.SimpleRNN)[n % 3]
    return L.Bidirectional(cell(2 + n % 3, return_sequences=True), merge_mode=("concat", "sum", "ave", "mul")[n % 4])(x)


def distributed(x, _, n):
    return L.TimeDistributed(L.Dense(2 + n % 5, activation="relu"))(x)


def attention(x, y, n):
    return L.MultiHeadAttention(1 + n % 3, 2 + n % 2, value_dim=(None, 3)[n % 2], use_bias=n % 5 != 0)(x, y)


def residual_attention(x, _, n):
    return L.Add()([x, L.MultiHeadAttention(1 + n % 3, 2 + n % 3)(x, x)])


def raw_attention(x, _, n):
    steps, channels = x.shape[1:]
    heads = 2 if channels % 2 == 0 else 1

    def split(y):
        return ops.transpose(ops.reshape(L.Dense(channels)(y), (-1, steps, heads, channels // heads)), (0, 2, 1, 3))

    weights = ops.softmax(ops.matmul(split(x), ops.transpose(split(x), (0, 1, 3, 2))) * 0.3, axis=-1)
    return ops.reshape(ops.transpose(ops.matmul(weights, split(x)), (0, 2, 1, 3)), (-1, steps, channels))


def combine(x, y, n):
    if y.shape[1] != x.shape[1]:
        y = L.GlobalMaxPooling1D(keepdims=True)(y)
    if y.shape[-1] != x.shape[-1] or y is x:
        y = L.Dense(x.shape[-1])(y)
    return (x + y, x * y, ops.maximum(x, y), x - y)[n % 4]


def concatenate(x, y, n):
    if y.shape[1] != x.shape[1]:
        y = L.Dense(3)(x)
    return ops.concatenate([x, y], axis=-1) if n % 2 else L.Concatenate()([y, x, y])


def concatenate_steps(x, y, n):
    return ops.concatenate([x, L.Dense(x.shape[-1])(y)], axis=1)


def part(x, _, n):
    half = x.shape[-1] // 2
    return (x[..., : max(1, half)], x[..., ::2], x[..., half:])[n % 3]


def gate(x, _, n):
    values, gates = ops.split(L.Dense(2 * (1 + n % 4))(x), 2, axis=-1)
    return values * ops.sigmoid(gates)


def deal(x, _, n):
    a, b, c = ops.split(L.Dense(3 * (1 + n % 3))(x), 3, axis=-1)
    return ops.concatenate([c, a], axis=-1) + ops.concatenate([b, b], axis=-1)


def turn(x, _, n):
    return ops.transpose(x, (0, 2, 1)) if n % 2 else L.Permute((2, 1))(x)


def pool(x, _, n):
    return L.RepeatVector(5)(L.GlobalAveragePooling1D()(x)) if n % 2 else L.MaxPooling1D(2, padding="same")(x)


def stack(x, y, n):
    y = y if y.shape == x.shape else L.Dense(x.shape[-1])(x)
    piled = ops.stack([x, y], axis=1 + n % 3)
    return ops.sum(piled, axis=1 + n % 3) if n % 2 else L.Reshape((x.shape[1] * 2, x.shape[2]))(piled)


def einsum(x, _, n):
    return L.EinsumDense("btc,cd->btd", output_shape=(x.shape[1], 2 + n % 4), bias_axes="d")(x)


def centred(x, _, n):
    return x - ops.mean(x, axis=1, keepdims=True)


def pad(x, _, n):
    return ops.pad(x, ((0, 0), (0, 0), (1, n % 3)))


def roll(x, _, n):
    return ops.roll(x, 1, axis=1 + n % 2) if n % 3 else ops.flip(x, axis=1 + n % 2)


def scaled(x, _, n):
    return x * np.linspace(0.5, 1.5, x.shape[-1], dtype="float32") + 1.0


def projected(x, _, n):
    return ops.matmul(x, np.random.default_rng(n).standard_normal((x.shape[-1], 3)).astype("float32"))


def copied(x, _, n):
    return ops.tile(x, (1, 1, 2)) if n % 2 else ops.repeat(x, 2, axis=-1)


STEPS = {
    step.__name__: step
    for step in (
        dense, conv, lstm, gru, states, bidirectional, distributed, attention, residual_attention, raw_attention,
        combine, concatenate, concatenate_steps, part, gate, deal, turn, pool, stack, einsum, centred, pad, roll,
        scaled, projected, copied,
    )
}  # fmt: skip


def build(program):
    """A model by steps. It has more steps than heads: Keras adds a bias of (heads, 1) along as many time steps."""
    x = keras.Input((8, 3))
    return grown(x, L.Dense(6)(x), STEPS, program, lambda shape: shape[0] > 3 and np.prod(shape) <= 300)


@GENERATED
@given(programs(STEPS), st.integers(0, 999))
def test_a_random_cut(program, seed):
    check(build(program), seed, random_dead)


@GENERATED
@given(programs(STEPS), st.integers(0, 999))
def test_a_layer_that_goes_as_a_whole(program, seed):
    check(build(program), seed, whole_layer)


@pytest.mark.slow
@MANY
@given(programs(STEPS), st.integers(0, 999), st.sampled_from([random_dead, whole_layer]))
def test_many_models(program, seed, dying):
    check(build(program), seed, dying)
