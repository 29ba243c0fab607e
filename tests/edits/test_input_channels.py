"""Fewer and more channels of inputs, and channels in another order: as pictures, and held against Keras."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_purity, check_rebuilt_record, compute, deviation, random_inputs, sabotage
from helpers.laws import randomise as fill
from helpers.needs import NEEDS_CHANNELS_FIRST, marked
from helpers.records import call, functional, layer, numbers
from helpers.running import captured
from kerassurgery_fn import (
    CannotWiden,
    DeleteChannels,
    InexactCut,
    KeepChannels,
    NothingLeft,
    PinnedChannels,
    Plan,
    ReorderChannels,
    SetInputShape,
    WidenChannels,
    explain,
    simplify,
)
from kerassurgery_fn.errors import BadValue, ChannelOutOfRange
from kerassurgery_fn.values.snapshot import Snapshot

ALLOWED = {"allow_input_change": True}

# --- pictures, without Keras


def image(x=(0, 1, 2), a=(0, 1)):
    """A convolution on the channels of an image, and a dense layer."""
    record = functional(
        "image", {"x": (None, 3, 3, len(x))},
        call(layer("Conv2D", "a", filters=len(a)), "x"), call(layer("Flatten", "flat"), "a"),
        call(layer("Dense", "b", units=2), "flat"), outputs="b",
    )  # fmt: skip
    flat = [8 * place + channel for place in range(4) for channel in a]
    weights = {"a": (numbers(2, 2, x, a), numbers(a)), "b": (numbers(flat, 2), numbers(2))}
    return Snapshot(record, weights)


def laid(x=(0, 1, 2)):
    """An image laid flat, and a dense layer."""
    record = functional(
        "laid", {"x": (None, 2, 2, len(x))},
        call(layer("Flatten", "flat"), "x"), call(layer("Dense", "a", units=2), "flat"), outputs="a",
    )  # fmt: skip
    return Snapshot(record, {"a": (numbers([8 * p + c for p in range(4) for c in x], 2), numbers(2))})


def residual(x=(0, 1, 2)):
    """A dense layer whose channels are added to what it reads."""
    record = functional(
        "residual", {"x": (None, len(x))},
        call(layer("Dense", "a", units=len(x)), "x"), call(layer("Add", "sum"), ["a", "x"]),
        call(layer("Dense", "b", units=2), "sum"), outputs="b",
    )  # fmt: skip
    return Snapshot(record, {"a": (numbers(x, x), numbers(x)), "b": (numbers(x, 2), numbers(2))})


PICTURES = {
    "fewer bands": (DeleteChannels("x", [1], **ALLOWED), image(), image([0, 2])),
    "some that stay": (KeepChannels("x", [0], **ALLOWED), image(), image([0])),
    "by kind": (DeleteChannels("x", channels=[1], **ALLOWED), image(), image([0, 2])),
    "with those of a layer": (DeleteChannels({"x": [1], "a": [0]}, **ALLOWED), image(), image([0, 2], [1])),
    "of all that fit": (DeleteChannels("[xa]", [0], **ALLOWED), image(), image([1, 2], [1])),
    "at once": (
        Plan.at_once(DeleteChannels("x", [1], **ALLOWED), DeleteChannels("a", [0])), image(), image([0, 2], [1]),
    ),
    "of a flat image": (DeleteChannels("x", [1], **ALLOWED), laid(), laid([0, 2])),
    "tied to a layer": (DeleteChannels("x", [1], **ALLOWED), residual(), residual([0, 2])),
    "through a layer": (DeleteChannels("a", [1], **ALLOWED), residual(), residual([0, 2])),
    "another order": (ReorderChannels("x", [2, 1, 0], **ALLOWED), image(), image([2, 1, 0])),
    "another order of a flat image": (ReorderChannels("x", [1, 2, 0], **ALLOWED), laid(), laid([1, 2, 0])),
    "there and back": (
        Plan(ReorderChannels("x", [1, 2, 0], **ALLOWED), ReorderChannels("x", [2, 0, 1], **ALLOWED)), image(), image(),
    ),
    "as many": (WidenChannels("x", 3, **ALLOWED), image(), image()),
    "more that are like others": (WidenChannels("x", 5, fill=[2, 0], **ALLOWED), image(), image([0, 1, 2, 2, 0])),
    "more of a flat image": (WidenChannels("x", 5, fill=[1], **ALLOWED), laid(), laid([0, 1, 2, 1, 1])),
    "more and fewer": (
        Plan(WidenChannels("x", 5, **ALLOWED), DeleteChannels("x", [3, 4], **ALLOWED)), image(), image(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, after", PICTURES.values(), ids=PICTURES)
def test_the_edit_of_a_model_written_by_hand(edit, before, after):
    assert check_purity(before, edit) == after


def test_weights_of_new_bands_are_zero_or_the_mean():
    kernel = image().weights["a"][0]
    nothing = WidenChannels("x", 5, **ALLOWED)(image()).weights["a"][0]
    mean = WidenChannels("x", 4, fill="mean", **ALLOWED)(image()).weights["a"][0]
    assert (nothing[:, :, :3] == kernel).all()
    assert not nothing[:, :, 3:].any()
    assert (mean[:, :, :3] == kernel).all()
    assert np.allclose(mean[:, :, 3], kernel.mean(axis=2))


REFUSED = {
    "without leave": (
        DeleteChannels("x", [0]), image(), PinnedChannels,
        "1 channel of 'x' cannot be deleted: 'x' .*is an input of the model. Pass allow_input_change=True if",
    ),
    "another order without leave": (ReorderChannels("x", [1, 0, 2]), image(), PinnedChannels, "allow_input_change"),
    "more without leave": (WidenChannels("x", 4), image(), PinnedChannels, "allow_input_change"),
    "leave for the wrong end": (
        DeleteChannels("x", [0], allow_output_change=True), image(), PinnedChannels, "Pass allow_input_change=True",
    ),
    "none that is there": (DeleteChannels("x", [3], **ALLOWED), image(), ChannelOutOfRange, "'x' has 3 channels"),
    "all of them": (KeepChannels("x", [], **ALLOWED), image(), NothingLeft, "would be left without"),
    "fewer by widening": (WidenChannels("x", 2, **ALLOWED), image(), BadValue, "has 3 channels already"),
    "no channel": (WidenChannels("x", 4, fill=[3], **ALLOWED), image(), ChannelOutOfRange, "cannot name channel 3"),
}  # fmt: skip


@pytest.mark.parametrize("edit, before, error, words", REFUSED.values(), ids=REFUSED)
def test_an_impossible_edit_is_refused_with_a_reason(edit, before, error, words):
    with pytest.raises(error, match=words):
        edit(before)


@pytest.mark.parametrize("value", ["one", [], 0.5, None, True])
def test_a_wrong_fill_is_refused_where_it_is_given(value):
    with pytest.raises(BadValue, match="fill="):
        WidenChannels("x", 4, fill=value)


def test_both_ends_are_named_where_both_would_change():
    record = functional("net", {"x": (None, 3)}, call(layer("ReLU", "r"), "x"), outputs="r")
    with pytest.raises(PinnedChannels, match="Pass allow_output_change=True and allow_input_change=True"):
        DeleteChannels("x", [0])(Snapshot(record, {}))


def test_plans_of_inputs_are_simplified_and_explained():
    plan = Plan(DeleteChannels("x", [1], **ALLOWED), DeleteChannels("x", [0], **ALLOWED))
    assert simplify(plan, image()) == Plan(DeleteChannels("x", [0, 1], **ALLOWED))
    (loss,) = explain(DeleteChannels("x", [1], **ALLOWED), image()).losses
    assert (loss.path, loss.channels, loss.total) == ("x", (1,), 3)


# --- against Keras


def bands(channels=3):
    """Statistics and factors by band, a depthwise kernel, and three ways to read the bands."""
    i = keras.Input((10, 10, channels), name="img")
    x = L.Rescaling(np.linspace(0.5, 1, channels), 0.0, name="factor")(i)
    x = L.Normalization(mean=[0.0] * channels, variance=[*np.linspace(1, 2, channels)], name="given")(x)
    norm = L.Normalization(name="adapted")
    norm.build(x.shape)
    x = L.DepthwiseConv2D(3, use_bias=False, depth_multiplier=2, name="depth")(norm(x))
    y = [L.Conv2D(4, 3, name="conv")(x), L.SeparableConv2D(4, 3, name="separable")(x), L.Cropping2D(1, name="crop")(x)]
    x = L.Flatten(name="flat")(L.Concatenate(name="both")(y))
    return keras.Model(i, L.Dense(3, name="top")(x))


def channels_first():
    i = keras.Input((3, 8, 8), name="img")
    x = L.Conv2D(4, 3, data_format="channels_first", name="conv")(i)
    return keras.Model(i, L.Dense(2, name="top")(L.GlobalAveragePooling2D(data_format="channels_first", name="m")(x)))


def in_models():
    i = keras.Input((8, 8, 3), name="inner")
    backbone = keras.Model(i, L.Conv2D(4, 3, name="c")(i), name="backbone")
    x = keras.Input((8, 8, 3), name="img")
    head = keras.Sequential([L.GlobalMaxPooling2D(), L.Dense(2, name="top")], name="head")
    return keras.Model(x, head(L.Concatenate()([backbone(x), L.Cropping2D(1)(x)])))


def in_a_row():
    return keras.Sequential([keras.Input((5, 3), name="img"), L.LSTM(4, name="lstm"), L.Dense(2, name="top")])


def features():
    a, b = keras.Input((3,), name="img"), keras.Input((2,), name="b")
    x = L.Concatenate(name="both")([L.Dense(3, name="mix", use_bias=False)(a), a, b])
    return keras.Model({"img": a, "b": b}, L.Dense(2, name="top")(L.Dense(5, "tanh", name="hidden")(x)))


MAKERS = [bands, channels_first, in_models, in_a_row, features]


def image_of(inputs):
    return inputs["img"] if isinstance(inputs, dict) else inputs


def with_image(inputs, image):
    return {**inputs, "img": image} if isinstance(inputs, dict) else image


@pytest.fixture(params=marked({make.__name__: make for make in MAKERS}, {"channels_first": NEEDS_CHANNELS_FIRST}))
def case(request):
    """A snapshot, random inputs with a channel that is zero, the axis of the channels, and what is computed."""
    model = request.param()
    fill(model)
    for norm in [one for one in model.layers if one.name == "adapted"]:
        norm.adapt_mean.assign(keras.ops.zeros_like(norm.adapt_mean))
        norm.finalize_state()
    inputs, axis = random_inputs(model), 1 if request.param is channels_first else -1
    image = image_of(inputs).copy()
    np.moveaxis(image, axis, 0)[1] = 0
    snapshot, inputs = captured(model), with_image(inputs, image)
    return snapshot, inputs, axis, compute(snapshot, inputs)


@pytest.mark.keras
def test_channels_that_are_zero_can_go(case):
    snapshot, inputs, axis, truth = case
    smaller = check_purity(snapshot, DeleteChannels("img", [1], **ALLOWED))
    check_rebuilt_record(smaller)
    fewer = with_image(inputs, np.delete(image_of(inputs), 1, axis))
    assert deviation(compute(smaller, fewer), truth) < 2e-5
    assert deviation(compute(sabotage(smaller), fewer), truth) > 1e-3


@pytest.mark.keras
def test_channels_in_another_order_give_the_same(case):
    snapshot, inputs, axis, truth = case
    turned = check_purity(snapshot, ReorderChannels("img", [2, 0, 1], **ALLOWED))
    check_rebuilt_record(turned)
    moved = with_image(inputs, np.take(image_of(inputs), [2, 0, 1], axis))
    assert deviation(compute(turned, moved), truth) < 2e-5
    assert deviation(compute(turned, inputs), truth) > 1e-3


@pytest.mark.keras
@pytest.mark.parametrize("fill", ["zero", "mean", [0, 2]])
def test_more_channels(case, fill):
    snapshot, inputs, axis, truth = case
    wider = check_purity(snapshot, WidenChannels("img", 5, fill=fill, **ALLOWED))
    check_rebuilt_record(wider)
    old = image_of(inputs)
    new = np.random.default_rng(3).standard_normal(np.take(old, [0, 1], axis).shape).astype("float32")
    result = compute(wider, with_image(inputs, np.concatenate([old, new], axis)))
    assert (deviation(result, truth) < 2e-5) == (fill == "zero")
    assert DeleteChannels("img", [3, 4], **ALLOWED)(wider) == snapshot


@pytest.mark.keras
def test_the_smaller_model_takes_images_of_another_size():
    i = keras.Input((8, 8, 3), name="img")
    model = keras.Model(i, L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="c")(i)))
    check_rebuilt_record(
        Plan(DeleteChannels("img", [0], **ALLOWED), SetInputShape("img", (None, 9, 2)))(captured(model))
    )


@pytest.mark.keras
def test_a_normalisation_over_the_channels_of_an_input():
    i = keras.Input((6,), name="img")
    snapshot = captured(keras.Model(i, L.Dense(2, name="top")(L.LayerNormalization(name="norm")(i))))
    with pytest.warns(InexactCut, match="'norm'"):
        check_rebuilt_record(DeleteChannels("img", [0], **ALLOWED)(snapshot))
    with pytest.raises(CannotWiden, match="'norm'"):
        WidenChannels("img", 7, **ALLOWED)(snapshot)


@pytest.mark.keras
@pytest.mark.slow
def test_mobile_net_with_other_bands_against_a_copy_of_its_weights():
    def network(channels):
        return keras.applications.MobileNetV2((64, 64, channels), weights=None, alpha=0.35, classes=5)

    model, more, fewer = map(network, (3, 4, 1))
    fill(model)
    snapshot, name = captured(model), model.layers[0].name
    kernel, *rest = model.get_weights()
    more.set_weights([np.concatenate([kernel, kernel.mean(2, keepdims=True)], 2), *rest])
    fewer.set_weights([kernel[:, :, 1:2], *rest])
    edits = [(more, WidenChannels(name, 4, fill="mean", **ALLOWED)), (fewer, KeepChannels(name, [1], **ALLOWED))]
    for truth, edit in edits:
        other = edit(snapshot)
        check_rebuilt_record(other)
        inputs = random_inputs(truth, batch=2)
        assert deviation(compute(other, inputs), [keras.ops.convert_to_numpy(truth(inputs))]) < 1e-5
