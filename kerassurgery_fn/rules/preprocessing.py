"""Layers that prepare data: images pass channel by channel, the rest reads its inputs as codes."""

from __future__ import annotations

from typing import Any

from kerassurgery_fn.rules.layer import Layer, NoRule, Tensor, joined, parts, plain
from kerassurgery_fn.rules.registry import rule


@rule("AutoContrast", "Equalization", "Solarization")
@rule(
    "RandomBrightness", "RandomContrast", "RandomInvert", "RandomPosterization", "RandomSharpness", "RandomGaussianBlur"
)
def each_channel_alone(layer: Layer, images: Any, *_: Any, **__: Any) -> Tensor:
    return image(images)


@rule("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomShear", "RandomPerspective")
@rule("RandomElasticTransform", "RandomErasing")
def moved(layer: Layer, images: Any, *_: Any, **__: Any) -> Tensor:
    plain(layer, parts(layer, image(images))[1], "moves it")
    return image(images)


@rule("CenterCrop", "RandomCrop", "Resizing")
def resized(layer: Layer, images: Any, *_: Any, **__: Any) -> Tensor:
    if len(image(images)) != 4:
        raise NoRule("transforms a single image")
    batch, space, channel = parts(layer, images)
    plain(layer, space, "crops or resizes")
    return joined(layer, batch, [layer["height"], layer["width"]], channel)


def image(images: Any) -> Tensor:
    if not isinstance(images, tuple):
        raise NoRule("transforms images together with their labels or boxes")
    return images


@rule("RandomColorDegeneration", "RandomColorJitter", "RandomGrayscale", "RandomHue", "RandomSaturation")
@rule("AugMix", "ContrastLimitedAdaptiveHistogramEqualization", "CutMix", "MixUp", "RandAugment")
def mixes_colours(layer: Layer, *_: Any, **__: Any) -> Any:
    raise NoRule("mixes the colours of images, or images of a batch")


@rule("CategoryEncoding", "Discretization", "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup")
@rule("TextVectorization")
def encodes(layer: Layer, *_: Any, **__: Any) -> Any:
    raise NoRule("reads its inputs as values or codes, not as channels")


@rule("MelSpectrogram", "STFTSpectrogram")
def transforms_signals(layer: Layer, *_: Any, **__: Any) -> Any:
    raise NoRule("transforms signals by filters of its own")
