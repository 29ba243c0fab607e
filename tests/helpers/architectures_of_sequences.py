"""Networks on sequences, tokens, graphs and tables, small: each a function that gives a built model."""

import keras
import numpy as np
from keras import layers as L
from keras import ops

from helpers.architectures import network

# --- transformers from stock layers


def feed_forward(x, inner=12, activation="gelu"):
    return L.Dropout(0.1)(L.Dense(x.shape[-1])(L.Dense(inner, activation=activation)(x)))


def encoder_block(x, heads=3, size=4, **options):
    y = L.LayerNormalization(epsilon=1e-6)(x)
    x = L.Add()([x, L.MultiHeadAttention(heads, size, dropout=0.1)(y, y, **options)])
    return L.Add()([x, feed_forward(L.LayerNormalization(epsilon=1e-6)(x))])


def tokens_and_positions(tokens, width, vocabulary=12):
    return L.Embedding(vocabulary, width)(tokens) + L.Embedding(tokens.shape[1], width)(ops.arange(tokens.shape[1]))


@network
def vision_transformer():
    x = keras.Input((12, 12, 3))
    y = L.Reshape((9, 8))(L.Conv2D(8, 4, strides=4)(x))
    y = y + L.Embedding(9, 8)(ops.arange(9))
    for _ in range(2):
        y = encoder_block(y)
    return keras.Model(x, L.Dense(5)(L.GlobalAveragePooling1D()(L.LayerNormalization()(y))))


@network
def vision_transformer_with_a_class_token():
    x = keras.Input((12, 12, 3))
    y = L.Reshape((9, 8))(L.Conv2D(8, 4, strides=4)(x))
    token = ops.broadcast_to(L.Embedding(1, 8)(ops.zeros((1, 1), "int32")), (1, 1, 8))
    y = L.Concatenate(axis=1)([0 * y[:, :1] + token, y])
    y = L.LayerNormalization()(encoder_block(y))
    return keras.Model(x, L.Dense(5)(y[:, 0]))


@network
def text_transformer():
    """An encoder and a decoder; the embedding is shared by both and by the output."""
    source, target = (keras.Input((7,), dtype="int32", name=name) for name in ("source", "target"))
    embedding = L.ReversibleEmbedding(12, 8, name="embedding")
    x = encoder_block(embedding(source))
    y = embedding(target)
    z = L.LayerNormalization()(y)
    y = y + L.MultiHeadAttention(2, 5)(z, z, use_causal_mask=True)
    y = y + L.MultiHeadAttention(2, 3, value_dim=4)(L.LayerNormalization()(y), x)
    y = y + feed_forward(L.LayerNormalization()(y), activation="relu")
    return keras.Model([source, target], embedding(L.LayerNormalization()(y), reverse=True))


@network
def masked_language_model():
    """Normalised after each sum, with a mask from padding."""
    tokens = keras.Input((7,), dtype="int32")
    x = L.LayerNormalization()(L.Embedding(12, 8, mask_zero=True)(tokens))
    for _ in range(2):
        x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4)(x, x))
        x = L.LayerNormalization()(x + feed_forward(x))
    first = L.Dense(6, activation="tanh")(x[:, 0])
    return keras.Model(tokens, {"words": L.Dense(12)(L.Dense(8, activation="gelu")(x)), "pair": L.Dense(2)(first)})


@network
def language_model():
    """Root-mean-square norms, rotary queries, grouped keys, gated linear units, tied output."""

    def turned(x):
        a, b = ops.split(x, 2, axis=-1)
        angles = np.arange(6, dtype="float32")[:, None, None] * np.array([1.0, 0.3], "float32")
        cos, sin = np.cos(angles), np.sin(angles)
        return ops.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    tokens = keras.Input((6,), dtype="int32")
    embedding = L.ReversibleEmbedding(12, 8)
    x = embedding(tokens)
    for _ in range(2):
        y = L.RMSNormalization()(x)
        q = turned(L.Reshape((6, 4, 4))(L.Dense(16, use_bias=False)(y)))
        k, v = (L.Reshape((6, 2, 4))(L.Dense(8, use_bias=False)(y)) for _ in range(2))
        y = ops.dot_product_attention(q, turned(k), v, is_causal=True)
        x = x + L.Dense(8, use_bias=False)(L.Reshape((6, 16))(y))
        y = L.RMSNormalization()(x)
        x = x + L.Dense(8)(ops.silu(L.Dense(12)(y)) * L.Dense(12)(y))
    return keras.Model(tokens, embedding(L.RMSNormalization()(x), reverse=True))


@network
def conformer():
    """Half-steps of feed-forward around attention and a gated convolution."""
    x = keras.Input((10, 5))
    y = L.Dense(8)(x)
    y = y + 0.5 * feed_forward(L.LayerNormalization()(y), activation="swish")
    z = L.LayerNormalization()(y)
    y = y + L.MultiHeadAttention(2, 3)(z, z)
    z = ops.glu(L.Conv1D(16, 1)(L.LayerNormalization()(y)))
    z = ops.silu(L.BatchNormalization()(L.DepthwiseConv1D(3, padding="same")(z)))
    y = y + L.Conv1D(8, 1)(z)
    y = L.LayerNormalization()(y + 0.5 * feed_forward(y))
    return keras.Model(x, L.Dense(4)(y))


@network
def mlp_mixer():
    x = keras.Input((12, 12, 3))
    y = L.Reshape((9, 8))(L.Conv2D(8, 4, strides=4)(x))
    for _ in range(2):
        z = L.Permute((2, 1))(L.LayerNormalization()(y))
        y = y + L.Permute((2, 1))(L.Dense(9)(L.Dense(7, activation="gelu")(z)))
        y = y + feed_forward(L.LayerNormalization()(y))
    return keras.Model(x, L.Dense(4)(L.GlobalAveragePooling1D()(y)))


@network
def perceiver():
    """A few latent vectors ask a long sequence."""
    x = keras.Input((14, 4))
    y = L.Dense(7)(x)
    latent = 0 * y[:, :3, :1] + L.Embedding(3, 8)(ops.arange(3))
    for _ in range(2):
        latent = latent + L.MultiHeadAttention(2, 3)(latent, y)
        latent = latent + feed_forward(latent)
    return keras.Model(x, L.Dense(4)(L.Flatten()(latent)))


# --- convolutions over time


@network
def wave_net():
    x = keras.Input((16, 3))
    y, skips = L.Conv1D(8, 2, padding="causal")(x), []
    for rate in (1, 2, 4):
        filtered = L.Conv1D(9, 2, dilation_rate=rate, padding="causal", activation="tanh")(y)
        gate = L.Conv1D(9, 2, dilation_rate=rate, padding="causal", activation="sigmoid")(y)
        z = L.Multiply()([filtered, gate])
        skips.append(L.Conv1D(6, 1)(z))
        y = L.Add()([y, L.Conv1D(8, 1)(z)])
    return keras.Model(x, L.Conv1D(4, 1)(L.Conv1D(7, 1, activation="relu")(L.ReLU()(L.Add()(skips)))))


@network
def temporal_convolutions():
    x = keras.Input((None, 3))
    y = x
    for width, rate in ((6, 1), (8, 2), (8, 4)):
        z = y
        for _ in range(2):
            z = L.ReLU()(L.BatchNormalization()(L.Conv1D(width, 3, dilation_rate=rate, padding="causal")(z)))
            z = L.SpatialDropout1D(0.2)(z)
        y = L.Activation("relu")(L.Add()([y if y.shape[-1] == width else L.Conv1D(width, 1)(y), z]))
    return keras.Model(x, L.Dense(4)(y[:, -1]))


@network
def text_convolutions():
    tokens = keras.Input((9,), dtype="int32")
    x = L.Embedding(12, 6)(tokens)
    pooled = [L.GlobalMaxPooling1D()(L.Conv1D(5, n, activation="relu")(x)) for n in (2, 3, 4)]
    return keras.Model(tokens, L.Dense(3)(L.Dropout(0.5)(L.Concatenate()(pooled))))


# --- recurrent networks


@network
def encoder_decoder_with_states():
    """The decoder starts from the states of the encoder; one embedding serves both."""
    source, target = keras.Input((6,), dtype="int32"), keras.Input((5,), dtype="int32")
    embedding = L.Embedding(12, 7)
    _, h, c = L.LSTM(8, return_state=True)(embedding(source))
    y = L.LSTM(8, return_sequences=True)(embedding(target), initial_state=[h, c])
    return keras.Model([source, target], L.Dense(12)(y))


@network
def two_way_encoder_decoder_with_attention():
    source, target = keras.Input((6, 4)), keras.Input((5, 4))
    encoded, *states = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True))(source)
    h, c = L.Concatenate()(states[0::2]), L.Concatenate()(states[1::2])
    y = L.LSTM(8, return_sequences=True)(target, initial_state=[h, c])
    context = L.AdditiveAttention()([y, encoded])
    y = L.Dense(7, activation="tanh")(L.Concatenate()([y, context, L.Attention(use_scale=True)([y, encoded])]))
    return keras.Model([source, target], L.TimeDistributed(L.Dense(5))(y))


@network
def text_in_images():
    """Convolutions, then columns read by recurrent layers."""
    x = keras.Input((8, 12, 1))
    y = L.MaxPooling2D()(L.Conv2D(6, 3, padding="same", activation="relu")(x))
    y = L.MaxPooling2D((2, 1))(L.BatchNormalization()(L.Conv2D(7, 3, padding="same")(y)))
    y = L.Reshape((6, 14))(L.Permute((2, 1, 3))(y))
    y = L.Bidirectional(L.GRU(5, return_sequences=True))(L.Dense(8, activation="relu")(y))
    y = L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode="sum")(y)
    return keras.Model(x, L.Dense(6)(y))


@network
def frames_of_a_video():
    """A network on every frame, then convolutions that remember."""
    x = keras.Input((4, 8, 8, 2))
    frame = keras.Sequential([L.Conv2D(5, 3, padding="same", activation="relu"), L.MaxPooling2D()])
    y = L.TimeDistributed(frame)(x)
    y = L.ConvLSTM2D(6, 3, padding="same", return_sequences=True)(L.TimeDistributed(L.BatchNormalization())(y))
    y = L.ConvLSTM2D(4, 3, padding="same")(y)
    return keras.Model(x, [L.Dense(3)(L.Flatten()(y)), L.Conv2D(2, 1)(y)])


@network
def stacked_cells():
    x = keras.Input((6, 4))
    y = L.RNN([L.LSTMCell(5), L.GRUCell(6), L.SimpleRNNCell(7)], return_sequences=True)(L.Masking()(x))
    weights = ops.softmax(L.Dense(1)(L.Dense(5, activation="tanh")(y)), axis=1)
    return keras.Model(x, L.Dense(3)(ops.sum(weights * y, axis=1)))


# --- several inputs and outputs


@network
def siamese():
    encoder = keras.Sequential(
        [
            keras.Input((10, 10, 1)),
            L.Conv2D(6, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(8, 3, activation="relu"),
            L.Flatten(),
            L.Dense(9, activation="sigmoid"),
        ],
        name="encoder",
    )
    a, b = keras.Input((10, 10, 1), name="a"), keras.Input((10, 10, 1), name="b")
    return keras.Model([a, b], L.Dense(1)(ops.abs(encoder(a) - encoder(b))))


@network
def triplets():
    x = keras.Input((12,))
    embed = keras.Model(x, L.Dense(8)(L.ReLU()(L.BatchNormalization()(L.Dense(10)(x)))), name="embed")
    anchor, near, far = (keras.Input((12,)) for _ in range(3))
    e, p, n = embed(anchor), embed(near), embed(far)
    near_far = [ops.sum(ops.square(e - one), axis=-1, keepdims=True) for one in (p, n)]
    return keras.Model([anchor, near, far], ops.concatenate([*near_far, L.Dot(axes=1)([e, p])], axis=-1))


@network
def many_inputs_and_outputs():
    inputs = {
        "image": keras.Input((8, 8, 3), name="image"),
        "words": keras.Input((6,), dtype="int32", name="words"),
        "table": keras.Input((5,), name="table"),
    }
    image = L.GlobalAveragePooling2D()(L.Conv2D(7, 3, activation="relu")(inputs["image"]))
    words = L.GRU(6)(L.Embedding(9, 5)(inputs["words"]))
    table = L.Dense(4, activation="relu")(inputs["table"])
    trunk = L.Dense(10, activation="relu")(L.Concatenate()([image, words, table]))
    priority = L.Dense(1, name="priority")(L.Add()([trunk, L.Dense(10)(image)]))
    return keras.Model(inputs, {"priority": priority, "class": L.Dense(3)(trunk), "trunk": L.Dense(2)(L.ReLU()(trunk))})


@network
def film():
    """A vector scales and shifts the channels of an image."""
    x, condition = keras.Input((8, 8, 3)), keras.Input((5,))
    y = L.Conv2D(6, 3)(x)
    for _ in range(2):
        scale, shift = ops.split(L.Dense(12)(condition), 2, axis=-1)
        z = L.Conv2D(6, 3, padding="same")(y) * (1 + scale[:, None, None]) + shift[:, None, None]
        y = y + ops.relu(z)
    return keras.Model([x, condition], L.Dense(4)(L.Flatten()(y)))


# --- tables, graphs, points


@network
def wide_and_deep():
    """Embeddings of categories crossed pair by pair, beside a deep network and a linear one."""
    categories, numbers = keras.Input((3,), dtype="int32"), keras.Input((4,))
    embedded = L.Embedding(8, 6)(categories)
    crossed = 0.5 * (ops.square(ops.sum(embedded, axis=1)) - ops.sum(ops.square(embedded), axis=1))
    deep = L.Dense(7, activation="relu")(L.Concatenate()([L.Flatten()(embedded), numbers]))
    deep = L.Dense(5, activation="relu")(L.BatchNormalization()(deep))
    linear = L.Dense(1)(numbers)
    return keras.Model([categories, numbers], linear + L.Dense(1)(deep) + ops.sum(crossed, axis=1, keepdims=True))


@network
def cross_network():
    x = keras.Input((6,))
    start = y = L.Dense(8)(x)
    for _ in range(2):
        y = start * L.Dense(8)(y) + y
    experts = ops.stack([L.Dense(7, activation="relu")(y) for _ in range(3)], axis=1)
    gates = [ops.softmax(L.Dense(3)(y))[:, :, None] for _ in range(2)]
    return keras.Model(x, [L.Dense(2)(ops.sum(experts * gate, axis=1)) for gate in gates])


@network
def matrix_factorization():
    user, item = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    u, v = (L.Flatten()(L.Embedding(9, 6)(one)) for one in (user, item))
    mlp = L.Dense(5, activation="relu")(L.Concatenate()([L.Flatten()(L.Embedding(9, 4)(one)) for one in (user, item)]))
    return keras.Model([user, item], L.Dense(1)(L.Concatenate()([L.Multiply()([u, v]), mlp])) + L.Dot(axes=1)([u, v]))


@network
def graph_network():
    """Messages along edges, then attention over neighbours."""
    nodes, edges = keras.Input((7, 5)), keras.Input((7, 7))
    x = L.Dense(8)(nodes)
    for _ in range(2):
        x = ops.relu(edges @ L.Dense(8)(x) + L.Dense(8)(x))
    h = L.Dense(6)(x)
    scores = L.Dense(1)(h) + ops.swapaxes(L.Dense(1)(h), 1, 2)
    x = ops.softmax(ops.leaky_relu(scores) + edges, axis=-1) @ h
    return keras.Model([nodes, edges], L.Dense(3)(ops.max(x, axis=1)))


@network
def point_net():
    """Points turned by a matrix that is made for them."""
    x = keras.Input((9, 3))
    y = L.GlobalMaxPooling1D()(L.Conv1D(6, 1, activation="relu")(x))
    y = L.Dot(axes=(2, 1))([x, L.Reshape((3, 3))(L.Dense(9)(y))])
    y = L.Conv1D(8, 1, activation="relu")(y)
    matrix = L.Reshape((8, 8))(L.Dense(64)(L.GlobalMaxPooling1D()(L.Conv1D(6, 1, activation="relu")(y))))
    local = L.Dot(axes=(2, 1))([y, matrix])
    overall = L.GlobalMaxPooling1D()(L.Conv1D(10, 1, activation="relu")(local))
    y = L.Concatenate()([local, L.RepeatVector(9)(overall)])
    return keras.Model(x, L.Conv1D(4, 1)(L.Conv1D(7, 1, activation="relu")(y)))


@network
def highway():
    x = keras.Input((6,))
    y = L.Dense(8)(x)
    for _ in range(2):
        gate = L.Dense(8, activation="sigmoid")(y)
        y = gate * L.Dense(8, activation="relu")(y) + (1 - gate) * y
    return keras.Model(x, L.Dense(3)(y))


@network
def capsules():
    x = keras.Input((8, 8, 1))
    y = L.Reshape((-1, 4))(L.Conv2D(12, 3, strides=2)(x))
    length = ops.sum(ops.square(y), axis=-1, keepdims=True)
    y = y * length / (1 + length) / ops.sqrt(length + 1e-6)
    votes = L.EinsumDense("bic,cjd->bijd", output_shape=(None, 3, 5))(y)
    agreement = ops.softmax(ops.sum(votes * ops.mean(votes, axis=1, keepdims=True), axis=-1, keepdims=True), axis=2)
    return keras.Model(x, L.Dense(2)(ops.sum(agreement * votes, axis=1)))
