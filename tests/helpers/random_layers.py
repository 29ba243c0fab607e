"""Random layers of one tensor, for random models: which classes there are for tensors of which rank.

A maker is a function of a source of random numbers and a shape, batch axis included, to a layer that takes
tensors of that shape. All sizes are small.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

import keras
import numpy as np
from keras import layers as L

Shape = tuple[int | None, ...]
Maker = Callable[[Random, Shape], keras.layers.Layer]
LAYERS: dict[int, list[Maker]] = defaultdict(list)  # rank of the tensor, batch axis included -> makers
NATIVE = ("linear", "relu", "tanh", "sigmoid", "relu6", "elu", "gelu", "swish", "hard_tanh", "softplus")


def of_ranks(*ranks: int) -> Callable[[Maker], Maker]:
    """Lists a maker for tensors of some ranks."""

    def listed(maker: Maker) -> Maker:
        for rank in ranks:
            LAYERS[rank].append(maker)
        return maker

    return listed


def random_layer(r: Random, shape: Shape) -> keras.layers.Layer:
    """Some layer for tensors of a shape."""
    return r.choice(LAYERS[len(shape)])(r, shape)


def seldom(r: Random, value: Any, otherwise: Any = None, times: int = 5) -> Any:
    """A value once in so many times."""
    return value if r.randrange(times) == 0 else otherwise


def constrained(r: Random, *weights: str) -> dict[str, Any]:
    """Now and then a constraint or a regularizer of some weights of a layer."""
    if r.randrange(8):
        return {}
    weight = r.choice(weights)
    choices = {
        f"{weight}_constraint": [keras.constraints.NonNeg(), keras.constraints.MaxNorm(1.0)],
        f"{weight}_regularizer": [keras.regularizers.L2(0.01), "l1"],
    }
    name = r.choice(sorted(choices))
    return {name: r.choice(choices[name])}


def window(r: Random, shape: Shape, most: int = 3) -> list[int]:
    """A kernel size that fits the axes of space."""
    return [r.randint(1, min(most, n or most)) for n in shape[1:-1]]


def groups_of(r: Random, channels: int | None) -> int:
    return r.choice([n for n in range(1, (channels or 1) + 1) if (channels or 1) % n == 0])


# --- layers of every rank


@of_ranks(2, 2, 2, 3, 3, 4, 5)
def dense(r: Random, shape: Shape) -> keras.layers.Layer:
    limits = constrained(r, "kernel", "bias")
    return L.Dense(r.randint(2, 7), activation=r.choice(NATIVE), use_bias=r.random() < 0.8, **limits)


@of_ranks(2, 3, 4)
def activation(r: Random, shape: Shape) -> keras.layers.Layer:
    return r.choice([
        lambda: L.Activation(r.choice([*NATIVE, "softmax", "log_softmax"])),
        lambda: L.ReLU(max_value=r.choice([None, 6.0]), negative_slope=r.choice([0.0, 0.1])),
        L.LeakyReLU,
        L.ELU,
        lambda: L.PReLU(shared_axes=seldom(r, [*range(1, len(shape) - 1)] or None, times=2)),
        L.Softmax,
    ])()  # fmt: skip


@of_ranks(2, 3, 4, 5)
def normalization(r: Random, shape: Shape) -> keras.layers.Layer:
    size = shape[-1]
    return r.choice([
        lambda: L.BatchNormalization(center=r.random() < 0.8, scale=r.random() < 0.8, **constrained(r, "gamma")),
        L.BatchNormalization,
        lambda: L.LayerNormalization(center=r.random() < 0.8, scale=r.random() < 0.8),
        L.RMSNormalization,
        lambda: L.GroupNormalization(groups_of(r, size)),
        L.UnitNormalization,
    ])()  # fmt: skip


@of_ranks(2, 3, 4, 5)
def noise(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = r.choice(
        [L.Dropout, L.GaussianNoise, L.GaussianDropout, L.AlphaDropout, L.ActivityRegularization, L.Identity]
    )
    return cls() if cls in (L.Identity, L.ActivityRegularization) else cls(0.2)


@of_ranks(2, 3, 4)
def rescaling(r: Random, shape: Shape) -> keras.layers.Layer:
    one_by_one = np.linspace(0.5, 1.5, shape[-1]).tolist() if shape[-1] else 0.5
    return L.Rescaling(seldom(r, one_by_one, 0.5, 3), offset=r.choice([0.0, 0.1]))


@of_ranks(3, 4)
def flatten(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.Flatten()


@of_ranks(2, 3, 4, 5)
def reshape(r: Random, shape: Shape) -> keras.layers.Layer:
    """The axes after the first grouped anew, or one of them split."""
    sizes = list(shape[1:])
    if None in sizes:
        return L.Identity()
    at = r.randrange(len(sizes))
    if len(sizes) > 1 and r.random() < 0.5:
        at = min(at, len(sizes) - 2)
        sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
    elif len(sizes) < 4:
        factor = groups_of(r, sizes[at])
        sizes[at : at + 1] = [factor, sizes[at] // factor]
    if r.random() < 0.2:
        sizes[r.randrange(len(sizes))] = -1
    return L.Reshape(sizes)


@of_ranks(3, 4)
def permute(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.Permute(r.sample(range(1, len(shape)), len(shape) - 1))


# --- vectors (N, C)


@of_ranks(2)
def repeat_vector(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.RepeatVector(r.randint(2, 4))


@of_ranks(2, 3)
def einsum_dense(r: Random, shape: Shape) -> keras.layers.Layer:
    if len(shape) == 2:
        return L.EinsumDense("bc,chd->bhd", output_shape=(2, 3), bias_axes=r.choice([None, "d", "hd"]))
    equation, bias = r.choice([("btc,cd->btd", "d"), ("btc,cd->btd", None), ("...c,cd->...d", "d")])
    return L.EinsumDense(equation, output_shape=(None, r.randint(2, 5)) if "t" in equation else 4, bias_axes=bias)


@of_ranks(2)
def spectral(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.SpectralNormalization(L.Dense(3)) if r.random() < 0.3 else L.Dense(8)


# --- sequences (N, T, C), images (N, H, W, C) and volumes (N, D, H, W, C)


@of_ranks(3, 3, 4, 4, 4, 5, 5)
def conv(r: Random, shape: Shape) -> keras.layers.Layer:
    rank, channels = len(shape) - 2, shape[-1]
    groups = seldom(r, groups_of(r, channels), 1, 6)  # which TensorFlow compiles for each shape
    moves = r.choice([{}, {}, {"strides": 2}, {"dilation_rate": 2}])
    padding = r.choice(["same", "valid"] + ["causal"] * (rank == 1)) if "dilation_rate" not in moves else "same"
    return getattr(L, f"Conv{rank}D")(
        groups * r.randint(1, 6 // groups + 1), window(r, shape), groups=groups, padding=padding,
        activation=r.choice(NATIVE), use_bias=r.random() < 0.8, **moves, **constrained(r, "kernel", "bias"),
    )  # fmt: skip


@of_ranks(3, 4)
def depthwise(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = getattr(L, f"DepthwiseConv{len(shape) - 2}D")
    return cls(r.randint(1, 2), depth_multiplier=r.randint(1, 3), padding="same", use_bias=r.random() < 0.7)


@of_ranks(3, 4)
def separable(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = getattr(L, f"SeparableConv{len(shape) - 2}D")
    return cls(r.randint(2, 6), 2, depth_multiplier=r.randint(1, 2), padding="same", activation=r.choice(NATIVE))


@of_ranks(3, 4)
def transposed(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = getattr(L, f"Conv{len(shape) - 2}DTranspose")
    return cls(r.randint(2, 6), 2, strides=r.randint(1, 2), padding=r.choice(["same", "valid"]))


@of_ranks(3, 4, 5)
def pooling(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = getattr(L, f"{r.choice(['Max', 'Average'])}Pooling{len(shape) - 2}D")
    return cls(2, padding="same", strides=r.choice([None, 1]))


@of_ranks(3, 4, 5)
def global_pooling(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = getattr(L, f"Global{r.choice(['Max', 'Average'])}Pooling{len(shape) - 2}D")
    return cls(keepdims=r.random() < 0.3)


@of_ranks(3, 4)
def resized(r: Random, shape: Shape) -> keras.layers.Layer:
    kinds = ["ZeroPadding", "UpSampling"] + ["Cropping"] * all(n is None or n > 3 for n in shape[1:-1])
    return getattr(L, f"{r.choice(kinds)}{len(shape) - 2}D")()


@of_ranks(3, 4, 5)
def spatial_dropout(r: Random, shape: Shape) -> keras.layers.Layer:
    return getattr(L, f"SpatialDropout{len(shape) - 2}D")(0.2)


@of_ranks(3, 3, 3)
def recurrent(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = r.choice([L.LSTM, L.GRU, L.SimpleRNN])
    more = {"reset_after": r.random() < 0.5} if cls is L.GRU else {}
    return cls(
        r.randint(2, 4), return_sequences=r.random() < 0.7, go_backwards=r.random() < 0.2, use_bias=r.random() < 0.8,
        activation=r.choice(["tanh", "tanh", "relu"]), **more, **constrained(r, "kernel", "recurrent", "bias"),
    )  # fmt: skip


@of_ranks(3)
def bidirectional(r: Random, shape: Shape) -> keras.layers.Layer:
    cls = r.choice([L.LSTM, L.GRU, L.SimpleRNN])
    return L.Bidirectional(
        cls(r.randint(2, 3), return_sequences=r.random() < 0.7), merge_mode=r.choice(["concat", "sum", "ave", "mul"])
    )


@of_ranks(3)
def stacked_cells(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.RNN([r.choice([L.LSTMCell, L.GRUCell, L.SimpleRNNCell])(3), L.GRUCell(2)], return_sequences=True)


@of_ranks(3)
def masking(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.Masking(0.0)


@of_ranks(3, 4, 5)
def distributed(r: Random, shape: Shape) -> keras.layers.Layer:
    """A layer at every step, now and then a whole model."""
    inner = (shape[0], *shape[2:])
    makers = [maker for maker in LAYERS[len(inner)] if maker not in (distributed, masking)]
    layer = r.choice(makers)(r, inner)
    if r.random() < 0.25 and None not in inner[1:]:
        layer = keras.Sequential([keras.Input(inner[1:]), layer, L.Dense(3)])
    return L.TimeDistributed(layer)


@of_ranks(4)
def conv_lstm(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.ConvLSTM1D(r.randint(2, 3), 2, padding="same", return_sequences=r.random() < 0.5)


@of_ranks(5)
def conv_lstm_of_images(r: Random, shape: Shape) -> keras.layers.Layer:
    return L.ConvLSTM2D(r.randint(2, 3), 2, padding="same", return_sequences=r.random() < 0.5)
