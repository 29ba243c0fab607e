"""Axes of one position: what broadcasts, what is squeezed away, and what Keras then adds along another axis."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from helpers.records import call, constant, functional, layer, operation
from kerassurgery_fn import (
    DeleteChannels,
    KeepChannels,
    ReorderChannels,
    ReplaceHead,
    Snapshot,
    WidenChannels,
    analyse,
    capture,
    rebuild,
)
from kerassurgery_fn.edits.steps.additions import WRONG, misplaced
from kerassurgery_fn.errors import CannotWiden, NoHead, PinnedChannels

ATTENTION = {"use_bias": True, "output_shape": None, "attention_axes": None, "dropout": 0.0, "use_gate": False}
GROUPED = {
    "head_dim": 2, "num_query_heads": 4, "num_key_value_heads": 2, "use_bias": True, "use_gate": False, "dropout": 0.0,
}  # fmt: skip


# --- what Keras takes for a bias


@pytest.mark.keras
def test_where_keras_adds_along_another_axis():
    """Held against Keras itself, for all small tensors to which something with one wide axis is added."""
    shapes = [shape for rank in (2, 3, 4) for shape in itertools.product((2, 3), repeat=rank)]
    found = set()
    for x1 in [*shapes, *((2, *shape[1:-1], 1) for shape in shapes)]:
        for wide, first in itertools.product(range(len(x1)), repeat=2):
            if first > wide:
                continue
            x2 = tuple(n if i == wide else 1 for i, n in enumerate(x1))[first:]
            a, b = np.zeros(x1), np.arange(np.prod(x2, dtype=float)).reshape(x2)
            right = np.array_equal(ops.add(a, b), a + b)
            assert (misplaced(x1, x2) == WRONG) is not right, (x1, x2)
            found.add(right)
    assert found == {True, False}


def attending(steps, class_name="MultiHeadAttention", **config):
    config = {**ATTENTION, "num_heads": 3, "key_dim": 2, "value_dim": 2, **config}
    return [call(layer(class_name, "z", **config), "d", "d", out=(None, steps, 6))]


def einsum(steps, **config):
    dense = layer(
        "EinsumDense", "z", output_shape=[None, 3, 2], equation="abc,cde->abde", activation="linear", **config
    )
    return [
        call(dense, "d", out=(None, steps, 3, 2)),
        call(layer("Permute", "p", dims=[2, 1, 3]), "z", out=(None, 3, steps, 2)),
    ]


# layers after a Dense layer d of 6 channels on so many steps; where the channels are that go; whether that is refused
CUTS = {
    "size of values": (lambda: attending(3), 3, {"value_dim": [1]}, True),
    "size of keys": (lambda: attending(3), 3, {"key_dim": [0]}, True),
    "size of keys, other steps": (lambda: attending(4), 4, {"key_dim": [0]}, False),
    "size of keys, open steps": (lambda: attending(None), None, {"key_dim": [0]}, True),
    "size of keys, of two": (lambda: attending(3, key_dim=3), 3, {"key_dim": [0]}, False),
    "size and all heads but one": (lambda: attending(3), 3, {"num_heads": [0, 1]}, False),
    "no bias": (lambda: attending(3, use_bias=False), 3, {"value_dim": [1]}, False),
    "heads to as many as steps": (lambda: attending(2, key_dim=1), 2, {"num_heads": [0]}, True),
    "grouped": (lambda: attending(4, "GroupQueryAttention", **GROUPED), 4, {"head_dim": [0]}, True),
    "grouped, keys": (lambda: attending(2, "GroupQueryAttention", **GROUPED), 2, {"head_dim": [0]}, True),
    "grouped, other steps": (lambda: attending(5, "GroupQueryAttention", **GROUPED), 5, {"head_dim": [0]}, False),
    "einsum": (lambda: einsum(3, bias_axes="de"), 3, {"e": [1]}, True),
    "einsum, other steps": (lambda: einsum(4, bias_axes="de"), 4, {"e": [1]}, False),
    "einsum, a bias along the steps already": (lambda: einsum(3, bias_axes="d"), 3, {"d": [1]}, True),
    "einsum, no bias": (lambda: einsum(3, bias_axes=None), 3, {"e": [1]}, False),
}  # fmt: skip


@pytest.mark.parametrize("layers, steps, channels, refused", CUTS.values(), ids=CUTS)
def test_cuts_after_which_keras_would_add_along_another_axis(layers, steps, channels, refused):
    last = layers()
    record = functional(
        "net",
        {"x": (None, steps, 3)},
        call(layer("Dense", "d", units=6), "x"),
        *last,
        outputs=last[-1][0]["config"]["name"],
    )
    edit, model = DeleteChannels("z", **channels, allow_output_change=True), Snapshot(record, {})
    assert analyse(model).opaque == {}
    if refused:
        with pytest.raises(PinnedChannels, match=r"'z'.*Keras on TensorFlow"):
            edit(model)
    else:
        edit(model)


def test_a_constant_that_would_be_added_along_another_axis():
    record = functional(
        "net", {"x": (None, 3, 3)}, call(layer("Dense", "d", units=4), "x"),
        call(operation("Add", "z"), "d", constant([[1.0], [2.0], [3.0]]), out=(None, 3, 4)), outputs="z",
    )  # fmt: skip
    edit = DeleteChannels("d", [0], allow_output_change=True)
    with pytest.raises(PinnedChannels, match=r"'z'.*\(3, 1\).*\(None, 3, 3\) along axis 2 in place of axis 1"):
        edit(Snapshot(record, {}))
    DeleteChannels("d", [0, 1], allow_output_change=True)(Snapshot(record, {}))


def image_first(width, **config):
    conv = layer("Conv2D", "c", filters=4, kernel_size=[1, 1], data_format="channels_first", **config)
    record = functional("net", {"x": (None, 2, 5, width)}, call(conv, "x", out=(None, 4, 5, width)), outputs="c")
    return Snapshot(record, {})


def test_channels_of_an_image_as_wide_as_its_channels():
    """Keras adds the bias of a convolution along the width then: so it does before the cut, or would after it."""
    edit = DeleteChannels("c", [0], allow_output_change=True)
    for width in (3, 4):
        with pytest.raises(PinnedChannels, match="its bias"):
            edit(image_first(width))
        edit(image_first(width, use_bias=False))
    edit(image_first(5))
    with pytest.raises(PinnedChannels, match="moved"):
        ReorderChannels("c", [1, 0, 2, 3], allow_output_change=True)(image_first(4))


@pytest.mark.keras
def test_a_size_of_one_is_exact_where_keras_adds_right():
    x = keras.Input((4, 5))
    y = L.Dense(6, name="d")(x)
    model = keras.Model(x, L.Dense(2)(L.MultiHeadAttention(3, 2, name="a")(y, y)))
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    before = capture(model)
    arrays = [array.copy() for array in before.weights["a"]]
    arrays[0][..., 1], arrays[1][..., 1] = 0, 0  # the second place of every query
    inputs = rng.normal(size=(3, 4, 5)).astype("float32")
    zeroed = rebuild(Snapshot(before.record, {**before.weights, "a": tuple(arrays)}))(inputs)
    assert np.allclose(rebuild(DeleteChannels("a", key_dim=[1])(before))(inputs), zeroed, atol=1e-4)


# --- what broadcasts


def scaled(tail=()):
    """Five channels times one, and what reads them."""
    record = functional(
        "net", {"x": (None, 4)}, call(layer("Dense", "five", units=5), "x"), call(layer("Dense", "one", units=1), "x"),
        call(layer("Multiply", "times"), ["five", "one"], out=(None, 5)), *tail, outputs="end" if tail else "times",
    )  # fmt: skip
    return Snapshot(record, {})


def test_a_channel_that_is_broadcast_is_not_widened():
    model = scaled([call(layer("Dense", "end", units=2), "times")])
    with pytest.raises(CannotWiden, match=r"'times' broadcasts the only channel"):
        WidenChannels("one", 3)(model)
    wider = WidenChannels("five", 7)(model)
    assert analyse(wider).opaque == {}


def test_a_broadcast_class_stays_single():
    model = functional(
        "net", {"x": (None, 4)}, call(layer("Dense", "one", units=1), "x"),
        call(operation("Multiply", "times"), "one", constant([[1.0, 2.0, 3.0]]), out=(None, 3)), outputs="times",
    )  # fmt: skip
    with pytest.raises(NoHead):
        ReplaceHead(2, layer="one")(Snapshot(model, {}))


# --- squeezes and slices


@pytest.mark.keras
def test_a_squeeze_without_axes_names_them_when_channels_are_cut_to_one():
    x = keras.Input((3,))
    model = keras.Model(x, L.Dense(2)(ops.squeeze(L.Reshape((1, 4))(L.Dense(4, name="d")(x)))))
    rng = np.random.default_rng(2)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    before, inputs = capture(model), rng.normal(size=(5, 3)).astype("float32")
    kernel, bias = before.weights[[*before.weights][-1]]
    for kept in ([2], [0, 3]):
        smaller = KeepChannels("d", kept)(before)
        (axis,) = [
            one["config"]["axis"] for one in smaller.record["config"]["layers"] if one["class_name"] == "Squeeze"
        ]
        assert axis == ([1] if len(kept) == 1 else None)
        hidden = inputs @ before.weights["d"][0] + before.weights["d"][1]
        again = rebuild(smaller)
        assert np.allclose(again(inputs), hidden[:, kept] @ kernel[kept] + bias, atol=1e-4)
        assert capture(again) == smaller


def test_a_squeeze_without_effect_pins_channels():
    record = functional(
        "net", {"x": (None, 4)}, call(layer("Dense", "d", units=5), "x"),
        call(operation("Squeeze", "s", axis=None), "d", out=(None, 5)), call(layer("Dense", "e", units=2), "s"),
        outputs="e",
    )  # fmt: skip
    with pytest.raises(PinnedChannels, match="squeezes no axis"):
        KeepChannels("d", [0])(Snapshot(record, {}))


def sliced(n, step, start=None):
    parts = {"class_name": "__slice__", "config": {"start": start, "stop": None, "step": step}}
    items = [{"class_name": "__ellipsis__", "config": {}}, parts]
    left = len(range(start or 0, n, step))
    record = functional(
        "net", {"x": (None, 3)}, call(layer("Dense", "d", units=n), "x"),
        call(operation("GetItem", "s"), "d", items, out=(None, left)), call(layer("Dense", "e", units=2), "s"),
        outputs="e",
    )  # fmt: skip
    return analyse(Snapshot(record, {}))


@pytest.mark.parametrize("n, step, free", [(1, 2, []), (2, 3, []), (4, 5, []), (5, 2, [0, 1, 2, 3])])
def test_slices_in_steps_that_may_be_longer_than_the_axis(n, step, free):
    flow = sliced(n, step)
    assert flow.opaque == {}
    ids = flow.solution.resolve(flow.producer("d").axis)
    assert np.flatnonzero((~flow.solution.pinned(output=False)[ids] & (ids >= 0)).any(axis=0)).tolist() == free
