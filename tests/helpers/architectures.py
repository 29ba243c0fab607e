"""Networks as people build them, small: each a function that gives a built model."""

import keras
import numpy as np
from keras import layers as L
from keras import ops

NETWORKS = {}


def network(function):
    """Lists a function under its name in words."""
    NETWORKS[function.__name__.replace("_", " ")] = function
    return function


# --- segmentation


def conv_block(x, filters, n=2):
    for _ in range(n):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, padding="same", use_bias=False)(x)))
    return x


def up(x, filters, transposed=True):
    if transposed:
        return L.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
    return L.Conv2D(filters, 2, padding="same", activation="relu")(L.UpSampling2D(interpolation="bilinear")(x))


def encoder(x, *widths):
    skips = []
    for width in widths:
        skips.append(conv_block(x, width))
        x = L.MaxPooling2D()(skips[-1])
    return skips, x


@network
def u_net():
    x = keras.Input((16, 16, 3))
    skips, y = encoder(x, 6, 8)
    y = L.Dropout(0.5)(conv_block(y, 10))
    for skip in reversed(skips):
        y = conv_block(L.Concatenate()([skip, up(y, skip.shape[-1])]), skip.shape[-1])
    return keras.Model(x, L.Conv2D(2, 1)(y))


@network
def u_net_of_any_size():
    x = keras.Input((None, None, 3))
    skips, y = encoder(x, 6, 8)
    y = conv_block(y, 10)
    for skip in reversed(skips):
        y = conv_block(L.Concatenate()([skip, up(y, skip.shape[-1], transposed=False)]), skip.shape[-1])
    return keras.Model(x, L.Conv2D(2, 1)(y))


def attention_gate(skip, gate, width):
    a = L.BatchNormalization()(L.Conv2D(width, 1, strides=2)(skip))
    b = L.BatchNormalization()(L.Conv2D(width, 1)(gate))
    psi = L.BatchNormalization()(L.Conv2D(1, 1)(L.ReLU()(L.Add()([a, b]))))
    return L.Multiply()([skip, L.UpSampling2D()(L.Activation("sigmoid")(psi))])


@network
def attention_u_net():
    x = keras.Input((16, 16, 3))
    skips, y = encoder(x, 6, 8)
    y = conv_block(y, 10)
    for skip in reversed(skips):
        gated = attention_gate(skip, y, 5)
        y = conv_block(L.Concatenate()([gated, up(y, skip.shape[-1])]), skip.shape[-1])
    return keras.Model(x, L.Conv2D(2, 1)(y))


@network
def u_net_plus_plus():
    """Nested skips and deep supervision."""
    x = keras.Input((16, 16, 3))
    widths = (5, 6, 7, 8)
    nodes = {}
    for i, width in enumerate(widths):
        nodes[i, 0] = conv_block(L.MaxPooling2D()(nodes[i - 1, 0]) if i else x, width, n=1)
    for j in range(1, 4):
        for i in range(4 - j):
            row = [nodes[i, k] for k in range(j)]
            nodes[i, j] = conv_block(L.Concatenate()([*row, up(nodes[i + 1, j - 1], widths[i])]), widths[i], n=1)
    return keras.Model(x, [L.Conv2D(1, 1)(nodes[0, j]) for j in range(1, 4)])


@network
def r2_u_net():
    """Recurrent residual blocks: each convolution is called several times on a sum with its input."""

    def block(x, width):
        x = skip = L.Conv2D(width, 1)(x)
        for _ in range(2):
            conv = L.Conv2D(width, 3, padding="same", activation="relu")
            y = conv(x)
            for _ in range(2):
                y = conv(L.Add()([x, y]))
            x = y
        return L.Add()([skip, x])

    x = keras.Input((8, 8, 3))
    a = block(x, 6)
    b = block(L.MaxPooling2D()(a), 8)
    return keras.Model(x, L.Conv2D(2, 1)(block(L.Concatenate()([a, up(b, 6)]), 6)))


@network
def deep_lab():
    """Atrous spatial pyramid pooling."""
    x = keras.Input((12, 12, 3))
    low = conv_block(x, 6, n=1)
    y = conv_block(L.MaxPooling2D()(low), 8)
    branches = [L.Conv2D(5, 3, padding="same", dilation_rate=rate, activation="relu")(y) for rate in (1, 2, 3)]
    pooled = L.Conv2D(5, 1)(L.GlobalAveragePooling2D(keepdims=True)(y))
    branches.append(L.UpSampling2D(6, interpolation="bilinear")(pooled))
    y = L.UpSampling2D(2, interpolation="bilinear")(L.Conv2D(7, 1)(L.Concatenate()(branches)))
    y = conv_block(L.Concatenate()([y, L.Conv2D(4, 1)(low)]), 6, n=1)
    return keras.Model(x, L.Conv2D(3, 1)(y))


# --- classification of images


@network
def se_res_net():
    x = keras.Input((12, 12, 3))
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(x)))
    for width, stride in ((8, 1), (12, 2), (12, 1)):
        z = L.ReLU()(L.BatchNormalization()(L.Conv2D(width, 3, strides=stride, padding="same")(y)))
        z = L.BatchNormalization()(L.Conv2D(width, 3, padding="same")(z))
        gate = L.Dense(width, activation="sigmoid")(L.Dense(4, activation="relu")(L.GlobalAveragePooling2D()(z)))
        z = L.Multiply()([z, L.Reshape((1, 1, width))(gate)])
        skip = y if stride == 1 else L.BatchNormalization()(L.Conv2D(width, 1, strides=stride)(y))
        y = L.ReLU()(L.Add()([skip, z]))
    return keras.Model(x, L.Dense(5)(L.GlobalAveragePooling2D()(y)))


@network
def cbam():
    """Attention over channels by a shared perceptron, then over space by statistics of the channels."""
    x = keras.Input((10, 10, 3))
    y = L.Conv2D(8, 3, activation="relu")(x)
    shared = keras.Sequential([L.Dense(4, activation="relu"), L.Dense(8)])
    pooled = [shared(pool(keepdims=True)(y)) for pool in (L.GlobalAveragePooling2D, L.GlobalMaxPooling2D)]
    y = L.Multiply()([y, L.Activation("sigmoid")(L.Add()(pooled))])
    statistics = ops.concatenate([ops.mean(y, -1, keepdims=True), ops.max(y, -1, keepdims=True)], axis=-1)
    y = y * L.Conv2D(1, 5, padding="same", activation="sigmoid")(statistics)
    return keras.Model(x, L.Dense(4)(L.Flatten()(L.Conv2D(6, 3)(y))))


@network
def inception_with_everything():
    x = keras.Input((12, 12, 3))
    y = L.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    for _ in range(2):
        a = L.Conv2D(4, 1, activation="relu")(y)
        b = L.Conv2D(5, (1, 3), padding="same")(L.Conv2D(5, (3, 1), padding="same")(L.Conv2D(4, 1)(y)))
        c = L.Conv2D(6, 3, groups=2, padding="same", activation="relu")(L.Conv2D(6, 1)(y))
        d = L.SeparableConv2D(4, 3, padding="same", depth_multiplier=2)(y)
        e = L.Conv2D(3, 1)(L.MaxPooling2D(3, strides=1, padding="same")(y))
        f = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(L.Conv2D(3, 1)(y))
        z = L.PReLU(shared_axes=[1, 2])(L.BatchNormalization()(L.Concatenate()([a, b, c, d, e, f])))
        y = L.Concatenate()([y, L.SpatialDropout2D(0.2)(L.Conv2D(8, 1)(z))])
    y = L.Average()([L.Conv2D(7, 1)(y), L.Maximum()([L.Conv2D(7, 1)(y), L.Conv2D(7, 1)(y)])])
    return keras.Model(x, L.Dense(5)(L.Flatten()(L.AveragePooling2D(2)(y))))


@network
def conv_next():
    x = keras.Input((12, 12, 3))
    y = L.LayerNormalization(epsilon=1e-6)(L.Conv2D(8, 2, strides=2)(x))
    for _ in range(2):
        z = L.LayerNormalization(epsilon=1e-6)(L.DepthwiseConv2D(3, padding="same")(y))
        z = L.Dense(8)(L.Dense(16, activation="gelu")(z))
        y = y + z * np.linspace(0.5, 1.5, 8, dtype="float32")
    y = L.Conv2D(10, 2, strides=2)(L.LayerNormalization()(y))
    return keras.Model(x, L.Dense(4)(L.GlobalAveragePooling2D()(y)))


@network
def mobile_net_3():
    x = keras.Input((12, 12, 3))
    y = L.Activation("hard_silu")(L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same")(x)))
    for _ in range(2):
        z = L.Activation("hard_silu")(L.BatchNormalization()(L.Conv2D(12, 1)(y)))
        z = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(z))
        gate = L.ReLU()(L.Conv2D(4, 1)(L.GlobalAveragePooling2D(keepdims=True)(z)))
        gate = L.ReLU(6.0)(L.Conv2D(12, 1)(gate) + 3.0) * (1.0 / 6.0)
        y = L.Add()([y, L.BatchNormalization()(L.Conv2D(8, 1)(z * gate))])
    return keras.Model(x, L.Dense(4)(L.Flatten()(L.Conv2D(9, 1)(L.GlobalAveragePooling2D(keepdims=True)(y)))))


@network
def high_resolution_net():
    """Branches of several sizes that exchange what they know."""
    x = keras.Input((8, 8, 3))
    a = conv_block(x, 6, n=1)
    b = conv_block(L.MaxPooling2D()(a), 8, n=1)
    for _ in range(2):
        down = L.BatchNormalization()(L.Conv2D(8, 3, strides=2, padding="same")(a))
        upwards = L.UpSampling2D()(L.BatchNormalization()(L.Conv2D(6, 1)(b)))
        a, b = conv_block(L.Add()([a, upwards]), 6, n=1), conv_block(L.Add()([b, down]), 8, n=1)
    return keras.Model(x, [L.Conv2D(2, 1)(L.Concatenate()([a, L.UpSampling2D()(b)]))])


@network
def yolo():
    """Split and Concat blocks, pyramid pooling, and a head on each of two sizes."""

    def c2f(x, width):
        y = list(ops.split(L.Conv2D(2 * width, 1, activation="silu")(x), 2, axis=-1))
        for _ in range(2):
            y.append(y[-1] + L.Conv2D(width, 3, padding="same", activation="silu")(y[-1]))
        return L.Conv2D(2 * width, 1, activation="silu")(L.Concatenate()(y))

    def head(x):
        y = L.Concatenate()([L.Conv2D(4, 1)(L.Conv2D(6, 3, padding="same")(x)), L.Conv2D(3, 1)(x)])
        return L.Reshape((-1, 7))(y)

    x = keras.Input((16, 16, 3))
    y = c2f(L.Conv2D(6, 3, strides=2, padding="same", activation="silu")(x), 4)
    z = c2f(L.Conv2D(10, 3, strides=2, padding="same", activation="silu")(y), 5)
    pools = [z]
    for _ in range(3):
        pools.append(L.MaxPooling2D(3, strides=1, padding="same")(pools[-1]))
    z = L.Conv2D(8, 1)(L.Concatenate()(pools))
    y = c2f(L.Concatenate()([L.UpSampling2D()(z), y]), 4)
    z = c2f(L.Concatenate()([L.Conv2D(6, 3, strides=2, padding="same")(y), z]), 5)
    detections = L.Concatenate(axis=1)([head(y), head(z)])
    boxes, classes = ops.split(detections, [4], axis=-1)
    return keras.Model(x, {"boxes": boxes, "classes": classes})


@network
def feature_pyramid():
    x = keras.Input((16, 16, 3))
    levels = [conv_block(x, 6, n=1)]
    for width in (8, 10):
        levels.append(conv_block(L.MaxPooling2D()(levels[-1]), width, n=1))
    y = L.Conv2D(7, 1)(levels[-1])
    outputs = [y]
    for level in reversed(levels[:-1]):
        y = L.Add()([L.UpSampling2D()(y), L.Conv2D(7, 1)(level)])
        outputs.append(y)
    z = keras.Input((None, None, 7))
    shared = keras.Model(z, L.Conv2D(4, 1)(L.Conv2D(6, 3, padding="same", activation="relu")(z)), name="shared_head")
    return keras.Model(x, [shared(one) for one in outputs])


# --- generators and autoencoders


@network
def gan_generator():
    z = keras.Input((10,))
    y = L.Reshape((4, 4, 8))(L.Dense(4 * 4 * 8, use_bias=False)(z))
    for width in (7, 6):
        y = L.LeakyReLU()(L.BatchNormalization()(L.Conv2DTranspose(width, 4, strides=2, padding="same")(y)))
    return keras.Model(z, L.Conv2D(3, 3, padding="same")(y))


@network
def conditional_generator():
    z, label = keras.Input((10,)), keras.Input((1,), dtype="int32")
    embedded = L.Flatten()(L.Embedding(6, 10)(label))
    y = L.Dense(4 * 4 * 6)(L.Multiply()([z, embedded]))
    y = L.Concatenate()([L.Reshape((4, 4, 6))(y), L.Reshape((4, 4, 1))(L.Dense(16)(embedded))])
    return keras.Model(
        [z, label], L.Conv2DTranspose(3, 4, strides=2, padding="same")(L.Conv2D(7, 3, padding="same")(y))
    )


@network
def autoencoder():
    """Two models in a row, with a bottleneck of a mean and a variance."""
    x = keras.Input((8, 8, 3))
    y = L.Flatten()(L.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x))
    code = keras.Model(x, [L.Dense(5)(y), L.Dense(5)(y)], name="encoder")
    z = keras.Input((5,))
    y = L.Reshape((4, 4, 6))(L.Dense(96, activation="relu")(z))
    decode = keras.Model(z, L.Conv2DTranspose(3, 3, strides=2, padding="same")(y), name="decoder")
    x = keras.Input((8, 8, 3))
    mean, spread = code(x)
    return keras.Model(x, [decode(mean + ops.exp(0.5 * spread) * 0.3), mean, spread])


@network
def diffusion_u_net():
    """Time embedded by sines, groups normalised, attention at the bottom, skips joined."""

    def block(x, time, width):
        y = L.Conv2D(width, 3, padding="same")(ops.silu(L.GroupNormalization(2)(x)))
        y = y + L.Dense(width)(time)[:, None, None]
        y = L.Conv2D(width, 3, padding="same")(ops.silu(L.GroupNormalization(2)(y)))
        return y + (x if x.shape[-1] == width else L.Conv2D(width, 1)(x))

    x, t = keras.Input((8, 8, 3)), keras.Input((1,))
    angles = t * np.array([0.1, 0.5, 2.0], "float32")
    time = L.Dense(8, activation="silu")(ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1))
    a = block(L.Conv2D(6, 3, padding="same")(x), time, 6)
    b = block(L.AveragePooling2D(2)(a), time, 8)
    flat = L.Reshape((16, 8))(L.GroupNormalization(2)(b))
    b = b + L.Reshape((4, 4, 8))(L.MultiHeadAttention(2, 3)(flat, flat))
    y = block(L.Concatenate()([L.UpSampling2D()(b), a]), time, 6)
    return keras.Model([x, t], L.Conv2D(3, 3, padding="same")(y))


@network
def super_resolution():
    x = keras.Input((None, None, 3))
    y = skip = L.Conv2D(8, 3, padding="same")(x)
    for _ in range(2):
        y = L.Add()([y, 0.1 * L.Conv2D(8, 3, padding="same")(L.Conv2D(8, 3, padding="same", activation="relu")(y))])
    y = ops.depth_to_space(L.Conv2D(24, 3, padding="same")(L.Add()([skip, y])), 2)
    return keras.Model(x, L.Conv2D(3, 3, padding="same")(y))
