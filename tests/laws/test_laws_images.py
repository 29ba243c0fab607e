"""Layers that prepare data: the laws, and what they do to channels while a model is trained."""

import keras
import numpy as np
import pytest
from keras import layers as L

from helpers.laws import check_law
from helpers.small_models import dense_head
from kerassurgery_fn import analyse, capture

pytestmark = pytest.mark.keras

SEED = {"seed": 3}

# layers that treat each channel of an image alone
ALONE = {
    "auto contrast": lambda: L.AutoContrast((0, 1)),
    "center crop": lambda: L.CenterCrop(4, 3),
    "center crop of small images": lambda: L.CenterCrop(9, 10),
    "clahe": lambda: L.ContrastLimitedAdaptiveHistogramEqualization((0, 1), tile_grid_size=(2, 2)),
    "cut mix": lambda: L.CutMix(0.5, **SEED),
    "equalization": lambda: L.Pipeline([L.Equalization((0, 1))]),  # alone, Keras calls it a cycle
    "mix up": lambda: L.MixUp(0.5, **SEED),
    "max number of boxes": lambda: L.MaxNumBoundingBoxes(3, bounding_box_format="xyxy"),
    "random brightness": lambda: L.RandomBrightness(0.5, (0, 1), **SEED),
    "random contrast": lambda: L.RandomContrast(0.5, (0, 1), **SEED),
    "random crop": lambda: L.RandomCrop(4, 3, **SEED),
    "random elastic transform": lambda: L.RandomElasticTransform(1.0, 1.0, value_range=(0, 1), **SEED),
    "random erasing": lambda: L.RandomErasing(1.0, fill_value=0.5, value_range=(0, 1), **SEED),
    "random flip": lambda: L.RandomFlip(**SEED),
    "random gaussian blur": lambda: L.RandomGaussianBlur(1.0, value_range=(0, 1), **SEED),
    "random invert": lambda: L.RandomInvert(1.0, (0, 1), **SEED),
    "random perspective": lambda: L.RandomPerspective(1.0, **SEED),
    "random posterization": lambda: L.RandomPosterization(3, (0, 1), **SEED),
    "random rotation": lambda: L.RandomRotation(0.2, **SEED),
    "random sharpness": lambda: L.RandomSharpness(0.5, (0, 1), **SEED),
    "random shear": lambda: L.RandomShear((0.1, 0.5), (0.1, 0.5), **SEED),
    "random translation": lambda: L.RandomTranslation(0.3, 0.3, **SEED),
    "random zoom": lambda: L.RandomZoom(0.3, **SEED),
    "resizing": lambda: L.Resizing(5, 9),
    "resizing with padding": lambda: L.Resizing(5, 9, pad_to_aspect_ratio=True, interpolation="nearest"),
    "solarization": lambda: L.Solarization(0.2, 0.5, (0, 1), **SEED),
    "a pipeline": lambda: L.Pipeline([L.RandomFlip(**SEED), L.Resizing(5, 5), L.Rescaling(2.0)]),
}

# layers that mix colours, most of which want just three
MIXED = {
    "aug mix": lambda: L.AugMix((0, 1)),
    "rand augment": lambda: L.RandAugment((0, 1)),
    "random color degeneration": lambda: L.RandomColorDegeneration(0.5, (0, 1)),
    "random color jitter": lambda: L.RandomColorJitter((0, 1), 0.5, 0.5, 0.5, 0.5),
    "random grayscale": lambda: L.RandomGrayscale(1.0),
    "random hue": lambda: L.RandomHue(0.5, (0, 1)),
    "random saturation": lambda: L.RandomSaturation(0.5, (0, 1)),
    "a pipeline": lambda: L.Pipeline([L.RandomFlip(), L.RandomHue(0.5, (0, 1))]),
}

CODES = {
    "discretization": lambda: L.Discretization([-0.5, 0.0, 0.5]),
    "hashing": lambda: L.Pipeline([L.Discretization([-0.5, 0.0, 0.5]), L.Hashing(4)]),
    "integer lookup": lambda: L.Pipeline([L.Discretization([-0.5, 0.0, 0.5]), L.IntegerLookup(vocabulary=[1, 2])]),
}
READ_TOGETHER = {
    "indicators of bins": lambda: L.Discretization([-0.5, 0.0, 0.5], output_mode="multi_hot"),
    "stft spectrogram": lambda: L.STFTSpectrogram(frame_length=4, frame_step=2, fft_length=4),
    "mel spectrogram": lambda: L.MelSpectrogram(4, 2, 4, sampling_rate=100, num_mel_bins=4, max_freq=50),
}


def on_images(layer, filters=6):
    x = keras.Input((7, 8, 3))
    y = layer(L.Conv2D(filters, 2, activation="sigmoid")(x))
    return keras.Model(x, L.Dense(3)(L.GlobalMaxPooling2D()(L.Conv2D(4, 2)(y))))


def on_features(layer, rank=2):
    x = keras.Input((8, 5)[-rank + 1 :])
    y = L.Dense(8, activation="tanh")(x)
    y = keras.ops.cast(layer(y), "float32")
    return keras.Model(x, L.Dense(3)(L.Concatenate()([dense_head(L.Dense(4)(y)), L.Dense(5)(L.Flatten()(x))])))


@pytest.mark.parametrize("name", ALONE)
def test_the_law_on_layers_of_images(name):
    assert check_law(on_images(ALONE[name]())).prunable > 0.6


@pytest.mark.parametrize("name", MIXED)
def test_layers_that_mix_colours_pin_channels(name):
    model = on_images(MIXED[name](), 3)
    check_law(model, opaque={model.layers[2].name})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ALONE)
def test_image_layers_treat_each_channel_alone(name, training):
    """A layer on some of the channels makes the same of them as on all, random numbers included."""
    images = np.random.default_rng(0).random((4, 6, 7, 3)).astype("float32")
    kept = [0, 2]
    whole, part = (np.asarray(ALONE[name]()(x, training=training)) for x in (images, images[..., kept]))
    np.testing.assert_allclose(whole[..., kept], part, atol=1e-6)
    assert not np.allclose(whole[..., [1, 0]], part)


def test_a_fill_colour_pins_its_three_channels():
    model = on_images(L.RandomErasing(1.0, fill_value=[0.1, 0.2, 0.3]), 3)
    flow = analyse(capture(model))
    assert not flow.opaque
    assert flow.solution.pinned()[flow.solution.resolve(flow.producer(model.layers[1].name).axis)].all()


@pytest.mark.parametrize("name", CODES)
def test_encodings_of_each_feature_are_cut_exactly(name):
    check_law(on_features(CODES[name]()))


@pytest.mark.parametrize("mode", ["multi_hot", "one_hot", "count"])
def test_what_is_counted_together_is_pinned(mode):
    """The layers before and behind a CategoryEncoding are cut, but not what it counts."""
    codes = L.Pipeline([L.Discretization([-0.5, 0.0, 0.5]), L.CategoryEncoding(4, mode)])
    check_law(on_features(codes, 3 if mode == "one_hot" else 2))


@pytest.mark.parametrize("name", READ_TOGETHER)
def test_features_encoded_together_are_pinned(name):
    model = on_features(READ_TOGETHER[name](), 3 if name == "stft spectrogram" else 2)
    check_law(model, opaque={model.layers[2].name})
