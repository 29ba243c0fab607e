"""The laws where a position belongs to a head and to a place in it: attention from raw operations, shuffles, windows.

Tools that follow channels by position alone get each of these wrong, silently.
"""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import check_law
from helpers.small_models import dense_head
from kerassurgery_fn import DeleteChannels, capture
from kerassurgery_fn.errors import PartialGroup, PinnedChannels

pytestmark = pytest.mark.keras

STEPS, WIDTH, HEADS, SIZE = 6, 10, 4, 3


# --- attention from raw operations


def packed(x, order, name="qkv", heads=HEADS, size=SIZE):
    """Queries, keys and values of one Dense layer, (batch, heads, steps, size) each, its units in some order of
    (the three of them, heads, size)."""
    sizes = {"3": 3, "h": heads, "d": size}
    y = ops.reshape(L.Dense(3 * heads * size, name=name)(x), (-1, x.shape[1], *(sizes[axis] for axis in order)))
    y = ops.transpose(y, [2 + order.index("3"), 0, 2 + order.index("h"), 1, 2 + order.index("d")])
    return y[0], y[1], y[2]


def split(x, name="qkv", heads=HEADS, size=SIZE):
    """The same from a split of the units in three, each of which is then seen as heads."""
    parts = ops.split(L.Dense(3 * heads * size, name=name)(x), 3, axis=-1)
    return [ops.transpose(ops.reshape(part, (-1, x.shape[1], heads, size)), (0, 2, 1, 3)) for part in parts]


def three(x, name="q", heads=HEADS, size=SIZE):
    """The same from three Dense layers."""
    dense = [L.Dense(heads * size, name=f"{name}{i}") for i in range(3)]
    return [ops.transpose(ops.reshape(one(x), (-1, x.shape[1], heads, size)), (0, 2, 1, 3)) for one in dense]


def by_matmul(q, k, v):
    scores = ops.softmax(q @ ops.transpose(k, (0, 1, 3, 2)) * q.shape[-1] ** -0.5, axis=-1)
    made = ops.transpose(scores @ v, (0, 2, 1, 3))
    return ops.reshape(made, (-1, made.shape[1], made.shape[2] * made.shape[3]))


def by_einsum(q, k, v):
    scores = ops.softmax(ops.einsum("bhqd,bhkd->bhqk", q, k) / 3, axis=-1)
    return L.Reshape((q.shape[2], q.shape[1] * q.shape[3]))(ops.einsum("bhqk,bhkd->bqhd", scores, v))


def by_operation(q, k, v):
    made = ops.dot_product_attention(*(ops.swapaxes(x, 1, 2) for x in (q, k, v)))
    return ops.reshape(made, (-1, made.shape[1], made.shape[2] * made.shape[3]))


def block(x, project, attend, **named):
    """An attention block with its residual and a feed-forward layer with its own."""
    x = x + L.Dense(x.shape[-1])(attend(*project(x, **named)))
    return x + L.Dense(x.shape[-1])(L.Dense(9, activation="gelu")(x))


def transformer(project, *attend, **sizes):
    """Blocks in a residual stream that an embedding feeds, one for each way to attend."""
    tokens = keras.Input((STEPS,), dtype="int32")
    x = L.Embedding(8, WIDTH, name="embedding")(tokens) + L.Embedding(STEPS, WIDTH)(ops.arange(STEPS))
    for i, each in enumerate(attend):
        x = block(x, project, each, name=f"qkv{i}", **sizes)
    return keras.Model(tokens, dense_head(x))


PROJECTIONS = {
    **{f"one Dense, units in the order {order}": lambda x, o=order, **k: packed(x, o, **k)
       for order in ("3hd", "hd3", "h3d", "d3h", "3dh", "dh3")},
    "one Dense, split in three": split,
    "three Dense": three,
}  # fmt: skip


@pytest.mark.parametrize("project", PROJECTIONS)
def test_attention_from_raw_operations(project):
    """Three blocks in a row: by matrix products, by einsum, and by the operation of Keras."""
    verdict = check_law(transformer(PROJECTIONS[project], by_matmul, by_einsum, by_operation))
    assert verdict.prunable > 0.9, verdict


def rotated(x, pairs):
    """Positions turned in pairs by an angle a step, as rotary embeddings do it: pairs side by side or half apart."""
    angles = np.arange(x.shape[2])[:, None] / (1 + np.arange(x.shape[-1] // 2))
    cos, sin = np.cos(angles).astype("float32"), np.sin(angles).astype("float32")
    if pairs == "halves":
        a, b = ops.split(x, 2, axis=-1)
        return ops.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    a, b = x[..., ::2], x[..., 1::2]
    made = ops.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return ops.reshape(made, (-1, *x.shape[1:]))


def rotary(pairs):
    def attend(q, k, v):
        return by_matmul(rotated(q, pairs), rotated(k, pairs), v)

    return transformer(lambda x, **k: packed(x, "3hd", size=4), attend)


def with_a_bias_for_each_head(q, k, v):
    table = np.random.default_rng(1).standard_normal((1, q.shape[1], q.shape[2], k.shape[2])).astype("float32")
    scores = ops.softmax(q @ ops.swapaxes(k, 2, 3) / 3 + table, axis=-1)
    return ops.reshape(ops.swapaxes(scores @ v, 1, 2), (-1, q.shape[2], q.shape[1] * q.shape[3]))


def multi_query():
    """Many query heads share the keys and values of one."""
    x = keras.Input((STEPS, WIDTH))
    y = L.Dense(WIDTH)(x)
    q = ops.transpose(ops.reshape(L.Dense(HEADS * SIZE)(y), (-1, STEPS, HEADS, SIZE)), (0, 2, 1, 3))
    k, v = (L.Dense(SIZE)(y)[:, None] for _ in range(2))
    return keras.Model(x, dense_head(L.Dense(WIDTH)(by_matmul(q, k, v)) + y))


def grouped_query():
    """Two query heads each share one head of keys and values, repeated for them."""
    x = keras.Input((STEPS, WIDTH))
    y = L.Dense(WIDTH)(x)
    q = ops.transpose(ops.reshape(L.Dense(HEADS * SIZE)(y), (-1, STEPS, HEADS, SIZE)), (0, 2, 1, 3))
    k, v = (ops.transpose(ops.reshape(L.Dense(2 * SIZE)(y), (-1, STEPS, 2, SIZE)), (0, 2, 1, 3)) for _ in range(2))
    return keras.Model(x, dense_head(L.Dense(WIDTH)(by_matmul(q, ops.repeat(k, 2, axis=1), ops.repeat(v, 2, axis=1)))))


def cross():
    a, b = keras.Input((STEPS, WIDTH)), keras.Input((5, 7))
    x, y = L.Dense(9)(a), L.Dense(8)(b)
    q = ops.transpose(ops.reshape(L.Dense(HEADS * SIZE)(x), (-1, STEPS, HEADS, SIZE)), (0, 2, 1, 3))
    kv = ops.reshape(L.Dense(2 * HEADS * SIZE)(y), (-1, 5, 2, HEADS, SIZE))
    k, v = (ops.transpose(kv[:, :, i], (0, 2, 1, 3)) for i in range(2))
    return keras.Model([a, b], dense_head(x + L.Dense(9)(by_matmul(q, k, v))))


def talking_heads():
    """Scores are mixed across the heads before and after the softmax."""
    x = keras.Input((STEPS, WIDTH))
    q, k, v = packed(L.Dense(WIDTH)(x), "3hd")
    mix = {"output_shape": (None, None, 5)}
    scores = ops.transpose(q @ ops.swapaxes(k, 2, 3), (0, 2, 3, 1))
    scores = ops.softmax(L.EinsumDense("bqkh,hg->bqkg", **mix)(scores), axis=2)
    scores = ops.transpose(L.EinsumDense("bqkg,gh->bqkh", output_shape=(None, None, HEADS))(scores), (0, 3, 1, 2))
    made = ops.transpose(scores @ v, (0, 2, 1, 3))
    return keras.Model(x, dense_head(L.Dense(6)(ops.reshape(made, (-1, STEPS, HEADS * SIZE)))))


def linear_attention():
    x = keras.Input((STEPS, WIDTH))
    q, k, v = packed(L.Dense(WIDTH)(x), "hd3")
    context = ops.einsum("bhnd,bhne->bhde", ops.softmax(k, axis=2), v)
    made = ops.einsum("bhnd,bhde->bhne", ops.elu(q), context)
    return keras.Model(
        x, dense_head(L.Dense(6)(ops.reshape(ops.transpose(made, (0, 2, 1, 3)), (-1, STEPS, HEADS * SIZE))))
    )


def channel_attention():
    """Scores between channels of a head, as in cross-covariance attention."""
    x = keras.Input((STEPS, WIDTH))
    q, k, v = packed(L.Dense(WIDTH)(x), "3hd")
    scores = ops.softmax(ops.swapaxes(ops.normalize(q, axis=2), 2, 3) @ ops.normalize(k, axis=2), axis=1)
    made = ops.transpose(v @ scores, (0, 2, 1, 3))
    return keras.Model(x, dense_head(L.Dense(6)(ops.reshape(made, (-1, STEPS, HEADS * SIZE)))))


def windows(x, size):
    """Square windows of an image, one after the other in the batch."""
    _, high, wide, width = x.shape
    x = ops.reshape(x, (-1, high // size, size, wide // size, size, width))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, size * size, width))


def from_windows(x, size, high, wide):
    x = ops.reshape(x, (-1, high // size, wide // size, size, size, x.shape[-1]))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, high, wide, x.shape[-1]))


def swin(order="3hd"):
    """Attention within windows, then within shifted ones, and a merge of patches by slices in steps."""
    x = keras.Input((4, 4, 3))
    y = L.Conv2D(WIDTH, 1)(x)
    for shift in (0, 1):
        z = ops.roll(y, (-shift, -shift), (1, 2)) if shift else y
        z = L.Dense(WIDTH)(by_matmul(*packed(windows(z, 2), order, name=f"qkv{shift}")))
        z = from_windows(z, 2, 4, 4)
        y = y + (ops.roll(z, (shift, shift), (1, 2)) if shift else z)
    merged = ops.concatenate([y[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
    return keras.Model(x, dense_head(L.Dense(7)(merged)))


def patches():
    """An image cut into patches by a reshape, and put together again."""
    x = keras.Input((4, 6, 3))
    y = L.Conv2D(5, 1)(x)
    y = ops.transpose(ops.reshape(y, (-1, 2, 2, 3, 2, 5)), (0, 1, 3, 2, 4, 5))
    y = L.Dense(2 * 2 * 6)(ops.reshape(y, (-1, 6, 20)))
    y = ops.transpose(ops.reshape(y, (-1, 2, 3, 2, 2, 6)), (0, 1, 3, 2, 4, 5))
    return keras.Model(x, dense_head(L.Conv2D(4, 2)(ops.reshape(y, (-1, 4, 6, 6)))))


ATTENTION = {
    "rotary, pairs half apart": lambda: rotary("halves"),
    "rotary, pairs side by side": lambda: rotary("neighbours"),
    "a bias for each head": lambda: transformer(lambda x, **k: packed(x, "3hd", **k), with_a_bias_for_each_head),
    "many query heads on one of keys": multi_query,
    "two query heads each on one of keys": grouped_query,
    "cross-attention": cross,
    "talking heads": talking_heads,
    "linear attention": linear_attention,
    "attention between channels": channel_attention,
    "windows": swin,
    "windows, heads first": lambda: swin("hd3"),
    "patches": patches,
}


# --- convolutions in groups, shuffles, depth to space


def shuffle(x, groups, reshape=True):
    _, high, wide, width = x.shape
    if reshape:
        y = L.Permute((1, 2, 4, 3))(L.Reshape((high, wide, groups, width // groups))(x))
        return L.Reshape((high, wide, width))(y)
    y = ops.reshape(x, (-1, high, wide, groups, width // groups))
    return ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, high, wide, width))


def bottleneck(x, groups, inner):
    y = L.ReLU()(L.BatchNormalization()(L.Conv2D(inner, 1, groups=groups)(x)))
    y = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(shuffle(y, groups)))
    return L.BatchNormalization()(L.Conv2D(x.shape[-1], 1, groups=groups)(y))


def shufflenet_1(groups=3, blocks=2, width=12, inner=18):
    x = keras.Input((6, 6, 3))
    y = L.Conv2D(width, 3)(x)
    for _ in range(blocks):
        y = L.ReLU()(L.Add()([y, bottleneck(y, groups, inner)]))
    z = L.AveragePooling2D(3, strides=2, padding="same")(y)
    y = L.Concatenate()([L.MaxPooling2D(3, strides=2, padding="same")(bottleneck(y, groups, inner)), z])
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(shuffle(y, groups, reshape=False))))


def shufflenet_2(units=3):
    x = keras.Input((5, 5, 3))
    y = L.Conv2D(12, 3)(x)
    for _ in range(units):
        left, right = ops.split(y, 2, axis=-1)
        right = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(L.Conv2D(6, 1, activation="relu")(right)))
        y = shuffle(ops.concatenate([left, L.Conv2D(6, 1)(right)], axis=-1), 2)
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(y)))


def groups_in_a_row(*groups, width=24, between=lambda y: y):
    x = keras.Input((5, 5, 3))
    y = L.Conv2D(width, 2)(x)
    for n in groups:
        y = between(L.Conv2D(width, 1, groups=n, activation="relu")(y))
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(y)))


def resnext():
    x = keras.Input((5, 5, 3))
    y = L.Conv2D(10, 2)(x)
    for groups in (4, 2):
        z = L.BatchNormalization()(L.Conv2D(16, 3, groups=groups, padding="same")(L.Conv2D(16, 1)(y)))
        y = L.Add()([y, L.Conv2D(10, 1)(L.ReLU()(z))])
    return keras.Model(x, dense_head(y))


def grouped_residual(*groups):
    """The same stream is read in different groups."""
    x = keras.Input((5, 5, 3))
    y = L.Conv2D(24, 2)(x)
    for n in groups:
        y = L.Add()([y, L.Conv2D(24, 1, groups=n, activation="relu")(y)])
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(y)))


def upsampler(grouped=1, residual=False):
    """Pixel shuffle: a convolution makes channels that become space."""
    x = keras.Input((4, 4, 3))
    y = ops.depth_to_space(L.Conv2D(24, 1, groups=grouped)(L.Conv2D(8, 2)(x)), 2)
    z = L.UpSampling2D()(L.Conv2D(6, 2)(x))
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(y + z if residual else y)))


def upsampler_from_reshapes():
    x = keras.Input((3, 3, 3))
    y = ops.reshape(L.Conv2D(2 * 2 * 6, 1)(x), (-1, 3, 3, 2, 2, 6))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 6, 6, 6))
    return keras.Model(x, dense_head(L.Conv2D(5, 2)(y)))


def upsampler_of_torch():
    """The channels first, the places of the block within each channel."""
    x = keras.Input((3, 3, 3))
    y = ops.reshape(L.Conv2D(6 * 2 * 2, 1)(x), (-1, 3, 3, 6, 2, 2))
    y = ops.reshape(ops.transpose(y, (0, 1, 4, 2, 5, 3)), (-1, 6, 6, 6))
    return keras.Model(x, dense_head(L.Conv2D(5, 2)(y)))


def downsampler():
    x = keras.Input((4, 4, 3))
    y = ops.space_to_depth(L.Conv2D(6, 1)(x), 2)
    y = L.Conv2D(24, 1)(y) + y
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(ops.depth_to_space(y, 2))))


def flatten_after(*axes):
    x = keras.Input((3, 4, 2))
    y = L.Permute(axes)(L.Conv2D(6, 1)(x))
    return keras.Model(x, L.Dense(5)(L.Dense(7, activation="relu")(L.Flatten()(y))))


def squeeze_and_excite():
    x = keras.Input((5, 5, 3))
    y = L.Conv2D(12, 2)(x)
    for _ in range(2):
        z = L.Conv2D(12, 1, groups=3)(y)
        gate = L.Dense(12, activation="sigmoid")(L.Dense(4, activation="relu")(L.GlobalAveragePooling2D()(z)))
        y = L.Add()([y, L.Multiply()([z, L.Reshape((1, 1, 12))(gate)])])
    return keras.Model(x, dense_head(y))


def split_gates(interleaved):
    """Half of the units are gates for the other half."""
    x = keras.Input((STEPS, WIDTH))
    y = L.Dense(9)(x)
    for _ in range(2):
        z = L.Dense(14)(y)
        a, b = (z[..., ::2], z[..., 1::2]) if interleaved else (z[..., :7], z[..., 7:])
        y = y + L.Dense(9)(a * ops.sigmoid(b))
    return keras.Model(x, dense_head(y))


def split_attention(radix=2):
    """ResNeSt: branches of a grouped convolution weighed against each other."""
    x = keras.Input((5, 5, 3))
    y = L.Conv2D(8 * radix, 2, groups=1)(x)
    y = L.Conv2D(8 * radix, 3, groups=radix, padding="same")(y)
    branches = ops.reshape(y, (-1, 4, 4, radix, 8))
    gap = ops.mean(ops.sum(branches, axis=3), axis=(1, 2))
    weights = ops.softmax(ops.reshape(L.Dense(8 * radix)(L.Dense(5, activation="relu")(gap)), (-1, 1, 1, radix, 8)), 3)
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(ops.sum(branches * weights, axis=3))))


def selective_kernel():
    x = keras.Input((5, 5, 3))
    branches = ops.stack([L.Conv2D(8, n, padding="same")(x) for n in (1, 3)], axis=1)
    squeezed = L.Dense(4, activation="relu")(ops.mean(ops.sum(branches, axis=1), axis=(1, 2)))
    weights = ops.softmax(ops.stack([L.Dense(8)(squeezed) for _ in range(2)], axis=1), axis=1)
    return keras.Model(x, dense_head(L.Conv2D(5, 2)(ops.sum(branches * weights[:, :, None, None], axis=1))))


def res2net():
    x = keras.Input((5, 5, 3))
    a, b, c, d = ops.split(L.Conv2D(16, 1)(x), 4, axis=-1)
    b = L.Conv2D(4, 3, padding="same")(b)
    c = L.Conv2D(4, 3, padding="same")(c + b)
    d = L.Conv2D(4, 3, padding="same")(d + c)
    return keras.Model(x, dense_head(L.Conv2D(5, 1)(ops.concatenate([a, b, c, d], axis=-1))))


def maxout(units_first):
    x = keras.Input((WIDTH,))
    y = L.Dense(12)(L.Dense(8, activation="relu")(x))
    y = ops.max(ops.reshape(y, (-1, 4, 3)), axis=2) if units_first else ops.max(ops.reshape(y, (-1, 3, 4)), axis=1)
    return keras.Model(x, L.Dense(5)(y))


def efficient_channel_attention():
    """A convolution slides over the channels, whose order counts."""
    x = keras.Input((5, 5, 3))
    y = L.Conv2D(8, 2)(L.Conv2D(7, 1)(x))
    gate = ops.sigmoid(L.Conv1D(1, 3, padding="same")(ops.expand_dims(L.GlobalAveragePooling2D()(y), -1)))
    return keras.Model(x, dense_head(L.Conv2D(6, 1)(y * ops.reshape(gate, (-1, 1, 1, 8)))))


CONVOLUTIONS = {
    "ShuffleNet in 3 groups": shufflenet_1,
    "ShuffleNet in 2 groups": lambda: shufflenet_1(2, inner=12),
    "ShuffleNet in 4 groups": lambda: shufflenet_1(4, width=16, inner=16),
    "ShuffleNet v2": shufflenet_2,
    "ShuffleNet v2, one unit": lambda: shufflenet_2(1),
    "4 groups, then 2": lambda: groups_in_a_row(4, 2),
    "2 groups, then 4": lambda: groups_in_a_row(2, 4),
    "2, 6 and 3 groups": lambda: groups_in_a_row(2, 6, 3),
    "3 groups, then 4": lambda: groups_in_a_row(3, 4),
    "8 groups, then 6": lambda: groups_in_a_row(8, 6),
    "3 groups, shuffled, then 4": lambda: groups_in_a_row(3, 4, between=lambda y: shuffle(y, 3)),
    "4 groups, shuffled, three times": lambda: groups_in_a_row(4, 4, 4, width=16, between=lambda y: shuffle(y, 4)),
    "6 groups, shuffled by 4": lambda: groups_in_a_row(6, 6, between=lambda y: shuffle(y, 4)),
    "ResNeXt": resnext,
    "a stream in 2 and 4 groups": lambda: grouped_residual(2, 4),
    "a stream in 4, 2 and 4 groups": lambda: grouped_residual(4, 2, 4),
    "a stream in 3 and 4 groups": lambda: grouped_residual(3, 4),
    "pixel shuffle": upsampler,
    "pixel shuffle with a residual": lambda: upsampler(residual=True),
    "pixel shuffle after 2 groups": lambda: upsampler(2),
    "pixel shuffle after 8 groups": lambda: upsampler(8),
    "pixel shuffle from reshapes": upsampler_from_reshapes,
    "pixel shuffle as in torch": upsampler_of_torch,
    "space to depth and back": downsampler,
    "flatten after a transpose": lambda: flatten_after(3, 1, 2),
    "flatten after another": lambda: flatten_after(2, 3, 1),
    "squeeze and excite by a reshape": squeeze_and_excite,
    "gates from halves": lambda: split_gates(interleaved=False),
    "gates side by side": lambda: split_gates(interleaved=True),
    "split attention": split_attention,
    "split attention of 3": lambda: split_attention(3),
    "selective kernels": selective_kernel,
    "Res2Net": res2net,
    "maxout, units first": lambda: maxout(units_first=True),
    "maxout, units last": lambda: maxout(units_first=False),
    "efficient channel attention": efficient_channel_attention,
}


@pytest.mark.parametrize("name", ATTENTION)
def test_more_attention(name):
    verdict = check_law(ATTENTION[name]())
    assert verdict.prunable > 0.85, verdict


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_gates(name):
    verdict = check_law(CONVOLUTIONS[name]())
    # what comes before the convolution over channels is held, and flattened models have wide outputs
    least = {"efficient channel attention": 0.4, "flatten after a transpose": 0.7, "flatten after another": 0.7}
    assert verdict.prunable >= least.get(name, 0.8), verdict


def test_a_shuffle_with_uneven_groups_pins_its_channels():
    verdict = check_law(shufflenet_1(3, inner=12))
    assert 0.5 < verdict.prunable < 0.7


# --- heads and sizes by name


def units(heads, places):
    """The units of a Dense layer in the order (three, heads, size) that have some heads and places."""
    return np.arange(3 * HEADS * SIZE).reshape(3, HEADS, SIZE)[:, heads, places].ravel().tolist()


@pytest.mark.parametrize(
    "heads, places, left",
    [([1], slice(None), (3, 3, 3)), (slice(None), [0, 2], (3, 4, 1)), (slice(1, 3), slice(None), (3, 2, 3))],
)
def test_whole_heads_and_whole_positions_in_heads_are_deleted(heads, places, left):
    model = transformer(PROJECTIONS["one Dense, units in the order 3hd"], by_matmul)
    smaller = check_law(model, DeleteChannels("qkv0", units(heads, places))).smaller
    assert smaller.weights["qkv0"][0].shape == (WIDTH, int(np.prod(left)))
    first = next(one for one in smaller.config["layers"] if one["class_name"] == "Reshape")
    assert first["config"]["newshape"] == [-1, STEPS, *left]


def test_a_part_of_a_head_is_refused():
    snapshot = capture(transformer(PROJECTIONS["one Dense, units in the order 3hd"], by_matmul))
    with pytest.raises(PartialGroup, match=r"channels \[4\] of 'qkv0' are part of heads or groups"):
        DeleteChannels("qkv0", [4])(snapshot)


def test_queries_are_not_deleted_without_keys_and_values():
    snapshot = capture(transformer(PROJECTIONS["one Dense, units in the order 3hd"], by_matmul))
    with pytest.raises(PinnedChannels, match="reads this position by its index"):
        DeleteChannels("qkv0", list(range(12)))(snapshot)


def test_a_branch_through_depth_to_space_is_deleted_as_a_whole():
    x = keras.Input((4, 4, 3))
    a = ops.depth_to_space(L.Conv2D(8, 1, name="a")(x), 2)
    b = L.UpSampling2D()(L.Conv2D(6, 1, name="b")(x))
    model = keras.Model(x, dense_head(L.Conv2D(5, 1)(L.Concatenate()([a, b]))))
    smaller = check_law(model, DeleteChannels("a", range(8))).smaller
    assert "a" not in smaller.weights


def test_a_concatenation_loses_a_whole_group():
    x = keras.Input((4, 4, 3))
    y = L.Conv2D(12, 1, name="made")(x)
    y = L.Concatenate()([y[..., 8:], y[..., :4], y[..., 4:8]])
    model = keras.Model(x, dense_head(L.Conv2D(9, 1, groups=3, name="grouped")(y)))
    smaller = check_law(model, DeleteChannels("made", range(8, 12))).smaller
    assert smaller.weights["grouped"][0].shape == (1, 1, 4, 6)
