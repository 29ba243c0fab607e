"""Random steps of building a model: what else than one layer can be done with a tensor.

A step is a function of the growth (its random numbers and tensors so far) and of one of the tensors to a new one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import keras
import numpy as np
from keras import layers as L
from keras import ops

from helpers.random_layers import groups_of, random_layer


class Growth(Protocol):
    r: Random

    def other(self, x: Any) -> Any: ...


Step = Callable[[Growth, Any], Any]
STEPS: dict[int, list[Step]] = defaultdict(list)


def of_ranks(*ranks: int) -> Callable[[Step], Step]:
    def listed(step: Step) -> Step:
        for rank in ranks:
            STEPS[rank].append(step)
        return step

    return listed


def alike(g: Growth, x: Any) -> Any:
    """Another tensor of the shape of x, or one that x can be merged with by broadcasting."""
    y = g.other(x)
    if y is x or y.shape[1:-1] != x.shape[1:-1]:
        y = x
    if y is x or y.shape[-1] != x.shape[-1]:
        y = L.Dense(x.shape[-1])(y)
    if len(x.shape) == 4 and g.r.random() < 0.2:
        y = L.GlobalAveragePooling2D(keepdims=True)(y)
    return y


# --- steps of every rank


@of_ranks(2, 2, 3, 3, 4, 4, 5)
def merge(g: Growth, x: Any) -> Any:
    y, r = alike(g, x), g.r
    if r.random() < 0.4:
        return r.choice([ops.add, ops.multiply, ops.maximum, ops.subtract, ops.minimum])(x, y)
    kind = r.choice([L.Add, L.Multiply, L.Maximum, L.Minimum, L.Average, L.Subtract])
    return kind()([x, y] if kind is L.Subtract or r.random() < 0.8 else [x, y, x])


@of_ranks(2, 2, 3, 3, 4, 4)
def residual(g: Growth, x: Any) -> Any:
    y = L.Dense(x.shape[-1])(g.r.choice([L.ReLU(), L.LayerNormalization(), L.Dense(3)])(x))
    return g.r.choice([L.Add()([x, y]), L.Add()([y, x]), x + y])


@of_ranks(2, 2, 3, 3, 4, 4)
def concatenate(g: Growth, x: Any) -> Any:
    y = g.other(x)
    if y is x or y.shape[1:-1] != x.shape[1:-1]:
        y = L.Dense(g.r.randint(2, 4))(x)
    parts = g.r.choice([[x, y], [y, x], [x, y, x]])
    return ops.concatenate(parts, axis=-1) if g.r.random() < 0.4 else L.Concatenate()(parts)


@of_ranks(3, 4)
def concatenate_places(g: Growth, x: Any) -> Any:
    return L.Concatenate(axis=g.r.choice([1, -2]))([x, L.Dense(x.shape[-1])(x)])


@of_ranks(2, 3, 4)
def gate(g: Growth, x: Any) -> Any:
    values, gates = ops.split(L.Dense(2 * g.r.randint(2, 4))(x), 2, axis=-1)
    return values * ops.sigmoid(gates)


@of_ranks(4)
def squeeze_and_excite(g: Growth, x: Any) -> Any:
    channels = x.shape[-1]
    squeezed = L.Dense(g.r.randint(2, 4), activation="relu")(L.GlobalAveragePooling2D()(x))
    return L.Multiply()([x, L.Reshape((1, 1, channels))(L.Dense(channels, activation="sigmoid")(squeezed))])


@of_ranks(2, 3, 4)
def part(g: Growth, x: Any) -> Any:
    half = max(1, x.shape[-1] // 2)
    return g.r.choice([lambda: x[..., :half], lambda: x[..., ::2], lambda: x[..., ::-1], lambda: x[..., -half:]])()


@of_ranks(2, 3, 4)
def function(g: Growth, x: Any) -> Any:
    r = g.r
    return r.choice([
        lambda: ops.relu(x), lambda: ops.tanh(x) * 0.5 + x, lambda: keras.activations.gelu(x), lambda: ops.abs(x),
        lambda: x + 1.0, lambda: 1.0 - x, lambda: ops.clip(x, -1.0, 2.0), lambda: x / 2.0, lambda: ops.softmax(x),
        lambda: ops.square(x) * 0.1, lambda: ops.roll(x, 1, axis=-1), lambda: ops.flip(x, axis=-1),
        lambda: ops.where(x > 0, x, 0.1 * x), lambda: ops.leaky_relu(x),
    ])()  # fmt: skip


@of_ranks(2, 3, 4)
def constant(g: Growth, x: Any) -> Any:
    """An array in the arguments of a call, one number a channel, or a matrix."""
    channels = x.shape[-1]
    drawn = np.random.default_rng(g.r.randrange(1000)).standard_normal
    return g.r.choice([
        lambda: x * np.linspace(0.5, 1.5, channels, dtype="float32"),
        lambda: x + drawn(channels).astype("float32"),
        lambda: ops.matmul(x, drawn((channels, 3)).astype("float32")),
    ])()  # fmt: skip


@of_ranks(2, 3, 4)
def shared(g: Growth, x: Any) -> Any:
    """One layer on two tensors, or on one that it has made."""
    r = g.r
    layer = r.choice([L.Dense(x.shape[-1]), L.BatchNormalization(), L.PReLU([*range(1, len(x.shape) - 1)] or None)])
    if r.random() < 0.5:
        return layer(layer(x))
    return L.Add()([layer(x), layer(alike(g, x))])


@of_ranks(3, 4, 5)
def on_other_ranks(g: Growth, x: Any) -> Any:
    """A Dense that is called on a tensor and on one of fewer axes."""
    layer = L.Dense(g.r.randint(2, 5))
    pooled = getattr(L, f"GlobalMaxPooling{len(x.shape) - 2}D")()(x)
    if g.r.random() < 0.5:
        low, high = layer(pooled), layer(x)
    else:
        high, low = layer(x), layer(pooled)
    return g.r.choice([low, high])


@of_ranks(2, 3, 4)
def built_elsewhere(g: Growth, x: Any) -> Any:
    """A layer that another model has built, on tensors of the same rank or of another."""
    layer = L.Dense(g.r.randint(2, 5))
    layer(keras.Input(x.shape[1:] if g.r.random() < 0.6 else (x.shape[-1],)))
    return layer(x)


@of_ranks(2, 2, 3, 3, 4, 4)
def nested(g: Growth, x: Any) -> Any:
    """A model in the model, called once or twice."""
    r, shape = g.r, x.shape[1:]
    if None in shape:
        return L.Dense(3)(x)
    if r.random() < 0.4:
        model = keras.Sequential([keras.Input(shape), *chain(r, x.shape, r.randint(1, 3))])
    else:
        start = keras.Input(shape)
        inner = start
        for _ in range(r.randint(1, 2)):
            inner = random_layer(r, inner.shape)(inner)
        if r.random() < 0.5:
            inner = L.Concatenate()([inner, L.Dense(3)(inner)])
        if r.random() < 0.4:
            inner = L.Add()([start, L.Dense(start.shape[-1])(start)])
        model = keras.Model(start, inner)
    if r.random() < 0.2:
        model.trainable = False
    made = model(x)
    if r.random() < 0.3:
        return L.Concatenate()([made, model(L.Dense(x.shape[-1])(x))]) if len(made.shape) < 5 else made
    return model(made) if made.shape == x.shape and r.random() < 0.5 else made


def chain(r: Random, shape: Any, length: int) -> list[Any]:
    """Layers that can be called one after the other on tensors of a shape."""
    layers = []
    for _ in range(length):
        layer = random_layer(r, shape)
        shape = layer(keras.KerasTensor(shape)).shape
        layers.append(layer)
    return layers


@of_ranks(2)
def dot(g: Growth, x: Any) -> Any:
    steps = L.Reshape((2, 3))(L.Dense(6)(x)), L.Reshape((4, 3))(L.Dense(12)(x))
    return L.Dot(axes=2)(list(steps))


@of_ranks(2, 3)
def lora(g: Growth, x: Any) -> Any:
    layer = L.Dense(g.r.randint(2, 5)) if len(x.shape) == 2 else L.EinsumDense("btc,cd->btd", (None, 4))
    layer.build(x.shape)
    layer.enable_lora(2, **({"lora_alpha": 3} if g.r.random() < 0.3 else {}))
    return layer(x)


# --- sequences (N, T, C)


@of_ranks(3, 3)
def attention(g: Growth, x: Any) -> Any:
    r, y = g.r, g.other(x)
    query = x
    if r.random() < 0.3:
        layer = L.GroupQueryAttention(r.randint(2, 3), 4, 2, use_bias=r.random() < 0.8)
    else:
        layer = L.MultiHeadAttention(
            r.randint(1, 3), r.randint(1, 3), value_dim=r.choice([None, 3]), use_bias=r.random() < 0.8
        )
    if r.random() < 0.2:
        layer.trainable = False
    made = layer(query=query, value=y) if r.random() < 0.3 else layer(query, y)
    return L.Add()([x, made]) if r.random() < 0.4 else made


@of_ranks(3)
def plain_attention(g: Growth, x: Any) -> Any:
    y = g.other(x)
    y = y if y.shape[-1] == x.shape[-1] else x
    return (L.AdditiveAttention if g.r.random() < 0.3 else L.Attention)(use_scale=g.r.random() < 0.5)([x, y])


@of_ranks(3)
def raw_attention(g: Growth, x: Any) -> Any:
    steps, channels = x.shape[1:]
    if steps is None:
        return ops.mean(x, axis=1)
    heads = groups_of(g.r, channels)

    def split(y: Any) -> Any:
        return ops.transpose(ops.reshape(L.Dense(channels)(y), (-1, steps, heads, channels // heads)), (0, 2, 1, 3))

    weights = ops.softmax(ops.matmul(split(x), ops.transpose(split(x), (0, 1, 3, 2))) * 0.3, axis=-1)
    return ops.reshape(ops.transpose(ops.matmul(weights, split(x)), (0, 2, 1, 3)), (-1, steps, channels))


@of_ranks(3)
def states(g: Growth, x: Any) -> Any:
    """The states of one layer are those that another starts with."""
    _, *state = L.LSTM(3, return_state=True)(x)
    return L.LSTM(3, return_sequences=True)(g.other(x), initial_state=state)


@of_ranks(3)
def over_steps(g: Growth, x: Any) -> Any:
    return g.r.choice([
        lambda: ops.mean(x, axis=1), lambda: x - ops.mean(x, axis=1, keepdims=True), lambda: ops.max(x, axis=1),
        lambda: x[:, -1], lambda: x[:, :1], lambda: ops.flip(x, axis=1), lambda: ops.transpose(x, (0, 2, 1)),
        lambda: ops.expand_dims(x, 1), lambda: ops.sum(ops.stack([x, L.Dense(x.shape[-1])(x)], axis=1), axis=1),
        lambda: ops.pad(x, ((0, 0), (0, 0), (1, g.r.randrange(3)))), lambda: ops.repeat(x, 2, axis=-1),
        lambda: ops.tile(x, (1, 1, 2)), lambda: ops.einsum("btc,bsc->bts", x, L.Dense(x.shape[-1])(x)),
    ])()  # fmt: skip


# --- images (N, H, W, C)


@of_ranks(4)
def shuffle(g: Growth, x: Any) -> Any:
    height, width, channels = x.shape[1:]
    if None in (height, width):
        return ops.max(x, axis=(1, 2))
    factor = groups_of(g.r, channels)
    split = L.Reshape((height, width, factor, channels // factor))(x)
    return L.Reshape((height, width, channels))(L.Permute((1, 2, 4, 3))(split))


@of_ranks(4)
def channels_first(g: Growth, x: Any) -> Any:
    """Layers that have the channels in front, between two transpositions."""
    first = L.Permute((3, 1, 2))(x)
    layer = g.r.choice([
        lambda: L.BatchNormalization(axis=1),
        lambda: L.GlobalAveragePooling2D(data_format="channels_first", keepdims=True),
        lambda: L.ZeroPadding2D(1, data_format="channels_first"),
        lambda: L.Conv2D(g.r.randint(2, 5), 1, data_format="channels_first"),
        lambda: L.PReLU(shared_axes=[2, 3]),
    ])()  # fmt: skip
    return L.Permute((2, 3, 1))(layer(first))


@of_ranks(4)
def over_places(g: Growth, x: Any) -> Any:
    return g.r.choice([
        lambda: ops.mean(x, axis=(1, 2)), lambda: ops.max(x, axis=1), lambda: x[:, 0], lambda: x[:, ::2],
        lambda: x - ops.mean(x, axis=(1, 2), keepdims=True), lambda: ops.transpose(x, (0, 2, 1, 3)),
    ])()  # fmt: skip
