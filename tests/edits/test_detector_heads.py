"""New classes for detectors: several convolutions make the classes of one output."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_purity, check_rebuilt_record, compute, random_inputs, randomise
from helpers.running import captured
from kerassurgery_fn import ReplaceHead, rebuild
from kerassurgery_fn.errors import AmbiguousLayer, ChannelOutOfRange, NoHead, UnknownLayer

pytestmark = pytest.mark.keras
CLOSE = {"rtol": 0, "atol": 1e-5}


def scales(image):
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    return {"p3": x, "p4": L.MaxPooling2D(name="pool")(x)}


def trained(model):
    randomise(model)
    model.compile("adam", "mse")
    results = model(random_inputs(model, batch=2))
    zeros = [np.zeros(result.shape) for result in results] if isinstance(results, list) else np.zeros(results.shape)
    model.fit(random_inputs(model, batch=2), zeros, verbose=0)
    return captured(model)


def ssd(classes=5, anchors=2, end=None, first=False):
    """Two scales with an output of classes and one of boxes. If `first`, classes are before anchors in the filters."""
    image = keras.Input((8, 8, 3), name="image")

    def joined(size, name):
        parts = []
        for scale, x in scales_of_image.items():
            y = L.Conv2D(anchors * size, 3, padding="same", name=f"{name}_{scale}")(x)
            if first:
                y = L.Permute((1, 2, 4, 3))(L.Reshape((*y.shape[1:3], size, anchors))(y))
            parts.append(L.Reshape((-1, size))(y))
        return L.Concatenate(axis=1, name=name)(parts)

    scales_of_image = scales(image)
    y = joined(classes, "classes")
    return trained(keras.Model(image, [end(y) if end else y, joined(4, "boxes")]))


def yolo(classes=3, anchors=2):
    """Two scales, each an output of anchors with four sizes, an objectness, and classes."""
    image = keras.Input((8, 8, 3), name="image")
    outputs = []
    for scale, x in scales(image).items():
        y = L.Conv2D(anchors * (5 + classes), 1, name=f"conv_{scale}")(x)
        outputs.append(L.Reshape((*y.shape[1:3], anchors, 5 + classes), name=f"out_{scale}")(y))
    return trained(keras.Model(image, outputs))


def checked(before, edit):
    after = check_purity(before, edit)
    check_rebuilt_record(replace(after, training=None))  # Keras starts the state of new weights
    inputs = random_inputs(rebuild(before))
    return compute(before, inputs), compute(after, inputs)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("layer", ["classes", "classes_p3", "classes_p4", "classes_*", ["classes_p4", "classes"]])
def test_the_classes_of_an_ssd(layer, first):
    old, new = checked(ssd(first=first), ReplaceHead(7, keep={0: 2, 6: -1}, layer=layer))
    assert new[0].shape == (*old[0].shape[:2], 7)
    np.testing.assert_allclose(new[0][..., [0, 6]], old[0][..., [2, 4]], **CLOSE)
    assert np.abs(new[0][..., 0] - old[0][..., 0]).max() > 1e-2
    np.testing.assert_array_equal(new[1], old[1])


@pytest.mark.parametrize(
    "end", [L.Softmax(name="end"), L.Activation("sigmoid", name="end")], ids=["softmax", "sigmoid"]
)
def test_the_classes_before_an_activation(end):
    old, new = checked(ssd(end=end), ReplaceHead(2, keep=[1, 4], layer="end"))
    kept = old[0][..., [1, 4]]
    wanted = kept / kept.sum(axis=-1, keepdims=True) if isinstance(end, L.Softmax) else kept
    np.testing.assert_allclose(new[0], wanted, **CLOSE)


def test_all_scales_of_a_yolo_get_the_same_classes():
    sizes = [*range(5)]
    old, new = checked(yolo(), ReplaceHead(5 + 2, keep=[*sizes, 7], layer="out_*"))
    for before, after in zip(old, new, strict=True):
        assert after.shape == (*before.shape[:-1], 7)
        np.testing.assert_allclose(after[..., :6], before[..., [*sizes, 7]], **CLOSE)


def test_one_scale_of_a_yolo():
    old, new = checked(yolo(), ReplaceHead(6, keep=range(5), layer="conv_p4"))
    np.testing.assert_array_equal(new[0], old[0])
    np.testing.assert_allclose(new[1][..., :5], old[1][..., :5], **CLOSE)


def test_the_state_of_the_optimizer_stays_for_other_layers():
    before = ssd()
    after = ReplaceHead(3, layer="classes")(before)
    gone = {"classes_p3", "classes_p4"}
    assert {owner[0] for owner in before.training.slots if owner} - gone == {
        owner[0] for owner in after.training.slots if owner
    }


REFUSED = {
    "no layer": (ReplaceHead(3), AmbiguousLayer, "2 outputs, computed by 'classes', 'boxes'"),
    "no head": (
        ReplaceHead(3, layer="stem"), NoHead,
        "'stem' is not an output .* give 'classes_p3' or 'classes_p4' or 'boxes_p3' or 'boxes_p4' as layer=",
    ),
    "nothing": (ReplaceHead(3, layer=()), UnknownLayer, "selects no layer"),
    "no class": (ReplaceHead(3, layer="classes", keep=[5]), ChannelOutOfRange, "no class 5"),
}  # fmt: skip


@pytest.mark.parametrize("edit, error, words", REFUSED.values(), ids=REFUSED)
def test_what_is_no_head_is_refused(edit, error, words):
    with pytest.raises(error, match=words):
        edit(ssd())


def test_the_only_class_of_a_detector_is_no_axis_of_channels():
    with pytest.raises(NoHead, match=r"'classes' has the shape \(None, 40, 1\) with one class.* ReplaceLayer"):
        ReplaceHead(3, layer="classes_p3")(ssd(classes=1))


@pytest.mark.parametrize("layer", ["classes", "boxes", "classes_p3", "classes_p4", "boxes_p3", "boxes_p4"])
def test_each_layer_that_an_error_names_is_a_head(layer):
    assert ReplaceHead(3, layer=layer)(ssd()).weights["stem"]
