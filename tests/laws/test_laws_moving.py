"""The laws on operations that move, merge, split, pick, repeat and join axes, and on images."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.laws import (
    TOLERANCE,
    VISIBLE,
    check_law,
    check_rebuilt_record,
    compute,
    deviation,
    random_inputs,
    randomise,
    sabotage,
)
from helpers.needs import NEEDS_CHANNELS_FIRST
from helpers.older import IS_OLDER
from helpers.operation_models import apply, constant
from helpers.small_models import dense_head
from kerassurgery_fn import DeleteChannels, WidenChannels, capture

pytestmark = pytest.mark.keras


def image(operation, units=8, shape=(6, 6, 3), head=True):
    """A model of a convolution, an operation on what it makes, and layers that read every position."""
    x = keras.Input(shape)
    y = operation(L.Conv2D(units, 1)(x))
    return keras.Model(x, dense_head(L.Dense(4)(y)) if head else dense_head(y))


AXES = {
    "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
    "transpose with negative axes": lambda x: ops.transpose(x, (0, -1, -2)),
    "transpose of all": lambda x: ops.transpose(ops.transpose(x[:, None])),
    "swapaxes": lambda x: ops.swapaxes(x, 1, -1),
    "moveaxis": lambda x: ops.moveaxis(x, -1, 1),
    "moveaxis of several": lambda x: ops.moveaxis(x[:, None], [1, 3], [-1, 1]),
    "expand dims": lambda x: ops.expand_dims(x, -1),
    "expand dims at several": lambda x: ops.expand_dims(x, (1, -1)),
    "squeeze": lambda x: ops.squeeze(x[:, :1], 1),
    "squeeze from the end": lambda x: ops.squeeze(ops.expand_dims(x, -1), -1),
    "squeeze several": lambda x: ops.squeeze(x[:, None, :, None], (1, 3)),
    "squeeze all": lambda x: ops.squeeze(x[:, None, :, None]),
    "flip of steps": lambda x: ops.flip(x, 1),
    "flip of channels": lambda x: ops.flip(x, -1),
    "flip of both": lambda x: ops.flip(x, (1, 2)),
    "flip and add": lambda x: x - 2 * ops.flip(x, -1),
    "flip of all steps": lambda x: ops.fliplr(x),
    "roll of steps": lambda x: ops.roll(x, 2, 1),
    "roll of steps by two": lambda x: ops.roll(x[:, :, None], (1, 0), (1, 2)),
    "rot90": lambda x: ops.rot90(x[:, :, :, None], axes=(1, 3)),
    "diagonal of steps": lambda x: ops.diagonal(x[:, :, None] * x[:, None], axis1=1, axis2=2),
    "diagonal beside the middle": lambda x: ops.diagonal(x[:, :, None] * x[:, None], -2, axis1=1, axis2=2),
    "diagonal of channels": lambda x: ops.diagonal(ops.swapaxes(x, 1, 2) @ x, axis1=1, axis2=-1)[:, None],
    "trace": lambda x: ops.trace(x[:, :, None] * x[:, None], axis1=1, axis2=2),
    "lower triangle of steps": lambda x: ops.tril(ops.swapaxes(x[:, :, None] * x[:, None], 1, 3)),
    "cast": lambda x: ops.cast(ops.cast(x, "float64"), "float32"),
}

RESHAPES = {
    "flatten": lambda x: ops.reshape(x, (-1, 56)),
    "flatten without a batch": lambda x: ops.reshape(x, (-1, 8)),
    "split": lambda x: ops.reshape(x, (-1, 7, 2, 4)),
    "split with the rest": lambda x: ops.reshape(x, (-1, 7, 2, 4)) * 2,
    "-1 in the middle": lambda x: ops.reshape(x, (-1, 7, 8, 1)),
    "merge and split": lambda x: ops.reshape(ops.reshape(x, (-1, 56)), (-1, 7, 8)),
    "method": lambda x: x.reshape((-1, 1, 7, 8)),
    "merge of steps": lambda x: ops.reshape(x, (-1, 1, 7, 2, 2, 2)),
    "ravel and back": lambda x: ops.reshape(ops.ravel(x), (-1, 7, 8)),
}

FIXED_BATCH = {
    "rearrange to move": lambda x: ops.rearrange(x, "b t c -> b c t"),
    "rearrange to merge": lambda x: ops.rearrange(x, "b t c -> b (t c)"),
    "rearrange to split": lambda x: ops.rearrange(x, "b t (h d) -> b h t d", h=2),
    "rearrange to split, the rest left out": lambda x: ops.rearrange(x, "b t (h d) -> b d (t h)", d=2),
    "rearrange to shuffle": lambda x: ops.rearrange(x, "b t (g c) -> b t (c g)", g=4),
    "rearrange steps": lambda x: ops.rearrange(x[:, :4], "b (u v) c -> b u (v c)", u=2),
    "slice by starts": lambda x: ops.slice(x, (0, 1, 2), (4, 3, 5)),
    "slice of all": lambda x: ops.slice(x, (0, 1, 0), (4, 3, 8)),
    "slice update": lambda x: ops.slice_update(x, (0, 1, 0), 2 * x[:, :3]),
    "slice update of channels": lambda x: x * ops.slice_update(x, (0, 0, 2), x[:, :, :3]),
    "flattened": lambda x: ops.reshape(x, (4, -1)),
    "one number": lambda x: ops.expand_dims(ops.ravel(x), 0),
    "broadcast": lambda x: ops.broadcast_to(x, (2, 4, 7, 8))[0],
    "softmax over the batch": lambda x: ops.softmax(x, axis=0),
    "linear index": lambda x: ops.reshape(ops.reshape(x, 4 * 7 * 8), (4, 7, 8)),
}

PICKS = {
    "slice of steps": lambda x: x[:, 1:4],
    "slice of steps from the end": lambda x: x[:, -3:-1],
    "steps in steps": lambda x: x[:, ::2],
    "steps backwards": lambda x: x[:, ::-1],
    "channels from the start": lambda x: x[:, :, :5],
    "channels to the end": lambda x: x[..., 3:],
    "channels from the end": lambda x: x[..., -6:-1],
    "channels in steps": lambda x: ops.concatenate([x[..., ::2], x[..., 1::2]], axis=-1),
    "channels in steps within bounds": lambda x: x[..., :7:3],
    "channels backwards": lambda x: x[..., ::-1],
    "channels backwards within bounds": lambda x: x[..., 7:1:-2],
    "bounds beyond the end": lambda x: x[..., 2:100],
    "one step": lambda x: x[:, 0],
    "the last step": lambda x: x[:, -1],
    "one channel": lambda x: x[..., 0],
    "the last channel": lambda x: x[..., -1] + 2 * x[..., 2],
    "a new axis": lambda x: x[:, None],
    "new axes around": lambda x: x[:, None, ..., None],
    "a mix": lambda x: x[:, None, 1, ..., 2:7],
    "one of the batch": lambda x: x + x[0],
    "halves": lambda x: x[..., :4] * x[..., 4:],
    "thirds": lambda x: x[..., :3] * x[..., 3:6] + x[..., 5:8],
    "take of steps": lambda x: ops.take(x, [3, 0, 0], axis=1),
    "take of channels": lambda x: ops.take(x, [3, 0, 7, -1, 3], axis=-1),
    "take of one channel": lambda x: ops.take(x, 0, axis=-1),
    "take of a table of channels": lambda x: ops.take(x, np.array([[0, 2], [3, 1]]), axis=-1),
    "take of channels by an array": lambda x: ops.take(x, np.array([5, 1, 2, 0]), axis=-1),
    "take along steps": lambda x: ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1),
    "split in equal parts": lambda x: ops.multiply(*ops.split(x, 2, axis=-1)),
    "split at": lambda x: ops.concatenate(ops.split(x, [2, 5], axis=-1)[::-1], axis=-1),
    "split at, nothing left": lambda x: ops.concatenate(ops.split(x, [3, 8], axis=-1)[::-1], axis=-1),
    "split of steps": lambda x: ops.split(x, 7, axis=1)[2],
    "split and drop": lambda x: ops.split(x, 4, axis=2)[0],
    "array split": lambda x: ops.concatenate(ops.array_split(x, 3, axis=-1)[::-1], axis=-1),
    "hsplit": lambda x: ops.hsplit(x, [2])[1],
    "dsplit": lambda x: ops.subtract(*ops.dsplit(x, 2)),
    "unstack of steps": lambda x: ops.unstack(x, axis=1)[2],
    "unstack of channels": lambda x: ops.stack(ops.unstack(x, axis=-1)[:3], axis=-1),
    "split of heads that are joined in the batch": lambda x: ops.add(
        *ops.split(ops.concatenate(ops.split(x, 2, axis=-1), axis=0), 2, axis=0)
    ),
    "split of the batch at a place": lambda x: ops.split(x, [4], axis=0)[0],
    "diff of steps": lambda x: ops.diff(x, axis=1),
}

REPEATS = {
    "repeat of steps": lambda x: ops.repeat(x, 3, axis=1),
    "repeat of channels": lambda x: ops.repeat(x, 3, axis=-1),
    "tile of steps": lambda x: ops.tile(x, (1, 2, 1)),
    "tile of channels": lambda x: ops.tile(x, (1, 1, 3)),
    "tile by a number": lambda x: ops.tile(x, 2),
    "tile by more axes": lambda x: ops.tile(x, (2, 1)),
    "broadcast": lambda x: ops.broadcast_to(ops.mean(x, axis=0), (4, 7, 8)),
    "pad of steps": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))),
    "pad of steps, reflected": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0)), mode="reflect"),
    "pad of channels": lambda x: ops.pad(x, ((0, 0), (0, 0), (2, 3))),
    "pad of channels by a value": lambda x: ops.pad(x, ((0, 0), (0, 0), (2, 3)), constant_values=0.5),
    "concatenate": lambda x: ops.concatenate([x, 2 * x, x], axis=-1),
    "concatenate steps": lambda x: ops.concatenate([x, 2 * x], axis=1),
    "append": lambda x: ops.append(x, 2 * x, axis=-1),
    "stack": lambda x: ops.stack([x, 2 * x, x + 1], axis=1),
    "stack at the end": lambda x: ops.stack([x, 2 * x, x + 1], axis=-1),
    "stack, then one of them": lambda x: ops.stack([x, 2 * x], axis=1)[:, 1],
    "hstack": lambda x: ops.hstack([x, 2 * x]),
    "dstack": lambda x: ops.dstack([x, 2 * x]),
}

IMAGES = {
    "resize": lambda x: ops.image.resize(x, (4, 9)),
    "resize and crop": lambda x: ops.image.resize(x, (4, 9), crop_to_aspect_ratio=True, interpolation="nearest"),
    "pad images": lambda x: ops.image.pad_images(x, 1, 2, 0, 1),
    "pad images to a size": lambda x: ops.image.pad_images(x, 1, 2, target_height=9, target_width=9),
    "crop images": lambda x: ops.image.crop_images(x, 1, 2, 0, 1),
    "crop images to a size": lambda x: ops.image.crop_images(x, 1, 2, target_height=3, target_width=3),
    "extract patches": lambda x: ops.image.extract_patches(x, 2),
    "extract patches in steps": lambda x: ops.image.extract_patches(x, (3, 2), strides=(2, 1), padding="same"),
    "blur": lambda x: ops.image.gaussian_blur(x, (3, 3), (1.0, 1.0)),
    "affine transform": lambda x: ops.image.affine_transform(x, np.array([1.0, 0.1, 0, 0, 1, 0, 0, 0], "float32")),
    "sobel edges": lambda x: ops.image.sobel_edges(x),
    "depth to space": lambda x: ops.depth_to_space(x, 2),
    "space to depth": lambda x: ops.space_to_depth(x, 2),
    "space to depth and back": lambda x: ops.depth_to_space(ops.space_to_depth(x, 2), 2),
    "max pooling": lambda x: ops.max_pool(x, 2, 1),
    "max pooling with same padding": lambda x: ops.max_pool(x, (3, 2), padding="same"),
    "average pooling": lambda x: ops.average_pool(x, 2),
    "mean over space": lambda x: ops.mean(x, axis=(1, 2)),
    "instance norm": lambda x: (x - ops.mean(x, (1, 2), True)) * ops.rsqrt(ops.var(x, (1, 2), True) + 1e-3),
    "gray": lambda x: ops.image.rgb_to_grayscale(x[..., :3]),
    "rgb to hsv": lambda x: x[..., 3:6] * ops.image.rgb_to_hsv(ops.sigmoid(x[..., :3])),
    "unfold": lambda x: ops.unfold(ops.moveaxis(x, -1, 1), 2),
    "fold": lambda x: ops.fold(ops.unfold(ops.moveaxis(x, -1, 1), 2, stride=2), 6, 2, stride=2),
    "convolution": lambda x: ops.conv(x, constant(2, 2, 8, 5), strides=2),
    "convolution by a kernel that is made": lambda x: ops.conv(x, ops.reshape(ops.mean(x[:, :4, :4], 0), (4, 4, 8, 1))),
}


CHANNELS_FIRST = {
    "depth to space": lambda x: ops.depth_to_space(x, 2, "channels_first"),
    "space to depth": lambda x: ops.space_to_depth(x, 2, "channels_first"),
    "extract patches": lambda x: ops.image.extract_patches(x, (2, 3), strides=2, data_format="channels_first"),
    "resize": lambda x: ops.image.resize(x, (4, 9), data_format="channels_first"),
    "max pooling": lambda x: ops.max_pool(x, 2, data_format="channels_first"),
    "blur": lambda x: ops.image.gaussian_blur(x, (3, 3), (1.0, 1.0), data_format="channels_first"),
    "crop images": lambda x: ops.image.crop_images(x, 1, 2, 0, 1, data_format="channels_first"),
    "gray": lambda x: ops.image.rgb_to_grayscale(x[:, :3], "channels_first"),
    "convolution": lambda x: ops.conv(x, constant(2, 2, 8, 5), data_format="channels_first"),
}

ANY_LENGTH = {
    "slice of steps": lambda x: x[:, 1:-1],
    "one step": lambda x: x + x[:, -1:],
    "steps in steps": lambda x: x[:, ::2],
    "a new axis": lambda x: x[:, None, :, None],
    "attention": lambda x: ops.softmax(x @ ops.swapaxes(x, 1, 2) / 9, axis=-1) @ x,
    "einsum": lambda x: ops.einsum("btc,bsc->bts", x, x) @ x,
    "split of channels": lambda x: ops.multiply(*ops.split(x, 2, axis=-1)),
    "split of channels by a reshape": lambda x: ops.reshape(x, (4, -1, 2, 4)),
    "mean over steps": lambda x: x - ops.mean(x, axis=1, keepdims=True),
    "pad of steps": lambda x: ops.pad(x, ((0, 0), (2, 0), (0, 0))),
    "concatenate steps": lambda x: ops.concatenate([x, x], axis=1),
    "concatenate channels": lambda x: ops.concatenate([x, x * x], axis=-1),
    "stack": lambda x: ops.stack([x, x * x], axis=2),
    "repeat of steps": lambda x: ops.repeat(x, 2, axis=1),
    "flip of steps": lambda x: ops.flip(x, 1),
    "roll of steps": lambda x: ops.roll(x, 1, 1),
    "cumsum of steps": lambda x: ops.cumsum(x, axis=1),
    "flatten without a batch": lambda x: ops.reshape(x, (-1, 8)),
    "dot product attention": lambda x: ops.dot_product_attention(*[x[:, :, None]] * 3)[:, :, 0],
    "swapaxes there and back": lambda x: ops.swapaxes(ops.relu(ops.swapaxes(x, 1, 2)), 1, 2),
}

COPIES = {  # of the one channel of a Dense, as many as there are channels to be multiplied
    "repeat vector": lambda g: L.Permute((2, 1))(L.RepeatVector(8)(L.Flatten()(g))),
    "repeat": lambda g: ops.repeat(g, 8, axis=-1),
    "tile": lambda g: ops.tile(g, (1, 1, 8)),
    "tile by a number": lambda g: ops.tile(g, 8),
    "tile with axes in front": lambda g: ops.tile(g, (1, 1, 1, 8))[0],
    "broadcast": lambda g: ops.broadcast_to(g, (4, 7, 8)),
}

# what reads positions by their index, or mixes them, holds all of the channels, or all but those of the other end
HELD = {
    "channels backwards within bounds", "take of a table of channels", "array split", "unstack of channels",
    "ravel and back", "slice update of channels", "rgb to hsv",
}  # fmt: skip


def any_length(operation):
    """A model of an operation on sequences of any length."""
    x = keras.Input((None, 4))
    y = L.Dense(4)(operation(L.Dense(8)(x)))
    return keras.Model(x, L.Dense(3)(ops.max(y, axis=tuple(range(1, len(y.shape) - 1))) if len(y.shape) > 2 else y))


def fixed_batch(operation):
    """A model of an operation on a batch of known size."""
    x = keras.Input(batch_shape=(4, 7, 4))
    y = operation(L.Dense(8)(x))
    return keras.Model(x, dense_head(L.Dense(4)(y)))


def gated(operation):
    """A model of channels and of gates for them, which are copies of one."""
    x = keras.Input(batch_shape=(4, 7, 4))
    gates = operation(L.Dense(1)(x))
    return keras.Model(x, dense_head(L.Dense(4)(L.Dense(8, name="gated")(x) * gates)))


def test_padding_is_deleted_with_the_channels_it_is_added_to():
    x = keras.Input((6, 6, 3))
    short = ops.pad(L.Conv2D(5, 1)(x), ((0, 0), (0, 0), (0, 0), (1, 2)))
    model = keras.Model(x, dense_head(L.Conv2D(4, 1)(L.Conv2D(8, 1, name="long")(x) + short), units=3))
    assert check_law(model).prunable > 0.8
    smaller = check_law(model, DeleteChannels("long", [0, 2, 7])).smaller
    pad = next(one["config"]["pad_width"] for one in smaller.config["layers"] if one["class_name"] == "Pad")
    assert pad == [[0, 0], [0, 0], [0, 0], [0, 1]]


def channels_first(operation):
    """A model of an operation on images with their channels in front.

    Keras 3.15 adds the bias of as many filters as an image is wide along its width, so that there is none.
    """
    conv = {"data_format": "channels_first", "use_bias": False}
    x = keras.Input((8, 6, 6))
    return keras.Model(x, dense_head(L.Conv2D(4, 1, **conv)(operation(L.Conv2D(8, 1, **conv)(x)))))


FRAMES = {
    "axes": (apply, AXES),
    "reshapes": (apply, RESHAPES),
    "picks": (apply, PICKS),
    "repeats": (apply, REPEATS),
    "images": (image, IMAGES),
    "channels first": (channels_first, CHANNELS_FIRST),
    "fixed batch": (fixed_batch, FIXED_BATCH),
    "any length": (any_length, ANY_LENGTH),
    "copies": (gated, COPIES),
}


def case(frame, name):
    return pytest.param(frame, name, marks=NEEDS_CHANNELS_FIRST if frame == "channels first" else ())


@pytest.mark.parametrize("frame, name", [case(frame, name) for frame, (_, table) in FRAMES.items() for name in table])
def test_the_surgery_law(frame, name):
    if IS_OLDER and name == "transpose with negative axes":
        pytest.skip("an older Keras hands negative axes to TensorFlow, which aborts the process")
    model, table = FRAMES[frame]
    verdict = check_law(model(table[name]))
    assert (verdict.prunable > 0.5) == (name not in HELD), verdict


def test_copies_of_a_shared_layer_are_counted_once():
    x, again = keras.Input((7, 4)), L.RepeatVector(8, name="again")
    gates = [L.Permute((2, 1))(again(L.Flatten()(L.Dense(1)(x)))) for _ in range(2)]
    dense = L.Dense(8, name="dense")
    model = keras.Model(x, dense_head(L.Dense(4)(dense(x) * gates[0] + dense(2 * x) * gates[1])))
    smaller = check_law(model, DeleteChannels("dense", [0, 3])).smaller
    assert next(one for one in smaller.config["layers"] if one["name"] == "again")["config"]["n"] == 6


def test_copies_are_deleted_with_the_branch_they_multiply():
    x = keras.Input((7, 4))
    gate = ops.tile(L.Dense(1, name="gate")(x), (1, 1, 8))
    model = keras.Model(x, dense_head(L.Concatenate()([L.Dense(5)(x), L.Dense(8, name="gated")(x) * gate])))
    smaller = check_law(model, DeleteChannels("gated", range(8))).smaller
    assert not {"gated", "gate"} & set(smaller.weights)


def test_copies_grow_with_widened_channels():
    check_wider(gated(COPIES["repeat vector"]), {"gated": 11})


def test_a_window_over_all_channels_is_widened():
    x = keras.Input((7, 4))
    y = L.Conv1D(5, 8)(L.Permute((2, 1))(L.Dense(8, name="a")(x)))
    check_wider(keras.Model(x, dense_head(y)), {"a": 11})


def check_wider(model, widths):
    """A wider model computes what it did."""
    randomise(model)
    before, inputs = capture(model), random_inputs(model)
    after = WidenChannels(widths)(before)
    check_rebuilt_record(after)
    truth = compute(before, inputs)
    assert deviation(compute(after, inputs), truth) < TOLERANCE
    assert deviation(compute(sabotage(after), inputs), truth) > VISIBLE
